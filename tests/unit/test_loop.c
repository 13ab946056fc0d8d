/* Descriptors, timers and signals (supervisor/loop.c). */
#include "tests/unit/unit.h"

#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "supervisor/loop.h"

static struct loop loop;

static int make_loop(void **state)
{
    (void)state;
    return loop_init(&loop);
}

static int finish_loop(void **state)
{
    (void)state;
    loop_finish(&loop);
    return 0;
}

/* ---- timers ---- */

#define TIMERS 200

struct tick {
    struct timer timer;
    int number;
};

static struct tick ticks[TIMERS];
static int order[TIMERS * 2], fired;

static void note(struct timer *timer)
{
    assert_false(loop_timer_is_set(timer));
    order[fired++] = OWNER_OF(timer, struct tick, timer)->number;
}

static void stop(struct timer *timer)
{
    (void)timer;
    loop_stop(&loop);
}

static struct timer stopper = {.fn = stop};

/* Runs for that long. */
static void run_for(uint64_t us)
{
    loop.stop = false;
    assert_int_equal(loop_timer_set(&loop, &stopper, us), 0);
    assert_int_equal(loop_run(&loop), 0);
}

static void make_ticks(void)
{
    fired = 0;
    for (int i = 0; i < TIMERS; i++) {
        ticks[i] = (struct tick){.timer = {.fn = note}, .number = i};
    }
}

static void test_loop_timers_go_off_in_order(void **state)
{
    (void)state;
    make_ticks();
    for (int i = 0; i < TIMERS; i++) {
        int k = i * 37 % TIMERS; /* in no order */
        assert_int_equal(loop_timer_set(&loop, &ticks[k].timer, 1000 + (uint64_t)k * 100), 0);
    }
    uint64_t begin = loop_now_us();
    run_for(60000);
    assert_true(loop_now_us() - begin >= 60000);
    assert_int_equal(fired, TIMERS);
    for (int i = 0; i < TIMERS; i++) {
        assert_int_equal(order[i], i);
    }
}

static void test_loop_timers_canceled_and_moved(void **state)
{
    (void)state;
    make_ticks();
    for (int i = 0; i < TIMERS; i++) {
        loop_timer_set(&loop, &ticks[i].timer, 1000 + (uint64_t)(i * 37 % TIMERS) * 100);
    }
    for (int i = 0; i < TIMERS; i++) {
        if (i % 3 == 0) {
            loop_timer_cancel(&loop, &ticks[i].timer);
            loop_timer_cancel(&loop, &ticks[i].timer);
            assert_false(loop_timer_is_set(&ticks[i].timer));
        } else if (i % 3 == 1) {
            loop_timer_set(&loop, &ticks[i].timer, 40000 - (uint64_t)i * 100);
        }
    }
    run_for(70000);
    assert_int_equal(fired, TIMERS - (TIMERS + 2) / 3);
    int last = TIMERS;
    for (int i = 0; i < fired; i++) {
        assert_int_not_equal(order[i] % 3, 0);
        if (order[i] % 3 == 1) {
            assert_true(order[i] < last);
            last = order[i];
        }
    }
}

/* The heap's last timer takes the place of one in another branch, and is sooner than what is above.
 */
static void test_loop_timer_canceled_in_a_later_branch(void **state)
{
    static const uint64_t delays_ms[] = {1, 20, 2, 21, 22, 3, 4};
    static const int expected[] = {0, 2, 5, 6, 1, 4};
    (void)state;
    make_ticks();
    for (size_t i = 0; i < COUNT_OF(delays_ms); i++) {
        loop_timer_set(&loop, &ticks[i].timer, delays_ms[i] * 1000);
    }
    loop_timer_cancel(&loop, &ticks[3].timer);
    run_for(40000);
    assert_int_equal(fired, COUNT_OF(expected));
    for (int i = 0; i < fired; i++) {
        assert_int_equal(order[i], expected[i]);
    }
}

static void again(struct timer *timer)
{
    if (++fired < 3) {
        loop_timer_set(&loop, timer, 1000);
        loop_timer_cancel(&loop, &ticks[1].timer);
    }
}

static void test_loop_timer_sets_itself_and_cancels_another(void **state)
{
    (void)state;
    make_ticks();
    ticks[0].timer.fn = again;
    loop_timer_set(&loop, &ticks[0].timer, 0);
    loop_timer_set(&loop, &ticks[1].timer, 2000);
    run_for(20000);
    assert_int_equal(fired, 3);
}

