/*
 * The runtime directory: what a client on this host needs to find us, and the
 * lock that keeps a second bulkheadd out.
 */
#ifndef BULKHEAD_RUNTIME_H
#define BULKHEAD_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct identity;

/*
 * Makes the directory if it is not there, checks that nobody else may write in
 * it, gives it to the supervisor's user and locks it.
 * path: --runtime-dir, or NULL for the default.
 * Returns 0, -EINVAL (wrong use) or another -errno, with the reason in error.
 */
int runtime_open(const char *path, const struct identity *identity, char *error, size_t error_size);

/* The directory's name, for messages. */
const char *runtime_path(void);

/* Puts a file there, whole or not at all. 0 or -errno. */
int runtime_put(const char *name, const char *text, mode_t mode);

/* Removes what runtime_put made, and the lock; the directory stays if it was there before. */
void runtime_close(void);

#endif
