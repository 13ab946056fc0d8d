/*
 * A connection: a client's socket and the session that it carries, from
 * accept until both are gone. It outlives either: the socket may vanish while
 * the supervisor still tidies up, and a refused client still gets its answer.
 */
#ifndef BULKHEAD_FRONTEND_CONN_H
#define BULKHEAD_FRONTEND_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frontend/dialect.h"
#include "frontend/inbox.h"
#include "frontend/queue.h"

struct backlog;
struct exchange;
struct hello;
struct lws;
struct uv_loop_s;
struct ws_frame;

/* Connections beyond the sessions: handshakes, plain HTTP, clients that get a refusal. */
#define CONN_SPARE 64

/* Requests of one connection that the supervisor has not answered yet. */
#define CONN_REQUESTS_MAX 8

/* EXECUTE.window, and the size of the output buffer. */
#define CONN_WINDOW ((size_t)128 << 10)

enum conn_state {
    CONN_SHAKING, /* no session: handshake, or a plain HTTP request */
    CONN_OPENING, /* OPEN was asked; nothing else may be, until the answer */
    CONN_OPEN,    /* OPENED */
    CONN_LEAVING, /* CLOSE was asked; what is told before CLOSED is dropped */
    CONN_DONE,    /* the session is over, the socket may still be there */
};

/* Reasons to leave what the client sends unread. */
enum conn_hold {
    HOLD_SESSION = 1,  /* the session is not open */
    HOLD_REQUESTS = 2, /* CONN_REQUESTS_MAX are unanswered */
    HOLD_QUEUE = 4,    /* the client does not read its replies */
    HOLD_UPSTREAM = 8, /* the supervisor does not keep up */
    HOLD_CLOSING = 16, /* nothing it says matters any more */
};

struct conn_request {
    uint32_t req; /* 0: the place is free */
    bool execute;
    struct span id; /* encoded, on the heap; empty when the client gave none */
};

/* The message that is being sent in fragments. */
struct conn_sending {
    bool active, begun;
    size_t at; /* bytes of the chunk that were taken */
};

struct conn {
    uint32_t sid;
    enum conn_state state;
    struct lws *wsi; /* NULL: the socket is gone */
    int fd;          /* its descriptor, while wsi is there */
    unsigned listener;
    bool local;
    char peer[64];
    char address[64]; /* our end; empty on a Unix socket */
    const struct dialect *dialect;
    char *token;               /* between handshake and OPEN */
    struct exchange *exchange; /* a plain HTTP request */

    unsigned holds;
    struct inbox inbox;
    struct conn_request requests[CONN_REQUESTS_MAX];
    unsigned request_count;
    uint32_t last_req;

    struct queue queue;
    struct backlog *backlog; /* from EXECUTE to the end of its verdict */
    struct conn_sending sending;
    struct text completed; /* the verdict, sent when the backlog is empty */
    bool has_completed;
    uint32_t exec; /* what runs, as far as the client was told; 0: nothing */
    size_t owed;   /* credit to give back */

    uint64_t stdin_credit; /* bytes the client may send */
    uint64_t stdin_news;   /* of those, not told yet */
    bool stdin_told, stdin_open, stdin_closed;
    bool ping_due;

    uint16_t close_code; /* 0: not closing */
    const char *close_reason;
    bool close_sent;      /* nothing may be sent any more */
    uint64_t deadline_ms; /* of the handshake, or of the closing; 0: none */
    uint64_t progress_ms; /* when the client last took something */
    uint64_t next_ping_ms;
    int unsent; /* bytes in the kernel's buffer when last seen */
};

/* The table and the once-a-second sweep. Returns 0 or -errno. */
int conn_start(struct uv_loop_s *loop, const struct hello *settings);

/* The most connections there can be, sessions that are being tidied up included. */
size_t conn_capacity(void);
bool conn_table_full(void);

/* A new connection in CONN_SHAKING; NULL when the table is full or memory is short. */
struct conn *conn_new(unsigned listener, bool local, int fd);

/* For a connection that never had a socket of libwebsockets. */
void conn_drop(struct conn *c);

/* By sid; NULL when there is none. */
struct conn *conn_find(uint32_t sid);

/* Calls fn for each connection. fn may drop the one that it is given. */
void conn_each(void (*fn)(struct conn *c, void *arg), void *arg);

/* The only place where the state changes. */
void conn_set_state(struct conn *c, enum conn_state state);

void conn_hold(struct conn *c, enum conn_hold why, bool on);

/* Asks for the socket to become writable; harmless when it is gone. */
void conn_wake(struct conn *c);

/* Queues a whole message; takes the text. A connection that overflows is closed. */
void conn_send(struct conn *c, struct text *t);
void conn_send_fault(struct conn *c, struct span id, const struct fault *fault);

/*
 * Closes with a code once what is queued has been sent; output that is still
 * buffered is dropped. The command is stopped at once. The first reason wins.
 */
void conn_close(struct conn *c, uint16_t code, const char *reason);

/* Frees the output buffer and what belongs to one command. */
void conn_forget_command(struct conn *c);

/* Remembers a request; its number, or 0 when there is no memory. */
uint32_t conn_remember(struct conn *c, struct span id, bool execute);

/* Forgets it and gives its id away (free its data). False when there is no such request. */
bool conn_recall(struct conn *c, uint32_t req, struct conn_request *request);

/* During a shutdown: closes a connection that has nothing left to wait for. */
void conn_settle(struct conn *c);

/* SHUTDOWN: no more clients, each is closed after its verdict, all after grace_ms. */
void conn_shutdown(uint32_t grace_ms);
bool conn_shutting_down(void);

/* ---- from ws.c ---- */

void conn_on_established(struct conn *c);
void conn_on_piece(struct conn *c, struct span piece, size_t remaining, bool first, bool final,
                   bool binary);

/* What to send next. */
enum conn_next { NEXT_NOTHING, NEXT_FRAME, NEXT_CLOSE };
enum conn_next conn_next_frame(struct conn *c, struct ws_frame *frame);

/* The frame was taken. Returns whether there is more to send. */
bool conn_frame_sent(struct conn *c, struct ws_frame *frame);

/* The client sent a close frame. */
void conn_on_peer_close(struct conn *c);

/* The socket is gone. The connection may be freed by this. */
void conn_on_gone(struct conn *c);

#endif
