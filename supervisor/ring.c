/* The memory behind rings. Holds commands' output, so nothing here looks at it. */
#include "supervisor/ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Enough for the streams of a few commands that come and go. */
#define SPARES_MAX 4

static char *spares[SPARES_MAX];
static int spare_count;

/* Maps the same pages twice, one copy behind the other. */
static char *map_twice(int fd)
{
    char *base = mmap(NULL, 2 * RING_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED) {
        return NULL;
    }
    if (mmap(base, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(base + RING_SIZE, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        madvise(base, 2 * RING_SIZE, MADV_DONTFORK) < 0) {
        int error = errno;

        (void)munmap(base, 2 * RING_SIZE);
        errno = error;
        return NULL;
    }
    return base;
}

int ring_init(struct ring *ring)
{
    int error = 0;
    int fd;

    *ring = (struct ring){0};
    if (spare_count > 0) {
        ring->base = spares[--spare_count];
        return 0;
    }
    fd = memfd_create("ring", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, RING_SIZE) == 0) {
        ring->base = map_twice(fd);
    }
    if (ring->base == NULL) {
        error = errno;
    }
    close(fd);
    return -error;
}

void ring_finish(struct ring *ring)
{
    if (ring->base == NULL) {
        return;
    }
    if (spare_count < SPARES_MAX) {
        spares[spare_count++] = ring->base;
    } else {
        (void)munmap(ring->base, 2 * RING_SIZE);
    }
    *ring = (struct ring){0};
}

void ring_release_spares(void)
{
    while (spare_count > 0) {
        (void)munmap(spares[--spare_count], 2 * RING_SIZE);
    }
}
