/*
 * The methods a client may call. What comes in was written by a stranger;
 * what goes to the supervisor fits its message table.
 */
#include "frontend/call.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/proto.h"
#include "frontend/backlog.h"
#include "frontend/conn.h"
#include "frontend/message.h"
#include "frontend/upstream.h"

#define METHOD_NOT_FOUND (-32601)
#define INVALID_PARAMS (-32602)
#define INTERNAL (-32603)
#define NO_PROCESS (-32002)
#define RATE_LIMITED (-32012)
#define STDIN_CLOSED (-32014)
#define WRONG_STATE (-32015)
#define TOO_LARGE (-32017)
#define SHUTTING_DOWN (-32018)

/* The maxima of EXECUTE's fields in the message table. */
#define ARGV_MAX 131072
#define ENV_MAX 65536
#define CWD_MAX 4095

/* A timeout of more than this many seconds is as good as any other. */
#define TIMEOUT_MAX_S 1e9

struct params {
    struct conn *conn;
    const struct reader *reader;
    const struct value *map;
    struct span id;
    bool failed;
    char text[128]; /* what is wrong */
};

static void refuse(struct params *p, int code, const char *kind, const char *text)
{
    struct fault fault = {.code = code, .kind = kind, .text = text};

    if (code == RATE_LIMITED) {
        fault.retry_after_ms = 1000;
    }
    if (!p->failed) {
        conn_send_fault(p->conn, p->id, &fault);
    }
    p->failed = true;
}

static void refuse_param(struct params *p, const char *text)
{
    refuse(p, INVALID_PARAMS, "invalid_params", text);
}

/* The member of that name, of the last one if a client gave several; null counts as absent. */
static bool param(struct params *p, const char *name, struct value *value)
{
    struct walk walk = {.in = p->map};
    struct value key, one;
    bool found = false;

    while (p->map->kind == VALUE_MAP && p->reader->next(&walk, &key, &one)) {
        if (key.kind == VALUE_STR && key.bytes.len == strlen(name) &&
            memcmp(key.bytes.data, name, key.bytes.len) == 0) {
            *value = one;
            found = one.kind != VALUE_NULL;
        }
    }
    return found;
}

/* ---- execute ---- */

/* Strings, each ended by a NUL, in a buffer as large as the message table allows. */
struct list {
    char *data;
    size_t len, cap;
};

static bool list_add(struct list *list, struct span s, bool ends)
{
    if (s.len + 1 > list->cap - list->len) {
        return false;
    }
    if (s.len > 0) {
        memcpy(list->data + list->len, s.data, s.len);
    }
    list->len += s.len;
    if (ends) {
        list->data[list->len++] = '\0';
    }
    return true;
}

static bool is_text(const struct value *v)
{
    return v->kind == VALUE_STR || v->kind == VALUE_BIN;
}

static bool has_nul(const struct value *v)
{
    return v->bytes.len > 0 && memchr(v->bytes.data, '\0', v->bytes.len) != NULL;
}

static void add_argument(struct params *p, struct list *argv, const struct value *v)
{
    if (!is_text(v)) {
        refuse_param(p, "An argument is not a string");
    } else if (has_nul(v)) {
        refuse_param(p, "The command holds a NUL");
    } else if (!list_add(argv, v->bytes, true)) {
        refuse(p, TOO_LARGE, "too_large", "The command is too long");
    }
}

static void read_command(struct params *p, struct msg_EXECUTE *msg, struct list *argv)
{
    struct value command, words, word;
    struct walk walk = {.in = &words};
    bool has_command = param(p, "command", &command);
    bool has_argv = param(p, "argv", &words);

    if (has_command == has_argv) {
        refuse_param(p, has_argv ? "Both command and argv are given" : "command is missing");
        return;
    }
    if (has_command) {
        msg->shell = true;
        if (!is_text(&command)) {
            refuse_param(p, "command is not a string");
        } else if (command.bytes.len == 0) {
            refuse_param(p, "command is empty");
        } else {
            add_argument(p, argv, &command);
        }
        return;
    }
    if (words.kind != VALUE_LIST || words.count == 0) {
        refuse_param(p, "argv is not an array with at least one string");
        return;
    }
    while (!p->failed && p->reader->next(&walk, &word, &word)) {
        add_argument(p, argv, &word);
    }
    if (!p->failed && argv->data[0] == '\0') {
        refuse_param(p, "The program's name is empty");
    }
}

