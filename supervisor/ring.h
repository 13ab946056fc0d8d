/*
 * A fixed ring of bytes, mapped twice in a row so that what it holds is always
 * one contiguous piece. The memory is not inherited by forked children: a
 * cell's init never carries another session's output.
 */
#ifndef BULKHEAD_RING_H
#define BULKHEAD_RING_H

#include <stddef.h>
#include <stdint.h>

/* A multiple of the page size. */
#define RING_SIZE 65536

struct ring {
    char *base;     /* NULL: none */
    uint64_t start; /* position of the first byte held, counted from the beginning */
    uint64_t end;   /* position after the last */
};

/* Gets memory, from the few spare rings or from the kernel. Returns 0 or -errno. */
int ring_init(struct ring *ring);

/* Gives it back. Harmless on a ring that has none. */
void ring_finish(struct ring *ring);

/* Unmaps the spare rings. */
void ring_release_spares(void);

static inline size_t ring_used(const struct ring *ring)
{
    return (size_t)(ring->end - ring->start);
}

static inline size_t ring_space(const struct ring *ring)
{
    return RING_SIZE - ring_used(ring);
}

/* The bytes held; ring_used of them, contiguous. */
static inline const char *ring_data(const struct ring *ring)
{
    return ring->base + ring->start % RING_SIZE;
}

/* Where to put up to ring_space bytes; then say how many with ring_filled. */
static inline char *ring_room(const struct ring *ring)
{
    return ring->base + ring->end % RING_SIZE;
}

static inline void ring_filled(struct ring *ring, size_t bytes)
{
    ring->end += bytes;
}

/* Forgets the first bytes; at most ring_used. */
static inline void ring_consume(struct ring *ring, size_t bytes)
{
    ring->start += bytes;
}

#endif
