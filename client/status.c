#include "client/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "client/locate.h"
#include "client/verdict.h"
#include "common/log.h"
#include "common/option.h"

struct status_options {
    struct locate_options where;
    bool json, help;
};

static const struct option_spec specs[] = {
    {.name = "url",
     .letter = 'u',
     .type = OPTION_TEXT,
     .offset = offsetof(struct status_options, where.url),
     .argument = "URL",
     .help = "where bulkheadd is: ws://HOST:PORT/ws or ws+unix:///PATH"},
    {.name = "token-file",
     .type = OPTION_TEXT,
     .offset = offsetof(struct status_options, where.token_file),
     .argument = "PATH",
     .help = "file with the token in its first line"},
    {.name = "runtime-dir",
     .type = OPTION_TEXT,
     .offset = offsetof(struct status_options, where.runtime_dir),
     .argument = "DIR",
     .help = "where a running bulkheadd left its address and token"},
    {.name = "json",
     .letter = 'j',
     .type = OPTION_FLAG,
     .offset = offsetof(struct status_options, json),
     .help = "print the answer as one line of JSON"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = offsetof(struct status_options, help),
     .help = "print this and leave"},
};

const struct option_table status_table = {
    .program = "bulkhead status",
    .synopsis = "[OPTION...]",
    .summary = "Lists what a running bulkheadd holds: sessions, commands, descriptors.",
    .specs = specs,
    .count = sizeof specs / sizeof specs[0],
    .footer = "Exit codes: 0, or 125 when there is no answer. See bulkhead(1).",
};

/* ---- the table ---- */

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* 59s, 2m05s, 3h07m, 12d03h: never wider than seven columns for a long while. */
static const char *age_text(double seconds, char *text, size_t cap)
{
    unsigned long long s = seconds > 0 ? (unsigned long long)seconds : 0;
    if (s < 60) {
        snprintf(text, cap, "%llus", s);
    } else if (s < 3600) {
        snprintf(text, cap, "%llum%02llus", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(text, cap, "%lluh%02llum", s / 3600, s / 60 % 60);
    } else {
        snprintf(text, cap, "%llud%02lluh", s / 86400, s / 3600 % 24);
    }
    return text;
}

/* A peer may have any name: nothing but printable ASCII reaches the terminal. */
static const char *text_of(const json_t *object, const char *key, char *text, size_t cap)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value)) {
        snprintf(text, cap, "%lld", (long long)json_integer_value(value));
    } else {
        snprintf(text, cap, "%s", json_is_string(value) ? json_string_value(value) : "");
    }
    for (char *c = text; *c; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
    if (!text[0]) {
        snprintf(text, cap, "-");
    }
    return text;
}

/* "-" for a number that says there is none. */
static const char *id_text(const json_t *object, const char *key, char *text, size_t cap)
{
    text_of(object, key, text, cap);
    return strcmp(text, "0") == 0 ? "-" : text;
}

static void print_totals(const json_t *status)
{
    char up[32];
    printf("bulkheadd %lld (frontend %lld), up %s\n", number_of(status, "pid"),
           number_of(status, "frontend_pid"),
           age_text(json_number_value(json_object_get(status, "uptime_seconds")), up, sizeof up));
    printf("sessions %lld of %lld, commands %lld, cells %lld, descriptors %lld\n",
           number_of(status, "sessions"), number_of(status, "max_sessions"),
           number_of(status, "commands"), number_of(status, "cells"),
           number_of(status, "descriptors"));
}

static void print_session(const json_t *session)
{
    char id[40], peer[72], uid[24], age[32], init[24], pid[24], state[24], out[24], err[24];
    printf("%-36s  %-21s  %6s  %7s  %7s  %7s  %-10s  %10s  %10s\n",
           text_of(session, "session_id", id, sizeof id),
           text_of(session, "peer", peer, sizeof peer), text_of(session, "uid", uid, sizeof uid),
           age_text(json_number_value(json_object_get(session, "age_seconds")), age, sizeof age),
           id_text(session, "init_pid", init, sizeof init),
           id_text(session, "pid", pid, sizeof pid), text_of(session, "state", state, sizeof state),
           text_of(session, "stdout_bytes", out, sizeof out),
           text_of(session, "stderr_bytes", err, sizeof err));
}

static void print_status(const json_t *status)
{
    const json_t *sessions = json_object_get(status, "session_list");
    print_totals(status);
    if (json_array_size(sessions) == 0) {
        return;
    }
    printf("\n%-36s  %-21s  %6s  %7s  %7s  %7s  %-10s  %10s  %10s\n", "SESSION", "PEER", "UID",
           "AGE", "INIT", "PID", "STATE", "STDOUT", "STDERR");
    for (size_t i = 0; i < json_array_size(sessions); i++) {
        print_session(json_array_get(sessions, i));
    }
}

/* ---- the subcommand ---- */

static int print_answer(const struct status_options *options, const struct location *location,
                        const char *body)
{
    json_error_t error;
    json_t *status = json_loads(body, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(status)) {
        log_error("%s answered what is no JSON object; is that a bulkheadd of this version?",
                  location->address.url);
        json_decref(status);
        return EXIT_OURS;
    }
    if (options->json) {
        json_dumpf(status, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15));
        putchar('\n');
    } else {
        print_status(status);
    }
    json_decref(status);
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    log_error("cannot write to standard output: %s", strerror(errno));
    return EXIT_OURS;
}

static int status_with(struct status_options *options, int argc, char **argv)
{
    struct option_error error;
    struct locate_error locate_error = {.text = ""};
    struct location location;
    int rest = 0;
    if (option_read_argv(&status_table, options, argc, argv, &rest, &error) != 0) {
        log_error("%s; see `bulkhead status --help`", error.text);
        return EXIT_OURS;
    }
    if (options->help) {
        return option_print_help(&status_table) == 0 ? 0 : EXIT_OURS;
    }
    if (argv[rest]) {
        log_error("\"%.200s\": status takes only options; see `bulkhead status --help`",
                  argv[rest]);
        return EXIT_OURS;
    }
    if (locate(&options->where, &location, &locate_error) != 0) {
        log_error("%s", locate_error.text);
        return EXIT_OURS;
    }
    char *body, *failure;
    if (connection_get(&location, "/status", &body, &failure) != 0) {
        log_error("%s", failure ? failure : "out of memory or descriptors");
        free(failure);
        return EXIT_OURS;
    }
    int exit_code = print_answer(options, &location, body);
    free(body);
    return exit_code;
}

int status_main(int argc, char **argv)
{
    struct status_options options;
    struct option_error error;
    if (option_defaults(&status_table, &options, &error) != 0) {
        log_error("%s", error.text);
        return EXIT_OURS;
    }
    int exit_code = status_with(&options, argc, argv);
    option_finish(&status_table, &options);
    return exit_code;
}
