#include "client/connection.h"

#include <errno.h>
#include <libwebsockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client/failure.h"
#include "client/locate.h"
#include "client/message.h"

_Static_assert(CONNECTION_HEADROOM >= LWS_PRE, "libwebsockets wants more room before a message");

#define SUBPROTOCOL "bulkhead.msgpack.v1"

enum ending {
    ENDING_NONE,
    ENDING_LEFT,    /* by us */
    ENDING_FAILED,  /* never open */
    ENDING_LOST,    /* was open */
    ENDING_INVALID, /* the other end broke the protocol */
};

struct connection {
    const struct location *location;
    const struct connection_events *events;
    void *arg;
    struct lws_context *context;
    struct lws *wsi; /* NULL: not there yet, or gone */
    int epoll_fd;    /* of the descriptors the owner watches */
    enum ending ending;
    bool open, paused, closing, want_write;
    char *parts; /* a message that comes in fragments */
    size_t parts_len;
    unsigned http_status;
    unsigned close_code; /* 0: the server did not say */
    char close_text[128];
    char failure[1024];
    /* connection_get */
    char *body;
    size_t body_len;
    bool body_whole;
};

const char *connection_failure(const struct connection *connection)
{
    return connection->failure;
}

static void end(struct connection *c, enum ending ending)
{
    if (c->ending != ENDING_NONE) {
        return;
    }
    c->ending = ending;
    if (ending == ENDING_FAILED) {
        failure_to_open(c->location, c->http_status, c->failure, sizeof c->failure);
    } else if (ending == ENDING_LOST) {
        failure_to_last(c->location, c->close_code, c->close_text, c->failure, sizeof c->failure);
    } else if (ending == ENDING_INVALID) {
        snprintf(c->failure, sizeof c->failure,
                 "%s sent what is not " SUBPROTOCOL "; is that a bulkheadd of this version?",
                 c->location->address.url);
    }
}

/* ---- the WebSocket ---- */

/* The token goes into the handshake; *at moves past what was written. */
static int add_token(struct lws *wsi, const struct location *location, char **at, size_t room)
{
    char value[sizeof "Bearer " + TOKEN_MAX];
    if (!location->token[0]) {
        return 0;
    }
    int len = snprintf(value, sizeof value, "Bearer %s", location->token);
    unsigned char *p = (unsigned char *)*at;
    int code = lws_add_http_header_by_name(wsi, (const unsigned char *)"Authorization:",
                                           (const unsigned char *)value, len, &p, p + room);
    *at = (char *)p;
    explicit_bzero(value, sizeof value);
    return code;
}

/* Messages mostly come whole and are handed on from where they lie. */
static int receive(struct connection *c, struct lws *wsi, const char *data, size_t len)
{
    bool first = lws_is_first_fragment(wsi);
    bool whole = lws_is_final_fragment(wsi);
    if (!lws_frame_is_binary(wsi) || (!first && !c->parts)) {
        end(c, ENDING_INVALID);
        return -1;
    }
    if (first && whole) {
        c->events->message(c->arg, data, len);
        return 0;
    }
    if (first) {
        c->parts_len = 0;
    }
    if (!c->parts && !(c->parts = malloc(MESSAGE_MAX))) {
        end(c, ENDING_LOST);
        return -1;
    }
    if (len > MESSAGE_MAX - c->parts_len) {
        end(c, ENDING_INVALID);
        return -1;
    }
    memcpy(c->parts + c->parts_len, data, len);
    c->parts_len += len;
    if (!whole) {
        return 0;
    }
    c->events->message(c->arg, c->parts, c->parts_len);
    c->parts_len = 0;
    return 0;
}

static int write_or_close(struct connection *c, struct lws *wsi)
{
    c->want_write = false;
    if (c->closing) {
        lws_close_reason(wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
        return -1;
    }
    c->events->writable(c->arg);
    return 0;
}

static void note_close(struct connection *c, const unsigned char *payload, size_t len)
{
    if (len < 2) {
        return;
    }
    c->close_code = (unsigned)payload[0] << 8 | payload[1];
    size_t text = len - 2 < sizeof c->close_text - 1 ? len - 2 : sizeof c->close_text - 1;
    memcpy(c->close_text, payload + 2, text);
    c->close_text[text] = '\0';
}

static int on_websocket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                        size_t len)
{
    struct connection *c = lws_context_user(lws_get_context(wsi));
    (void)user;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_token(wsi, c->location, in, len);
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
        /* libwebsockets is content with a server that does not pick a subprotocol */
        c->http_status = 101;
        return lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0 ? 0 : -1;
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        c->open = true;
        c->events->opened(c->arg);
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return receive(c, wsi, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return write_or_close(c, wsi);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        note_close(c, in, len);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        c->http_status = lws_http_client_http_response(wsi);
        c->wsi = NULL;
        end(c, ENDING_FAILED);
        return 0;
    case LWS_CALLBACK_CLIENT_CLOSED:
        c->wsi = NULL;
        end(c, c->closing ? ENDING_LEFT : ENDING_LOST);
        return 0;
    default:
        return 0;
    }
}

