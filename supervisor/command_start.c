/*
 * From EXECUTE to a cell's START: the request is checked, its streams are
 * connected, and the cell is asked. In: a message that fits the table, of a
 * session that is open.
 */
#include "supervisor/command_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "policy/environment.h"
#include "supervisor/cell.h"
#include "supervisor/link.h"
#include "supervisor/session.h"

struct command_config command_config;

void commands_init(const struct command_config *given)
{
    command_config = *given;
}

/* What EXECUTE asks for, made ready for the cell. Freed by request_finish. */
struct request {
    char *argv, *env;
    size_t argv_len, env_len;
    struct span cwd;
};

static void request_finish(struct request *request)
{
    free(request->argv);
    free(request->env);
}

#define ENV_MAX 69632 /* what EXECUTE may add, and the default one */

static int request_fill(struct request *request, const struct msg_EXECUTE *msg)
{
    size_t shell_len = strlen(command_config.shell) + 1;
    char *at;
    long env_len;

    request->argv = malloc(shell_len + 3 + msg->argv.len);
    request->env = malloc(ENV_MAX);
    if (request->argv == NULL || request->env == NULL) {
        return -ENOMEM;
    }
    at = request->argv;
    if (msg->shell) {
        memcpy(at, command_config.shell, shell_len);
        memcpy(at + shell_len, "-c", 3);
        at += shell_len + 3;
    }
    memcpy(at, msg->argv.data, msg->argv.len);
    request->argv_len = (size_t)(at - request->argv) + msg->argv.len;
    env_len = environment_merge(command_config.environment, msg->env, request->env, ENV_MAX);
    if (env_len < 0) {
        return (int)env_len;
    }
    request->env_len = (size_t)env_len;
    request->cwd = msg->cwd.len > 0 ? msg->cwd : span_of(command_config.directory);
    return 0;
}

/* What is wrong with the request, for a person; NULL: nothing. */
static const char *request_fault(const struct session *session, const struct msg_EXECUTE *msg)
{
    if (session->command != NULL) {
        return "A process is already running";
    }
    if (msg->argv.len == 0 || msg->argv.data[0] == '\0') {
        return "The command is empty";
    }
    if (msg->shell && proto_list_count(msg->argv) != 1) {
        return "A shell command is one string";
    }
    if (msg->cwd.len > 0 && msg->cwd.data[0] != '/') {
        return "cwd is not an absolute path";
    }
    return NULL;
}

static bool request_is_sound(const struct session *session, const struct msg_EXECUTE *msg)
{
    const char *fault = request_fault(session, msg);

    if (fault != NULL) {
        link_refuse(msg->sid, msg->req, -32602,
                    session->command != NULL ? "already_running" : "invalid_params", "%s", fault);
        return false;
    }
    if (msg->timeout_ms > command_config.max_timeout_ms) {
        link_refuse(msg->sid, msg->req, -32602, "invalid_params",
                    "timeout of %.10g s is longer than the %.10g s that are allowed",
                    (double)msg->timeout_ms / 1000, (double)command_config.max_timeout_ms / 1000);
        return false;
    }
    return true;
}

static void refuse_start(const struct msg_EXECUTE *msg, const char *stage, int error)
{
    struct msg_REFUSED refused = {.sid = msg->sid, .req = msg->req, .code = -32013};
    char text[128];

    (void)snprintf(text, sizeof(text), "The command did not start: %s: %s", stage, strerror(error));
    refused.kind = span_of("start_failed");
    refused.text = span_of(text);
    refused.stage = span_of(stage);
    refused.errnum = (uint32_t)error;
    link_tell(MSG_REFUSED, &refused);
}

static void close_pair(int pair[2])
{
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0) {
            close(pair[i]);
        }
    }
}

/* Makes a pipe and gives our end to one stream. child receives the other end. */
static int connect_output(struct command *command, enum proto_stream stream, int *child)
{
    int pair[2];
    int result;

    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    result = output_init(&command->out[stream - STREAM_STDOUT], &command->owner, stream, pair[0],
                         command_config.loop);
    if (result < 0) {
        close_pair(pair);
        return result;
    }
    *child = pair[1];
    return 0;
}

