/*
 * One stream of a command, from its pipe to the frontend: read into a fixed
 * ring, cut, sent as OUTPUT while there is credit and the channel takes it.
 * When the ring is full the pipe is not read, and the command blocks.
 */
#ifndef BULKHEAD_OUTPUT_H
#define BULKHEAD_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/proto.h"
#include "supervisor/cut.h"
#include "supervisor/loop.h"
#include "supervisor/ring.h"

struct output;

/* What a stream needs of the command it belongs to. */
struct output_owner {
    uint32_t sid, exec;
    bool lines;        /* cut into lines */
    uint64_t max_line; /* bytes */
    uint64_t window;   /* the most credit there is */
    uint64_t credit;   /* what the frontend will take now, of both streams: proto_output_cost */
    void (*changed)(struct output_owner *owner); /* something was sent or read, after the end */
};

struct output {
    struct output_owner *owner;
    enum proto_stream stream;
    struct watch watch; /* the pipe's read end; fd -1: closed */
    struct ring ring;
    bool opened;
    bool draining; /* the writers are gone */
    bool end;      /* nothing more will come */
    int error;     /* errno that made it the end, 0: none */
    bool waiting;  /* in the queue for the channel */
    struct output *next_waiting;
    struct cut_state cut;
    struct timer partial; /* how long an unfinished line may stay here */
    bool overdue;         /* it stayed that long */
    uint64_t dropped;     /* in all */
};

/* How long an unfinished line waits for its end. */
#define OUTPUT_PARTIAL_MS 50

/*
 * Gets a ring and takes a pipe's read end over (non-blocking). Not read from
 * before output_open. Returns 0 or -errno; on failure fd stays the caller's.
 */
int output_init(struct output *output, struct output_owner *owner, enum proto_stream stream, int fd,
                struct loop *loop);

/* Starts reading. A failure is the end of the stream, with its error. */
void output_open(struct output *output);

/*
 * The writers are known to be gone: takes what the pipe still holds, as room
 * for it comes, and calls that the end, whoever else may keep the pipe open.
 * Calls nobody back.
 */
void output_drain(struct output *output);

/* Throws away what is here and closes the pipe: the end. Calls nobody back. */
void output_discard(struct output *output);

/* Sends what can be sent. Call it when credit came. May end in owner->changed. */
void output_pump(struct output *output);

/* Ended, and all of it sent. */
bool output_is_done(const struct output *output);

/* Bytes that came out of the pipe. */
static inline uint64_t output_bytes(const struct output *output)
{
    return output->ring.end;
}

/* Closes and frees all. Harmless on one that is finished. */
void output_finish(struct output *output);

/* The channel takes messages again: streams that waited go on, in turn. */
void output_channel_ready(void);

#endif
