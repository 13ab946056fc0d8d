/*
 * libwebsockets, behind a few functions: ws.c is the only file that knows it.
 * Its context runs on our loop, listens on nothing, and is handed accepted
 * sockets.
 */
#ifndef BULKHEAD_FRONTEND_WS_H
#define BULKHEAD_FRONTEND_WS_H

#include <stdbool.h>
#include <stddef.h>

struct conn;
struct hello;
struct lws;
struct uv_loop_s;

/* The most bytes in one frame: 64 KiB of output and the head of its message. */
#define WS_FRAME_MAX 66048

/* One frame to send. Before data are TEXT_HEADROOM bytes that may be overwritten. */
struct ws_frame {
    char *data;
    size_t len;
    bool first, final; /* of its message */
    bool binary;
    char *owned; /* to be freed once it was sent, or NULL */
};

/*
 * Makes the context and loads everything that is loaded lazily. Before the
 * lock-in, and after the limit of descriptors was set: its tables are as
 * large as that. Returns 0 or -1.
 */
int ws_start(struct uv_loop_s *loop, const struct hello *hello);

/* Hands an accepted socket over; the connection's wsi is set. Returns 0, or -1: fd is closed. */
int ws_adopt(int fd, struct conn *c);

void ws_want_write(struct lws *wsi);

/* Leaves what the client sends unread, or goes on reading. */
void ws_hold(struct lws *wsi, bool hold);

/* The client has shown that it is alive. */
void ws_alive(struct lws *wsi);

/* Whether a part of a frame waits inside libwebsockets. */
bool ws_partial(struct lws *wsi);

/* Ends the connection at once, without a close frame. conn_on_gone is called on the way. */
void ws_kill(struct lws *wsi);

#endif
