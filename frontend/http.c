/*
 * Plain HTTP, in the frontend. Nothing of a request is ever sent back.
 * The status is walked session by session, and sent in pieces, so that its
 * size does not matter.
 */
#include "frontend/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/conn.h"
#include "frontend/dialect.h"
#include "frontend/handshake.h"
#include "frontend/upstream.h"

/* A piece of /status is sent when it has grown to this. */
#define PIECE_SIZE 8192
#define ANSWER_MAX 65536

#define UNAUTHORIZED (-32010)

enum exchange_kind { EXCHANGE_CONSTANT, EXCHANGE_HEALTH, EXCHANGE_READY, EXCHANGE_STATUS };

struct exchange {
    enum exchange_kind kind;
    uint32_t req; /* what the supervisor was asked; 0: nothing */
    uint32_t cursor;
    unsigned listener;
    char *token;
    struct text text;
    bool ready, last;
    bool comma;
};

static uint32_t last_req;

static const struct {
    int status;
    const char *reason;
    const char *header;
    const char *body;
} refusals[] = {
    {404, "Not Found", "", "{\"error\":\"not found\"}"},
    {400, "Bad Request", "", "{\"error\":\"bad request\"}"},
    {401, "Unauthorized", "WWW-Authenticate: Bearer\r\n", "{\"error\":\"unauthorized\"}"},
    {403, "Forbidden", "", "{\"error\":\"forbidden\"}"},
    {405, "Method Not Allowed", "Allow: GET\r\n", "{\"error\":\"method not allowed\"}"},
    {426, "Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
     "{\"error\":\"upgrade required\"}"},
    {503, "Service Unavailable", "", "{\"error\":\"unavailable\"}"},
};

