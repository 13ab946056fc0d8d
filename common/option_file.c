/* Configuration files, read by inih through a reader of our own that counts lines. */
#include "common/option.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_value.h"

struct reading {
    const struct option_table *table;
    void *options;
    const char *path;
    FILE *file;
    char *line; /* getline's */
    size_t size;
    int number;                  /* of the line that was handed out last */
    int first[OPTION_SPECS_MAX]; /* the line a key was given in first, 0: not yet */
    int failed;                  /* line of the first fault, 0: none */
    struct option_error *error;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct reading *reading, const char *format,
                                                        ...)
{
    if (reading->failed) {
        return 0; /* the first fault is the one to mend */
    }
    reading->failed = reading->number;
    char why[400];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    option_refuse(reading->error, -EINVAL, "%.100s:%d: %s", reading->path, reading->number, why);
    return 0;
}

/*
 * inih's idea of fgets(3). A line that does not fit its buffer would be taken
 * for two, and a NUL would hide what follows it: both end the reading. Blanks
 * in front are dropped, as inih takes an indented line for the last value's
 * continuation.
 */
static char *read_line(char *buf, int cap, void *arg)
{
    struct reading *reading = arg;
    if (reading->failed) {
        return NULL;
    }
    ssize_t len = getline(&reading->line, &reading->size, reading->file);
    if (len < 0) {
        return NULL;
    }
    reading->number++;
    if (memchr(reading->line, '\0', (size_t)len)) {
        refuse(reading, "the line holds a NUL byte");
        return NULL;
    }
    const char *start = reading->line + strspn(reading->line, " \t");
    size_t rest = strlen(start);
    if (rest >= (size_t)cap) {
        refuse(reading, "the line is longer than %d bytes", cap - 2);
        return NULL;
    }
    return memcpy(buf, start, rest + 1);
}

/* inih's handler: nonzero is success. */
static int take(void *arg, const char *section, const char *name, const char *text)
{
    struct reading *reading = arg;
    const struct option_table *table = reading->table;
    if (strcmp(section, table->program) != 0) {
        return *section ? refuse(reading, "unknown section [%.100s]", section)
                        : refuse(reading, "%.100s stands before [%s]", name, table->program);
    }
    const struct option_spec *spec = option_find(table, name, strlen(name));
    if (!spec) {
        return refuse(reading, "unknown key %.100s", name);
    }
    if (spec->cli_only) {
        return refuse(reading, "%s can only be given on the command line", name);
    }
    int *first = &reading->first[spec - table->specs];
    if (*first && spec->type != OPTION_LIST) {
        return refuse(reading, "%s was given already in line %d", name, *first);
    }
    struct option_error why;
    if (option_value_set(spec, reading->options, text ? text : "", !*first, &why) != 0) {
        return refuse(reading, "%s: %.300s", name, why.text);
    }
    if (!*first) {
        *first = reading->number;
    }
    return 1;
}

static int read_all(struct reading *reading)
{
    int code = ini_parse_stream(read_line, reading, take, reading);
    if (ferror(reading->file)) {
        return option_refuse(reading->error, -EIO, "%.100s: cannot be read", reading->path);
    }
    if (code < 0) {
        return option_refuse(reading->error, -ENOMEM, "%.100s: out of memory", reading->path);
    }
    /* inih's own complaints come without a word, as the number of the line */
    if (code > 0 && (!reading->failed || code < reading->failed)) {
        return option_refuse(reading->error, -EINVAL,
                             "%.100s:%d: neither [section] nor name = value", reading->path, code);
    }
    return reading->failed ? -EINVAL : 0;
}

int option_read_file(const struct option_table *table, void *options, const char *path,
                     struct option_error *error)
{
    if (table->count > OPTION_SPECS_MAX) {
        return option_refuse(error, -EINVAL, "the option table is too long");
    }
    struct reading reading = {.table = table, .options = options, .path = path, .error = error};
    reading.file = fopen(path, "re");
    if (!reading.file) {
        int code = -errno;
        return option_refuse(error, code, "%.200s: %s", path, strerror(errno));
    }
    int code = read_all(&reading);
    free(reading.line);
    fclose(reading.file);
    return code;
}
