/*
 * A bulkheadd of our own: on a Unix socket in a folder that only we may enter.
 * It ends when we do, however we end.
 */
#ifndef BULKHEAD_PRIVATE_H
#define BULKHEAD_PRIVATE_H

#include <limits.h>
#include <sys/types.h>

struct private_server {
    char dir[PATH_MAX]; /* empty: gone */
    pid_t pid;          /* of its keeper, a child of ours; 0: not running */
    int pidfd;          /* of the same */
};

/*
 * Starts it with these further arguments (ended by NULL) and waits until it
 * serves. Returns 0, or the code to exit with, after having said what went
 * wrong; private_server_stop is to be called in any case.
 */
int private_server_start(struct private_server *server, const char *const *arguments);

/* ws+unix:// and the socket's path. */
void private_server_url(const struct private_server *server, char *url, size_t cap);

/* Removes the folder; who is connected stays so. May be called more than once. */
void private_server_hide(struct private_server *server);

/* Stops it in order, waits until it is gone, and leaves nothing behind. */
void private_server_stop(struct private_server *server);

#endif
