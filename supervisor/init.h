/*
 * A cell's init: the process that starts a session's commands, reaps and
 * reports. It is a fork of the supervisor that keeps nothing of it.
 */
#ifndef BULKHEAD_INIT_H
#define BULKHEAD_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sock_fprog;
struct rlimit_entry;

struct init_plan {
    int channel;     /* SEQPACKET, speaks supervisor/cell_proto.h */
    int gate;        /* where a command waits for the supervisor's last look */
    int uid_lock;    /* kept open, so that the uid stays ours until we end; or -1 */
    bool namespaces; /* we are pid 1 of namespaces of our own */
    bool set_ids;    /* system mode: commands run as uid and gid, we do not */
    uid_t uid;       /* as we see it: within our user namespace, if we have one */
    gid_t gid;
    const struct rlimit_entry *limits;
    size_t limit_count;
    const struct sock_fprog *filter;
};

/*
 * What the forked child runs. Confines itself, says CELL_READY, serves until
 * the channel ends, then kills all it started. Exit status 0: nothing is left.
 */
__attribute__((noreturn)) void init_main(const struct init_plan *plan);

#endif
