/*
 * The last check before exec: a command stands at the gate, confined, and the
 * supervisor reads back from the kernel's own records that it really is.
 */
#ifndef BULKHEAD_GATE_H
#define BULKHEAD_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct gate_expectation {
    uid_t uid; /* real, effective, saved and file system, as the host sees them */
    gid_t gid;
    bool no_groups; /* no supplementary groups (the caller's cannot be dropped in user mode) */
    bool empty_bounding;
};

/*
 * Receives one command's word at our end of the gate. pid receives its number
 * as the host sees it; the kernel says so, not the command (SCM_CREDENTIALS).
 * Returns 0, -EAGAIN, -EPIPE (the other end is gone) or another -errno.
 */
int gate_receive(int fd, pid_t *pid);

/*
 * Reads /proc/PID/status and compares: seccomp filter on, no_new_privs, all
 * capability sets empty, uids, gids, groups.
 * Returns 0, or -EPERM with the line that is not as it must be in fault.
 */
int gate_check(pid_t pid, const struct gate_expectation *expectation, char *fault,
               size_t fault_size);

/* Lets it through, or not; then it ends without having run anything. 0 or -errno. */
int gate_answer(int fd, bool pass);

/*
 * Whether we can look at a process at all: /proc may be mounted with hidepid.
 * Returns 0 or -errno.
 */
int gate_try(pid_t pid);

/* Makes both ends: pair[0] ours, pair[1] the command's. 0 or -errno. */
int gate_make(int pair[2]);

#endif
