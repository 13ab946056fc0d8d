/*
 * The state machine of a command. Only set_state changes its state. Each cell
 * of the table is one short function; an event that means nothing in a state
 * has no_op there.
 */
#include "supervisor/command_state.h"

#include <signal.h>
#include <stdlib.h>

#include "common/log.h"
#include "supervisor/cell.h"
#include "supervisor/link.h"
#include "supervisor/session.h"

/* What is left open after the leader's exit keeps a command alive no longer than this. */
#define DRAIN_MS 2000

/* An init that needs longer to kill and reap is itself killed. */
#define SWEEP_MS 10000

static const char *const state_names[STATE_COUNT] = {
    [COMMAND_STARTING] = "STARTING", [COMMAND_RUNNING] = "RUNNING",
    [COMMAND_PAUSED] = "PAUSED",     [COMMAND_STOPPING] = "STOPPING",
    [COMMAND_DRAINING] = "DRAINING", [COMMAND_SWEEPING] = "SWEEPING",
    [COMMAND_FLUSHING] = "FLUSHING", [COMMAND_DONE] = "DONE",
};

static const char *const event_names[EVENT_COUNT] = {
    [EV_STARTED] = "started", [EV_FAILED] = "failed", [EV_PAUSED] = "paused",
    [EV_RESUMED] = "resumed", [EV_STOP] = "stop",     [EV_EXITED] = "exit",
    [EV_EOF] = "eof",         [EV_TIMER] = "timer",   [EV_SWEPT] = "swept",
    [EV_EMPTY] = "empty",     [EV_LOST] = "lost",
};

const char *command_state_name(const struct command *command)
{
    return state_names[command->state];
}

/* ---- the end ---- */

void command_free(struct command *command)
{
    loop_timer_cancel(command_config.loop, &command->total);
    loop_timer_cancel(command_config.loop, &command->bound);
    output_finish(&command->out[0]);
    output_finish(&command->out[1]);
    input_finish(&command->in);
    free(command);
}

static void set_state(struct command *command, enum state state, const char *why)
{
    log_trace(TRACE_COMMAND, "command %u.%u: %s -> %s (%s)", command->owner.sid,
              command->owner.exec, state_names[command->state], state_names[state], why);
    command->state = state;
}

/* One line a command, for whoever has to account for it. */
static void audit(const struct command *command, const struct msg_VERDICT *msg)
{
    log_session(msg->reason == REASON_TIMEOUT ? LOG_WARN : LOG_INFO, command->owner.sid,
                "command %u: %s, exit code %d, pid %d, uid %u, %.3f s wall, %.3f s cpu, "
                "%llu + %llu bytes out, peer %s%s%.*s",
                msg->exec, verdict_reason_name(msg->reason), msg->exit_code, (int)command->pid,
                command->uid, (double)msg->wall_us / 1e6,
                (double)(msg->user_us + msg->system_us) / 1e6,
                (unsigned long long)msg->stdout_bytes, (unsigned long long)msg->stderr_bytes,
                command->session->peer, msg->error.len > 0 ? ": " : "", (int)msg->error.len,
                msg->error.data != NULL ? msg->error.data : "");
}

static void finish(struct command *command)
{
    struct session *session = command->session;
    struct verdict verdict;
    struct msg_VERDICT msg = {
        .sid = command->owner.sid,
        .exec = command->owner.exec,
        .pid = (uint32_t)command->pid,
        .pgid = (uint32_t)command->pid,
        .wall_us = command->ended_us - command->started_us,
        .user_us = command->user_us,
        .system_us = command->system_us,
        .peak_bytes = command->peak_bytes,
        .stdout_bytes = output_bytes(&command->out[0]),
        .stdout_dropped = command->out[0].dropped,
        .stderr_bytes = output_bytes(&command->out[1]),
        .stderr_dropped = command->out[1].dropped,
        .protections = command_config.protections,
    };

    verdict_decide(&command->facts, &verdict);
    msg.reason = verdict.reason;
    msg.exit_code = verdict.exit_code;
    msg.signal = verdict.signal;
    msg.error = span_of(verdict.error);
    set_state(command, COMMAND_DONE, verdict_reason_name(verdict.reason));
    if (!command->gone) {
        link_tell(MSG_VERDICT, &msg);
    }
    audit(command, &msg);
    command_free(command);
    session_command_done(session);
}

