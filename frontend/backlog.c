/*
 * Buffered output of one connection, in the frontend. The bytes lie in one
 * block in the order in which they came; a small table of chunks says what
 * they are.
 *
 * A command that writes to stdout and stderr in turns, byte by byte, would
 * fill the table long before the block. Then the chunks that nobody has begun
 * to send are sorted by stream and joined. Within a stream nothing changes.
 */
#include "frontend/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "common/proto.h"

#define CHUNKS_MAX 64

struct entry {
    uint32_t stream;
    uint64_t offset, bytes, dropped;
    size_t len;
    size_t cost; /* of the window */
};

struct backlog {
    struct entry entries[CHUNKS_MAX];
    size_t count;
    bool lent;         /* the first entry is being sent */
    size_t start, end; /* of the data in the block */
    size_t size;
    char *block;
};

struct backlog *backlog_new(size_t window)
{
    struct backlog *b = calloc(1, sizeof(*b));

    if (b == NULL) {
        return NULL;
    }
    b->size = window;
    b->block = malloc(window);
    if (b->block == NULL) {
        free(b);
        return NULL;
    }
    return b;
}

void backlog_free(struct backlog *b)
{
    if (b != NULL) {
        free(b->block);
        free(b);
    }
}

bool backlog_empty(const struct backlog *b)
{
    return b == NULL || b->count == 0;
}

/* Whether next goes on where entry ends, and both make one message. */
static bool entry_takes(const struct entry *entry, const struct entry *next)
{
    return entry->stream == next->stream && entry->offset + entry->bytes == next->offset &&
           entry->len + next->len <= PROTO_DATA_MAX;
}

static void entry_join(struct entry *entry, const struct entry *next)
{
    entry->bytes += next->bytes;
    entry->dropped += next->dropped;
    entry->len += next->len;
    entry->cost += next->cost;
}

/* Adds an entry for data that is already at the end of the block. */
static void backlog_note(struct backlog *b, const struct entry *next)
{
    size_t open = b->count - (b->lent ? 1 : 0);

    if (open > 0 && entry_takes(&b->entries[b->count - 1], next)) {
        entry_join(&b->entries[b->count - 1], next);
    } else {
        b->entries[b->count++] = *next;
    }
}

/* Appends the entries of one stream, and their data, from before to b. */
static void backlog_copy_stream(struct backlog *b, const struct backlog *before, uint32_t stream,
                                size_t from)
{
    size_t at = before->start;

    for (size_t i = 0; i < before->count; i++) {
        const struct entry *entry = &before->entries[i];

        if (i >= from && entry->stream == stream) {
            memcpy(b->block + b->end, before->block + at, entry->len);
            b->end += entry->len;
            backlog_note(b, entry);
        }
        at += entry->len;
    }
}

static int backlog_sort(struct backlog *b)
{
    struct backlog *sorted = backlog_new(b->size);
    size_t from = b->lent ? 1 : 0;

    if (sorted == NULL) {
        return -1;
    }
    if (b->lent) {
        memcpy(sorted->block, b->block + b->start, b->entries[0].len);
        sorted->end = b->entries[0].len;
        sorted->entries[0] = b->entries[0];
        sorted->count = 1;
        sorted->lent = true;
    }
    backlog_copy_stream(sorted, b, STREAM_STDOUT, from);
    backlog_copy_stream(sorted, b, STREAM_STDERR, from);
    free(b->block);
    *b = *sorted;
    free(sorted);
    return b->count < CHUNKS_MAX ? 0 : -1;
}

int backlog_put(struct backlog *b, const struct chunk *chunk)
{
    struct entry next = {chunk->stream,  chunk->offset,   chunk->bytes,
                         chunk->dropped, chunk->data.len, chunk->cost};

    if (next.len > b->size - (b->end - b->start)) {
        return -1;
    }
    if (b->count == CHUNKS_MAX && backlog_sort(b) < 0) {
        return -1;
    }
    if (next.len > b->size - b->end) {
        memmove(b->block, b->block + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (next.len > 0) {
        memcpy(b->block + b->end, chunk->data.data, next.len);
    }
    b->end += next.len;
    backlog_note(b, &next);
    return 0;
}

bool backlog_peek(struct backlog *b, struct chunk *chunk)
{
    const struct entry *first = &b->entries[0];

    if (b->count == 0) {
        return false;
    }
    b->lent = true;
    *chunk = (struct chunk){first->stream,  first->offset, first->bytes,
                            first->dropped, first->cost,   {b->block + b->start, first->len}};
    return true;
}

size_t backlog_pop(struct backlog *b)
{
    size_t len = b->entries[0].len;
    size_t cost = b->entries[0].cost;

    b->count--;
    memmove(b->entries, b->entries + 1, b->count * sizeof(b->entries[0]));
    b->lent = false;
    b->start += len;
    if (b->start == b->end) {
        b->start = 0;
        b->end = 0;
    }
    return cost;
}
