/*
 * A command's stdin: what the frontend sends under credit waits in a fixed
 * ring until the command reads.
 */
#ifndef BULKHEAD_INPUT_H
#define BULKHEAD_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/span.h"
#include "supervisor/loop.h"
#include "supervisor/ring.h"

struct input {
    uint32_t sid, exec;
    struct loop *loop;
    struct watch watch; /* the pipe's write end; fd -1: closed */
    struct ring ring;
    bool eof;    /* nothing more will come: close once the ring is empty */
    bool closed; /* the command reads no more; what comes is thrown away */
};

/*
 * Gets a ring and takes a pipe's write end over (non-blocking). Returns 0 or
 * -errno; on failure fd stays the caller's.
 */
int input_init(struct input *input, uint32_t sid, uint32_t exec, int fd, struct loop *loop);

/* Grants the first credit: a ring full. */
void input_open(struct input *input);

/*
 * Takes bytes for the command. Returns 0, -EOVERFLOW (more than was granted)
 * or -EPIPE (after the end was announced): faults of the frontend.
 */
int input_put(struct input *input, struct span data, bool eof);

/* Closes and frees all. Harmless on one that is finished or all zero. */
void input_finish(struct input *input);

#endif
