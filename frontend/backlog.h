/*
 * The output of a command on its way to a client that may be slow: one buffer
 * of a fixed size, filled under the credit that EXECUTE.window gave.
 */
#ifndef BULKHEAD_FRONTEND_BACKLOG_H
#define BULKHEAD_FRONTEND_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/span.h"

struct backlog;

/* The stream's bytes offset .. offset + bytes - 1, of which dropped were taken out. */
struct chunk {
    uint32_t stream;
    uint64_t offset, bytes, dropped;
    size_t cost;      /* of the window: proto_output_cost */
    struct span data; /* lies in the backlog until the chunk is popped */
};

/* Room for window bytes of data; NULL when there is no memory. */
struct backlog *backlog_new(size_t window);
void backlog_free(struct backlog *b);

/*
 * Appends a copy. What continues the last chunk of the same stream is joined
 * with it, so that many small writes do not become many small messages.
 * Returns 0, or -1: more than the window, the sender broke its credit.
 */
int backlog_put(struct backlog *b, const struct chunk *chunk);

bool backlog_empty(const struct backlog *b);

/*
 * Lends the first chunk; from now on it grows no more, until backlog_pop.
 * False when there is none.
 */
bool backlog_peek(struct backlog *b, struct chunk *chunk);

/* Drops the first chunk and returns its cost, which is credit again. */
size_t backlog_pop(struct backlog *b);

#endif
