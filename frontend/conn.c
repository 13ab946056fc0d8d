/*
 * The connections of the frontend: their table, their states, what is sent
 * next, and the once-a-second sweep that ends those which do not move.
 */
#include "frontend/conn.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <uv.h>

#include "common/log.h"
#include "frontend/backlog.h"
#include "frontend/hello.h"
#include "frontend/http.h"
#include "frontend/listener.h"
#include "frontend/message.h"
#include "frontend/report.h"
#include "frontend/session.h"
#include "frontend/upstream.h"
#include "frontend/ws.h"

/* Replies that wait before the client's next requests do. */
#define QUEUE_HIGH 16

#define SWEEP_MS 1000
#define CLOSING_MS 5000
#define PING_MS 30000

/* Output credit is given back in pieces of this size, or when all is sent. */
#define CREDIT_STEP (CONN_WINDOW / 4)

static struct {
    struct conn **slots; /* by sid - 1 */
    size_t capacity, count, hint;
    uv_loop_t *loop;
    uv_timer_t sweep;
    const struct hello *settings;
    bool shutting_down;
    uint64_t shutdown_ms; /* when what is left is closed */
} table;

static const char *const state_names[] = {
    [CONN_SHAKING] = "SHAKING", [CONN_OPENING] = "OPENING", [CONN_OPEN] = "OPEN",
    [CONN_LEAVING] = "LEAVING", [CONN_DONE] = "DONE",
};

/* ---- the table ---- */

size_t conn_capacity(void)
{
    return table.capacity;
}

bool conn_table_full(void)
{
    return table.count == table.capacity;
}

static void conn_finish_wire(struct conn *c)
{
    inbox_reset(&c->inbox);
    queue_finish(&c->queue);
    http_forget(c);
    if (c->token != NULL) {
        explicit_bzero(c->token, strlen(c->token));
        free(c->token);
        c->token = NULL;
    }
}

static void conn_free(struct conn *c)
{
    conn_finish_wire(c);
    conn_forget_command(c);
    for (size_t i = 0; i < CONN_REQUESTS_MAX; i++) {
        free((char *)(uintptr_t)c->requests[i].id.data);
    }
    table.slots[c->sid - 1] = NULL;
    table.count--;
    free(c);
    listener_resume();
}

/* Frees what neither a socket nor a session needs any more. */
static void conn_free_if_over(struct conn *c)
{
    if (c->wsi == NULL && (c->state == CONN_SHAKING || c->state == CONN_DONE)) {
        conn_free(c);
    }
}

static void sweep_all(uv_timer_t *timer);

struct conn *conn_new(unsigned listener, bool local, int fd)
{
    struct conn *c;
    uint64_t now = uv_now(table.loop);

