/*
 * The resource limits of a command when no policy says otherwise. Computed
 * once at start by the supervisor; needs no privilege.
 */
#ifndef BULKHEAD_RLIMITS_H
#define BULKHEAD_RLIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#define RLIMITS_MAX 16

struct rlimit_entry {
    int resource; /* RLIMIT_CORE, ... */
    struct rlimit value;
};

/*
 * Fills in the defaults, none above the hard limit that the caller holds
 * itself, so that setting them never needs a privilege.
 * own_uid  the command's uid runs nothing else. If not, the number of processes
 *          is bounded loosely only, as the kernel counts all of the uid's.
 * Returns how many, or -errno of getrlimit(2).
 */
int rlimits_default(struct rlimit_entry out[RLIMITS_MAX], bool own_uid);

#endif
