/*
 * What bulkheadd can be told, by command line or file: the option table and
 * the struct it fills.
 */
#ifndef BULKHEAD_SETTINGS_H
#define BULKHEAD_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/option.h"

#define SETTINGS_CONFIG_DEFAULT "/etc/bulkhead/bulkhead.conf"
#define SETTINGS_LISTEN_DEFAULT "127.0.0.1:8003"

enum settings_auth { AUTH_TOKEN, AUTH_NONE };
enum settings_level { LEVEL_FULL, LEVEL_BASIC };

struct settings {
    struct option_list listen;
    int auth; /* enum settings_auth */
    const char *token_file;
    const char *config;
    struct option_list allow_origin;
    struct option_list allow_host;
    uint64_t max_sessions;
    uint64_t max_line;        /* bytes */
    uint64_t timeout_ms;      /* of a command that asks for none */
    uint64_t max_timeout_ms;  /* that a client may ask for */
    uint64_t grace_ms;        /* between SIGTERM and SIGKILL */
    uint64_t send_timeout_ms; /* of a client that does not read */
    const char *user;
    const char *uid_range;
    int level;        /* enum settings_level */
    unsigned require; /* set of enum protection */
    uint64_t pool;
    const char *frontend;
    const char *runtime_dir;
    const char *pid_file;
    int log_level;  /* enum log_level */
    int log_format; /* enum log_format */
    unsigned trace; /* set of enum log_area */
    bool check;
    bool help;
    bool version;
};

extern const struct option_table settings_table;

/*
 * Reads the file, then the command line. Returns 0, or -EINVAL with the reason
 * in error. Values are checked one by one and against each other.
 */
int settings_read(struct settings *settings, int argc, char **argv, struct option_error *error);

#endif
