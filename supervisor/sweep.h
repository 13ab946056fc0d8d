/*
 * Killing what a command left behind, by the surest means there is: by uid
 * where the uid belongs to one session alone, else down the tree of
 * descendants, which a child subreaper is the root of.
 */
#ifndef BULKHEAD_SWEEP_H
#define BULKHEAD_SWEEP_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Kills every process of a uid with one kill(2), which the kernel does under a
 * lock that fork(2) needs too: nothing slips through. A child takes the uid
 * for that; the caller may become it (it is one of its three, or CAP_SETUID).
 * Returns 0 or -errno. What was killed is not reaped.
 */
int sweep_uid(uid_t uid, gid_t gid);

/*
 * Kills the calling process's own children, but for those that keep says yes
 * to (keep NULL: all). Their children become ours and are found by the next
 * call. Returns how many were signalled, or -errno.
 */
int sweep_children(bool (*keep)(pid_t pid));

#endif
