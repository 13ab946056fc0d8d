/*
 * Decides whether a request may become a WebSocket, from its headers alone.
 * Pure functions.
 */
#ifndef BULKHEAD_FRONTEND_HANDSHAKE_H
#define BULKHEAD_FRONTEND_HANDSHAKE_H

#include <stdbool.h>

#include "common/span.h"

struct dialect;
struct hello;

#define HANDSHAKE_TOKEN_MAX 512

/* The headers that matter; an absent one is empty. Ended by NULs. */
struct request {
    bool get; /* the method */
    const char *path;
    const char *host;
    const char *origin;
    const char *authorization;
    const char *subprotocols;
    const char *connection;
    const char *version;
    const char *key;
    bool local;          /* came over a Unix socket */
    const char *address; /* ours, as text; empty on a Unix socket */
};

/*
 * Returns 101 and the dialect, or the status to refuse with: 400, 401, 403,
 * 404, 405 or 426.
 */
int handshake_check(const struct hello *hello, const struct request *request,
                    const struct dialect **dialect);

/* Whether Host and Origin are ours, so that no web page speaks through a browser. */
bool handshake_same_site(const struct hello *hello, const struct request *request);

/* The token of "Authorization: Bearer TOKEN", within the header; empty when there is none. */
struct span handshake_token(const struct request *request);

#endif