/* ---- descriptors ---- */

struct door {
    struct watch watch;
    int other;
    int calls;
    struct door *closes;
};

static void open_door(struct door *door, void (*fn)(struct watch *watch, uint32_t events))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *door = (struct door){.watch = {.fd = ends[0], .events = EPOLLIN, .fn = fn}, .other = ends[1]};
    assert_int_equal(loop_watch(&loop, &door->watch), 0);
}

static void close_door(struct door *door)
{
    loop_unwatch(&loop, &door->watch);
    loop_unwatch(&loop, &door->watch);
    close(door->watch.fd);
    close(door->other);
}

static void on_door(struct watch *watch, uint32_t events)
{
    struct door *door = OWNER_OF(watch, struct door, watch);
    char byte;
    assert_true(events & EPOLLIN);
    assert_int_equal(read(watch->fd, &byte, 1), 1);
    door->calls++;
    if (door->closes) {
        loop_unwatch(&loop, &door->closes->watch);
    }
}

static void test_loop_calls_what_is_ready(void **state)
{
    struct door a, b;
    (void)state;
    open_door(&a, on_door);
    open_door(&b, on_door);
    assert_int_equal(write(a.other, "xx", 2), 2);
    run_for(5000);
    assert_int_equal(a.calls, 2); /* what is left is reported again */
    assert_int_equal(b.calls, 0);

    assert_int_equal(loop_rewatch(&loop, &a.watch, 0), 0);
    assert_int_equal(write(a.other, "x", 1), 1);
    run_for(5000);
    assert_int_equal(a.calls, 2);
    assert_int_equal(loop_rewatch(&loop, &a.watch, EPOLLIN), 0);
    run_for(5000);
    assert_int_equal(a.calls, 3);
    close_door(&a);
    close_door(&b);
}

/* Both are ready in one batch; whichever comes first takes the other out. */
static void test_loop_nothing_is_called_after_unwatch(void **state)
{
    struct door a, b;
    (void)state;
    open_door(&a, on_door);
    open_door(&b, on_door);
    a.closes = &b;
    b.closes = &a;
    assert_int_equal(write(a.other, "x", 1), 1);
    assert_int_equal(write(b.other, "x", 1), 1);
    run_for(5000);
    assert_int_equal(a.calls + b.calls, 1);
    close_door(&a);
    close_door(&b);
}

static void test_loop_unwatches_itself(void **state)
{
    struct door a;
    (void)state;
    open_door(&a, on_door);
    a.closes = &a;
    assert_int_equal(write(a.other, "xx", 2), 2);
    run_for(5000);
    assert_int_equal(a.calls, 1);
    close_door(&a);
}

static void test_loop_bad_descriptor(void **state)
{
    struct watch watch = {.fd = -1, .events = EPOLLIN};
    (void)state;
    assert_true(loop_watch(&loop, &watch) < 0);
    assert_false(watch.active);
}

/* ---- signals ---- */

static int signals_seen;

static void on_signal(const struct signalfd_siginfo *info)
{
    assert_int_equal(info->ssi_signo, SIGUSR1);
    assert_int_equal(info->ssi_pid, getpid());
    signals_seen++;
}

static void test_loop_signals(void **state)
{
    sigset_t set;
    (void)state;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    assert_int_equal(loop_signals(&loop, &set, on_signal), 0);
    kill(getpid(), SIGUSR1);
    run_for(5000);
    assert_int_equal(signals_seen, 1);
}

#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, make_loop, finish_loop)

static const struct CMUnitTest tests[] = {
    WITH_LOOP(test_loop_timers_go_off_in_order),
    WITH_LOOP(test_loop_timers_canceled_and_moved),
    WITH_LOOP(test_loop_timer_canceled_in_a_later_branch),
    WITH_LOOP(test_loop_timer_sets_itself_and_cancels_another),
    WITH_LOOP(test_loop_calls_what_is_ready),
    WITH_LOOP(test_loop_nothing_is_called_after_unwatch),
    WITH_LOOP(test_loop_unwatches_itself),
    WITH_LOOP(test_loop_bad_descriptor),
    WITH_LOOP(test_loop_signals),
};

UNIT_MAIN(tests)
