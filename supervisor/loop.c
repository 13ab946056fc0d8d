/*
 * epoll, timerfd and signalfd behind three small types. Trusts its callers;
 * sees no byte from outside but the kernel's own records.
 */
#include "supervisor/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

uint64_t loop_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- timers: a binary heap, each timer knowing its slot ---- */

static void heap_place(struct loop *loop, size_t slot, struct timer *timer)
{
    loop->heap[slot - 1] = timer;
    timer->slot = slot;
}

static void heap_up(struct loop *loop, struct timer *timer)
{
    size_t slot = timer->slot;

    while (slot > 1 && loop->heap[slot / 2 - 1]->due_us > timer->due_us) {
        heap_place(loop, slot, loop->heap[slot / 2 - 1]);
        slot /= 2;
    }
    heap_place(loop, slot, timer);
}

static void heap_down(struct loop *loop, struct timer *timer)
{
    size_t slot = timer->slot;

    for (;;) {
        size_t child = slot * 2;

        if (child > loop->heap_count) {
            break;
        }
        if (child < loop->heap_count && loop->heap[child]->due_us < loop->heap[child - 1]->due_us) {
            child++;
        }
        if (loop->heap[child - 1]->due_us >= timer->due_us) {
            break;
        }
        heap_place(loop, slot, loop->heap[child - 1]);
        slot = child;
    }
    heap_place(loop, slot, timer);
}

/* Sets the timerfd to the soonest timer, if that is not what it is set to. */
static void timers_arm(struct loop *loop)
{
    uint64_t due = loop->heap_count > 0 ? loop->heap[0]->due_us : 0;
    struct itimerspec spec = {0};

    if (due == loop->armed_us) {
        return;
    }
    spec.it_value.tv_sec = (time_t)(due / 1000000);
    spec.it_value.tv_nsec = (long)(due % 1000000) * 1000;
    /* Fails only for a bad descriptor or a bad time, and both are ours. */
    if (timerfd_settime(loop->timer_watch.fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0) {
        abort();
    }
    loop->armed_us = due;
}

int loop_timer_set(struct loop *loop, struct timer *timer, uint64_t delay_us)
{
    timer->due_us = loop_now_us() + delay_us;
    if (timer->slot == 0) {
        if (loop->heap_count == loop->heap_cap) {
            size_t cap = loop->heap_cap > 0 ? loop->heap_cap * 2 : 64;
            struct timer **heap = reallocarray(loop->heap, cap, sizeof(struct timer *));

            if (heap == NULL) {
                return -ENOMEM;
            }
            loop->heap = heap;
            loop->heap_cap = cap;
        }
        heap_place(loop, ++loop->heap_count, timer);
    }
    heap_up(loop, timer);
    heap_down(loop, timer);
    timers_arm(loop);
    return 0;
}

void loop_timer_cancel(struct loop *loop, struct timer *timer)
{
    size_t slot = timer->slot;
    struct timer *last;

    if (slot == 0) {
        return;
    }
    timer->slot = 0;
    last = loop->heap[--loop->heap_count];
    if (last != timer) {
        heap_place(loop, slot, last);
        heap_up(loop, last);
        heap_down(loop, last);
    }
    /* The timerfd may go off once for nothing; that is cheaper than arming it anew. */
}

static void on_timerfd(struct watch *watch, uint32_t events)
{
    struct loop *loop = OWNER_OF(watch, struct loop, timer_watch);
    uint64_t now = loop_now_us();
    uint64_t count;

    (void)events;
    if (read(watch->fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR) {
        abort();
    }
    loop->armed_us = 0;
    while (loop->heap_count > 0 && loop->heap[0]->due_us <= now) {
        struct timer *timer = loop->heap[0];

        loop_timer_cancel(loop, timer);
        timer->fn(timer);
    }
    timers_arm(loop);
}

/* ---- signals ---- */

static void on_signalfd(struct watch *watch, uint32_t events)
{
    struct loop *loop = OWNER_OF(watch, struct loop, signal_watch);
    struct signalfd_siginfo info;

    (void)events;
    while (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        loop->on_signal(&info);
    }
}

int loop_signals(struct loop *loop, const sigset_t *signals,
                 void (*fn)(const struct signalfd_siginfo *info))
{
    if (sigprocmask(SIG_BLOCK, signals, NULL) < 0) {
        return -errno;
    }
    loop->on_signal = fn;
    loop->signal_watch = (struct watch){.events = EPOLLIN, .fn = on_signalfd};
    loop->signal_watch.fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (loop->signal_watch.fd < 0) {
        return -errno;
    }
    return loop_watch(loop, &loop->signal_watch);
}

/* ---- descriptors ---- */

int loop_watch(struct loop *loop, struct watch *watch)
{
    struct epoll_event event = {.events = watch->events, .data.ptr = watch};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0) {
        return -errno;
    }
    watch->active = true;
    return 0;
}

int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (!watch->active || watch->events == events) {
        return 0;
    }
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0) {
        return -errno;
    }
    watch->events = events;
    return 0;
}

void loop_unwatch(struct loop *loop, struct watch *watch)
{
    if (!watch->active) {
        return;
    }
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->active = false;
    /* What epoll reported in this batch but was not handled yet must not be called. */
    for (int i = loop->batch_at; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch) {
            loop->batch[i].data.ptr = NULL;
        }
    }
}

int loop_init(struct loop *loop)
{
    *loop = (struct loop){.epoll_fd = -1};
    loop->timer_watch = (struct watch){.fd = -1, .events = EPOLLIN, .fn = on_timerfd};
    loop->signal_watch.fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return -errno;
    }
    loop->timer_watch.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->timer_watch.fd < 0) {
        return -errno;
    }
    return loop_watch(loop, &loop->timer_watch);
}

void loop_finish(struct loop *loop)
{
    int fds[] = {loop->timer_watch.fd, loop->signal_watch.fd, loop->epoll_fd};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(loop->heap);
    *loop = (struct loop){.epoll_fd = -1, .timer_watch.fd = -1, .signal_watch.fd = -1};
}

int loop_run(struct loop *loop)
{
    while (!loop->stop) {
        int count = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, -1);

        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        loop->batch_count = count;
        for (loop->batch_at = 0; loop->batch_at < count;) {
            struct epoll_event *event = &loop->batch[loop->batch_at++];
            struct watch *watch = event->data.ptr;

            if (watch != NULL) {
                watch->fn(watch, event->events);
            }
        }
        loop->batch_count = 0;
    }
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
}
