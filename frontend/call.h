/*
 * A client's request: its method and parameters are checked here, in every
 * dialect alike, and what is right is asked of the supervisor.
 */
#ifndef BULKHEAD_FRONTEND_CALL_H
#define BULKHEAD_FRONTEND_CALL_H

struct conn;
struct envelope;

/* Answers at once, or has the supervisor answer later. */
void call_handle(struct conn *c, const struct envelope *envelope);

#endif
