/* What the user wants to be run, and how. Filled in by exec and run from their options. */
#ifndef BULKHEAD_REQUEST_H
#define BULKHEAD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/option.h"

struct request {
    char **argv; /* ended by NULL; with shell one string */
    bool shell;
    const char *cwd;          /* NULL: the policy's */
    struct option_list env;   /* NAME=value */
    uint64_t timeout_ms;      /* 0: the policy's */
    bool want_stdin;          /* our own stdin becomes the command's */
    bool json;                /* the verdict goes to stderr */
    const char *verdict_file; /* NULL: none */
};

struct request_error {
    char text[512];
};

/*
 * Takes the words after the options as the command. The words stay the
 * caller's. 0, or -EINVAL with a line for the user.
 */
int request_take_command(struct request *request, char **words, struct request_error *error);

/* The options that exec and run share; the struct request is the member `request` of owner. */
#define REQUEST_OPTIONS(owner)                                               \
    {.name = "timeout",                                                      \
     .letter = 't',                                                          \
     .type = OPTION_DURATION,                                                \
     .offset = offsetof(owner, request.timeout_ms),                          \
     .argument = "DURATION",                                                 \
     .min = 1,                                                               \
     .max = REQUEST_TIMEOUT_MAX,                                             \
     .help = "stop the command after this time: 90, 500ms, 5m"},             \
        {.name = "cwd",                                                      \
         .letter = 'C',                                                      \
         .type = OPTION_TEXT,                                                \
         .offset = offsetof(owner, request.cwd),                             \
         .argument = "DIR",                                                  \
         .help = "start the command in this directory"},                     \
        {.name = "env",                                                      \
         .letter = 'e',                                                      \
         .type = OPTION_LIST,                                                \
         .offset = offsetof(owner, request.env),                             \
         .argument = "NAME=VALUE",                                           \
         .help = "add to the command's environment (repeatable)"},           \
        {.name = "stdin",                                                    \
         .letter = 'i',                                                      \
         .type = OPTION_FLAG,                                                \
         .offset = offsetof(owner, request.want_stdin),                      \
         .help = "pass our own standard input to the command"},              \
        {.name = "shell",                                                    \
         .letter = 's',                                                      \
         .type = OPTION_FLAG,                                                \
         .offset = offsetof(owner, request.shell),                           \
         .help = "COMMAND is one string for the policy's shell"},            \
        {.name = "json",                                                     \
         .letter = 'j',                                                      \
         .type = OPTION_FLAG,                                                \
         .offset = offsetof(owner, request.json),                            \
         .help = "print the verdict as one line of JSON on standard error"}, \
    {                                                                        \
        .name = "verdict-file", .type = OPTION_TEXT,                         \
        .offset = offsetof(owner, request.verdict_file), .argument = "PATH", \
        .help = "write the verdict as one line of JSON to this file"         \
    }

#define REQUEST_TIMEOUT_MAX (UINT64_C(1000) * 60 * 60 * 24 * 365)

#endif