static void add_variable(struct params *p, struct list *env, const struct value *key,
                         const struct value *v)
{
    bool good_name = is_text(key) && key->bytes.len > 0 && !has_nul(key) &&
                     memchr(key->bytes.data, '=', key->bytes.len) == NULL;

    if (!good_name) {
        refuse_param(p, "A name in env is empty, or holds '=' or a NUL");
    } else if (!is_text(v) || has_nul(v)) {
        refuse_param(p, "A value in env is not a string, or holds a NUL");
    } else if (!list_add(env, key->bytes, false) || !list_add(env, (struct span){"=", 1}, false) ||
               !list_add(env, v->bytes, true)) {
        refuse(p, TOO_LARGE, "too_large", "env is too large");
    }
}

static void read_env(struct params *p, struct list *env)
{
    struct value map, key, value;
    struct walk walk = {.in = &map};

    if (p->failed || !param(p, "env", &map)) {
        return;
    }
    if (map.kind != VALUE_MAP) {
        refuse_param(p, "env is not an object");
        return;
    }
    while (!p->failed && p->reader->next(&walk, &key, &value)) {
        add_variable(p, env, &key, &value);
    }
}

static void read_cwd(struct params *p, struct msg_EXECUTE *msg)
{
    struct value cwd;

    if (p->failed || !param(p, "cwd", &cwd)) {
        return;
    }
    if (!is_text(&cwd) || has_nul(&cwd) || cwd.bytes.len == 0 || cwd.bytes.len > CWD_MAX) {
        refuse_param(p, "cwd is not a string, is empty or too long, or holds a NUL");
        return;
    }
    msg->cwd = cwd.bytes;
}

static void read_timeout(struct params *p, struct msg_EXECUTE *msg)
{
    struct value v;
    double seconds, milliseconds;

    if (p->failed || !param(p, "timeout", &v)) {
        return;
    }
    seconds = v.kind == VALUE_INT ? (double)v.integer : v.real;
    if ((v.kind != VALUE_INT && v.kind != VALUE_REAL) || !(seconds > 0)) {
        refuse_param(p, "timeout is not a number above 0");
        return;
    }
    /* Rounded up, so that it is never 0, which would mean the policy's. */
    milliseconds = (seconds < TIMEOUT_MAX_S ? seconds : TIMEOUT_MAX_S) * 1000;
    msg->timeout_ms = (uint64_t)milliseconds;
    if ((double)msg->timeout_ms < milliseconds) {
        msg->timeout_ms++;
    }
}

static void read_stdin(struct params *p, struct msg_EXECUTE *msg)
{
    struct value v;

    if (p->failed || !param(p, "stdin", &v)) {
        return;
    }
    if (v.kind == VALUE_STR && v.bytes.len == 4 && memcmp(v.bytes.data, "pipe", 4) == 0) {
        msg->want_stdin = true;
    } else if (v.kind != VALUE_STR || v.bytes.len != 4 || memcmp(v.bytes.data, "null", 4) != 0) {
        refuse_param(p, "stdin is neither \"null\" nor \"pipe\"");
    }
}

static bool starting(const struct conn *c)
{
    for (size_t i = 0; i < CONN_REQUESTS_MAX; i++) {
        if (c->requests[i].req != 0 && c->requests[i].execute) {
            return true;
        }
    }
    return false;
}

/* Asks for what was read; the buffer for its output is made first. */
static void start_command(struct params *p, struct msg_EXECUTE *msg)
{
    struct conn *c = p->conn;

    conn_forget_command(c);
    c->backlog = backlog_new(CONN_WINDOW);
    if (c->backlog != NULL) {
        msg->req = conn_remember(c, p->id, true);
    }
    if (msg->req == 0 || ask_execute(msg) < 0) {
        struct conn_request request;

        if (conn_recall(c, msg->req, &request)) {
            free((char *)(uintptr_t)request.id.data);
        }
        conn_forget_command(c);
        refuse(p, RATE_LIMITED, "rate_limited", "The server is too busy");
        return;
    }
    c->stdin_open = msg->want_stdin;
}

