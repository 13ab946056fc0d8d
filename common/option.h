/*
 * Options from one table: the command line, a configuration file and --help
 * are all read from the same array of struct option_spec.
 *
 * Values are given later than others win: defaults, then the file, then the
 * command line. Every value is checked in full; a bad one is refused with a
 * line that names it.
 */
#ifndef BULKHEAD_OPTION_H
#define BULKHEAD_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_FLAG,     /* bool; in a file: yes, no, true, false, on, off, 1, 0 */
    OPTION_UINT,     /* uint64_t: digits only, min..max */
    OPTION_SIZE,     /* uint64_t bytes: "8192", "8K", "1M", "2G" (powers of 1024), min..max */
    OPTION_DURATION, /* uint64_t milliseconds: "300", "2s", "500ms", "5m", "1h"; no unit is seconds
                      */
    OPTION_TEXT,     /* const char *, not empty */
    OPTION_ENUM,     /* int: the index of the word in words */
    OPTION_SET,      /* unsigned: bit i for word i; words separated by commas */
    OPTION_LIST,     /* struct option_list: may be given several times */
};

struct option_list {
    const char **items; /* owned by the options */
    size_t count;
};

#define OPTION_LIST_MAX 64

struct option_spec {
    const char *name; /* long name, and the key in the file */
    char letter;      /* short name, or 0 */
    enum option_type type;
    bool cli_only;            /* not a key of the file */
    size_t offset;            /* of the value in the options struct */
    const char *argument;     /* "ADDR"; NULL for flags */
    const char *const *words; /* ENUM, SET: ended by NULL */
    uint64_t min, max;        /* numbers; for DURATION in milliseconds */
    const char *fallback;     /* default, in the form it is typed; NULL: leave zero */
    const char *help;         /* one line, no full stop */
};

struct option_table {
    const char *program;
    const char *synopsis; /* "[OPTION...] -- COMMAND [ARG...]" */
    const char *summary;  /* one line */
    const struct option_spec *specs;
    size_t count;
    const char *footer; /* after the options in --help, or NULL */
};

/* The last thing that was refused, for a person; ended by a NUL. */
struct option_error {
    char text[512];
};

/* Sets every value to its default. 0 or -EINVAL (a default is wrong: a bug). */
int option_defaults(const struct option_table *table, void *options, struct option_error *error);

/*
 * Reads a configuration file of "name = value" lines under [program].
 * Returns 0, -ENOENT (no such file), or -EINVAL with "file:line: reason".
 */
int option_read_file(const struct option_table *table, void *options, const char *path,
                     struct option_error *error);

/*
 * Reads the command line. Stops at "--" or the first word that is no option;
 * *rest is its index in argv. Returns 0 or -EINVAL.
 * The words --help and --version are the caller's to look for in the table
 * (flags named "help" and "version").
 */
int option_read_argv(const struct option_table *table, void *options, int argc, char **argv,
                     int *rest, struct option_error *error);

/* Prints what --help prints. Returns 0 or -EIO. */
int option_print_help(const struct option_table *table);

/* Frees what lists and texts hold. */
void option_finish(const struct option_table *table, void *options);

/* The parsers themselves. Each returns 0 or -EINVAL / -ERANGE; nothing may follow the value. */
int option_parse_uint(const char *text, uint64_t *value);
int option_parse_size(const char *text, uint64_t *bytes);
int option_parse_duration(const char *text, uint64_t *milliseconds);

#endif
