/* The one place that names a command's end. */
#include "supervisor/verdict.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static bool was_signaled(const struct verdict_facts *facts)
{
    return facts->code == CLD_KILLED || facts->code == CLD_DUMPED;
}

static enum verdict_reason reason_of(const struct verdict_facts *facts)
{
    if (facts->stopped != 0) {
        return facts->stopped;
    }
    if (facts->lost || facts->code == 0) {
        return REASON_CELL_LOST;
    }
    if (!was_signaled(facts)) {
        return REASON_EXITED;
    }
    if (facts->status == SIGSYS) {
        return REASON_SECCOMP;
    }
    if (facts->status == SIGXCPU && facts->cpu_limited) {
        return REASON_CPU_LIMIT;
    }
    return REASON_SIGNALED;
}

static void explain(const struct verdict_facts *facts, struct verdict *verdict)
{
    char *text = verdict->error;
    size_t size = sizeof(verdict->error);
    const char *abbreviation = sigabbrev_np((int)verdict->signal);

    switch (verdict->reason) {
    case REASON_EXITED:
        break;
    case REASON_TIMEOUT:
        (void)snprintf(text, size, "timed out after %.10g s", (double)facts->timeout_ms / 1000);
        break;
    case REASON_CANCELED:
        (void)snprintf(text, size, "canceled by the client");
        break;
    case REASON_DISCONNECTED:
        (void)snprintf(text, size, "stopped: the client is gone");
        break;
    case REASON_SHUTDOWN:
        (void)snprintf(text, size, "stopped: the host is shutting down");
        break;
    case REASON_SECCOMP:
        (void)snprintf(text, size, "killed for a system call of a foreign architecture");
        break;
    case REASON_CPU_LIMIT:
        (void)snprintf(text, size, "used all its CPU time");
        break;
    case REASON_CELL_LOST:
        (void)snprintf(text, size, "the cell's init died; how the command ended is not known");
        break;
    case REASON_STREAM_FAILED:
        (void)snprintf(text, size, "stopped: its output could not be read, and is not complete");
        break;
    default:
        (void)snprintf(text, size, "killed by SIG%s", abbreviation != NULL ? abbreviation : "RT");
        break;
    }
}

void verdict_decide(const struct verdict_facts *facts, struct verdict *verdict)
{
    memset(verdict, 0, sizeof(*verdict));
    verdict->reason = reason_of(facts);
    if (was_signaled(facts)) {
        verdict->signal = (uint32_t)facts->status;
        verdict->exit_code = -facts->status;
    } else if (facts->code == CLD_EXITED) {
        verdict->exit_code = facts->status;
    }
    if (verdict->exit_code == 0 && verdict->reason != REASON_EXITED) {
        /* Whatever a program makes of our SIGTERM: what was stopped did not succeed. */
        verdict->signal = verdict->reason == REASON_CELL_LOST ? SIGKILL : SIGTERM;
        verdict->exit_code = -(int32_t)verdict->signal;
    }
    explain(facts, verdict);
}
