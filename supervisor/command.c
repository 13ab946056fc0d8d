/*
 * Commands. Runs in the supervisor. In: the frontend's requests, the reports
 * of the cell's init, the ends of two pipes, two timers. Out: what the
 * frontend is told, and what the cell is asked.
 *
 * Only set_state changes a command's state. Each cell of the table is one
 * short function; an event that means nothing in a state has no_op there.
 */
#include "supervisor/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "policy/environment.h"
#include "supervisor/cell.h"
#include "supervisor/input.h"
#include "supervisor/link.h"
#include "supervisor/loop.h"
#include "supervisor/output.h"
#include "supervisor/session.h"
#include "supervisor/spawn.h"
#include "supervisor/verdict.h"

/* What is left open after the leader's exit keeps a command alive no longer than this. */
#define DRAIN_MS 2000

/* An init that needs longer to kill and reap is itself killed. */
#define SWEEP_MS 10000

/* Control requests that may be on their way to the init at once. */
#define CONTROLS_MAX 8

/* The largest window a client can have open: EXECUTE's and CREDIT's maximum together. */
#define CREDIT_MAX (2 * 1048576)

enum state {
    COMMAND_STARTING, /* the init was asked */
    COMMAND_RUNNING,
    COMMAND_PAUSED,
    COMMAND_STOPPING, /* SIGTERM was sent, grace runs */
    COMMAND_DRAINING, /* the leader ended; the streams have not */
    COMMAND_SWEEPING, /* the init kills and reaps what is left */
    COMMAND_FLUSHING, /* nothing runs; the last bytes wait for the client */
    COMMAND_DONE,
    STATE_COUNT
};

enum event {
    EV_STARTED,
    EV_FAILED, /* the start */
    EV_PAUSED,
    EV_RESUMED,
    EV_STOP,   /* cancel, timeout, disconnect, shutdown, a broken stream */
    EV_EXITED, /* the leader */
    EV_EOF,    /* both streams ended */
    EV_TIMER,  /* grace, or the wait for the streams, is over */
    EV_SWEPT,
    EV_EMPTY, /* both streams ended, and all of them was sent */
    EV_LOST,  /* the init is gone */
    EVENT_COUNT
};

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

/* A control request whose answer the init owes us. */
struct pending {
    uint32_t req; /* 0: ours, nobody waits */
    uint32_t action;
    int signal;
    bool used;
};

struct command {
    struct output_owner owner; /* sid, exec, credit: what both streams share */
    struct session *session;
    struct cell *cell;
    enum state state;
    uint32_t req;
    pid_t pid;
    uid_t uid;
    struct output out[2];
    struct input in;
    struct timer total; /* the timeout */
    struct timer bound; /* grace, or the wait for the streams */
    struct pending pending[CONTROLS_MAX];
    struct verdict_facts facts;
    bool stop_wanted; /* it came before the start was confirmed */
    bool gone;        /* the client is: nothing is told any more */
    uint64_t started_us, ended_us;
    uint64_t user_us, system_us, peak_bytes;
};

static struct command_config config;
static int null_fd = -1;

static void handle(struct command *command, enum event event);

int commands_init(const struct command_config *given)
{
    config = *given;
    null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return null_fd < 0 ? -errno : 0;
}

void commands_finish(void)
{
    if (null_fd >= 0) {
        close(null_fd);
        null_fd = -1;
    }
}

/* ---- asked by others ---- */

uint32_t command_exec(const struct command *command)
{
    return command->owner.exec;
}

pid_t command_pid(const struct command *command)
{
    return command->pid;
}

const char *command_state_name(const struct command *command)
{
    return state_names[command->state];
}

uint64_t command_bytes(const struct command *command, enum proto_stream stream)
{
    return output_bytes(&command->out[stream - STREAM_STDOUT]);
}

/* ---- the end ---- */

