/*
 * The conversation of one session: what its client asks, and what the
 * supervisor tells about it.
 */
#ifndef BULKHEAD_FRONTEND_SESSION_H
#define BULKHEAD_FRONTEND_SESSION_H

#include "common/proto.h"

struct conn;

/* A whole message of the client's, in a session that is open. */
void session_on_message(struct conn *c, struct span message);

/* What the supervisor tells, in the states that upstream.c's table allows. */
void session_on_opened(struct conn *c, const union proto_any *msg);
void session_on_refused(struct conn *c, const union proto_any *msg);
void session_on_started(struct conn *c, const union proto_any *msg);
void session_on_controlled(struct conn *c, const union proto_any *msg);
void session_on_output(struct conn *c, const union proto_any *msg);
void session_on_stdin_credit(struct conn *c, const union proto_any *msg);
void session_on_verdict(struct conn *c, const union proto_any *msg);
void session_on_closed(struct conn *c, const union proto_any *msg);

#endif
