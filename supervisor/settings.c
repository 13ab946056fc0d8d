/*
 * The options of bulkheadd. In: the command line and a file, both the
 * administrator's; anything that is not understood in full is refused.
 */
#include "supervisor/settings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/protections.h"

#define MS(seconds) ((uint64_t)(seconds)*1000)
#define DAY MS(86400)

static const char *const auth_words[] = {"token", "none", NULL};
static const char *const level_words[] = {"full", "basic", NULL};
static const char *const log_words[] = {"error", "warn", "info", "debug", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const trace_words[] = {"msg", "command", "io", "policy", NULL};

#define AT(member) offsetof(struct settings, member)

static const struct option_spec specs[] = {
    {"listen", 'l', OPTION_LIST, false, AT(listen), "ADDR", NULL, 0, 0, NULL,
     "serve on HOST:PORT, [V6]:PORT or unix:PATH; may be repeated (127.0.0.1:8003)"},
    {"auth", 0, OPTION_ENUM, false, AT(auth), "KIND", auth_words, 0, 0, "token",
     "who may connect over TCP: token or none"},
    {"token-file", 0, OPTION_TEXT, false, AT(token_file), "PATH", NULL, 0, 0, NULL,
     "read the bearer token from PATH instead of making one"},
    {"config", 'c', OPTION_TEXT, true, AT(config), "PATH", NULL, 0, 0, NULL,
     "read options from PATH (" SETTINGS_CONFIG_DEFAULT " if it exists)"},
    {"allow-origin", 0, OPTION_LIST, false, AT(allow_origin), "ORIGIN", NULL, 0, 0, NULL,
     "let web pages of ORIGIN connect; may be repeated"},
    {"allow-host", 0, OPTION_LIST, false, AT(allow_host), "HOST", NULL, 0, 0, NULL,
     "accept HOST in the Host header; may be repeated"},
    {"max-sessions", 0, OPTION_UINT, false, AT(max_sessions), "N", NULL, 1, 10000, "100",
     "refuse more than N sessions at a time"},
    {"max-line", 0, OPTION_SIZE, false, AT(max_line), "SIZE", NULL, 16, 1 << 30, "8192",
     "cut longer lines in text dialects"},
    {"timeout", 't', OPTION_DURATION, false, AT(timeout_ms), "TIME", NULL, 1, DAY, "300s",
     "stop a command that asks for no other time after TIME"},
    {"max-timeout", 0, OPTION_DURATION, false, AT(max_timeout_ms), "TIME", NULL, 1, DAY, "1h",
     "the longest time a client may ask for"},
    {"grace", 0, OPTION_DURATION, false, AT(grace_ms), "TIME", NULL, 0, MS(600), "2s",
     "wait TIME between SIGTERM and SIGKILL"},
    {"send-timeout", 0, OPTION_DURATION, false, AT(send_timeout_ms), "TIME", NULL, 100, DAY, "60s",
     "drop a client that leaves data unread for TIME"},
    {"user", 'u', OPTION_TEXT, false, AT(user), "USER", NULL, 0, 0, NULL,
     "run as USER, a name or number (bulkhead, or the second of --uid-range)"},
    {"uid-range", 0, OPTION_TEXT, false, AT(uid_range), "FIRST-LAST", NULL, 0, 0,
     "1879048192-1879113727", "uids that nobody else uses, two for each session"},
    {"level", 0, OPTION_ENUM, false, AT(level), "LEVEL", level_words, 0, 0, "full",
     "full: sessions in namespaces of their own, or no start; basic: none"},
    {"require", 0, OPTION_SET, false, AT(require), "NAMES", protection_names, 0, 0, NULL,
     "do not start unless commands have these protections (separated by commas)"},
    {"pool", 0, OPTION_UINT, false, AT(pool), "N", NULL, 0, 1000, "1",
     "keep N cells ready for new sessions"},
    {"frontend", 0, OPTION_TEXT, false, AT(frontend), "PATH", NULL, 0, 0, NULL,
     "the frontend program (bulkhead-frontend, beside bulkheadd or installed)"},
    {"runtime-dir", 0, OPTION_TEXT, false, AT(runtime_dir), "DIR", NULL, 0, 0, NULL,
     "where address and token are left (/run/bulkhead or $XDG_RUNTIME_DIR/bulkhead)"},
    {"pid-file", 0, OPTION_TEXT, false, AT(pid_file), "PATH", NULL, 0, 0, NULL,
     "write the process ID to PATH"},
    {"log-level", 0, OPTION_ENUM, false, AT(log_level), "LEVEL", log_words, 0, 0, "info",
     "log error, warn, info or debug and what is graver"},
    {"log-format", 0, OPTION_ENUM, false, AT(log_format), "FORMAT", format_words, 0, 0, "text",
     "log lines as text or json"},
    {"trace", 0, OPTION_SET, false, AT(trace), "AREAS", trace_words, 0, 0, NULL,
     "trace msg, command, io, policy (separated by commas)"},
    {"check", 'n', OPTION_FLAG, true, AT(check), NULL, NULL, 0, 0, NULL,
     "check the configuration, say so, and leave"},
    {"help", 'h', OPTION_FLAG, true, AT(help), NULL, NULL, 0, 0, NULL, "print this and leave"},
    {"version", 'V', OPTION_FLAG, true, AT(version), NULL, NULL, 0, 0, NULL,
     "print the version and leave"},
};

const struct option_table settings_table = {
    .program = "bulkheadd",
    .synopsis = "[OPTION...]",
    .summary = "Runs commands for clients that must not be trusted, each confined.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
    .footer = "Exit status: 0 stopped as asked, 100 wrong use, 111 the system refused something,\n"
              "101 a bug. See bulkheadd(8) and bulkhead.conf(5).",
};

/* The file's place comes from the command line, so that is read first, into a scratch. */
static int find_file(struct settings *settings, int argc, char **argv, struct option_error *error)
{
    struct settings scratch = {0};
    int rest, result;

    result = option_defaults(&settings_table, &scratch, error);
    if (result == 0) {
        result = option_read_argv(&settings_table, &scratch, argc, argv, &rest, error);
    }
    if (result == 0 && !scratch.help && !scratch.version) {
        const char *path = scratch.config != NULL ? scratch.config : SETTINGS_CONFIG_DEFAULT;

        result = option_read_file(&settings_table, settings, path, error);
        if (result == -ENOENT && scratch.config == NULL) {
            result = 0;
        } else if (result == -ENOENT) {
            (void)snprintf(error->text, sizeof(error->text),
                           "--config %s: no such file; make it or leave the option out", path);
            result = -EINVAL;
        }
    }
    option_finish(&settings_table, &scratch);
    return result;
}

static int check_together(const struct settings *settings, struct option_error *error)
{
    if (settings->timeout_ms > settings->max_timeout_ms) {
        (void)snprintf(error->text, sizeof(error->text),
                       "timeout (%.10g s) is longer than max-timeout (%.10g s); raise max-timeout",
                       (double)settings->timeout_ms / 1000,
                       (double)settings->max_timeout_ms / 1000);
        return -EINVAL;
    }
    if (settings->auth == AUTH_NONE && settings->token_file != NULL) {
        (void)snprintf(error->text, sizeof(error->text),
                       "token-file %s would not be used with auth none; leave one of them out",
                       settings->token_file);
        return -EINVAL;
    }
    return 0;
}

int settings_read(struct settings *settings, int argc, char **argv, struct option_error *error)
{
    int rest = argc;
    int result;

    *settings = (struct settings){0};
    result = option_defaults(&settings_table, settings, error);
    if (result == 0) {
        result = find_file(settings, argc, argv, error);
    }
    if (result == 0) {
        result = option_read_argv(&settings_table, settings, argc, argv, &rest, error);
    }
    if (result == 0 && rest < argc) {
        (void)snprintf(error->text, sizeof(error->text),
                       "%s: bulkheadd takes options only; to run a command use bulkhead run",
                       argv[rest]);
        return -EINVAL;
    }
    return result == 0 ? check_together(settings, error) : -EINVAL;
}
