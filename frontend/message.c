/*
 * The contents of outbound messages, in the frontend. The names and their
 * order are those of bulkhead-protocol(7).
 */
#include "frontend/message.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "common/verdict.h"

static const char *const capabilities = "execute\0control\0stream";
#define CAPABILITIES_LEN 23

void message_connected(const struct dialect *d, struct text *t, struct span session_id)
{
    const struct writer *w = d->writer;

    w->notify(t, "connected", 3);
    w->str(t, "session_id", session_id);
    w->str(t, "version", span_of(BULKHEAD_VERSION));
    w->list(t, "capabilities", (struct span){capabilities, CAPABILITIES_LEN});
    w->end(t);
}

void message_hook_status(const struct dialect *d, struct text *t, struct span id)
{
    const struct writer *w = d->writer;

    w->result(t, id, 2);
    w->boolean(t, "enabled", false);
    w->str(t, "message", span_of("hooks are not supported"));
    w->end(t);
}

void message_stdin_taken(const struct dialect *d, struct text *t, struct span id, size_t bytes)
{
    d->writer->result(t, id, 1);
    d->writer->integer(t, "bytes", (int64_t)bytes);
    d->writer->end(t);
}

void message_start_result(const struct dialect *d, struct text *t, struct span id,
                          const struct msg_STARTED *started)
{
    const struct writer *w = d->writer;

    w->result(t, id, 4);
    w->str(t, "status", span_of("started"));
    w->integer(t, "pid", started->pid);
    w->integer(t, "pgid", started->pgid);
    w->integer(t, "exec_id", started->exec);
    w->end(t);
}

static const char *const states[] = {
    [ACTION_PAUSE] = "paused",
    [ACTION_RESUME] = "resumed",
    [ACTION_CANCEL] = "canceled",
    [ACTION_SIGNAL] = "signaled",
};

bool message_is_state(uint32_t action)
{
    return action >= ACTION_PAUSE && action <= ACTION_CANCEL;
}

void message_control_result(const struct dialect *d, struct text *t, struct span id,
                            const struct msg_CONTROLLED *controlled)
{
    uint32_t action = controlled->action;

    if (action < ACTION_PAUSE || action > ACTION_SIGNAL) {
        t->failed = true;
        return;
    }
    d->writer->result(t, id, 2);
    d->writer->str(t, "status", span_of(states[action]));
    d->writer->integer(t, "exec_id", controlled->exec);
    d->writer->end(t);
}

static void write_state(const struct writer *w, struct text *t, const char *state, uint32_t pid,
                        uint32_t pgid, uint32_t exec)
{
    char method[32];

    snprintf(method, sizeof(method), "process.%s", state);
    w->notify(t, method, 6);
    w->str(t, "status", span_of(state));
    w->integer(t, "pid", pid);
    w->integer(t, "pgid", pgid);
    w->null(t, "exit_code");
    w->null(t, "error");
    w->integer(t, "exec_id", exec);
    w->end(t);
}

void message_started(const struct dialect *d, struct text *t, const struct msg_STARTED *started)
{
    write_state(d->writer, t, "started", started->pid, started->pgid, started->exec);
}

void message_state(const struct dialect *d, struct text *t, const struct msg_CONTROLLED *controlled)
{
    write_state(d->writer, t, states[controlled->action], controlled->pid, controlled->pgid,
                controlled->exec);
}

void message_stdin_credit(const struct dialect *d, struct text *t, uint32_t exec, uint64_t bytes,
                          bool closed)
{
    const struct writer *w = d->writer;

    w->notify(t, "stdin.credit", 3);
    w->integer(t, "exec_id", exec);
    w->integer(t, "bytes", (int64_t)bytes);
    w->boolean(t, "closed", closed);
    w->end(t);
}

void message_ping(const struct dialect *d, struct text *t)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    d->writer->notify(t, "ping", 1);
    d->writer->real(t, "timestamp", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    d->writer->end(t);
}

/* "SIGKILL"; real-time signals have no name of their own. */
static void write_signal(const struct writer *w, struct text *t, uint32_t number)
{
    const char *name = sigabbrev_np((int)number);
    char text[32];

    if (number == 0) {
        w->null(t, "signal");
        return;
    }
    if (name != NULL) {
        snprintf(text, sizeof(text), "SIG%s", name);
    } else {
        snprintf(text, sizeof(text), "SIGRTMIN+%d", (int)number - SIGRTMIN);
    }
    w->str(t, "signal", span_of(text));
}

/* What the predecessor's clients read. */
static void write_outcome(const struct writer *w, struct text *t, const struct msg_VERDICT *v)
{
    bool good = v->reason == REASON_EXITED && v->exit_code == 0;

    w->str(t, "status", span_of(good ? "completed" : "failed"));
    w->integer(t, "pid", v->pid);
    w->integer(t, "pgid", v->pgid);
    w->integer(t, "exit_code", v->exit_code);
    if (v->error.len > 0) {
        w->str(t, "error", v->error);
    } else {
        w->null(t, "error");
    }
    w->real(t, "execution_time", (double)v->wall_us / 1e6);
    w->boolean(t, "early_completion_detected", false);
    w->null(t, "early_completion_time");
    w->integer(t, "time_saved", 0);
    w->null(t, "completion_marker");
}

void message_completed(const struct dialect *d, struct text *t, const struct msg_VERDICT *v)
{
    const struct writer *w = d->writer;

    w->notify(t, "process.completed", 22);
    write_outcome(w, t, v);
    w->integer(t, "exec_id", v->exec);
    w->str(t, "reason", span_of(verdict_reason_name(v->reason)));
    write_signal(w, t, v->signal);
    w->real(t, "wall_ms", (double)v->wall_us / 1e3);
    w->real(t, "user_ms", (double)v->user_us / 1e3);
    w->real(t, "system_ms", (double)v->system_us / 1e3);
    w->integer(t, "peak_bytes", (int64_t)v->peak_bytes);
    w->integer(t, "stdout_bytes", (int64_t)v->stdout_bytes);
    w->integer(t, "stdout_dropped", (int64_t)v->stdout_dropped);
    w->integer(t, "stderr_bytes", (int64_t)v->stderr_bytes);
    w->integer(t, "stderr_dropped", (int64_t)v->stderr_dropped);
    w->list(t, "protections", v->protections);
    w->end(t);
}

void message_output_begin(const struct dialect *d, struct text *t, uint32_t exec,
                          const struct chunk *chunk)
{
    const struct writer *w = d->writer;

    w->notify(t, "process.output", 9);
    w->str(t, "type", span_of(chunk->stream == STREAM_STDERR ? "stderr" : "stdout"));
    w->boolean(t, "truncated", chunk->dropped > 0);
    w->null(t, "chunk_index");
    w->null(t, "total_chunks");
    w->integer(t, "exec_id", exec);
    w->integer(t, "offset", (int64_t)chunk->offset);
    w->integer(t, "bytes", (int64_t)chunk->bytes);
    w->integer(t, "dropped", (int64_t)chunk->dropped);
    w->data_begin(t, chunk->data.len);
}

void message_output_end(const struct dialect *d, struct text *t)
{
    d->writer->data_end(t);
    d->writer->end(t);
}