/* ---- what the cells of the table do ---- */

static void no_op(struct command *command)
{
    (void)command;
}

static void set_bound(struct command *command, uint64_t delay_ms)
{
    if (loop_timer_set(command_config.loop, &command->bound, delay_ms * 1000) < 0) {
        /* No memory for a timer: no time, then. */
        command_handle(command, EV_TIMER);
    }
}

static void do_sweep(struct command *command)
{
    loop_timer_cancel(command_config.loop, &command->bound);
    loop_timer_cancel(command_config.loop, &command->total);
    set_state(command, COMMAND_SWEEPING, "sweep");
    cell_sweep(command->cell, command->owner.exec);
    set_bound(command, SWEEP_MS);
}

static void do_break(struct command *command)
{
    log_session(LOG_ERROR, command->owner.sid,
                "command %u: not swept after %d ms; its init is killed", command->owner.exec,
                SWEEP_MS);
    cell_break(command->cell);
}

static void do_stop(struct command *command)
{
    bool paused = command->state == COMMAND_PAUSED;

    loop_timer_cancel(command_config.loop, &command->total);
    if (command_config.grace_ms == 0 || command_signal(command, SIGTERM, 0, 0) < 0 ||
        (paused && command_signal(command, SIGCONT, 0, 0) < 0)) {
        do_sweep(command);
        return;
    }
    set_state(command, COMMAND_STOPPING, verdict_reason_name(command->facts.stopped));
    set_bound(command, command_config.grace_ms);
}

bool command_streams_ended(const struct command *command)
{
    return command->out[0].end && command->out[1].end;
}

static void do_started(struct command *command)
{
    struct msg_STARTED msg = {.sid = command->owner.sid,
                              .req = command->req,
                              .exec = command->owner.exec,
                              .pid = (uint32_t)command->pid,
                              .pgid = (uint32_t)command->pid};

    set_state(command, COMMAND_RUNNING, "started");
    if (!command->gone) {
        link_tell(MSG_STARTED, &msg);
        output_open(&command->out[0]);
        output_open(&command->out[1]);
        if (command->in.ring.base != NULL) {
            input_open(&command->in);
        }
    }
    if (command->stop_wanted) {
        do_stop(command);
    }
}

static void do_stop_later(struct command *command)
{
    command->stop_wanted = true;
}

/* Nothing ran: the request is refused, there is no verdict. failed() told why. */
static void do_not_started(struct command *command)
{
    struct session *session = command->session;

    set_state(command, COMMAND_DONE, "start failed");
    command_free(command);
    session_command_done(session);
}

static void do_lost_at_start(struct command *command)
{
    if (!command->gone) {
        link_refuse(command->owner.sid, command->req, -32603, "cell_lost",
                    "The cell ended before the command started");
    }
    do_not_started(command);
}

static void do_pause(struct command *command)
{
    set_state(command, COMMAND_PAUSED, "SIGSTOP");
}

static void do_resume(struct command *command)
{
    set_state(command, COMMAND_RUNNING, "SIGCONT");
}

static void do_drain(struct command *command)
{
    bool stopping = command->state == COMMAND_STOPPING;

    loop_timer_cancel(command_config.loop, &command->total);
    set_state(command, COMMAND_DRAINING, "exit");
    if (command_streams_ended(command)) {
        do_sweep(command);
    } else if (!stopping) {
        set_bound(command, DRAIN_MS);
    } /* else what is left of grace is all there is */
}

static bool streams_done(const struct command *command)
{
    return output_is_done(&command->out[0]) && output_is_done(&command->out[1]);
}