/* ---- the owner's descriptors: an epoll set within the loop of libwebsockets ---- */

/* One at a time, so that what a handler does about another descriptor holds at once. */
static void dispatch_ready(struct connection *c)
{
    struct epoll_event event;
    if (epoll_wait(c->epoll_fd, &event, 1, 0) == 1) {
        c->events->ready(c->arg, event.data.fd);
    }
}

static int on_watched(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                      size_t len)
{
    (void)user;
    (void)in;
    (void)len;
    if (reason == LWS_CALLBACK_RAW_RX_FILE) {
        dispatch_ready(lws_context_user(lws_get_context(wsi)));
    }
    return 0;
}

int connection_watch(struct connection *c, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (events == 0) {
        return epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : -errno;
    }
    if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST) {
        return 0;
    }
    return -errno;
}

/* ---- one HTTP request ---- */

static int keep_body(struct connection *c, const char *data, size_t len)
{
    if (len > CONNECTION_BODY_MAX - c->body_len) {
        return -1;
    }
    char *body = realloc(c->body, c->body_len + len + 1);
    if (!body) {
        return -1;
    }
    c->body = body;
    memcpy(body + c->body_len, data, len);
    c->body_len += len;
    body[c->body_len] = '\0';
    return 0;
}

static int read_body(struct lws *wsi)
{
    char buf[LWS_PRE + 4096];
    char *at = buf + LWS_PRE;
    int len = sizeof buf - LWS_PRE;
    return lws_http_client_read(wsi, &at, &len) < 0 ? -1 : 0;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                   size_t len)
{
    struct connection *c = lws_context_user(lws_get_context(wsi));
    (void)user;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_token(wsi, c->location, in, len);
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
        c->http_status = lws_http_client_http_response(wsi);
        return 0;
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP:
        return read_body(wsi);
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
        return keep_body(c, in, len);
    case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
        c->body_whole = true;
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        c->http_status = lws_http_client_http_response(wsi);
        c->wsi = NULL;
        end(c, ENDING_FAILED);
        return 0;
    case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
        c->wsi = NULL;
        end(c, c->body_whole && c->http_status == 200 ? ENDING_LEFT : ENDING_FAILED);
        return 0;
    default:
        return 0;
    }
}

/* ---- making it ---- */

static const struct lws_protocols protocols[] = {
    {.name = SUBPROTOCOL, .callback = on_websocket, .rx_buffer_size = MESSAGE_MAX},
    {.name = "watched", .callback = on_watched},
    {.name = "http", .callback = on_http},
    {.name = NULL},
};

static struct connection *make(const struct location *location)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->location = location;
    c->epoll_fd = -1;
    lws_set_log_level(0, NULL); /* what the user must know, we say ourselves */
    unsetenv("http_proxy");     /* or it would be asked for the way to our own host */
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .user = c,
        .pt_serv_buf_size = MESSAGE_MAX,
        .fd_limit_per_thread = 16,
        .timeout_secs = 10,
        .connect_timeout_secs = 10,
        .ka_time = 20,
        .ka_probes = 3,
        .ka_interval = 10,
    };
    c->context = lws_create_context(&info);
    if (!c->context) {
        free(c);
        return NULL;
    }
    return c;
}

/* Failures end up in the callbacks; one that happens at once, here. */
static void dial(struct connection *c, const char *path, const char *method)
{
    const struct address *to = &c->location->address;
    char host[ADDRESS_PATH_MAX + 16], target[ADDRESS_PATH_MAX + 1];
    bool brackets = strchr(to->host, ':') != NULL;
    if (to->local_socket) {
        snprintf(host, sizeof host, "localhost");
    } else {
        snprintf(host, sizeof host, "%s%s%s:%u", brackets ? "[" : "", to->host, brackets ? "]" : "",
                 to->port);
    }
    snprintf(target, sizeof target, "%s%s", to->local_socket ? "+" : "", to->host);
    struct lws_client_connect_info info = {
        .context = c->context,
        .address = target,
        .port = (int)to->port,
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
        .path = path,
        .host = host,
        .method = method,
        .protocol = method ? NULL : SUBPROTOCOL,
        .local_protocol_name = method ? "http" : SUBPROTOCOL,
        .pwsi = &c->wsi,
    };
    if (!lws_client_connect_via_info(&info)) {
        c->wsi = NULL;
        end(c, ENDING_FAILED);
    }
}