static int connect_input(struct command *command, int *child)
{
    int pair[2];
    int result;

    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    result = input_init(&command->in, command->owner.sid, command->owner.exec, pair[1],
                        command_config.loop);
    if (result < 0) {
        close_pair(pair);
        return result;
    }
    *child = pair[0];
    return 0;
}

/* Each command's own: what one does to an open file is seen by all who share it, fcntl(2). */
static int open_null(int *child)
{
    *child = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return *child < 0 ? -errno : 0;
}

/* The session's cell, or a fresh one for it. */
static int find_cell(struct session *session)
{
    if (session->cell != NULL && !cell_is_usable(session->cell)) {
        cell_release(session->cell);
        session->cell = NULL;
    }
    return session->cell != NULL ? 0 : cell_take(&session->cell);
}

/* Connects the streams and asks the cell. On failure *stage names what failed. */
static int command_start(struct command *command, const struct msg_EXECUTE *msg,
                         const struct request *request, const char **stage)
{
    int fds[3] = {-1, -1, -1};
    int result;

    *stage = "pipe";
    result = connect_output(command, STREAM_STDOUT, &fds[1]);
    if (result == 0) {
        result = connect_output(command, STREAM_STDERR, &fds[2]);
    }
    if (result == 0) {
        result = msg->want_stdin ? connect_input(command, &fds[0]) : open_null(&fds[0]);
    }
    if (result == 0) {
        *stage = "timer";
        result =
            loop_timer_set(command_config.loop, &command->total, command->facts.timeout_ms * 1000);
    }
    if (result == 0) {
        *stage = "cell";
        result = cell_start(command->cell, command->owner.exec,
                            (struct span){request->argv, request->argv_len},
                            (struct span){request->env, request->env_len}, request->cwd, fds,
                            &command_cell_user, command);
    }
    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return result;
}

static struct command *command_new(struct session *session, const struct msg_EXECUTE *msg)
{
    struct command *command = calloc(1, sizeof(*command));

    if (command == NULL) {
        return NULL;
    }
    command->owner = (struct output_owner){.sid = msg->sid,
                                           .exec = ++session->last_exec,
                                           .lines = msg->lines,
                                           .max_line = command_config.max_line,
                                           .window = msg->window,
                                           .credit = msg->window};
    command->session = session;
    command->cell = session->cell;
    command->uid = cell_uid(session->cell);
    command->req = msg->req;
    command->started_us = loop_now_us();
    command->facts.cpu_limited = command_config.cpu_limited;
    command->facts.timeout_ms = msg->timeout_ms > 0 ? msg->timeout_ms : command_config.timeout_ms;
    command->in.watch.fd = -1;
    command_attach(command);
    return command;
}

void command_execute(struct session *session, const struct msg_EXECUTE *msg)
{
    struct request request = {0};
    struct command *command = NULL;
    const char *stage = "cell";
    int result;

    if (!request_is_sound(session, msg)) {
        return;
    }
    result = request_fill(&request, msg);
    if (result == -EINVAL || result == -E2BIG) {
        link_refuse(msg->sid, msg->req, -32602, "invalid_params",
                    result == -E2BIG ? "env: too many variables"
                                     : "env: not of the form NAME=value");
        request_finish(&request);
        return;
    }
    if (result == 0) {
        result = find_cell(session);
    }
    if (result == 0) {
        command = command_new(session, msg);
        result = command != NULL ? command_start(command, msg, &request, &stage) : -ENOMEM;
    }
    if (result < 0) {
        log_session(LOG_WARN, msg->sid, "command not started: %s: %s", stage, strerror(-result));
        refuse_start(msg, stage, -result);
        if (command != NULL) {
            command_free(command);
        }
    } else {
        session->command = command;
    }
    request_finish(&request);
}