static void do_flush(struct command *command)
{
    loop_timer_cancel(command_config.loop, &command->bound);
    set_state(command, COMMAND_FLUSHING, command->facts.lost ? "lost" : "swept");
    for (int i = 0; i < 2; i++) {
        if (command->gone) {
            output_discard(&command->out[i]);
        } else if (!command->out[i].end) {
            output_drain(&command->out[i]);
        }
    }
    if (streams_done(command)) {
        command_handle(command, EV_EMPTY);
    }
}

static void do_lost(struct command *command)
{
    loop_timer_cancel(command_config.loop, &command->total);
    command->facts.lost = true;
    if (command->ended_us == 0) {
        command->ended_us = loop_now_us();
    }
    do_flush(command);
}

static void do_check_empty(struct command *command)
{
    if (streams_done(command)) {
        command_handle(command, EV_EMPTY);
    }
}

typedef void action(struct command *command);

static action *const table[STATE_COUNT][EVENT_COUNT] = {
    [COMMAND_STARTING] =
        {
            [EV_STARTED] = do_started,
            [EV_FAILED] = do_not_started,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = no_op,
            [EV_STOP] = do_stop_later,
            [EV_EXITED] = no_op,
            [EV_EOF] = no_op,
            [EV_TIMER] = no_op,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost_at_start,
        },
    [COMMAND_RUNNING] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = do_pause,
            [EV_RESUMED] = no_op,
            [EV_STOP] = do_stop,
            [EV_EXITED] = do_drain,
            [EV_EOF] = no_op, /* it closed its streams and runs on */
            [EV_TIMER] = no_op,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost,
        },
    [COMMAND_PAUSED] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = do_resume,
            [EV_STOP] = do_stop,
            [EV_EXITED] = do_drain, /* SIGKILL ends what SIGSTOP stopped */
            [EV_EOF] = no_op,
            [EV_TIMER] = no_op,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost,
        },
    [COMMAND_STOPPING] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = no_op,
            [EV_STOP] = no_op,
            [EV_EXITED] = do_drain,
            [EV_EOF] = no_op,
            [EV_TIMER] = do_sweep,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost,
        },
    [COMMAND_DRAINING] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = no_op,
            [EV_STOP] = do_sweep,
            [EV_EXITED] = no_op,
            [EV_EOF] = do_sweep,
            [EV_TIMER] = do_sweep,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost,
        },
    [COMMAND_SWEEPING] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = no_op,
            [EV_STOP] = no_op,
            [EV_EXITED] = no_op,
            [EV_EOF] = no_op,
            [EV_TIMER] = do_break,
            [EV_SWEPT] = do_flush,
            [EV_EMPTY] = no_op,
            [EV_LOST] = do_lost,
        },
    [COMMAND_FLUSHING] =
        {
            [EV_STARTED] = no_op,
            [EV_FAILED] = no_op,
            [EV_PAUSED] = no_op,
            [EV_RESUMED] = no_op,
            [EV_STOP] = do_check_empty, /* the client left: nothing waits for it any more */
            [EV_EXITED] = no_op,
            [EV_EOF] = do_check_empty,
            [EV_TIMER] = no_op,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = finish,
            [EV_LOST] = no_op,
        },
};

bool command_machine_is_whole(void)
{
    for (int state = 0; state < COMMAND_DONE; state++) {
        for (int event = 0; event < EVENT_COUNT; event++) {
            if (table[state][event] == NULL) {
                return false;
            }
        }
    }
    return true;
}

void command_handle(struct command *command, enum event event)
{
    action *fn = command->state < COMMAND_DONE ? table[command->state][event] : NULL;

    if (fn == NULL) {
        die_bug("command %u.%u: nothing is written for event %s in state %s", command->owner.sid,
                command->owner.exec, event_names[event], command_state_name(command));
    }
    fn(command);
}

bool command_leader_lives(const struct command *command)
{
    return command->state == COMMAND_STARTING || command->state == COMMAND_RUNNING ||
           command->state == COMMAND_PAUSED;
}
