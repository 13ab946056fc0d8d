/*
 * What the supervisor said in HELLO: the settings of this frontend, fixed for
 * its life.
 */
#ifndef BULKHEAD_FRONTEND_HELLO_H
#define BULKHEAD_FRONTEND_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/proto.h"

#define HELLO_LISTENERS_MAX 64

struct hello {
    bool local[HELLO_LISTENERS_MAX]; /* the listener is a Unix socket */
    size_t listeners;                /* descriptors 4 .. 4 + listeners - 1 */
    bool need_token;
    bool basic;
    uint32_t max_sessions;
    uint32_t handshake_ms;
    uint32_t send_timeout_ms;
    uint32_t log_level;
    struct span origins, hosts; /* lists, as in proto_list_next */
};

/*
 * Copies a decoded HELLO. Returns NULL, or what is wrong with it, in words.
 */
const char *hello_read(struct hello *hello, const struct msg_HELLO *msg);

/* Whether list holds text. */
bool hello_lists(struct span list, const char *text);

#endif