static void write_head(struct text *t, int status, const char *reason, const char *header)
{
    text_addf(t, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n", status, reason);
    text_add_str(t, header);
    text_add_str(t, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                    "Connection: close\r\n");
}

static void write_body(struct text *t, int status, const char *reason, const char *header,
                       const char *body)
{
    write_head(t, status, reason, header);
    text_addf(t, "Content-Length: %zu\r\n\r\n", strlen(body));
    text_add_str(t, body);
}

void http_refusal(struct text *t, int status)
{
    size_t i = 0;

    text_init(t, ANSWER_MAX);
    while (i + 1 < sizeof(refusals) / sizeof(refusals[0]) && refusals[i].status != status) {
        i++;
    }
    write_body(t, refusals[i].status, refusals[i].reason, refusals[i].header, refusals[i].body);
}

void http_forget(struct conn *c)
{
    struct exchange *x = c->exchange;

    c->exchange = NULL;
    if (x == NULL) {
        return;
    }
    if (x->token != NULL) {
        explicit_bzero(x->token, strlen(x->token));
        free(x->token);
    }
    text_finish(&x->text);
    free(x);
}

/* There is something to send. While there is not, nothing is read from the client. */
static void exchange_ready(struct conn *c, bool last)
{
    c->exchange->ready = true;
    c->exchange->last = last;
    conn_hold(c, HOLD_SESSION, false);
    conn_wake(c);
}

static void answer_refusal(struct conn *c, int status)
{
    text_finish(&c->exchange->text);
    http_refusal(&c->exchange->text, status);
    exchange_ready(c, true);
}

static void answer(struct conn *c, int status, const char *reason, const char *body)
{
    write_body(&c->exchange->text, status, reason, "", body);
    exchange_ready(c, true);
}

/* ---- asking ---- */

static uint32_t next_req(struct exchange *x)
{
    if (++last_req == 0) {
        last_req = 1;
    }
    x->req = last_req;
    return last_req;
}

static void exchange_ask_status(struct conn *c)
{
    struct exchange *x = c->exchange;
    struct msg_STATUS status = {.req = next_req(x),
                                .listener = x->listener,
                                .token = span_of(x->token),
                                .cursor = x->cursor};

    ask_status(&status, c->local ? c->fd : -1);
}

static void begin_status(const struct hello *hello, struct conn *c, const struct request *request)
{
    struct span token = handshake_token(request);

    if (!handshake_same_site(hello, request)) {
        answer_refusal(c, 403);
        return;
    }
    c->exchange->listener = c->listener;
    c->exchange->token = strndup(token.data, token.len);
    if (c->exchange->token == NULL) {
        answer_refusal(c, 503);
        return;
    }
    exchange_ask_status(c);
}

static void begin_health(struct conn *c)
{
    ask_health(next_req(c->exchange));
}

int http_on_request(const struct hello *hello, struct conn *c, const struct request *request)
{
    static const struct {
        const char *path;
        enum exchange_kind kind;
    } paths[] = {{"/health", EXCHANGE_HEALTH},
                 {"/healthz", EXCHANGE_CONSTANT},
                 {"/readyz", EXCHANGE_READY},
                 {"/status", EXCHANGE_STATUS}};
    size_t i = 0;

    http_forget(c);
    c->exchange = calloc(1, sizeof(*c->exchange));
    if (c->exchange == NULL) {
        return -1;
    }
    text_init(&c->exchange->text, ANSWER_MAX);
    conn_hold(c, HOLD_SESSION, true);
    while (i < sizeof(paths) / sizeof(paths[0]) && strcmp(paths[i].path, request->path) != 0) {
        i++;
    }
    if (i == sizeof(paths) / sizeof(paths[0])) {
        answer_refusal(c, dialect_path_exists(request->path) ? 426 : 404);
        return 0;
    }
    if (!request->get) {
        answer_refusal(c, 405);
        return 0;
    }
    c->exchange->kind = paths[i].kind;
    switch (paths[i].kind) {
    case EXCHANGE_CONSTANT:
        answer(c, 200, "OK", "{\"status\":\"ok\"}");
        break;
    case EXCHANGE_HEALTH:
    case EXCHANGE_READY:
        begin_health(c);
        break;
    case EXCHANGE_STATUS:
        begin_status(hello, c, request);
        break;
    }
    return 0;
}

/* ---- sending ---- */

bool http_next(struct conn *c, struct text *piece, bool *last)
{
    struct exchange *x = c->exchange;

    if (x == NULL || !x->ready) {
        return false;
    }
    *piece = x->text;
    *last = x->last;
    text_init(&x->text, ANSWER_MAX);
    x->ready = false;
    return true;
}

void http_more(struct conn *c)
{
    conn_hold(c, HOLD_SESSION, true);
    exchange_ask_status(c);
}

/* ---- what the supervisor tells ---- */

struct search {
    uint32_t req;
    struct conn *found;
};

static void search_one(struct conn *c, void *arg)
{
    struct search *search = arg;

    if (c->wsi != NULL && c->exchange != NULL && c->exchange->req == search->req) {
        search->found = c;
    }
}

/* The connection that waits for an answer, if it is still there. */
static struct conn *waiting_for(uint32_t req)
{
    struct search search = {req, NULL};

    if (req != 0) {
        conn_each(search_one, &search);
    }
    if (search.found != NULL) {
        search.found->exchange->req = 0;
    }
    return search.found;
}

void http_on_health(const union proto_any *msg)
{
    const struct msg_HEALTH_IS *health = &msg->HEALTH_IS;
    struct conn *c = waiting_for(health->req);
    char body[512];

    if (c == NULL) {
        return;
    }
    if (c->exchange->kind == EXCHANGE_READY) {
        answer(c, health->ready ? 200 : 503, health->ready ? "OK" : "Service Unavailable",
               health->ready ? "{\"status\":\"ready\"}" : "{\"status\":\"not ready\"}");
        return;
    }
    snprintf(body, sizeof(body),
             "{\"status\":\"healthy\",\"service\":\"bulkhead\",\"version\":\"" BULKHEAD_VERSION
             "\",\"active_sessions\":%u,\"max_sessions\":%u,\"uptime_seconds\":%.3f}",
             health->sessions, health->max_sessions, (double)health->uptime_ms / 1000);
    answer(c, 200, "OK", body);
}

void http_on_status(const union proto_any *msg)
{
    const struct msg_STATUS_IS *status = &msg->STATUS_IS;
    struct conn *c = waiting_for(status->req);
    struct text *t;

    if (c == NULL) {
        return;
    }
    t = &c->exchange->text;
    write_head(t, 200, "OK", "");
    text_addf(t, "\r\n{\"uptime_seconds\":%.3f,\"sessions\":%u,\"max_sessions\":%u,",
              (double)status->uptime_ms / 1000, status->sessions, status->max_sessions);
    text_addf(t, "\"commands\":%u,\"cells\":%u,\"descriptors\":%u,\"pid\":%u,\"frontend_pid\":%u,",
              status->commands, status->cells, status->descriptors, status->pid,
              status->frontend_pid);
    text_add_str(t, "\"session_list\":[");
    c->exchange->cursor = 1;
    exchange_ask_status(c);
}

static void add_string(struct text *t, const char *key, struct span value)
{
    text_addf(t, "\"%s\":\"", key);
    text_add_json(t, value);
    text_add_str(t, "\",");
}

static void add_session(struct text *t, const struct msg_STATUS_SESSION *s)
{
    text_add_char(t, '{');
    add_string(t, "session_id", s->session_id);
    add_string(t, "peer", s->peer);
    add_string(t, "state", s->state);
    text_addf(t, "\"uid\":%u,\"age_seconds\":%.3f,\"init_pid\":%u,\"exec_id\":%u,\"pid\":%u,",
              s->uid, (double)s->age_ms / 1000, s->init_pid, s->exec, s->pid);
    text_addf(t, "\"stdout_bytes\":%llu,\"stderr_bytes\":%llu}",
              (unsigned long long)s->stdout_bytes, (unsigned long long)s->stderr_bytes);
}

void http_on_status_session(const union proto_any *msg)
{
    const struct msg_STATUS_SESSION *session = &msg->STATUS_SESSION;
    struct conn *c = waiting_for(session->req);
    struct exchange *x;

    if (c == NULL) {
        return;
    }
    x = c->exchange;
    if (session->sid == 0) {
        text_add_str(&x->text, "]}");
        exchange_ready(c, true);
        return;
    }
    text_add_str(&x->text, x->comma ? "," : "");
    add_session(&x->text, session);
    x->comma = true;
    x->cursor = session->sid + 1;
    if (x->text.len >= PIECE_SIZE) {
        exchange_ready(c, false);
    } else {
        exchange_ask_status(c);
    }
}

void http_on_refused(const union proto_any *msg)
{
    const struct msg_REFUSED *refused = &msg->REFUSED;
    struct conn *c = waiting_for(refused->req);

    if (c != NULL) {
        answer_refusal(c, refused->code != UNAUTHORIZED ? 503 : c->local ? 403 : 401);
    }
}
