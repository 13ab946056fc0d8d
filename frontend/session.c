/*
 * One session, in the frontend: its client's messages go to call.c, and the
 * supervisor's answers come back here and become messages. The supervisor is
 * trusted; an answer that makes no sense is a bug, and ends the frontend.
 */
#include "frontend/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "frontend/backlog.h"
#include "frontend/call.h"
#include "frontend/conn.h"
#include "frontend/message.h"

#define SESSION_LIMIT (-32003)
#define UNAUTHORIZED (-32010)
#define SHUTTING_DOWN (-32018)

void session_on_message(struct conn *c, struct span message)
{
    struct envelope envelope = {.params = {.kind = VALUE_NULL}};

    switch (c->dialect->decode(message, &envelope)) {
    case ENVELOPE_OK:
        call_handle(c, &envelope);
        break;
    case ENVELOPE_FAULT:
        conn_send_fault(c, envelope.id, &envelope.fault);
        break;
    case ENVELOPE_IGNORE:
        break;
    }
    c->dialect->release();
}

/* The request that an answer belongs to. */
static struct conn_request request_of(struct conn *c, uint32_t req)
{
    struct conn_request request;

    if (!conn_recall(c, req, &request)) {
        die_bug("an answer to request %u of session %u, which has none", req, c->sid);
    }
    return request;
}

static void request_free(struct conn_request *request)
{
    free((char *)(uintptr_t)request->id.data);
}

void session_on_opened(struct conn *c, const union proto_any *msg)
{
    struct text t;

    conn_set_state(c, CONN_OPEN);
    if (c->wsi == NULL) {
        conn_on_gone(c);
        return;
    }
    text_init(&t, 4096);
    message_connected(c->dialect, &t, msg->OPENED.session_id);
    conn_send(c, &t);
    conn_settle(c);
}

/* How a refused session is closed. */
static void close_refused(struct conn *c, int code)
{
    switch (code) {
    case SESSION_LIMIT:
        conn_close(c, 1008, "Session limit exceeded");
        break;
    case UNAUTHORIZED:
        conn_close(c, 4001, "Authentication failed");
        break;
    case SHUTTING_DOWN:
        conn_close(c, 1001, "Server is shutting down");
        break;
    default:
        conn_close(c, 1011, "Session could not be opened");
    }
}

void session_on_refused(struct conn *c, const union proto_any *msg)
{
    const struct msg_REFUSED *refused = &msg->REFUSED;
    char kind[64], text[512], stage[64];
    struct conn_request request;
    struct fault fault = {.code = refused->code,
                          .kind = kind,
                          .text = text,
                          .stage = refused->stage.len > 0 ? stage : NULL,
                          .errnum = refused->errnum,
                          .retry_after_ms = refused->retry_after_ms};

    snprintf(kind, sizeof(kind), "%.*s", (int)refused->kind.len, refused->kind.data);
    snprintf(text, sizeof(text), "%.*s", (int)refused->text.len, refused->text.data);
    snprintf(stage, sizeof(stage), "%.*s", (int)refused->stage.len, refused->stage.data);
    if (c->state == CONN_OPENING) {
        if (c->wsi != NULL) {
            conn_send_fault(c, c->dialect->no_id, &fault);
            close_refused(c, refused->code);
        }
        conn_set_state(c, CONN_DONE);
        return;
    }
    request = request_of(c, refused->req);
    if (request.execute) {
        conn_forget_command(c);
    }
    conn_send_fault(c, request.id, &fault);
    request_free(&request);
    conn_settle(c);
}

void session_on_started(struct conn *c, const union proto_any *msg)
{
    struct conn_request request = request_of(c, msg->STARTED.req);
    struct text t;

    if (!request.execute || c->exec != 0 || msg->STARTED.exec == 0) {
        die_bug("STARTED that nobody asked for in session %u", c->sid);
    }
    c->exec = msg->STARTED.exec;
    if (request.id.len > 0 || !c->dialect->answers_need_id) {
        text_init(&t, 4096);
        message_start_result(c->dialect, &t, request.id, &msg->STARTED);
        conn_send(c, &t);
    }
    text_init(&t, 4096);
    message_started(c->dialect, &t, &msg->STARTED);
    conn_send(c, &t);
    request_free(&request);
}

void session_on_controlled(struct conn *c, const union proto_any *msg)
{
    struct conn_request request = request_of(c, msg->CONTROLLED.req);
    struct text t;

    if (request.id.len > 0 || !c->dialect->answers_need_id) {
        text_init(&t, 4096);
        message_control_result(c->dialect, &t, request.id, &msg->CONTROLLED);
        conn_send(c, &t);
    }
    if (message_is_state(msg->CONTROLLED.action)) {
        text_init(&t, 4096);
        message_state(c->dialect, &t, &msg->CONTROLLED);
        conn_send(c, &t);
    }
    request_free(&request);
    conn_settle(c);
}

static void check_exec(const struct conn *c, uint32_t exec, const char *what)
{
    if (exec != c->exec || c->has_completed) {
        die_bug("%s of command %u in session %u, where %u runs", what, exec, c->sid, c->exec);
    }
}

void session_on_output(struct conn *c, const union proto_any *msg)
{
    const struct msg_OUTPUT *output = &msg->OUTPUT;
    struct chunk chunk = {output->stream,
                          output->offset,
                          output->bytes,
                          output->dropped,
                          (size_t)proto_output_cost(output),
                          output->data};

    if (c->close_code != 0) {
        return;
    }
    check_exec(c, output->exec, "OUTPUT");
    if (backlog_put(c->backlog, &chunk) < 0) {
        die_bug("more OUTPUT than the window of session %u", c->sid);
    }
    conn_wake(c);
}

void session_on_stdin_credit(struct conn *c, const union proto_any *msg)
{
    const struct msg_STDIN_CREDIT *credit = &msg->STDIN_CREDIT;

    if (c->close_code != 0) {
        return;
    }
    check_exec(c, credit->exec, "STDIN_CREDIT");
    c->stdin_credit += credit->bytes;
    c->stdin_news += credit->bytes;
    c->stdin_closed = c->stdin_closed || credit->closed;
    conn_wake(c);
}

void session_on_verdict(struct conn *c, const union proto_any *msg)
{
    if (c->close_code != 0) {
        return;
    }
    check_exec(c, msg->VERDICT.exec, "VERDICT");
    message_completed(c->dialect, &c->completed, &msg->VERDICT);
    if (c->completed.failed) {
        conn_close(c, 1011, "Out of memory");
        return;
    }
    c->has_completed = true;
    conn_wake(c);
}

void session_on_closed(struct conn *c, const union proto_any *msg)
{
    (void)msg;
    conn_set_state(c, CONN_DONE);
}
