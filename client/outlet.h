/*
 * Writing to a descriptor that others share (our stdout, our stderr) without
 * ever waiting for its reader. O_NONBLOCK is no way to do it: it is a property
 * of the open file, so it would change under whoever else writes there, the
 * shell included.
 */
#ifndef BULKHEAD_OUTLET_H
#define BULKHEAD_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum outlet_kind {
    OUTLET_FILE,   /* never waits for a reader: written as a whole */
    OUTLET_SOCKET, /* has a flag for it */
    OUTLET_STREAM, /* pipes and terminals on kernels that have a flag for it */
    OUTLET_BIT,    /* pipes and terminals elsewhere: little at a time, after poll(2) */
};

struct outlet {
    int fd; /* not ours to close */
    enum outlet_kind kind;
    int error;       /* errno of a write that failed: nothing more is written; 0: none */
    bool line_begun; /* the last byte written was not a newline */
};

void outlet_init(struct outlet *outlet, int fd);

/*
 * Writes as much as goes at once. Returns the number of bytes (0: wait until
 * the descriptor is writable), or -errno, which is also kept in outlet->error.
 */
ssize_t outlet_write(struct outlet *outlet, const char *data, size_t len);

#endif