static void call_execute(struct params *p)
{
    static char argv_space[ARGV_MAX], env_space[ENV_MAX];
    struct list argv = {argv_space, 0, sizeof(argv_space)};
    struct list env = {env_space, 0, sizeof(env_space)};
    struct conn *c = p->conn;
    struct msg_EXECUTE msg = {.sid = c->sid, .lines = c->dialect->lines, .window = CONN_WINDOW};

    if (conn_shutting_down()) {
        refuse(p, SHUTTING_DOWN, "shutting_down", "The server is shutting down");
        return;
    }
    if (c->exec != 0 || starting(c)) {
        refuse(p, INVALID_PARAMS, "already_running", "A process is already running");
        return;
    }
    read_command(p, &msg, &argv);
    read_env(p, &env);
    read_cwd(p, &msg);
    read_timeout(p, &msg);
    read_stdin(p, &msg);
    if (!p->failed) {
        msg.argv = (struct span){argv.data, argv.len};
        msg.env = (struct span){env.data, env.len};
        start_command(p, &msg);
    }
}

/* ---- control ---- */

/* "SIGTERM", "TERM" or a number; 0 when it is none. */
static uint32_t signal_number(const struct value *v)
{
    char name[32];
    const char *bare = name;

    if (v->kind == VALUE_INT) {
        return v->integer >= 1 && v->integer <= 64 ? (uint32_t)v->integer : 0;
    }
    if (v->kind != VALUE_STR || v->bytes.len >= sizeof(name)) {
        return 0;
    }
    memcpy(name, v->bytes.data, v->bytes.len);
    name[v->bytes.len] = '\0';
    if (strncasecmp(bare, "SIG", 3) == 0) {
        bare += 3;
    }
    for (int number = 1; number <= 64; number++) {
        const char *known = sigabbrev_np(number);

        if (known != NULL && strcasecmp(known, bare) == 0) {
            return (uint32_t)number;
        }
    }
    return 0;
}

static void read_action(struct params *p, struct msg_CONTROL *msg)
{
    static const struct {
        const char *name;
        enum proto_action action;
        uint32_t signal;
    } types[] = {
        {"PAUSE", ACTION_PAUSE, 0},   {"RESUME", ACTION_RESUME, 0},
        {"CANCEL", ACTION_CANCEL, 0}, {"KILL", ACTION_SIGNAL, SIGKILL},
        {"SIGNAL", ACTION_SIGNAL, 0},
    };
    struct value type;

    if (!param(p, "type", &type) || type.kind != VALUE_STR) {
        refuse_param(p, "type is missing, or not a string");
        return;
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strlen(types[i].name) == type.bytes.len &&
            memcmp(types[i].name, type.bytes.data, type.bytes.len) == 0) {
            msg->action = types[i].action;
            msg->signal = types[i].signal;
            return;
        }
    }
    snprintf(p->text, sizeof(p->text), "Unknown control type: %.*s",
             (int)(type.bytes.len < 64 ? type.bytes.len : 64), type.bytes.data);
    refuse_param(p, p->text);
}

/* exec_id, or 0 where none is given. */
static uint32_t read_exec(struct params *p)
{
    struct value v;

    if (p->failed || !param(p, "exec_id", &v)) {
        return 0;
    }
    if (v.kind != VALUE_INT || v.integer < 1 || v.integer > UINT32_MAX) {
        refuse_param(p, "exec_id is not a number of a command");
        return 0;
    }
    return (uint32_t)v.integer;
}

static void call_control(struct params *p)
{
    struct msg_CONTROL msg = {.sid = p->conn->sid};
    struct value number;

    read_action(p, &msg);
    msg.exec = read_exec(p);
    if (!p->failed && msg.action == ACTION_SIGNAL && msg.signal == 0) {
        msg.signal = param(p, "signal", &number) ? signal_number(&number) : 0;
        if (msg.signal == 0) {
            refuse_param(p, "signal is missing, or no signal");
        }
    }
    if (p->failed) {
        return;
    }
    msg.req = conn_remember(p->conn, p->id, false);
    if (msg.req == 0 || ask_control(&msg) < 0) {
        struct conn_request request;

        if (conn_recall(p->conn, msg.req, &request)) {
            free((char *)(uintptr_t)request.id.data);
        }
        refuse(p, RATE_LIMITED, "rate_limited", "The server is too busy");
    }
}

