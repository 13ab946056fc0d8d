/*
 * The frontend's end of the channel. It never blocks: when the supervisor
 * does not keep up, what is asked waits in the channel's queue, and before
 * that fills, reading from all clients stops.
 */
#include "frontend/upstream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "common/channel.h"
#include "frontend/conn.h"
#include "frontend/http.h"
#include "frontend/listener.h"
#include "frontend/session.h"

/* Above this, clients are not read; the rest of the queue is for what is in flight. */
#define QUEUE_HIGH ((size_t)256 << 10)
#define QUEUE_MAX_BYTES ((size_t)4 << 20)

/* Messages taken in one go, so that clients get their turn. */
#define BATCH 16

static struct {
    struct channel channel;
    uv_poll_t poll;
    int events;   /* what poll waits for */
    bool holding; /* clients are not read */
    char buffer[PROTO_MAX];
} up = {.channel = {.fd = -1}};

/* ---- what is told ---- */

static void on_shutdown(const union proto_any *msg)
{
    listener_stop();
    conn_shutdown(msg->SHUTDOWN.grace_ms);
}

/* Messages about one session, with the states of a connection in which they are legal. */
#define IN(state) (1u << (state))

static const struct {
    void (*in_session)(struct conn *c, const union proto_any *msg);
    unsigned states;
    void (*of_none)(const union proto_any *msg);
} table[] = {
    [MSG_OPENED] = {session_on_opened, IN(CONN_OPENING), NULL},
    [MSG_REFUSED] = {session_on_refused, IN(CONN_OPENING) | IN(CONN_OPEN), http_on_refused},
    [MSG_STARTED] = {session_on_started, IN(CONN_OPEN), NULL},
    [MSG_CONTROLLED] = {session_on_controlled, IN(CONN_OPEN), NULL},
    [MSG_OUTPUT] = {session_on_output, IN(CONN_OPEN), NULL},
    [MSG_STDIN_CREDIT] = {session_on_stdin_credit, IN(CONN_OPEN), NULL},
    [MSG_VERDICT] = {session_on_verdict, IN(CONN_OPEN), NULL},
    [MSG_CLOSED] = {session_on_closed, IN(CONN_LEAVING), NULL},
    [MSG_HEALTH_IS] = {NULL, 0, http_on_health},
    [MSG_STATUS_IS] = {NULL, 0, http_on_status},
    [MSG_STATUS_SESSION] = {NULL, 0, http_on_status_session},
    [MSG_SHUTDOWN] = {NULL, 0, on_shutdown},
};

#define TABLE_SIZE (sizeof(table) / sizeof(table[0]))

static void dispatch(enum proto_code code, const union proto_any *msg)
{
    uint32_t sid = code == MSG_STATUS_SESSION ? 0 : proto_sid(code, msg);
    struct conn *c;

    if (sid == 0 && (size_t)code < TABLE_SIZE && table[code].of_none != NULL) {
        table[code].of_none(msg);
        return;
    }
    c = conn_find(sid);
    if ((size_t)code >= TABLE_SIZE || table[code].in_session == NULL || c == NULL) {
        die_bug("the supervisor told %s of session %u", proto_name(code), sid);
    }
    if (table[code].states & IN(c->state)) {
        table[code].in_session(c, msg);
    } else if (c->state != CONN_LEAVING) {
        die_bug("the supervisor told %s of session %u in the wrong state", proto_name(code), sid);
    }
}

/* Receives and decodes one message. False when there is none. */
static bool receive(enum proto_code *code, union proto_any *msg)
{
    int fd = -1;
    long len = channel_receive(&up.channel, up.buffer, sizeof(up.buffer), &fd);
    int error;

    if (len == 0 || len == -ECONNRESET || len == -EPIPE) {
        exit(0);
    }
    if (len == -EAGAIN) {
        return false;
    }
    if (len < 0) {
        die_system("reading from the supervisor: %s", strerror((int)-len));
    }
    if (fd >= 0) {
        close(fd);
        die_bug("the supervisor sent a descriptor");
    }
    error = proto_decode(TELL, up.buffer, (size_t)len, code, msg);
    if (error != PROTO_OK) {
        die_bug("a message from the supervisor: %s", proto_strerror(error));
    }
    return true;
}

/* ---- the loop ---- */

static void hold_one(struct conn *c, void *arg)
{
    conn_hold(c, HOLD_UPSTREAM, *(bool *)arg);
}

