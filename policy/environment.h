/*
 * The environment of a command: only what stands here and what the client
 * added, nothing of the supervisor's own.
 */
#ifndef BULKHEAD_ENVIRONMENT_H
#define BULKHEAD_ENVIRONMENT_H

#include <stddef.h>

#include "common/span.h"

/* The most variables a client may add. */
#define ENVIRONMENT_ADDED_MAX 1024

/* "NAME=value", ended by NULL: on the host's file system, and in a cell with its own. */
extern const char *const environment_default[];
extern const char *const environment_cell[];

/*
 * Puts base and what was added into one: strings, each ended by a NUL, one
 * after the other; where a name comes twice the later one stays.
 * added  NUL-ended strings, one after the other
 * Returns the bytes written to out, or -EINVAL (not NAME=value), -E2BIG (too
 * many, or more than cap).
 */
long environment_merge(const char *const *base, struct span added, char *out, size_t cap);

#endif
