/*
 * The supervisor's event loop: epoll for descriptors, one timerfd for all
 * timers, one signalfd for signals. Level-triggered; no poll interval.
 *
 * A watch or timer is embedded in what it belongs to. It may be removed from
 * within any callback, its own included; nothing is called for it afterwards.
 */
#ifndef BULKHEAD_LOOP_H
#define BULKHEAD_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
    int fd;          /* the owner's to close, after loop_unwatch */
    uint32_t events; /* what is asked for now: EPOLLIN, EPOLLOUT; 0 is only errors */
    void (*fn)(struct watch *watch, uint32_t events);
    bool active;
};

struct timer {
    uint64_t due_us; /* CLOCK_MONOTONIC */
    size_t slot;     /* place in the heap + 1; 0: not set */
    void (*fn)(struct timer *timer);
};

#define LOOP_BATCH 64

struct signalfd_siginfo;

struct loop {
    int epoll_fd;
    bool stop;
    struct watch timer_watch, signal_watch;
    void (*on_signal)(const struct signalfd_siginfo *info);
    struct timer **heap; /* the soonest first */
    size_t heap_count, heap_cap;
    uint64_t armed_us; /* what the timerfd is set to, 0: nothing */
    struct epoll_event batch[LOOP_BATCH];
    int batch_count, batch_at;
};

/* The owner of a member, given the member: OWNER_OF(watch, struct session, watch). */
#define OWNER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Returns 0 or -errno. */
int loop_init(struct loop *loop);
void loop_finish(struct loop *loop);

/* Blocks the signals and delivers them through the loop from now on. 0 or -errno. */
int loop_signals(struct loop *loop, const sigset_t *signals,
                 void (*fn)(const struct signalfd_siginfo *info));

/* Starts watching watch->fd for watch->events. 0 or -errno. */
int loop_watch(struct loop *loop, struct watch *watch);

/* Changes what is asked for; costs nothing when it is the same. 0 or -errno. */
int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events);

/* Stops watching; harmless on one that is not watched. */
void loop_unwatch(struct loop *loop, struct watch *watch);

/*
 * Sets (or sets anew) a timer, to go off once, in delay_us microseconds.
 * Returns 0 or -ENOMEM; a timer that was set is moved without fail.
 */
int loop_timer_set(struct loop *loop, struct timer *timer, uint64_t delay_us);

/* Harmless on one that is not set. */
void loop_timer_cancel(struct loop *loop, struct timer *timer);

static inline bool loop_timer_is_set(const struct timer *timer)
{
    return timer->slot != 0;
}

/* Handles events until loop_stop. Returns 0 or -errno of epoll_wait(2). */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* CLOCK_MONOTONIC in microseconds. */
uint64_t loop_now_us(void);

#endif