static void command_free(struct command *command)
{
    loop_timer_cancel(config.loop, &command->total);
    loop_timer_cancel(config.loop, &command->bound);
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
        .protections = config.protections,
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

/* Asks the init for a signal. The answer, if somebody waits for it, comes back by the cookie. */
static int ask_signal(struct command *command, int signal, uint32_t req, uint32_t action)
{
    for (uint32_t cookie = 0; cookie < CONTROLS_MAX; cookie++) {
        struct pending *pending = &command->pending[cookie];
        int result;

        if (pending->used) {
            continue;
        }
        result = cell_signal(command->cell, command->owner.exec, signal, cookie);
        if (result == 0) {
            *pending = (struct pending){req, action, signal, true};
        }
        return result;
    }
    return -EBUSY;
}

static void set_bound(struct command *command, uint64_t delay_ms)
{
    if (loop_timer_set(config.loop, &command->bound, delay_ms * 1000) < 0) {
        /* No memory for a timer: no time, then. */
        handle(command, EV_TIMER);
    }
}

static void do_sweep(struct command *command)
{
    loop_timer_cancel(config.loop, &command->bound);
    loop_timer_cancel(config.loop, &command->total);
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

    loop_timer_cancel(config.loop, &command->total);
    if (config.grace_ms == 0 || ask_signal(command, SIGTERM, 0, 0) < 0 ||
        (paused && ask_signal(command, SIGCONT, 0, 0) < 0)) {
        do_sweep(command);
        return;
    }
    set_state(command, COMMAND_STOPPING, verdict_reason_name(command->facts.stopped));
    set_bound(command, config.grace_ms);
}

static bool streams_ended(const struct command *command)
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

    loop_timer_cancel(config.loop, &command->total);
    set_state(command, COMMAND_DRAINING, "exit");
    if (streams_ended(command)) {
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
    loop_timer_cancel(config.loop, &command->bound);
    set_state(command, COMMAND_FLUSHING, command->facts.lost ? "lost" : "swept");
    for (int i = 0; i < 2; i++) {
        if (command->gone) {
            output_discard(&command->out[i]);
        } else if (!command->out[i].end) {
            output_drain(&command->out[i]);
        }
    }
    if (streams_done(command)) {
        handle(command, EV_EMPTY);
    }
}

static void do_lost(struct command *command)
{
    loop_timer_cancel(config.loop, &command->total);
    command->facts.lost = true;
    if (command->ended_us == 0) {
        command->ended_us = loop_now_us();
    }
    do_flush(command);
}

static void do_check_empty(struct command *command)
{
    if (streams_done(command)) {
        handle(command, EV_EMPTY);
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
            [EV_EOF] = no_op,
            [EV_TIMER] = no_op,
            [EV_SWEPT] = no_op,
            [EV_EMPTY] = finish,
            [EV_LOST] = no_op,
        },
};

static void handle(struct command *command, enum event event)
{
    action *fn = command->state < COMMAND_DONE ? table[command->state][event] : NULL;

    if (fn == NULL) {
        die_bug("command %u.%u: nothing is written for event %s in state %s", command->owner.sid,
                command->owner.exec, event_names[event], command_state_name(command));
    }
    fn(command);
}

/* ---- what happens to it ---- */

static bool leader_lives(const struct command *command)
{
    return command->state == COMMAND_STARTING || command->state == COMMAND_RUNNING ||
           command->state == COMMAND_PAUSED;
}

/* The first reason counts, and only if it came before the command's own end. */
static void stop(struct command *command, enum verdict_reason reason)
{
    if (leader_lives(command) && command->facts.stopped == 0) {
        command->facts.stopped = reason;
    }
    handle(command, EV_STOP);
}

static void on_total(struct timer *timer)
{
    struct command *command = OWNER_OF(timer, struct command, total);

    log_session(LOG_WARN, command->owner.sid, "command %u: timeout after %.10g s; it is stopped",
                command->owner.exec, (double)command->facts.timeout_ms / 1000);
    stop(command, REASON_TIMEOUT);
}

static void on_bound(struct timer *timer)
{
    handle(OWNER_OF(timer, struct command, bound), EV_TIMER);
}

/* From the streams: one ended, or something was sent after that. */
static void on_streams(struct output_owner *owner)
{
    struct command *command = OWNER_OF(owner, struct command, owner);

    if (leader_lives(command) && (command->out[0].error != 0 || command->out[1].error != 0)) {
        int error = command->out[0].error != 0 ? command->out[0].error : command->out[1].error;

        log_session(LOG_ERROR, owner->sid, "command %u: reading its output: %s", owner->exec,
                    strerror(error));
        output_discard(&command->out[0]);
        output_discard(&command->out[1]);
        stop(command, REASON_STREAM_FAILED);
    } else if (command->state == COMMAND_FLUSHING) {
        do_check_empty(command);
    } else if (streams_ended(command)) {
        handle(command, EV_EOF);
    }
}

static void on_cell_started(void *user, pid_t pid)
{
    struct command *command = user;

    command->pid = pid;
    handle(command, EV_STARTED);
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
    handle(command, EV_FAILED);
}

static void on_cell_exited(void *user, const struct cell_report *report)
{
    struct command *command = user;

    (void)report; /* told in full once it is swept */
    command->ended_us = loop_now_us();
    handle(command, EV_EXITED);
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
    handle(command, EV_SWEPT);
}

static void on_cell_lost(void *user)
{
    struct command *command = user;

    cell_release(command->cell);
    command->session->cell = NULL;
    command->cell = NULL;
    handle(command, EV_LOST);
}

/* ---- control ---- */

static void tell_controlled(const struct command *command, uint32_t req, uint32_t action_code)
{
    struct msg_CONTROLLED msg = {.sid = command->owner.sid,
                                 .req = req,
                                 .exec = command->owner.exec,
                                 .action = action_code,
                                 .pid = (uint32_t)command->pid,
                                 .pgid = (uint32_t)command->pid};

    link_tell(MSG_CONTROLLED, &msg);
}

static void refuse_no_process(uint32_t sid, uint32_t req)
{
    link_refuse(sid, req, -32002, "no_process", "No process is running");
}

static void on_cell_signaled(void *user, uint32_t cookie, int error)
{
    struct command *command = user;
    struct pending pending;

    if (cookie >= CONTROLS_MAX || !command->pending[cookie].used) {
        return;
    }
    pending = command->pending[cookie];
    command->pending[cookie].used = false;
    if (pending.req != 0 && !command->gone) {
        if (error != 0) {
            refuse_no_process(command->owner.sid, pending.req);
        } else {
            tell_controlled(command, pending.req, pending.action);
        }
    }
    if (error == 0 && pending.signal == SIGSTOP) {
        handle(command, EV_PAUSED);
    } else if (error == 0 && pending.signal == SIGCONT) {
        handle(command, EV_RESUMED);
    }
}

static const struct cell_user cell_user = {
    .started = on_cell_started,
    .failed = on_cell_failed,
    .exited = on_cell_exited,
    .signaled = on_cell_signaled,
    .swept = on_cell_swept,
    .lost = on_cell_lost,
};

static void control_by_signal(struct command *command, const struct msg_CONTROL *msg, int signal)
{
    int result;

    if (command->state == COMMAND_STOPPING) {
        link_refuse(msg->sid, msg->req, -32015, "wrong_state", "The process is being stopped");
        return;
    }
    result = ask_signal(command, signal, msg->req, msg->action);
    if (result < 0) {
        link_refuse(msg->sid, msg->req, -32603, "internal", "The cell takes no requests: %s",
                    strerror(-result));
    }
}

void command_control(struct command *command, const struct msg_CONTROL *msg)
{
    bool other = command != NULL && msg->exec != 0 && msg->exec != command->owner.exec;

    if (command == NULL || other || command->state == COMMAND_STARTING ||
        command->state >= COMMAND_DRAINING) {
        refuse_no_process(msg->sid, msg->req);
        return;
    }
    switch (msg->action) {
    case ACTION_PAUSE:
        control_by_signal(command, msg, SIGSTOP);
        break;
    case ACTION_RESUME:
        control_by_signal(command, msg, SIGCONT);
        break;
    case ACTION_CANCEL:
        tell_controlled(command, msg->req, msg->action);
        stop(command, REASON_CANCELED);
        break;
    case ACTION_SIGNAL:
        if (msg->signal == 0) {
            link_refuse(msg->sid, msg->req, -32602, "invalid_params", "Signal 0 is none");
            break;
        }
        control_by_signal(command, msg, (int)msg->signal);
        break;
    default:
        link_refuse(msg->sid, msg->req, -32602, "invalid_params", "Unknown control type: %u",
                    msg->action);
        break;
    }
}

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
    stop(command, REASON_DISCONNECTED);
}