/* Polls for what the queue needs, and lets the clients wait while it is long. */
static void adjust(void);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    enum proto_code code;
    union proto_any msg;
    int error = 0;

    (void)poll;
    if (status < 0) {
        die_system("polling the supervisor: %s", uv_strerror(status));
    }
    if (events & UV_WRITABLE) {
        error = channel_flush(&up.channel);
    }
    if (error < 0 && error != -EPIPE && error != -ECONNRESET) {
        die_system("writing to the supervisor: %s", strerror(-error));
    }
    for (int n = 0; n < BATCH && receive(&code, &msg); n++) {
        dispatch(code, &msg);
    }
    adjust();
}

static void adjust(void)
{
    int events = UV_READABLE | (channel_pending(&up.channel) ? UV_WRITABLE : 0);
    bool hold = up.holding ? channel_pending(&up.channel) : up.channel.queued > QUEUE_HIGH;

    if (up.events == 0) {
        return; /* not started yet */
    }
    if (events != up.events) {
        up.events = events;
        uv_poll_start(&up.poll, events, on_poll);
    }
    if (hold != up.holding) {
        up.holding = hold;
        conn_each(hold_one, &hold);
    }
}

int upstream_open(int fd)
{
    return channel_init(&up.channel, fd, QUEUE_MAX_BYTES);
}

void upstream_wait_hello(struct msg_HELLO *msg)
{
    struct pollfd wait = {.fd = up.channel.fd, .events = POLLIN};
    enum proto_code code;
    union proto_any any;

    while (!receive(&code, &any)) {
        if (poll(&wait, 1, -1) < 0 && errno != EINTR) {
            die_system("waiting for the supervisor: %s", strerror(errno));
        }
    }
    if (code != MSG_HELLO) {
        die_bug("the supervisor told %s before HELLO", proto_name(code));
    }
    *msg = any.HELLO;
}

int upstream_start(struct uv_loop_s *loop)
{
    int error = uv_poll_init(loop, &up.poll, up.channel.fd);

    if (error == 0) {
        up.events = UV_READABLE;
        error = uv_poll_start(&up.poll, up.events, on_poll);
    }
    return error;
}

/* ---- what is asked ---- */

/* Returns 0, or -1 when the queue is full. */
static int ask(enum proto_code code, const void *msg, int fd)
{
    int error = channel_send(&up.channel, code, msg, fd);

    if (error == -EPIPE || error == -ECONNRESET) {
        exit(0);
    }
    if (error == -EINVAL) {
        die_bug("%s does not fit its table", proto_name(code));
    }
    if (error < 0 && error != -EOVERFLOW && error != -ENOMEM) {
        die_system("writing to the supervisor: %s", strerror(-error));
    }
    adjust();
    return error < 0 ? -1 : 0;
}

static void must_ask(enum proto_code code, const void *msg, int fd)
{
    if (ask(code, msg, fd) < 0) {
        die_system("the supervisor does not read");
    }
}

void ask_ready(void)
{
    struct msg_READY msg = {.version = PROTO_VERSION};

    must_ask(MSG_READY, &msg, -1);
}

void ask_open(const struct msg_OPEN *msg, int fd)
{
    must_ask(MSG_OPEN, msg, fd);
}

void ask_close(uint32_t sid)
{
    struct msg_CLOSE msg = {.sid = sid};

    must_ask(MSG_CLOSE, &msg, -1);
}

void ask_credit(uint32_t sid, uint32_t exec, uint32_t bytes)
{
    struct msg_CREDIT msg = {.sid = sid, .exec = exec, .bytes = bytes};

    must_ask(MSG_CREDIT, &msg, -1);
}

void ask_health(uint32_t req)
{
    struct msg_HEALTH msg = {.req = req};

    must_ask(MSG_HEALTH, &msg, -1);
}

void ask_status(const struct msg_STATUS *msg, int fd)
{
    must_ask(MSG_STATUS, msg, fd);
}

int ask_execute(const struct msg_EXECUTE *msg)
{
    return ask(MSG_EXECUTE, msg, -1);
}

int ask_control(const struct msg_CONTROL *msg)
{
    return ask(MSG_CONTROL, msg, -1);
}

int ask_stdin(const struct msg_STDIN *msg)
{
    return ask(MSG_STDIN, msg, -1);
}

void upstream_log(enum log_level level, uint32_t sid, const char *line)
{
    size_t len = strlen(line);
    struct msg_LOG msg = {
        .level = (uint32_t)level, .sid = sid, .text = {line, len < 512 ? len : 512}};

    if (up.channel.fd >= 0 && up.channel.queued < QUEUE_HIGH) {
        channel_send(&up.channel, MSG_LOG, &msg, -1);
        adjust();
    }
}
