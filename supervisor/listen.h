/*
 * The listening sockets: made or inherited by the supervisor, used by the
 * frontend alone.
 */
#ifndef BULKHEAD_LISTEN_H
#define BULKHEAD_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/option.h"

#define LISTEN_MAX 32

struct listeners {
    int fds[LISTEN_MAX];
    bool is_unix[LISTEN_MAX];
    bool is_loopback[LISTEN_MAX]; /* of a TCP one */
    char urls[LISTEN_MAX][160];   /* what a client connects to */
    char hosts[LISTEN_MAX][64];   /* "address:port" of a TCP one */
    char paths[LISTEN_MAX][108];  /* of a Unix one that we made, else empty */
    size_t count;
};

/*
 * Takes the sockets that systemd handed over (sd_listen_fds(3)), if any; else
 * binds the addresses, or the default where there is none. A socket file has
 * mode 0660 and the group gid. check_only: parses, binds nothing, leaves no
 * descriptor.
 * Returns 0, -EINVAL (a bad address) or another -errno, with the reason in
 * error.
 */
int listen_open(struct listeners *listeners, const struct option_list *addresses, gid_t gid,
                bool check_only, char *error, size_t error_size);

/* Closes them and removes the socket files that can be removed. */
void listen_close(struct listeners *listeners);

#endif
