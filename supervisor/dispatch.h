/*
 * What the frontend may ask, each message with its handler. The state a
 * message is allowed in is checked here, by the table, for all of them.
 */
#ifndef BULKHEAD_DISPATCH_H
#define BULKHEAD_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proto.h"

struct dispatch_config {
    const bool *listener_is_unix;
    uint32_t listener_count;
    bool need_token;    /* on TCP */
    uid_t invoker, uid; /* who may look at everything, beside root */
    uint64_t started_us;
};

void dispatch_init(const struct dispatch_config *config);

/* No new session from now on. */
void dispatch_shutdown(void);

/* Handles one message of a ready frontend. A handler that keeps *fd leaves -1 there. */
void dispatch(enum proto_code code, const union proto_any *msg, int *fd);

#endif
