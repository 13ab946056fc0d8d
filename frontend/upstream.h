/*
 * The channel to the supervisor. Each ask_ function sends the message of its
 * name; what the supervisor tells goes through one table to its handler.
 *
 * The supervisor's end closed: the frontend exits with 0. A message that is
 * not legal: it exits with 101.
 */
#ifndef BULKHEAD_FRONTEND_UPSTREAM_H
#define BULKHEAD_FRONTEND_UPSTREAM_H

#include "common/log.h"
#include "common/proto.h"

struct uv_loop_s;

/* Takes descriptor fd over. Returns 0 or -errno. */
int upstream_open(int fd);

/* Waits for HELLO and decodes it into msg; its spans live until the next message. */
void upstream_wait_hello(struct msg_HELLO *msg);

/* Begins to serve the channel on the loop. Returns 0 or -errno. */
int upstream_start(struct uv_loop_s *loop);

/* These can not fail in a way that the frontend survives. */
void ask_ready(void);
void ask_open(const struct msg_OPEN *msg, int fd);
void ask_close(uint32_t sid);
void ask_credit(uint32_t sid, uint32_t exec, uint32_t bytes);
void ask_health(uint32_t req);
void ask_status(const struct msg_STATUS *msg, int fd);

/* These return -1, and nothing was sent, when the supervisor does not keep up. */
int ask_execute(const struct msg_EXECUTE *msg);
int ask_control(const struct msg_CONTROL *msg);
int ask_stdin(const struct msg_STDIN *msg);

/* A log line; dropped when the channel is not there or full. */
void upstream_log(enum log_level level, uint32_t sid, const char *line);

#endif