struct connection *connection_new(const struct location *location,
                                  const struct connection_events *events, void *arg)
{
    struct connection *c = make(location);
    if (!c) {
        return NULL;
    }
    c->events = events;
    c->arg = arg;
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    lws_sock_file_fd_type watched = {.filefd = c->epoll_fd};
    /* from here on libwebsockets closes the descriptor, also when this fails */
    if (c->epoll_fd < 0 ||
        !lws_adopt_descriptor_vhost(lws_get_vhost_by_name(c->context, "default"),
                                    LWS_ADOPT_RAW_FILE_DESC, watched, "watched", NULL)) {
        connection_free(c);
        return NULL;
    }
    dial(c, location->address.path, NULL);
    return c;
}

void connection_free(struct connection *c)
{
    if (!c) {
        return;
    }
    c->ending = ENDING_LEFT; /* nothing is reported from here on */
    lws_context_destroy(c->context);
    free(c->parts);
    free(c->body);
    free(c);
}

/* ---- its life ---- */

/*
 * While paused the socket must not be shown to libwebsockets: on a hangup it
 * would close at once, and what the server sent last would be lost with it.
 * Only sending goes on.
 */
static void wait_paused(struct connection *c)
{
    int fd = c->wsi && c->want_write ? lws_get_socket_fd(c->wsi) : -1;
    struct pollfd p[] = {{.fd = c->epoll_fd, .events = POLLIN}, {.fd = fd, .events = POLLOUT}};
    if (poll(p, 2, -1) < 0) {
        return; /* EINTR */
    }
    if (p[1].revents & (POLLHUP | POLLERR)) {
        c->want_write = false;
    } else if (p[1].revents & POLLOUT) {
        lws_service_fd(c->context, &p[1]);
    }
    if (p[0].revents) {
        dispatch_ready(c);
    }
}

int connection_run(struct connection *c)
{
    /* what came before the end of the connection is still handed on */
    while (c->ending == ENDING_NONE || (c->paused && c->ending == ENDING_LOST)) {
        if (c->paused) {
            wait_paused(c);
        } else if (lws_service(c->context, 0) < 0) {
            end(c, c->open ? ENDING_LOST : ENDING_FAILED);
        }
    }
    return c->ending == ENDING_LEFT ? 0 : -ECONNABORTED;
}

void connection_pause(struct connection *c)
{
    if (c->paused) {
        return;
    }
    c->paused = true;
    if (c->wsi) {
        lws_rx_flow_control(c->wsi, 0);
    }
}

void connection_resume(struct connection *c)
{
    if (!c->paused) {
        return;
    }
    c->paused = false;
    if (c->wsi) {
        lws_rx_flow_control(c->wsi, 1);
    }
}

int connection_send(struct connection *c, char *data, size_t len)
{
    unsigned char *at = (unsigned char *)data + CONNECTION_HEADROOM;
    return c->wsi && lws_write(c->wsi, at, len, LWS_WRITE_BINARY) >= (int)len ? 0 : -EPIPE;
}

void connection_want_write(struct connection *c)
{
    if (!c->wsi || !c->open) {
        return;
    }
    c->want_write = true;
    lws_callback_on_writable(c->wsi);
}

void connection_close(struct connection *c)
{
    if (!c->wsi || !c->open) {
        connection_leave(c);
        return;
    }
    c->closing = true;
    connection_resume(c);
    connection_want_write(c);
}

void connection_leave(struct connection *c)
{
    end(c, ENDING_LEFT);
    c->ending = ENDING_LEFT;
}

int connection_get(const struct location *location, const char *path, char **body, char **failure)
{
    *body = *failure = NULL;
    struct connection *c = make(location);
    if (!c) {
        return -ENOMEM;
    }
    dial(c, path, "GET");
    while (c->ending == ENDING_NONE) {
        if (lws_service(c->context, 0) < 0) {
            end(c, ENDING_FAILED);
        }
    }
    int code = c->ending == ENDING_LEFT && c->body ? 0 : -ECONNABORTED;
    if (code == 0) {
        *body = c->body;
        c->body = NULL;
    } else {
        *failure = strdup(c->failure);
    }
    connection_free(c);
    return code;
}