void command_shutdown(struct command *command)
{
    stop(command, REASON_SHUTDOWN);
}

/* ---- execute ---- */

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
    size_t shell_len = strlen(config.shell) + 1;
    char *at;
    long env_len;

    request->argv = malloc(shell_len + 3 + msg->argv.len);
    request->env = malloc(ENV_MAX);
    if (request->argv == NULL || request->env == NULL) {
        return -ENOMEM;
    }
    at = request->argv;
    if (msg->shell) {
        memcpy(at, config.shell, shell_len);
        memcpy(at + shell_len, "-c", 3);
        at += shell_len + 3;
    }
    memcpy(at, msg->argv.data, msg->argv.len);
    request->argv_len = (size_t)(at - request->argv) + msg->argv.len;
    env_len = environment_merge(environment_default, msg->env, request->env, ENV_MAX);
    if (env_len < 0) {
        return (int)env_len;
    }
    request->env_len = (size_t)env_len;
    request->cwd = msg->cwd.len > 0 ? msg->cwd : span_of(config.directory);
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
    if (msg->timeout_ms > config.max_timeout_ms) {
        link_refuse(msg->sid, msg->req, -32602, "invalid_params",
                    "timeout of %.10g s is longer than the %.10g s that are allowed",
                    (double)msg->timeout_ms / 1000, (double)config.max_timeout_ms / 1000);
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
                         config.loop);
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
    result =
        input_init(&command->in, command->owner.sid, command->owner.exec, pair[1], config.loop);
    if (result < 0) {
        close_pair(pair);
        return result;
    }
    *child = pair[0];
    return 0;
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
    if (result == 0 && msg->want_stdin) {
        result = connect_input(command, &fds[0]);
    }
    if (result == 0) {
        *stage = "timer";
        result = loop_timer_set(config.loop, &command->total, command->facts.timeout_ms * 1000);
    }
    if (result == 0) {
        int given[3] = {msg->want_stdin ? fds[0] : null_fd, fds[1], fds[2]};

        *stage = "cell";
        result = cell_start(command->cell, command->owner.exec,
                            (struct span){request->argv, request->argv_len},
                            (struct span){request->env, request->env_len}, request->cwd, given,
                            &cell_user, command);
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
                                           .max_line = config.max_line,
                                           .window = msg->window,
                                           .credit = msg->window,
                                           .changed = on_streams};
    command->session = session;
    command->cell = session->cell;
    command->uid = cell_uid(session->cell);
    command->req = msg->req;
    command->total.fn = on_total;
    command->bound.fn = on_bound;
    command->started_us = loop_now_us();
    command->facts.cpu_limited = config.cpu_limited;
    command->facts.timeout_ms = msg->timeout_ms > 0 ? msg->timeout_ms : config.timeout_ms;
    command->in.watch.fd = -1;
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