/* ---- stdin ---- */

/* Sends data on in pieces that fit the message table. */
static void send_stdin(struct params *p, uint32_t exec, struct span data, bool eof)
{
    struct conn *c = p->conn;

    do {
        size_t len = data.len < PROTO_DATA_MAX ? data.len : PROTO_DATA_MAX;
        struct msg_STDIN msg = {
            .sid = c->sid, .exec = exec, .eof = eof && len == data.len, .data = {data.data, len}};

        if (ask_stdin(&msg) < 0) {
            conn_close(c, 1011, "Supervisor does not keep up");
            return;
        }
        c->stdin_credit -= len;
        data.data += len;
        data.len -= len;
    } while (data.len > 0);
    c->stdin_open = !eof;
}

static bool stdin_allowed(struct params *p, uint32_t exec, size_t len)
{
    const struct conn *c = p->conn;

    if (p->failed) {
        return false;
    }
    if (c->exec == 0 || c->has_completed || (exec != 0 && exec != c->exec)) {
        refuse(p, NO_PROCESS, "no_process", "No process is running");
    } else if (!c->stdin_open || c->stdin_closed) {
        refuse(p, STDIN_CLOSED, "stdin_closed", "The command's stdin is closed");
    } else if (len > c->stdin_credit) {
        refuse(p, WRONG_STATE, "no_credit", "More stdin than was granted");
        if (c->dialect->answers_need_id && p->id.len == 0) {
            conn_close(p->conn, 1008, "More stdin than was granted");
        }
    }
    return !p->failed;
}

static void call_stdin(struct params *p)
{
    struct conn *c = p->conn;
    uint32_t exec = read_exec(p);
    struct value data = {.kind = VALUE_STR}, eof = {.kind = VALUE_BOOL};
    struct text t;

    if (!p->failed && param(p, "data", &data) && !is_text(&data)) {
        refuse_param(p, "data is not a string");
    }
    if (!p->failed && param(p, "eof", &eof) && eof.kind != VALUE_BOOL) {
        refuse_param(p, "eof is neither true nor false");
    }
    if (data.kind == VALUE_NULL) {
        data.bytes = (struct span){0};
    }
    if (!stdin_allowed(p, exec, data.bytes.len)) {
        return;
    }
    send_stdin(p, c->exec, data.bytes, eof.boolean);
    if (p->id.len > 0) {
        text_init(&t, 4096);
        message_stdin_taken(c->dialect, &t, p->id, data.bytes.len);
        conn_send(c, &t);
    }
}

/* ---- the rest ---- */

static void call_hook_status(struct params *p)
{
    struct text t;

    if (p->id.len == 0 && p->conn->dialect->answers_need_id) {
        return;
    }
    text_init(&t, 4096);
    message_hook_status(p->conn->dialect, &t, p->id);
    conn_send(p->conn, &t);
}

/* The answer to our ping; nothing hangs on it. */
static void call_pong(struct params *p)
{
    (void)p;
}

static const struct {
    const char *name;
    void (*handle)(struct params *p);
} methods[] = {
    {"execute", call_execute}, {"control", call_control},         {"stdin", call_stdin},
    {"pong", call_pong},       {"hook_status", call_hook_status},
};

void call_handle(struct conn *c, const struct envelope *envelope)
{
    struct params p = {
        .conn = c, .reader = c->dialect->reader, .map = &envelope->params, .id = envelope->id};

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strlen(methods[i].name) == envelope->method.len &&
            memcmp(methods[i].name, envelope->method.data, envelope->method.len) == 0) {
            bool map = p.map->kind == VALUE_MAP || p.map->kind == VALUE_NULL;

            if (!map && methods[i].handle != call_pong) {
                refuse_param(&p, "params is not an object");
            } else {
                methods[i].handle(&p);
            }
            return;
        }
    }
    refuse(&p, METHOD_NOT_FOUND, "method_not_found", "Unknown method");
}
