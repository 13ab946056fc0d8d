/*
 * What is said of a command's end, worked out from facts alone. Pure.
 */
#ifndef BULKHEAD_SUPERVISOR_VERDICT_H
#define BULKHEAD_SUPERVISOR_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/verdict.h"

struct verdict_facts {
    enum verdict_reason stopped; /* why we stopped it while it ran; 0: we did not */
    bool lost;                   /* its init died */
    bool cpu_limited;            /* RLIMIT_CPU is set */
    int code, status;            /* si_code and si_status of the leader; code 0: unknown */
    uint64_t timeout_ms;
};

struct verdict {
    enum verdict_reason reason;
    int32_t exit_code; /* as a shell's parent sees it: 0..255, or -N for signal N */
    uint32_t signal;   /* that ended it, or 0 */
    char error[256];   /* empty where the exit code says it all */
};

void verdict_decide(const struct verdict_facts *facts, struct verdict *verdict);

#endif
