/*
 * The supervisor's side of the message table. In: messages that fit the table
 * and are otherwise whatever a broken-into frontend likes. Each handler checks
 * what the table cannot: the session's state, who asks, and for what.
 */
#include "supervisor/dispatch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "supervisor/auth.h"
#include "supervisor/cell.h"
#include "supervisor/command.h"
#include "supervisor/link.h"
#include "supervisor/loop.h"
#include "supervisor/session.h"

static struct dispatch_config config;
static bool shutting_down;

void dispatch_init(const struct dispatch_config *given)
{
    config = *given;
}

void dispatch_shutdown(void)
{
    shutting_down = true;
}

/* ---- who asks ---- */

struct peer {
    bool local; /* on a Unix socket: the kernel says who */
    struct ucred cred;
};

/*
 * Says who is behind a request. On a Unix listener the client's socket came
 * along; its credentials are the kernel's word. Returns false on a fault.
 */
static bool peer_of(uint32_t listener, int fd, struct peer *peer)
{
    socklen_t len = sizeof(peer->cred);

    *peer = (struct peer){0};
    if (listener >= config.listener_count) {
        link_fault("named listener %u of %u", listener, config.listener_count);
        return false;
    }
    peer->local = config.listener_is_unix[listener];
    if (peer->local != (fd >= 0)) {
        link_fault("%s", fd >= 0 ? "sent a descriptor for a TCP client"
                                 : "sent no descriptor for a Unix client");
        return false;
    }
    if (peer->local && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer->cred, &len) < 0) {
        link_fault("sent a descriptor that is no Unix socket: %s", strerror(errno));
        return false;
    }
    return true;
}

static bool may_connect(const struct peer *peer, struct span token)
{
    /* Who may open a Unix socket is the file system's decision, and it was made. */
    return peer->local || !config.need_token || auth_token_matches(token);
}

static bool may_see_all(const struct peer *peer, struct span token)
{
    if (!peer->local) {
        return may_connect(peer, token);
    }
    return peer->cred.uid == 0 || peer->cred.uid == config.invoker || peer->cred.uid == config.uid;
}

/* ---- handlers ---- */

static void on_OPEN(struct session *none, const union proto_any *any, int *fd)
{
    const struct msg_OPEN *msg = &any->OPEN;
    struct msg_OPENED opened = {.sid = msg->sid};
    struct session *session;
    struct peer peer;
    char name[65];
    int result;

    (void)none;
    if (!peer_of(msg->listener, *fd, &peer)) {
        return;
    }
    if (!may_connect(&peer, msg->token)) {
        log_session(LOG_WARN, msg->sid, "peer %.*s: wrong token", (int)msg->peer.len,
                    msg->peer.data);
        link_refuse(msg->sid, 0, -32010, "unauthorized", "The token is not the right one");
        return;
    }
    if (shutting_down) {
        link_refuse(msg->sid, 0, -32018, "shutting_down", "The server is shutting down");
        return;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)msg->peer.len, msg->peer.data);
    if (peer.local) {
        (void)snprintf(name, sizeof(name), "uid %u pid %d", peer.cred.uid, (int)peer.cred.pid);
    }
    result = session_open(msg->sid, span_of(name), &session);
    if (result == -EUSERS) {
        log_session(LOG_WARN, msg->sid, "peer %s: refused, %zu sessions are open", name,
                    sessions_count());
        link_refuse(msg->sid, 0, -32003, "session_limit", "Session limit exceeded");
        return;
    }
    if (result < 0) {
        link_refuse(msg->sid, 0, -32603, "internal", "No session: %s", strerror(-result));
        return;
    }
    log_session(LOG_DEBUG, msg->sid, "session %s opened by %s", session->id, session->peer);
    opened.session_id = span_of(session->id);
    link_tell(MSG_OPENED, &opened);
}

static void on_EXECUTE(struct session *session, const union proto_any *any, int *fd)
{
    const struct msg_EXECUTE *msg = &any->EXECUTE;

    (void)fd;
    if (shutting_down) {
        link_refuse(msg->sid, msg->req, -32018, "shutting_down", "The server is shutting down");
        return;
    }
    command_execute(session, msg);
    cells_refill();
}

static void on_CONTROL(struct session *session, const union proto_any *any, int *fd)
{
    (void)fd;
    command_control(session->command, &any->CONTROL);
}

static void on_STDIN(struct session *session, const union proto_any *any, int *fd)
{
    (void)fd;
    if (command_stdin(session->command, &any->STDIN) < 0) {
        link_fault("sent stdin for session %u that was not granted", any->STDIN.sid);
    }
}

static void on_CREDIT(struct session *session, const union proto_any *any, int *fd)
{
    (void)fd;
    if (command_credit(session->command, any->CREDIT.exec, any->CREDIT.bytes) < 0) {
        link_fault("gave session %u more credit than there is", any->CREDIT.sid);
    }
}

