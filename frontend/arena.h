/*
 * Memory for parsing one JSON message. jansson takes all it needs from here;
 * a message that needs more than the arena has is refused, and afterwards
 * everything is given back at once.
 */
#ifndef BULKHEAD_FRONTEND_ARENA_H
#define BULKHEAD_FRONTEND_ARENA_H

#include <stdbool.h>

/* Makes jansson allocate here and seeds its hashing. Once, before the lock-in. */
int arena_init(void);

/* Whether an allocation failed since the last reset. */
bool arena_exhausted(void);

/* Forgets all allocations; the pages of a large message go back to the kernel. */
void arena_reset(void);

#endif
