#include "client/exec.h"

#include <stdio.h>

#include "client/conversation.h"
#include "client/locate.h"
#include "client/request.h"
#include "client/verdict.h"
#include "common/log.h"
#include "common/option.h"

struct exec_options {
    struct locate_options where;
    struct request request;
    bool help;
};

static const struct option_spec specs[] = {
    {.name = "url",
     .letter = 'u',
     .type = OPTION_TEXT,
     .offset = offsetof(struct exec_options, where.url),
     .argument = "URL",
     .help = "where bulkheadd is: ws://HOST:PORT/ws or ws+unix:///PATH"},
    {.name = "token-file",
     .type = OPTION_TEXT,
     .offset = offsetof(struct exec_options, where.token_file),
     .argument = "PATH",
     .help = "file with the token in its first line"},
    {.name = "runtime-dir",
     .type = OPTION_TEXT,
     .offset = offsetof(struct exec_options, where.runtime_dir),
     .argument = "DIR",
     .help = "where a running bulkheadd left its address and token"},
    REQUEST_OPTIONS(struct exec_options),
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = offsetof(struct exec_options, help),
     .help = "print this and leave"},
};

const struct option_table exec_table = {
    .program = "bulkhead exec",
    .synopsis = "[OPTION...] -- COMMAND [ARG...]",
    .summary = "Runs a command on a running bulkheadd and ends as the command did.",
    .specs = specs,
    .count = sizeof specs / sizeof specs[0],
    .footer =
        "Exit codes: the command's own; 128+N for signal N; 124 timeout; 125 a failure of ours;\n"
        "126 COMMAND cannot be executed; 127 COMMAND was not found. See bulkhead(1).",
};

static int exec_with(struct exec_options *options, int argc, char **argv)
{
    struct option_error error;
    struct request_error request_error;
    struct locate_error locate_error = {.text = ""};
    struct location location;
    int rest = 0;
    if (option_read_argv(&exec_table, options, argc, argv, &rest, &error) != 0) {
        log_error("%s; see `bulkhead exec --help`", error.text);
        return EXIT_OURS;
    }
    if (options->help) {
        return option_print_help(&exec_table) == 0 ? 0 : EXIT_OURS;
    }
    if (request_take_command(&options->request, argv + rest, &request_error) != 0) {
        log_error("%s; see `bulkhead exec --help`", request_error.text);
        return EXIT_OURS;
    }
    if (locate(&options->where, &location, &locate_error) != 0) {
        log_error("%s", locate_error.text);
        return EXIT_OURS;
    }
    return conversation_run(&location, &options->request, NULL, NULL);
}

int exec_main(int argc, char **argv)
{
    struct exec_options options;
    struct option_error error;
    if (option_defaults(&exec_table, &options, &error) != 0) {
        log_error("%s", error.text);
        return EXIT_OURS;
    }
    int exit_code = exec_with(&options, argc, argv);
    option_finish(&exec_table, &options);
    return exit_code;
}
