/*
 * The WebSocket and HTTP side of the frontend, and the only file that knows
 * libwebsockets (4.1 and newer).
 *
 * What a callback gets as its connection is the opaque pointer of the socket,
 * which is there from accept on. Per-session data is not used: it is zero for
 * a socket that is reported closed without having been established.
 */
#include "frontend/ws.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <uv.h>

#include <libwebsockets.h>

#include "common/log.h"
#include "frontend/conn.h"
#include "frontend/handshake.h"
#include "frontend/hello.h"
#include "frontend/http.h"

_Static_assert(TEXT_HEADROOM >= LWS_PRE, "a frame's header must fit in front of a text");

/* Read at once from a socket, and the receive buffer of each connection. */
#define READ_SIZE 8192
#define HEADERS_MAX 4096

/* Keepalive: a ping after 20 s without a sign of life, the end after two were missed. */
#define PING_SECONDS 20
#define DEAD_SECONDS 60

static struct lws_context *context;
static struct lws_vhost *vhost;
static const struct hello *settings;

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len);

/*
 * The first entry serves HTTP and every client that offers no subprotocol;
 * no client can name it, as brackets are not allowed in a subprotocol. The
 * dialect is never taken from here: handshake.c chose it, and a socket whose
 * entry does not match the choice is refused.
 */
static const struct lws_protocols protocols[] = {
    {.name = "(none)",
     .callback = on_event,
     .rx_buffer_size = READ_SIZE,
     .tx_packet_size = WS_FRAME_MAX + LWS_PRE},
    {.name = "bulkhead.msgpack.v1",
     .callback = on_event,
     .rx_buffer_size = READ_SIZE,
     .tx_packet_size = WS_FRAME_MAX + LWS_PRE},
    {.name = NULL},
};

static const lws_retry_bo_t keepalive = {
    .secs_since_valid_ping = PING_SECONDS,
    .secs_since_valid_hangup = DEAD_SECONDS,
};

/* ---- requests ---- */

/* The headers of the request at hand; all of them fit, as libwebsockets keeps no more. */
struct headers {
    char path[HEADERS_MAX], host[HEADERS_MAX], origin[HEADERS_MAX], authorization[HEADERS_MAX],
        subprotocols[HEADERS_MAX], connection[HEADERS_MAX], version[32], key[64];
};

static const char *header(struct lws *wsi, enum lws_token_indexes token, char *buf, size_t size)
{
    if (lws_hdr_copy(wsi, buf, (int)size, token) <= 0) {
        buf[0] = '\0';
    }
    return buf;
}

static void request_read(struct lws *wsi, const struct conn *c, struct request *request)
{
    static struct headers h;

    *request = (struct request){
        .get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0,
        .path = header(wsi, WSI_TOKEN_GET_URI, h.path, sizeof(h.path)),
        .host = header(wsi, WSI_TOKEN_HOST, h.host, sizeof(h.host)),
        .origin = header(wsi, WSI_TOKEN_ORIGIN, h.origin, sizeof(h.origin)),
        .authorization =
            header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, h.authorization, sizeof(h.authorization)),
        .subprotocols = header(wsi, WSI_TOKEN_PROTOCOL, h.subprotocols, sizeof(h.subprotocols)),
        .connection = header(wsi, WSI_TOKEN_CONNECTION, h.connection, sizeof(h.connection)),
        .version = header(wsi, WSI_TOKEN_VERSION, h.version, sizeof(h.version)),
        .key = header(wsi, WSI_TOKEN_KEY, h.key, sizeof(h.key)),
        .local = c->local,
        .address = c->address,
    };
}

/* Writes a whole response of ours. */
static int write_http(struct lws *wsi, struct text *t)
{
    int n = t->failed ? -1 : lws_write(wsi, (unsigned char *)t->data, t->len, LWS_WRITE_HTTP);

    text_finish(t);
    return n;
}

/* Returns 0 to go on with the upgrade, -1 to hang up (after the refusal was written). */
static int on_upgrade(struct lws *wsi, struct conn *c, const char *kind)
{
    struct request request;
    struct span token;
    struct text refusal;
    int status = 400;

    /* After an upgrade that it does not know, lws 4.1 comes here with headers that are gone. */
    if (lws_hdr_total_length(wsi, WSI_TOKEN_UPGRADE) == 0) {
        return -1;
    }
    request_read(wsi, c, &request);
    if (strcasecmp(kind, "websocket") == 0) {
        status = handshake_check(settings, &request, &c->dialect);
    }
    if (status != 101) {
        log_info("handshake of %s refused: %d", c->peer, status);
        http_refusal(&refusal, status);
        write_http(wsi, &refusal);
        return -1;
    }
    token = handshake_token(&request);
    c->token = strndup(token.data, token.len);
    return c->token != NULL ? 0 : -1;
}

/* Whether libwebsockets bound the socket to the entry that belongs to the dialect. */
static int on_bound(struct lws *wsi, const struct conn *c)
{
    const char *name = c->dialect != NULL ? c->dialect->subprotocol : NULL;
    bool good = c->dialect != NULL &&
                strcmp(lws_get_protocol(wsi)->name, name != NULL ? name : protocols[0].name) == 0;

    return good ? 0 : -1;
}

static int on_http(struct lws *wsi, struct conn *c, const char *uri, size_t len)
{
    struct request request;
    char path[256];

    request_read(wsi, c, &request);
    snprintf(path, sizeof(path), "%.*s", (int)len, uri);
    request.path = path;
    return http_on_request(settings, c, &request);
}

