#include "client/run.h"

#include <errno.h>
#include <stdio.h>

#include "client/conversation.h"
#include "client/locate.h"
#include "client/private.h"
#include "client/request.h"
#include "client/verdict.h"
#include "common/log.h"
#include "common/option.h"

struct run_options {
    struct request request;
    const char *level; /* for bulkheadd, which checks it; NULL: its default */
    uint64_t grace_ms;
    bool help;
};

static const struct option_spec specs[] = {
    REQUEST_OPTIONS(struct run_options),
    {.name = "level",
     .type = OPTION_TEXT,
     .offset = offsetof(struct run_options, level),
     .argument = "LEVEL",
     .help = "level of isolation, see bulkheadd(8)"},
    {.name = "grace",
     .letter = 'g',
     .type = OPTION_DURATION,
     .offset = offsetof(struct run_options, grace_ms),
     .argument = "DURATION",
     .min = 1,
     .max = REQUEST_TIMEOUT_MAX,
     .help = "time between SIGTERM and SIGKILL when it is stopped"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = offsetof(struct run_options, help),
     .help = "print this and leave"},
};

const struct option_table run_table = {
    .program = "bulkhead run",
    .synopsis = "[OPTION...] -- COMMAND [ARG...]",
    .summary = "Runs a command in a sandbox of its own, with no bulkheadd running.",
    .specs = specs,
    .count = sizeof specs / sizeof specs[0],
    .footer =
        "Exit codes: the command's own; 128+N for signal N; 124 timeout; 125 a failure of ours;\n"
        "126 COMMAND cannot be executed; 127 COMMAND was not found. See bulkhead(1).",
};

/* Once we are connected, nobody needs the way in any more. */
static void hide(void *server)
{
    private_server_hide(server);
}

static size_t add_text(const char **arguments, size_t count, const char *name, const char *value)
{
    if (!value) {
        return count;
    }
    arguments[count] = name;
    arguments[count + 1] = value;
    return count + 2;
}

static const char *duration_text(uint64_t ms, char *text, size_t cap)
{
    if (ms == 0) {
        return NULL;
    }
    snprintf(text, cap, "%llums", (unsigned long long)ms);
    return text;
}

static int run_private(const struct run_options *options)
{
    const char *arguments[16] = {NULL};
    char timeout[32], grace[32];
    struct private_server server;
    struct location location = {.token = ""};
    struct locate_error error = {.text = ""};
    size_t count = 0;
    count = add_text(arguments, count, "--timeout",
                     duration_text(options->request.timeout_ms, timeout, sizeof timeout));
    if (options->request.timeout_ms) {
        count = add_text(arguments, count, "--max-timeout", timeout);
    }
    count = add_text(arguments, count, "--grace",
                     duration_text(options->grace_ms, grace, sizeof grace));
    add_text(arguments, count, "--level", options->level);
    int exit_code = private_server_start(&server, arguments);
    if (exit_code == 0) {
        char url[PATH_MAX];
        private_server_url(&server, url, sizeof url);
        if (address_parse(url, &location.address, &error) == 0) {
            exit_code = conversation_run(&location, &options->request, hide, &server);
        } else {
            log_error("%s", error.text);
            exit_code = EXIT_OURS;
        }
    }
    private_server_stop(&server);
    return exit_code;
}

static int run_with(struct run_options *options, int argc, char **argv)
{
    struct option_error error;
    struct request_error request_error;
    int rest = 0;
    if (option_read_argv(&run_table, options, argc, argv, &rest, &error) != 0) {
        log_error("%s; see `bulkhead run --help`", error.text);
        return EXIT_OURS;
    }
    if (options->help) {
        return option_print_help(&run_table) == 0 ? 0 : EXIT_OURS;
    }
    if (request_take_command(&options->request, argv + rest, &request_error) != 0) {
        log_error("%s; see `bulkhead run --help`", request_error.text);
        return EXIT_OURS;
    }
    return run_private(options);
}

int run_main(int argc, char **argv)
{
    struct run_options options;
    struct option_error error;
    if (option_defaults(&run_table, &options, &error) != 0) {
        log_error("%s", error.text);
        return EXIT_OURS;
    }
    int exit_code = run_with(&options, argc, argv);
    option_finish(&run_table, &options);
    return exit_code;
}
