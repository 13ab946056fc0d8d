/*
 * The seccomp filter of a command, compiled once at start and loaded as it is
 * in every child. Used by the supervisor; needs no privilege.
 */
#ifndef BULKHEAD_FILTER_H
#define BULKHEAD_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>

struct filter {
    struct sock_fprog program; /* what seccomp(2) takes; owned */
};

/*
 * Compiles the default rules, policy/syscalls.def.
 * own_network  commands have a network namespace of their own, with nothing
 *              but loopback: there internet sockets are allowed
 * Returns 0, or -errno: -ENOMEM, -E2BIG (more than the kernel takes), or what
 * libseccomp said. After a failure there is nothing to free.
 */
int filter_build_default(struct filter *out, bool own_network);

/* Frees the program. May be called twice. */
void filter_finish(struct filter *filter);

#endif