static int on_http_writable(struct lws *wsi, struct conn *c)
{
    struct text piece;
    bool last;

    if (!http_next(c, &piece, &last)) {
        return 0;
    }
    if (write_http(wsi, &piece) < 0 || last) {
        return -1;
    }
    http_more(c);
    return 0;
}

/* ---- frames ---- */

/*
 * Begins the closing handshake. To return -1 from the callback would be the
 * usual way, but where libwebsockets was built with _DEBUG, as Debian's is, it
 * then closes twice on a libuv loop, and the close frame is never sent.
 */
static void send_close(struct lws *wsi, const struct conn *c)
{
    lws_close_reason(wsi, (enum lws_close_status)c->close_code,
                     (unsigned char *)(uintptr_t)c->close_reason, strlen(c->close_reason));
    /* The client's own close frame is still to be read. */
    lws_rx_flow_control(wsi, 1);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

/* One write for each time the socket is writable: what it does not take, libwebsockets keeps. */
static int on_writable(struct lws *wsi, struct conn *c)
{
    struct ws_frame frame;
    int kind;

    switch (conn_next_frame(c, &frame)) {
    case NEXT_NOTHING:
        return 0;
    case NEXT_CLOSE:
        send_close(wsi, c);
        return 0;
    case NEXT_FRAME:
        break;
    }
    kind = !frame.first ? LWS_WRITE_CONTINUATION : frame.binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    if (!frame.final) {
        kind |= LWS_WRITE_NO_FIN;
    }
    if (lws_write(wsi, (unsigned char *)frame.data, frame.len, (enum lws_write_protocol)kind) < 0) {
        text_free(frame.owned);
        return -1;
    }
    if (conn_frame_sent(c, &frame)) {
        lws_callback_on_writable(wsi);
    }
    return 0;
}

static void on_receive(struct lws *wsi, struct conn *c, const char *bytes, size_t len)
{
    lws_validity_confirmed(wsi);
    conn_on_piece(c, (struct span){bytes, len}, lws_remaining_packet_payload(wsi),
                  lws_is_first_fragment(wsi) != 0, lws_is_final_fragment(wsi) != 0,
                  lws_frame_is_binary(wsi) != 0);
}

static int on_conn_event(struct lws *wsi, struct conn *c, enum lws_callback_reasons reason,
                         const char *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(wsi, c, in);
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return on_bound(wsi, c);
    case LWS_CALLBACK_HTTP:
        return on_http(wsi, c, in, len);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return on_http_writable(wsi, c);
    case LWS_CALLBACK_ESTABLISHED:
        conn_on_established(c);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        on_receive(wsi, c, in, len);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writable(wsi, c);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        conn_on_peer_close(c);
        return 0;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data(wsi, NULL);
        conn_on_gone(c);
        return 0;
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX:
    case LWS_CALLBACK_RAW_WRITEABLE:
        /* The method CONNECT would turn a socket into a raw one. */
        return -1;
    default:
        return 0;
    }
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct conn *c = lws_get_opaque_user_data(wsi);

    (void)user;
    if (c != NULL) {
        return on_conn_event(wsi, c, reason, in, len);
    }
    /* An event of the whole context, or of a socket that is gone: that is told up to twice. */
    return reason == LWS_CALLBACK_HTTP_CONFIRM_UPGRADE ||
                   reason == LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION
               ? -1
               : 0;
}

/* ---- the rest of the frontend calls ---- */

static void log_line(int level, const char *line)
{
    (void)level;
    log_debug("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

int ws_start(struct uv_loop_s *loop, const struct hello *hello)
{
    void *loops[] = {loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .gid = -1,
        .uid = -1,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_VALIDATE_UTF8,
        .foreign_loops = loops,
        .pt_serv_buf_size = READ_SIZE,
        .max_http_header_data = HEADERS_MAX,
        .max_http_header_pool = (unsigned short)(conn_capacity() < 65535 ? conn_capacity() : 65535),
        .timeout_secs = (hello->handshake_ms + 999) / 1000,
        .retry_and_idle_policy = &keepalive,
        .vhost_name = "bulkhead",
    };

    settings = hello;
    lws_set_log_level(log_level_now() >= LOG_DEBUG ? LLL_ERR | LLL_WARN : 0, log_line);
    context = lws_create_context(&info);
    if (context != NULL) {
        vhost = lws_create_vhost(context, &info);
    }
    return vhost != NULL ? 0 : -1;
}

int ws_adopt(int fd, struct conn *c)
{
    lws_adopt_desc_t adopt = {
        .vh = vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP,
        .fd = {.sockfd = fd},
        .opaque = c,
    };
    uint32_t sid = c->sid;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adopt);

    /* When it failed, whether it told us that the socket is gone depends on how far it came. */
    if (wsi == NULL) {
        if (conn_find(sid) == c) {
            conn_drop(c);
        }
        return -1;
    }
    c->wsi = wsi;
    return 0;
}

void ws_want_write(struct lws *wsi)
{
    lws_callback_on_writable(wsi);
}

void ws_hold(struct lws *wsi, bool hold)
{
    lws_rx_flow_control(wsi, !hold);
}

void ws_alive(struct lws *wsi)
{
    lws_validity_confirmed(wsi);
}

bool ws_partial(struct lws *wsi)
{
    return lws_partial_buffered(wsi) != 0;
}

void ws_kill(struct lws *wsi)
{
    /* What libwebsockets still holds would keep the socket open; now it can not be sent. */
    shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}
