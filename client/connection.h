/*
 * A connection to bulkheadd: a WebSocket that carries whole binary messages, or
 * one HTTP request. The only room that knows libwebsockets.
 *
 * One thread, one connection. While the owner has no use for more input
 * (connection_pause), nothing is read from the socket, and nothing that the
 * server still sends before it closes is lost.
 */
#ifndef BULKHEAD_CONNECTION_H
#define BULKHEAD_CONNECTION_H

#include <stddef.h>
#include <stdint.h>

struct connection;
struct location;

struct connection_events {
    /* The WebSocket is open. */
    void (*opened)(void *arg);
    /* One whole message; data lives during the call. */
    void (*message)(void *arg, const char *data, size_t len);
    /* One message may be sent now; the answer to connection_want_write. */
    void (*writable)(void *arg);
    /* A descriptor given to connection_watch is ready. */
    void (*ready)(void *arg, int fd);
};

/*
 * Starts to connect; location must live as long as the connection. NULL when
 * there is no memory or no descriptor left; otherwise freed by connection_free.
 */
struct connection *connection_new(const struct location *location,
                                  const struct connection_events *events, void *arg);
void connection_free(struct connection *connection);

/*
 * Serves the connection until it is over: left by us, or gone. Returns 0 if it
 * was ours to end it (connection_close, connection_leave), else -ECONNABORTED,
 * and connection_failure says why.
 */
int connection_run(struct connection *connection);

/* For the user: what went wrong, with which address, and what to do about it. */
const char *connection_failure(const struct connection *connection);

/* Watches a descriptor for EPOLLIN or EPOLLOUT (0: no more). 0 or -errno; -EPERM: a plain file. */
int connection_watch(struct connection *connection, int fd, uint32_t events);

/* Stops and goes on reading. Both may be called at any time and more than once. */
void connection_pause(struct connection *connection);
void connection_resume(struct connection *connection);

/* Bytes to leave free before a message that is to be sent. */
#define CONNECTION_HEADROOM 32

/*
 * Sends one message, from within `writable` and once a call. The buffer is
 * data[0 .. CONNECTION_HEADROOM + len), the message its last len bytes; what
 * lies there afterwards is of no use. 0 or -EPIPE.
 */
int connection_send(struct connection *connection, char *data, size_t len);
void connection_want_write(struct connection *connection);

/* Ends the connection in order (close 1000) or at once; connection_run returns then. */
void connection_close(struct connection *connection);
void connection_leave(struct connection *connection);

/*
 * GET of a path. *body receives the NUL-ended answer (the caller's to free) of
 * at most CONNECTION_BODY_MAX bytes, with status 200; otherwise *failure a line
 * for the user, the caller's to free. 0 or a negative code.
 */
#define CONNECTION_BODY_MAX (4 * 1024 * 1024)
int connection_get(const struct location *location, const char *path, char **body, char **failure);

#endif
