/*
 * Plain HTTP on the same listeners: /health, /healthz, /readyz, /status, and
 * the refusals of everything else. One request a connection.
 */
#ifndef BULKHEAD_FRONTEND_HTTP_H
#define BULKHEAD_FRONTEND_HTTP_H

#include <stdbool.h>

#include "common/proto.h"
#include "frontend/text.h"

struct conn;
struct hello;
struct request;

/* Writes a whole constant response. */
void http_refusal(struct text *t, int status);

/* Begins to answer; what there is to send comes from http_next. Returns 0, or -1 to hang up. */
int http_on_request(const struct hello *hello, struct conn *c, const struct request *request);

/* The next piece of the answer, if there is one; *last tells whether it ends it. */
bool http_next(struct conn *c, struct text *piece, bool *last);

/* A piece that was not the last has been taken: goes on. */
void http_more(struct conn *c);

/* Frees the request of a connection, if there is one. */
void http_forget(struct conn *c);

/* What the supervisor tells. A request whose client has left is passed over. */
void http_on_health(const union proto_any *msg);
void http_on_status(const union proto_any *msg);
void http_on_status_session(const union proto_any *msg);
void http_on_refused(const union proto_any *msg);

#endif
