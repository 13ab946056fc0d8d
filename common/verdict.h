/*
 * How a command can end. The numbers travel in VERDICT.reason, the names are
 * what clients read.
 */
#ifndef BULKHEAD_VERDICT_H
#define BULKHEAD_VERDICT_H

#define VERDICT_REASONS(X)                                                        \
    X(1, EXITED, "exited")             /* by itself; exit_code is its own */      \
    X(2, SIGNALED, "signaled")         /* a signal that we did not send */        \
    X(3, CANCELED, "canceled")         /* the client asked for it */              \
    X(4, TIMEOUT, "timeout")           /* our own timer */                        \
    X(5, CPU_LIMIT, "cpu_limit")       /* RLIMIT_CPU's SIGXCPU */                 \
    X(6, MEMORY_LIMIT, "memory_limit") /* memory.events says so */                \
    X(7, OUTPUT_LIMIT, "output_limit")                                            \
    X(8, SECCOMP, "seccomp")           /* SIGSYS */                               \
    X(9, DISCONNECTED, "disconnected") /* the client or the frontend left */      \
    X(10, SHUTDOWN, "shutdown")        /* the host stopped us */                  \
    X(11, START_FAILED, "start_failed")                                           \
    X(12, CELL_LOST, "cell_lost")         /* its init died: the end is unknown */ \
    X(13, STREAM_FAILED, "stream_failed") /* a pipe of ours: output is missing */

enum verdict_reason {
#define X(number, name, text) REASON_##name = (number),
    VERDICT_REASONS(X)
#undef X
};

/* "exited", ...; "unknown" for a number that is none. */
static inline const char *verdict_reason_name(unsigned reason)
{
    switch (reason) {
#define X(number, name, text) \
    case REASON_##name:       \
        return text;
        VERDICT_REASONS(X)
#undef X
    default:
        return "unknown";
    }
}

#endif
