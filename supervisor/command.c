/*
 * Commands, as the rest of the supervisor sees them: what happens to one -
 * reports of the cell's init, its streams, its timers, its client - is turned
 * into events of the state machine.
 */
#include "supervisor/command_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "supervisor/cell.h"
#include "supervisor/link.h"
#include "supervisor/session.h"
#include "supervisor/spawn.h"

/* The largest window a client can have open: EXECUTE's and CREDIT's maximum together. */
#define CREDIT_MAX (2 * 1048576)

/* ---- asked by others ---- */

uint32_t command_exec(const struct command *command)
{
    return command->owner.exec;
}

pid_t command_pid(const struct command *command)
{
    return command->pid;
}

uint64_t command_bytes(const struct command *command, enum proto_stream stream)
{
    return output_bytes(&command->out[stream - STREAM_STDOUT]);
}

/* ---- what happens to it ---- */

/* The first reason counts, and only if it came before the command's own end. */
void command_stop(struct command *command, enum verdict_reason reason)
{
    if (command_leader_lives(command) && command->facts.stopped == 0) {
        command->facts.stopped = reason;
    }
    command_handle(command, EV_STOP);
}

static void on_total(struct timer *timer)
{
    struct command *command = OWNER_OF(timer, struct command, total);

    log_session(LOG_WARN, command->owner.sid, "command %u: timeout after %.10g s; it is stopped",
                command->owner.exec, (double)command->facts.timeout_ms / 1000);
    command_stop(command, REASON_TIMEOUT);
}

static void on_bound(struct timer *timer)
{
    command_handle(OWNER_OF(timer, struct command, bound), EV_TIMER);
}

/* One ended, or something was sent after that. */
static void on_streams(struct output_owner *owner)
{
    struct command *command = OWNER_OF(owner, struct command, owner);

    if (command_leader_lives(command) &&
        (command->out[0].error != 0 || command->out[1].error != 0)) {
        int error = command->out[0].error != 0 ? command->out[0].error : command->out[1].error;

        log_session(LOG_ERROR, owner->sid, "command %u: reading its output: %s", owner->exec,
                    strerror(error));
        output_discard(&command->out[0]);
        output_discard(&command->out[1]);
        command_stop(command, REASON_STREAM_FAILED);
    } else if (command_streams_ended(command)) {
        command_handle(command, EV_EOF);
    }
}

void command_attach(struct command *command)
{
    command->total.fn = on_total;
    command->bound.fn = on_bound;
    command->owner.changed = on_streams;
}

static void on_cell_started(void *user, pid_t pid)
{
    struct command *command = user;

    command->pid = pid;
    command_handle(command, EV_STARTED);
}

static void on_cell_failed(void *user, unsigned stage, int error)
{
    struct command *command = user;
    const char *name = spawn_stage_name(stage);
    struct msg_REFUSED msg = {
        .sid = command->owner.sid,
        .req = command->req,
        .code = -32013,
        .kind = span_of("start_failed"),
        .stage = span_of(name),
        .errnum = (uint32_t)error,
    };
    char text[128];

    (void)snprintf(text, sizeof(text), "The command did not start: %s: %s", name, strerror(error));
    msg.text = span_of(text);
    if (!command->gone) {
        link_tell(MSG_REFUSED, &msg);
    }
    log_session(LOG_INFO, command->owner.sid, "command %u: start failed: %s: %s",
                command->owner.exec, name, strerror(error));
    command_handle(command, EV_FAILED);
}

static void on_cell_exited(void *user, const struct cell_report *report)
{
    struct command *command = user;

    (void)report; /* told in full once it is swept */
    command->ended_us = loop_now_us();
    command_handle(command, EV_EXITED);
}

static void on_cell_swept(void *user, const struct cell_report *report)
{
    struct command *command = user;

    command->facts.code = report->code;
    command->facts.status = report->status;
    command->user_us = report->user_us;
    command->system_us = report->system_us;
    command->peak_bytes = report->peak_bytes;
    if (command->ended_us == 0) {
        command->ended_us = loop_now_us();
    }
    command_handle(command, EV_SWEPT);
}

static void on_cell_lost(void *user)
{
    struct command *command = user;

    cell_release(command->cell);
    command->session->cell = NULL;
    command->cell = NULL;
    command_handle(command, EV_LOST);
}

static void on_cell_signaled(void *user, uint32_t cookie, int error)
{
    command_signaled(user, cookie, error);
}

const struct cell_user command_cell_user = {
    .started = on_cell_started,
    .failed = on_cell_failed,
    .exited = on_cell_exited,
    .signaled = on_cell_signaled,
    .swept = on_cell_swept,
    .lost = on_cell_lost,
};

int command_credit(struct command *command, uint32_t exec, uint32_t bytes)
{
    if (command == NULL || exec != command->owner.exec) {
        return 0; /* for one that ended meanwhile */
    }
    if (command->owner.credit + bytes > CREDIT_MAX) {
        return -EOVERFLOW;
    }
    command->owner.credit += bytes;
    /* stderr first: it is the shorter one, and the one that is waited for. A pump may free the
     * command, but only when both streams are done. */
    if (!output_is_done(&command->out[1])) {
        bool last = output_is_done(&command->out[0]);

        output_pump(&command->out[1]);
        if (last) {
            return 0;
        }
    }
    output_pump(&command->out[0]);
    return 0;
}

int command_stdin(struct command *command, const struct msg_STDIN *msg)
{
    if (command == NULL || msg->exec != command->owner.exec) {
        return 0; /* for one that ended meanwhile */
    }
    if (command->in.ring.base == NULL) {
        return -EPROTO;
    }
    return input_put(&command->in, msg->data, msg->eof);
}

void command_disconnect(struct command *command)
{
    command->gone = true;
    output_discard(&command->out[0]);
    output_discard(&command->out[1]);
    command_stop(command, REASON_DISCONNECTED);
}

void command_shutdown(struct command *command)
{
    command_stop(command, REASON_SHUTDOWN);
}
