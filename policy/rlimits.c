/* Runs in the supervisor, once, before any client is served; takes nothing from outside. */
#include "policy/rlimits.h"

#include <errno.h>
#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Where the uid is shared, these many processes and threads of all its programs. */
#define SHARED_NPROC 4096

/* What is not listed (CPU, AS, DATA, RSS, LOCKS) stays as the supervisor was given it. */
static const struct rlimit_entry defaults[] = {
    {RLIMIT_CORE, {0, 0}},
    {RLIMIT_FSIZE, {1 * GIB, 1 * GIB}},
    {RLIMIT_MEMLOCK, {64 * KIB, 64 * KIB}},
    {RLIMIT_MSGQUEUE, {0, 0}}, /* POSIX queues outlive the command */
    {RLIMIT_NICE, {0, 0}},
    {RLIMIT_NOFILE, {1024, 1024}},
    {RLIMIT_NPROC, {256, 256}},
    {RLIMIT_RTPRIO, {0, 0}},
    {RLIMIT_SIGPENDING, {256, 256}},
    {RLIMIT_STACK, {8 * MIB, 64 * MIB}},
};

_Static_assert(sizeof defaults / sizeof defaults[0] <= RLIMITS_MAX, "RLIMITS_MAX is too small");

static rlim_t at_most(rlim_t value, rlim_t bound)
{
    return value < bound ? value : bound; /* RLIM_INFINITY is the largest rlim_t */
}

int rlimits_default(struct rlimit_entry out[RLIMITS_MAX], bool own_uid)
{
    int count = sizeof defaults / sizeof defaults[0];
    for (int i = 0; i < count; i++) {
        struct rlimit held;
        if (getrlimit(defaults[i].resource, &held) < 0) {
            return -errno;
        }
        struct rlimit want = defaults[i].value;
        if (defaults[i].resource == RLIMIT_NPROC && !own_uid) {
            want = (struct rlimit){SHARED_NPROC, SHARED_NPROC};
        }
        out[i].resource = defaults[i].resource;
        out[i].value.rlim_max = at_most(want.rlim_max, held.rlim_max);
        out[i].value.rlim_cur = at_most(want.rlim_cur, out[i].value.rlim_max);
    }
    return count;
}