    if (conn_table_full()) {
        return NULL;
    }
    while (table.slots[table.hint] != NULL) {
        table.hint = (table.hint + 1) % table.capacity;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->sid = (uint32_t)table.hint + 1;
    c->listener = listener;
    c->local = local;
    c->fd = fd;
    c->deadline_ms = now + table.settings->handshake_ms;
    c->progress_ms = now;
    text_init(&c->completed, 16384);
    table.slots[table.hint] = c;
    table.hint = (table.hint + 1) % table.capacity;
    table.count++;
    if (!uv_is_active((uv_handle_t *)&table.sweep)) {
        uv_timer_start(&table.sweep, sweep_all, SWEEP_MS, SWEEP_MS);
    }
    return c;
}

void conn_drop(struct conn *c)
{
    conn_free_if_over(c);
}

struct conn *conn_find(uint32_t sid)
{
    return sid >= 1 && sid <= table.capacity ? table.slots[sid - 1] : NULL;
}

void conn_each(void (*fn)(struct conn *c, void *arg), void *arg)
{
    for (size_t i = 0; i < table.capacity; i++) {
        if (table.slots[i] != NULL) {
            fn(table.slots[i], arg);
        }
    }
}

/* ---- states ---- */

void conn_set_state(struct conn *c, enum conn_state state)
{
    log_session(LOG_DEBUG, c->sid, "%s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
    if (state != CONN_SHAKING) {
        conn_hold(c, HOLD_SESSION, state != CONN_OPEN);
    }
    conn_free_if_over(c);
}

void conn_hold(struct conn *c, enum conn_hold why, bool on)
{
    unsigned holds = on ? c->holds | why : c->holds & ~(unsigned)why;

    if (c->wsi != NULL && (holds != 0) != (c->holds != 0)) {
        ws_hold(c->wsi, holds != 0);
    }
    c->holds = holds;
}

void conn_wake(struct conn *c)
{
    if (c->wsi != NULL && !c->close_sent) {
        ws_want_write(c->wsi);
    }
}

void conn_send(struct conn *c, struct text *t)
{
    if (c->wsi == NULL || c->close_code != 0) {
        text_finish(t);
        return;
    }
    if (queue_push(&c->queue, t) < 0) {
        conn_close(c, 1011, "Reply could not be queued");
        return;
    }
    conn_hold(c, HOLD_QUEUE, c->queue.count > QUEUE_HIGH);
    conn_wake(c);
}

void conn_send_fault(struct conn *c, struct span id, const struct fault *fault)
{
    struct text t;

    if (id.len == 0 && c->dialect->answers_need_id) {
        log_session(LOG_DEBUG, c->sid, "a notification failed: %s", fault->text);
        return;
    }
    text_init(&t, 8192);
    c->dialect->writer->error(&t, id, fault);
    conn_send(c, &t);
}

void conn_forget_command(struct conn *c)
{
    backlog_free(c->backlog);
    c->backlog = NULL;
    text_finish(&c->completed);
    c->has_completed = false;
    c->exec = 0;
    c->owed = 0;
    c->stdin_credit = 0;
    c->stdin_news = 0;
    c->stdin_told = false;
    c->stdin_open = false;
    c->stdin_closed = false;
}

static void conn_leave(struct conn *c)
{
    ask_close(c->sid);
    conn_set_state(c, CONN_LEAVING);
}

void conn_close(struct conn *c, uint16_t code, const char *reason)
{
    bool busy = c->exec != 0 || c->request_count > 0;

    if (c->wsi == NULL || c->close_code != 0) {
        return;
    }
    log_session(code == 1000 ? LOG_DEBUG : LOG_INFO, c->sid, "closing %u: %s", code, reason);
    c->close_code = code;
    c->close_reason = reason;
    c->deadline_ms = uv_now(table.loop) + CLOSING_MS;
    conn_forget_command(c);
    conn_hold(c, HOLD_CLOSING, true);
    conn_wake(c);
    if (c->state == CONN_OPEN && busy) {
        conn_leave(c);
    }
}

uint32_t conn_remember(struct conn *c, struct span id, bool execute)
{
    struct conn_request *request = c->requests;
    char *copy = malloc(id.len + 1);

    if (copy == NULL) {
        return 0;
    }
    while (request->req != 0) {
        request++;
    }
    if (id.len > 0) {
        memcpy(copy, id.data, id.len);
    }
    if (++c->last_req == 0) {
        c->last_req = 1;
    }
    *request = (struct conn_request){c->last_req, execute, {copy, id.len}};
    c->request_count++;
    conn_hold(c, HOLD_REQUESTS, c->request_count == CONN_REQUESTS_MAX);
    return c->last_req;
}

bool conn_recall(struct conn *c, uint32_t req, struct conn_request *request)
{
    for (size_t i = 0; i < CONN_REQUESTS_MAX; i++) {
        if (req != 0 && c->requests[i].req == req) {
            *request = c->requests[i];
            c->requests[i] = (struct conn_request){0};
            c->request_count--;
            conn_hold(c, HOLD_REQUESTS, false);
            return true;
        }
    }
    return false;
}

/* ---- shutdown ---- */

bool conn_shutting_down(void)
{
    return table.shutting_down;
}

void conn_settle(struct conn *c)
{
    if (table.shutting_down && c->state == CONN_OPEN && c->exec == 0 && c->request_count == 0) {
        conn_close(c, 1001, "Server is shutting down");
    }
}

static void shutdown_one(struct conn *c, void *arg)
{
    (void)arg;
    if (c->state == CONN_SHAKING && c->wsi != NULL) {
        ws_kill(c->wsi);
    } else {
        conn_settle(c);
    }
}

void conn_shutdown(uint32_t grace_ms)
{
    table.shutting_down = true;
    table.shutdown_ms = uv_now(table.loop) + grace_ms;
    conn_each(shutdown_one, NULL);
}

/* ---- the sweep ---- */

/* Whether the kernel sent something since the last look. */
static bool kernel_moved(struct conn *c)
{
    int before = c->unsent;

    if (ioctl(c->fd, SIOCOUTQ, &c->unsent) < 0) {
        return false;
    }
    return c->unsent < before;
}

static bool conn_has_pending(const struct conn *c)
{
    return c->queue.count > 0 || !backlog_empty(c->backlog) || c->has_completed ||
           ws_partial(c->wsi);
}

static void sweep_progress(struct conn *c, uint64_t now)
{
    if (!conn_has_pending(c)) {
        c->progress_ms = now;
        return;
    }
    if (kernel_moved(c)) {
        c->progress_ms = now;
        ws_alive(c->wsi);
    }
    if (now - c->progress_ms >= table.settings->send_timeout_ms) {
        conn_close(c, 4003, "Client is too slow");
    }
}

static void sweep_one(struct conn *c, void *arg)
{
    uint64_t now = *(uint64_t *)arg;

    if (c->wsi == NULL) {
        return;
    }
    if (c->deadline_ms != 0 && now >= c->deadline_ms) {
        log_session(LOG_DEBUG, c->sid, "out of time");
        ws_kill(c->wsi);
        return;
    }
    if (c->state != CONN_OPEN || c->close_code != 0) {
        return;
    }
    if (table.shutting_down && now >= table.shutdown_ms) {
        conn_close(c, 1001, "Server is shutting down");
        return;
    }
    if (now >= c->next_ping_ms) {
        c->next_ping_ms = now + PING_MS;
        c->ping_due = true;
        conn_wake(c);
    }
    sweep_progress(c, now);
}

static void sweep_all(uv_timer_t *timer)
{
    uint64_t now = uv_now(timer->loop);

    conn_each(sweep_one, &now);
    if (!report_flush() && table.count == 0) {
        uv_timer_stop(timer);
    }
}

int conn_start(struct uv_loop_s *loop, const struct hello *settings)
{
    table.loop = loop;
    table.settings = settings;
    table.capacity = settings->max_sessions + CONN_SPARE;
    table.slots = calloc(table.capacity, sizeof(*table.slots));
    if (table.slots == NULL) {
        return -ENOMEM;
    }
    return uv_timer_init(loop, &table.sweep);
}

/* ---- from the socket ---- */

void conn_on_established(struct conn *c)
{
    uint64_t now = uv_now(table.loop);
    struct msg_OPEN open = {
        .sid = c->sid,
        .listener = c->listener,
        .peer = span_of(c->peer),
        .token = c->token != NULL ? span_of(c->token) : (struct span){0},
    };

    c->deadline_ms = 0;
    c->progress_ms = now;
    c->next_ping_ms = now + PING_MS;
    ask_open(&open, c->local ? c->fd : -1);
    if (c->token != NULL) {
        explicit_bzero(c->token, strlen(c->token));
        free(c->token);
        c->token = NULL;
    }
    conn_set_state(c, CONN_OPENING);
}

/* A frame of the kind that the dialect does not speak. True: the message is dealt with. */
static bool wrong_kind(struct conn *c, bool first)
{
    static const struct fault fault = {
        .code = -32600, .kind = "invalid_request", .text = "Binary frames are not spoken here"};

    if (c->dialect->wrong_kind_closes) {
        conn_close(c, 1003, "Text frames are not spoken here");
    } else if (first) {
        conn_send_fault(c, c->dialect->no_id, &fault);
    }
    return true;
}

void conn_on_piece(struct conn *c, struct span piece, size_t remaining, bool first, bool final,
                   bool binary)
{
    static const struct fault busy = {.code = -32012,
                                      .kind = "rate_limited",
                                      .text = "Too much is being received at once",
                                      .retry_after_ms = 1000};
    struct span message;

    if (c->state != CONN_OPEN || c->close_code != 0) {
        return;
    }
    if (binary != c->dialect->binary && wrong_kind(c, first)) {
        return;
    }
    switch (inbox_add(&c->inbox, piece, remaining, final, &message)) {
    case INBOX_MORE:
        break;
    case INBOX_WHOLE:
        session_on_message(c, message);
        inbox_reset(&c->inbox);
        break;
    case INBOX_TOO_BIG:
        conn_close(c, 1009, "Message is larger than 1 MiB");
        inbox_reset(&c->inbox);
        break;
    case INBOX_NO_ROOM:
        conn_send_fault(c, c->dialect->no_id, &busy);
        break;
    }
}

void conn_on_peer_close(struct conn *c)
{
    /* libwebsockets answers the close frame by itself; nothing may follow that. */
    c->close_sent = true;
    conn_close(c, 1000, "Client closed");
}

void conn_on_gone(struct conn *c)
{
    c->wsi = NULL;
    c->fd = -1;
    conn_finish_wire(c);
    if (c->state == CONN_OPEN) {
        conn_forget_command(c);
        conn_leave(c);
    } else {
        conn_free_if_over(c);
    }
}

/* ---- what is sent next ---- */

static void frame_of_text(struct conn *c, struct ws_frame *frame, char *data, size_t len)
{
    *frame = (struct ws_frame){.data = data,
                               .len = len,
                               .first = true,
                               .final = true,
                               .binary = c->dialect->binary,
                               .owned = data};
}

/* The short notifications that are made only now, so that there is never more than one of each. */
static bool next_news(struct conn *c, struct ws_frame *frame)
{
    struct text t;

    if (c->stdin_open && c->exec != 0 &&
        (c->stdin_news > 0 || (c->stdin_closed && !c->stdin_told))) {
        text_init(&t, 1024);
        message_stdin_credit(c->dialect, &t, c->exec, c->stdin_news, c->stdin_closed);
        c->stdin_news = 0;
        c->stdin_told = c->stdin_closed;
    } else if (c->ping_due) {
        text_init(&t, 1024);
        message_ping(c->dialect, &t);
        c->ping_due = false;
    } else {
        return false;
    }
    if (t.failed) {
        text_finish(&t);
        return false;
    }
    frame_of_text(c, frame, t.data, t.len);
    return true;
}

/*
 * Fills one frame from the first chunk. Escaping makes up to six bytes of one,
 * so a chunk may need several frames; each is written from this one buffer.
 */
static bool next_output(struct conn *c, struct ws_frame *frame)
{
    static char scratch[TEXT_HEADROOM + WS_FRAME_MAX];
    const size_t tail_max = 16;
    struct conn_sending *s = &c->sending;
    struct chunk chunk;
    struct text t;
    size_t used;

    if (backlog_empty(c->backlog) || !backlog_peek(c->backlog, &chunk)) {
        return false;
    }
    text_init_fixed(&t, scratch, sizeof(scratch));
    frame->first = !s->begun;
    if (!s->begun) {
        message_output_begin(c->dialect, &t, c->exec, &chunk);
    }
    chunk.data.data += s->at;
    chunk.data.len -= s->at;
    t.len +=
        c->dialect->writer->data_copy(t.data + t.len, t.cap - t.len - tail_max, chunk.data, &used);
    s->at += used;
    s->active = true;
    s->begun = true;
    frame->final = used == chunk.data.len;
    if (frame->final) {
        message_output_end(c->dialect, &t);
    }
    frame->data = t.data;
    frame->len = t.len;
    frame->binary = c->dialect->binary;
    frame->owned = NULL;
    return true;
}

static bool next_reply(struct conn *c, struct ws_frame *frame)
{
    struct queue_item item;

    if (c->queue.count == 0) {
        return false;
    }
    item = queue_take(&c->queue);
    frame_of_text(c, frame, item.data, item.len);
    conn_hold(c, HOLD_QUEUE, c->queue.count > QUEUE_HIGH);
    return true;
}

static bool next_completed(struct conn *c, struct ws_frame *frame)
{
    size_t len;
    char *data;

    if (!c->has_completed) {
        return false;
    }
    data = text_take(&c->completed, &len);
    frame_of_text(c, frame, data, len);
    conn_forget_command(c);
    return true;
}

enum conn_next conn_next_frame(struct conn *c, struct ws_frame *frame)
{
    bool inside = c->sending.begun;

    c->progress_ms = uv_now(table.loop);
    if (c->close_sent) {
        return NEXT_NOTHING;
    }
    if (c->close_code != 0) {
        /* Replies go first, unless they would fall into the middle of a message. */
        c->close_sent = inside || !next_reply(c, frame);
        return c->close_sent ? NEXT_CLOSE : NEXT_FRAME;
    }
    if (inside ? next_output(c, frame)
               : next_reply(c, frame) || next_news(c, frame) || next_output(c, frame) ||
                     next_completed(c, frame)) {
        return NEXT_FRAME;
    }
    return NEXT_NOTHING;
}

/* A chunk went out: its bytes may come again. */
static void chunk_sent(struct conn *c)
{
    c->sending = (struct conn_sending){0};
    c->owed += backlog_pop(c->backlog);
    if (c->owed > 0 && !c->has_completed && (c->owed >= CREDIT_STEP || backlog_empty(c->backlog))) {
        ask_credit(c->sid, c->exec, (uint32_t)c->owed);
        c->owed = 0;
    }
}

bool conn_frame_sent(struct conn *c, struct ws_frame *frame)
{
    text_free(frame->owned);
    if (frame->owned == NULL && frame->final) {
        chunk_sent(c);
    }
    conn_settle(c);
    return c->close_code != 0 || c->queue.count > 0 || !backlog_empty(c->backlog) ||
           c->has_completed || c->ping_due || c->stdin_news > 0;
}