static void on_CLOSE(struct session *session, const union proto_any *any, int *fd)
{
    (void)any;
    (void)fd;
    session_close(session);
}

static void on_HEALTH(struct session *none, const union proto_any *any, int *fd)
{
    struct msg_HEALTH_IS msg = {.req = any->HEALTH.req,
                                .ready = !shutting_down,
                                .sessions = (uint32_t)sessions_count(),
                                .max_sessions = (uint32_t)sessions_max(),
                                .uptime_ms = (loop_now_us() - config.started_us) / 1000};

    (void)none;
    (void)fd;
    link_tell(MSG_HEALTH_IS, &msg);
}

/* Our own open descriptors, the one that counts left out. */
static uint32_t count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t count = 0;

    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the directory's own */
}

static void tell_totals(uint32_t req)
{
    struct msg_STATUS_IS msg = {.req = req,
                                .uptime_ms = (loop_now_us() - config.started_us) / 1000,
                                .sessions = (uint32_t)sessions_count(),
                                .max_sessions = (uint32_t)sessions_max(),
                                .commands = (uint32_t)sessions_commands(),
                                .cells = (uint32_t)cells_count(),
                                .descriptors = count_descriptors(),
                                .pid = (uint32_t)getpid(),
                                .frontend_pid = (uint32_t)link_frontend_pid()};

    link_tell(MSG_STATUS_IS, &msg);
}

static void tell_session(uint32_t req, const struct session *session)
{
    struct msg_STATUS_SESSION msg = {.req = req};

    if (session != NULL) {
        const struct command *command = session->command;

        msg.sid = session->sid;
        msg.session_id = span_of(session->id);
        msg.peer = span_of(session->peer);
        msg.age_ms = (loop_now_us() - session->opened_us) / 1000;
        msg.state = span_of(session->closing ? "CLOSING" : "IDLE");
        if (session->cell != NULL) {
            msg.uid = cell_uid(session->cell);
            msg.init_pid = (uint32_t)cell_init_pid(session->cell);
        }
        if (command != NULL) {
            msg.exec = command_exec(command);
            msg.pid = (uint32_t)command_pid(command);
            msg.state = span_of(command_state_name(command));
            msg.stdout_bytes = command_bytes(command, STREAM_STDOUT);
            msg.stderr_bytes = command_bytes(command, STREAM_STDERR);
        }
    }
    link_tell(MSG_STATUS_SESSION, &msg);
}

static void on_STATUS(struct session *none, const union proto_any *any, int *fd)
{
    const struct msg_STATUS *msg = &any->STATUS;
    struct peer peer;

    (void)none;
    if (!peer_of(msg->listener, *fd, &peer)) {
        return;
    }
    if (!may_see_all(&peer, msg->token)) {
        link_refuse(0, msg->req, -32010, "unauthorized", "The status is not for everyone");
    } else if (msg->cursor == 0) {
        tell_totals(msg->req);
    } else {
        tell_session(msg->req, session_at_least(msg->cursor));
    }
}

/* ---- the table ---- */

typedef void handler(struct session *session, const union proto_any *msg, int *fd);

static handler *const handlers[] = {
    [MSG_OPEN] = on_OPEN,     [MSG_EXECUTE] = on_EXECUTE, [MSG_CONTROL] = on_CONTROL,
    [MSG_STDIN] = on_STDIN,   [MSG_CREDIT] = on_CREDIT,   [MSG_CLOSE] = on_CLOSE,
    [MSG_HEALTH] = on_HEALTH, [MSG_STATUS] = on_STATUS,
};

/* Whether the message's session is where the table wants it. */
static bool state_allows(enum proto_code code, uint32_t sid, struct session **session)
{
    unsigned states = proto_states(code);

    *session = NULL;
    if (!(states & (S_FREE | S_OPEN))) {
        return true;
    }
    if (sid == 0) {
        link_fault("sent %s for session 0", proto_name(code));
        return false;
    }
    *session = session_find(sid);
    if ((states & S_FREE) && *session != NULL) {
        link_fault("sent %s for session %u, which is taken", proto_name(code), sid);
        return false;
    }
    if ((states & S_OPEN) && (*session == NULL || (*session)->closing)) {
        link_fault("sent %s for session %u, which is not open", proto_name(code), sid);
        return false;
    }
    return true;
}

void dispatch(enum proto_code code, const union proto_any *msg, int *fd)
{
    struct session *session;

    if ((size_t)code >= sizeof(handlers) / sizeof(handlers[0]) || handlers[code] == NULL) {
        die_bug("message %s has no handler", proto_name(code));
    }
    if (state_allows(code, proto_sid(code, msg), &session)) {
        handlers[code](session, msg, fd);
    }
}
