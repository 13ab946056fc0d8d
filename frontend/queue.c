/*
 * The queue of control messages of one connection, in the frontend.
 */
#include "frontend/queue.h"

#include <stdlib.h>

int queue_push(struct queue *q, struct text *t)
{
    struct queue_item *item;

    if (q->items == NULL) {
        q->items = calloc(QUEUE_MAX, sizeof(*q->items));
    }
    if (q->items == NULL || q->count == QUEUE_MAX || t->failed || t->data == NULL) {
        text_finish(t);
        return -1;
    }
    item = &q->items[(q->head + q->count++) % QUEUE_MAX];
    item->data = text_take(t, &item->len);
    return 0;
}

struct queue_item queue_take(struct queue *q)
{
    struct queue_item item = q->items[q->head];

    q->head = (q->head + 1) % QUEUE_MAX;
    q->count--;
    return item;
}

void queue_finish(struct queue *q)
{
    while (q->count > 0) {
        text_free(queue_take(q).data);
    }
    free(q->items);
    q->items = NULL;
}
