/*
 * Whole messages for one client that do not wait behind output: replies and
 * notifications. Short by construction; the bound is a safeguard.
 */
#ifndef BULKHEAD_FRONTEND_QUEUE_H
#define BULKHEAD_FRONTEND_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "frontend/text.h"

#define QUEUE_MAX 64

struct queue_item {
    char *data; /* as text_take gave it */
    size_t len;
};

struct queue {
    struct queue_item *items; /* a ring of QUEUE_MAX, made with the first message */
    size_t head, count;
};

/* Takes what t holds. Returns 0, or -1: the queue is full or t had failed; t is emptied. */
int queue_push(struct queue *q, struct text *t);

/* Gives the first message away, to be freed with text_free. The queue must not be empty. */
struct queue_item queue_take(struct queue *q);

void queue_finish(struct queue *q);

#endif
