/*
 * The memory that one JSON message may take, in the frontend: a stack that is
 * emptied after each message. A 1 MiB message of one string needs four
 * times its size while it is read; one of a million brackets fails here.
 */
#include "frontend/arena.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <jansson.h>

#define ARENA_SIZE ((size_t)6 << 20)
#define ARENA_KEEP ((size_t)128 << 10)
#define ALIGNMENT 16

static char *base;
static size_t used;
static size_t last; /* where the newest allocation begins */
static size_t peak; /* the most that was used since the last reset */
static bool exhausted;

static void *arena_malloc(size_t size)
{
    size_t need = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);

    if (need < size || need > ARENA_SIZE - used) {
        exhausted = true;
        return NULL;
    }
    last = used;
    used += need;
    if (used > peak) {
        peak = used;
    }
    return base + last;
}

/* Only the newest allocation can be taken back; the rest waits for the reset. */
static void arena_free(void *pointer)
{
    if (pointer != NULL && (char *)pointer == base + last && last < used) {
        used = last;
    }
}

int arena_init(void)
{
    base = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return -1;
    }
    json_object_seed(0);
    json_set_alloc_funcs(arena_malloc, arena_free);
    return 0;
}

bool arena_exhausted(void)
{
    return exhausted;
}

void arena_reset(void)
{
    if (peak > ARENA_KEEP) {
        madvise(base + ARENA_KEEP, ARENA_SIZE - ARENA_KEEP, MADV_DONTNEED);
    }
    used = 0;
    last = 0;
    peak = 0;
    exhausted = false;
}
