/*
 * The listening sockets that the supervisor made: descriptors 4 and up.
 */
#ifndef BULKHEAD_FRONTEND_LISTENER_H
#define BULKHEAD_FRONTEND_LISTENER_H

#include <stddef.h>

struct hello;
struct uv_loop_s;

#define LISTENER_FIRST_FD 4

/* Prepares all of them; nothing is accepted yet. Returns 0 or -errno. */
int listener_start(struct uv_loop_s *loop, const struct hello *hello);

/* Accepts, while the table of connections has room. Called again when room was made. */
void listener_resume(void);

/* Accepts no more, for good. */
void listener_stop(void);

#endif
