/*
 * A cell: one session's sandbox, seen from the supervisor. Made ahead (a small
 * pool), used by one session, destroyed with it.
 *
 * A cell runs at most one command at a time. All that happens to the command
 * comes back through the five functions of struct cell_user.
 */
#ifndef BULKHEAD_CELL_H
#define BULKHEAD_CELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/span.h"
#include "supervisor/cell_proto.h"
#include "supervisor/loop.h"

struct cell;
struct identity;
struct sock_fprog;
struct rlimit_entry;

struct cell_user {
    void (*started)(void *user, pid_t pid);
    void (*failed)(void *user, unsigned stage, int error);
    void (*exited)(void *user, const struct cell_report *report);
    void (*signaled)(void *user, uint32_t cookie, int error);
    void (*swept)(void *user, const struct cell_report *report);
    void (*lost)(void *user); /* the init is gone; what it ran is being killed */
};

struct cells_config {
    struct loop *loop;
    const struct identity *identity;
    const struct rlimit_entry *limits;
    size_t limit_count;
    const struct sock_fprog *filter;
    bool namespaces;  /* each cell has namespaces of its own, or the host is not fit for us */
    size_t pool;      /* ready cells to keep */
    size_t cells_max; /* pool and sessions together */
};

/* How many uids of --uid-range a cell takes. */
size_t cells_uids_each(bool namespaces);

/* Keeps the config's pointers. Returns 0 or -errno; makes nothing yet. */
int cells_init(const struct cells_config *config);

/* Fills the pool behind what is being done now. */
void cells_refill(void);

/* Ends all cells and waits until each of them is gone (bounded: 5 s). */
void cells_finish(void);

/*
 * Called for every child that was reaped; true when it was a cell's init. What
 * an init that was killed left running is killed here.
 */
bool cells_reaped(pid_t pid, int status);

/* Whether a child is the init of a cell. */
bool cells_is_init(pid_t pid);

/* How many cells there are, those in the pool and those that end included. */
size_t cells_count(void);

/* A ready cell for one session. Returns 0 or -errno (-EAGAIN: no uid is free). */
int cell_take(struct cell **cell);

/* Destroys a cell: whatever runs in it is killed. The caller's pointer is void. */
void cell_release(struct cell *cell);

pid_t cell_init_pid(const struct cell *cell);
uid_t cell_uid(const struct cell *cell);

/*
 * Starts a command; started or failed follows. argv, env and cwd are as in
 * EXECUTE, cwd not empty; the descriptors stay the caller's.
 * Returns 0, or -errno, and then nothing follows.
 */
int cell_start(struct cell *cell, uint32_t id, struct span argv, struct span env, struct span cwd,
               const int fds[3], const struct cell_user *functions, void *user);

/* Signals the command's process group; signaled follows. 0 or -errno. */
int cell_signal(struct cell *cell, uint32_t id, int signal, uint32_t cookie);

/* Kills and reaps all the command started; swept follows, or lost. */
void cell_sweep(struct cell *cell, uint32_t id);

/* Kills the init, and with it all it started; lost follows. */
void cell_break(struct cell *cell);

/* False once the init is gone: release the cell and take another. */
bool cell_is_usable(const struct cell *cell);

#endif
