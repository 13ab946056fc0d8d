/*
 * The streams of commands. Reads what the least trusted process writes; looks
 * at nothing in it but newlines and the edges of characters.
 */
#include "supervisor/output.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "supervisor/link.h"

/* Streams that found the channel full, in the order they came. */
static struct output *waiting_head, **waiting_tail = &waiting_head;

static struct loop *the_loop;

static void wait_for_channel(struct output *output)
{
    if (!output->waiting) {
        output->waiting = true;
        output->next_waiting = NULL;
        *waiting_tail = output;
        waiting_tail = &output->next_waiting;
        link_want_writable();
    }
}

static void stop_waiting(struct output *output)
{
    struct output **at = &waiting_head;

    if (!output->waiting) {
        return;
    }
    while (*at != output) {
        at = &(*at)->next_waiting;
    }
    *at = output->next_waiting;
    if (waiting_tail == &output->next_waiting) {
        waiting_tail = at;
    }
    output->waiting = false;
}

void output_channel_ready(void)
{
    /* One that fills the channel goes to the end of the queue: all get their turn. */
    while (waiting_head != NULL && !link_is_blocked()) {
        struct output *output = waiting_head;

        stop_waiting(output);
        output_pump(output);
    }
}

/* ---- sending ---- */

static size_t smaller(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

/* Plans what the credit allows. Returns false when nothing is to be sent yet. */
static bool plan_message(const struct output *output, struct cut_plan *plan)
{
    const struct output_owner *owner = output->owner;
    size_t used = ring_used(&output->ring);
    size_t len = smaller(owner->credit, used);
    size_t max_data = smaller(owner->credit, PROTO_DATA_MAX);
    unsigned how = 0;

    if (!owner->lines) {
        cut_nothing(ring_data(&output->ring), len, max_data, plan);
        return plan->consumed > 0;
    }
    if (output->overdue || used == RING_SIZE) {
        how |= CUT_FLUSH;
    }
    if (output->end && len == used) {
        how |= CUT_LAST;
    }
    if (max_data == PROTO_DATA_MAX || owner->credit >= owner->window) {
        how |= CUT_SPLIT; /* no credit that is still owed would make room for the line */
    }
    cut_lines(&output->cut, ring_data(&output->ring), len, owner->max_line, max_data, how, plan);
    /* What is only taken out gathers until there is a ring full of it, or something to send. */
    return plan->consumed > 0 && (plan->count > 0 || (how & (CUT_FLUSH | CUT_LAST)));
}

/* Sends one message's worth. Returns false when there is nothing to do or no way to do it. */
static bool send_one(struct output *output)
{
    struct output_owner *owner = output->owner;
    struct msg_OUTPUT msg = {.sid = owner->sid, .exec = owner->exec, .stream = output->stream};
    struct cut_plan plan;
    int result;

    if (owner->credit == 0 || !plan_message(output, &plan)) {
        return false;
    }
    msg.offset = output->ring.start;
    msg.bytes = plan.consumed;
    msg.dropped = plan.dropped;
    msg.data.len = plan.data_len;
    result = link_try_output(&msg, plan.pieces, plan.count);
    if (result < 0) {
        if (result == -EAGAIN) {
            wait_for_channel(output);
        }
        return false; /* else the channel is gone, and the session with it */
    }
    ring_consume(&output->ring, plan.consumed);
    output->cut = plan.next;
    output->dropped += plan.dropped;
    owner->credit -= proto_output_cost(&msg);
    return true;
}

/* An unfinished line goes out when its time is over; whatever else waits, waits for others. */
static void watch_the_clock(struct output *output)
{
    size_t used = ring_used(&output->ring);
    bool unfinished = used > 0 && output->owner->lines && output->owner->credit > 0 &&
                      !output->waiting && !output->end &&
                      used > cut_partial_character(ring_data(&output->ring), used);

    output->overdue = false;
    if (!unfinished) {
        loop_timer_cancel(the_loop, &output->partial);
    } else if (!loop_timer_is_set(&output->partial) &&
               loop_timer_set(the_loop, &output->partial, OUTPUT_PARTIAL_MS * 1000) < 0) {
        output->overdue = true; /* no memory for a timer: then at the next occasion */
    }
}

/* ---- reading ---- */

static void pipe_close(struct output *output)
{
    if (output->watch.fd >= 0) {
        loop_unwatch(the_loop, &output->watch);
        close(output->watch.fd);
        output->watch.fd = -1;
    }
}

static void set_end(struct output *output)
{
    output->end = true;
    pipe_close(output);
}

static void fail(struct output *output, int error)
{
    output->error = error;
    set_end(output);
}

/* One read of what the ring has room for. Returns false when there is no more to be had now. */
static bool read_some(struct output *output)
{
    size_t space = ring_space(&output->ring);
    ssize_t got;

    if (space == 0 || output->end) {
        return false;
    }
    got = read(output->watch.fd, ring_room(&output->ring), space);
    if (got > 0) {
        ring_filled(&output->ring, (size_t)got);
        return true;
    }
    if (got == 0 || (errno == EAGAIN && output->draining)) {
        set_end(output);
        return true; /* the end is news too */
    }
    if (errno != EAGAIN && errno != EINTR) {
        fail(output, errno);
    }
    return false;
}

/* ---- both ---- */

/* Asks for more while there is room. A full ring is not watched at all: epoll reports a hang-up
 * whether it is asked for or not. */
static void watch_the_pipe(struct output *output)
{
    if (!output->opened || output->watch.fd < 0) {
        return;
    }
    if (ring_space(&output->ring) == 0) {
        loop_unwatch(the_loop, &output->watch);
    } else if (!output->watch.active) {
        int result = loop_watch(the_loop, &output->watch);

        if (result < 0) {
            fail(output, -result);
        }
    }
}

/* Sends, and reads on where only leftovers are to be had. Calls nobody back. */
static void pump(struct output *output)
{
    uint64_t before = output->ring.start;

    do {
        while (ring_used(&output->ring) > 0 && send_one(output)) {
        }
    } while (output->draining && read_some(output));
    if (output->ring.start != before) {
        loop_timer_cancel(the_loop, &output->partial);
    }
    watch_the_clock(output);
    watch_the_pipe(output);
}

void output_pump(struct output *output)
{
    if (output->ring.base == NULL) {
        return;
    }
    pump(output);
    if (output->end) {
        output->owner->changed(output->owner); /* last: it may free us */
    }
}

static void on_overdue(struct timer *timer)
{
    struct output *output = OWNER_OF(timer, struct output, partial);

    output->overdue = true;
    output_pump(output);
}

static void on_pipe(struct watch *watch, uint32_t events)
{
    struct output *output = OWNER_OF(watch, struct output, watch);

    (void)events;
    (void)read_some(output);
    output_pump(output);
}

void output_drain(struct output *output)
{
    output->draining = true;
    (void)read_some(output);
    pump(output);
}

/* ---- life ---- */

int output_init(struct output *output, struct output_owner *owner, enum proto_stream stream, int fd,
                struct loop *loop)
{
    int flags = fcntl(fd, F_GETFL);
    int result;

    the_loop = loop;
    *output = (struct output){.owner = owner, .stream = stream, .partial.fn = on_overdue};
    output->watch = (struct watch){.fd = -1, .events = EPOLLIN, .fn = on_pipe};
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    result = ring_init(&output->ring);
    if (result == 0) {
        output->watch.fd = fd;
    }
    return result;
}

void output_open(struct output *output)
{
    output->opened = true;
    watch_the_pipe(output);
}

bool output_is_done(const struct output *output)
{
    return output->end && ring_used(&output->ring) == 0;
}

void output_discard(struct output *output)
{
    set_end(output);
    stop_waiting(output);
    loop_timer_cancel(the_loop, &output->partial);
    ring_consume(&output->ring, ring_used(&output->ring));
}

void output_finish(struct output *output)
{
    if (output->owner == NULL) {
        return;
    }
    pipe_close(output);
    stop_waiting(output);
    loop_timer_cancel(the_loop, &output->partial);
    ring_finish(&output->ring);
    output->owner = NULL;
}
