/*
 * The frontend's life: started, restarted, replaced when it breaks the rules.
 * In: datagrams from the process that faces the network; each is decoded by
 * the table and handled by supervisor/dispatch.c. Out: what the table allows.
 *
 * A fault is only noted where it is found, deep in some handler perhaps; the
 * frontend is torn down from the loop, where nothing else is under way.
 */
#include "supervisor/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/log.h"
#include "supervisor/dispatch.h"
#include "supervisor/identity.h"
#include "supervisor/listen.h"
#include "supervisor/loop.h"
#include "supervisor/output.h"
#include "supervisor/sweep.h"

/* Where the frontend finds its channel; the listeners follow. */
#define FD_CHANNEL 3

/* Messages handled in one go before others get their turn. */
#define BATCH 32

/* While more than this waits for the frontend, it is not listened to. */
#define ANSWERS_HIGH 65536

#define READY_US (15 * 1000000)
#define BACKOFF_FIRST_US 10000
#define BACKOFF_LAST_US (5 * 1000000)

enum link_state { LINK_DOWN, LINK_STARTING, LINK_READY, LINK_FAILED };

static struct {
    struct link_config config;
    enum link_state state;
    struct channel channel;
    struct watch watch;
    pid_t pid;
    bool blocked;     /* an OUTPUT found the channel full */
    bool finishing;   /* start no other */
    bool served_once; /* a frontend was ready before */
    uint64_t started_us;
    uint64_t backoff_us;
    struct timer timer; /* READY is due, a failed one is to be torn down, or the next is started */
} link_;

pid_t link_frontend_pid(void)
{
    return link_.pid;
}

bool link_is_blocked(void)
{
    return link_.blocked || channel_pending(&link_.channel);
}

/* ---- events of the descriptor ---- */

static void watch_update(void)
{
    uint32_t events = link_.channel.queued > ANSWERS_HIGH ? 0 : EPOLLIN;

    if (link_is_blocked()) {
        events |= EPOLLOUT;
    }
    if (loop_rewatch(link_.config.loop, &link_.watch, events) < 0) {
        link_fault("epoll does not take its channel");
    }
}

void link_want_writable(void)
{
    link_.blocked = true;
    watch_update();
}

void link_fault(const char *format, ...)
{
    char text[256];
    va_list args;

    if (link_.state == LINK_DOWN || link_.state == LINK_FAILED) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_warn("frontend %d: %s; it is replaced", (int)link_.pid, text);
    link_.state = LINK_FAILED;
    if (loop_timer_set(link_.config.loop, &link_.timer, 0) < 0) {
        die_system("no memory to replace the frontend");
    }
}

/* ---- telling ---- */

static void trace(bool to_frontend, enum proto_code code, const union proto_any *msg, size_t len)
{
    if (log_traces(TRACE_MSG)) {
        log_trace(TRACE_MSG, "supervisor %s frontend %s sid=%u len=%zu", to_frontend ? "->" : "<-",
                  proto_name(code), proto_sid(code, msg), len);
    }
}

/* For the trace: how long a message is. Encoding twice is what tracing costs. */
static size_t encoded_size(enum proto_code code, const void *msg)
{
    char buf[16384 + 256];
    size_t used = 0;

    (void)proto_encode(code, msg, buf, sizeof(buf), &used);
    return used;
}

void link_tell(enum proto_code code, const void *msg)
{
    int result;

    if (link_.state != LINK_READY && link_.state != LINK_STARTING) {
        return; /* whoever it was for is gone with its frontend */
    }
    if (log_traces(TRACE_MSG)) {
        trace(true, code, msg, encoded_size(code, msg));
    }
    result = channel_send(&link_.channel, code, msg, -1);
    if (result == -EINVAL) {
        die_bug("%s does not fit its own table", proto_name(code));
    }
    if (result == -EOVERFLOW) {
        link_fault("does not read its messages");
    } else if (result < 0) {
        link_fault("cannot be told anything: %s", strerror(-result));
    }
    watch_update();
}

int link_try_output(const struct msg_OUTPUT *msg, const struct iovec *pieces, size_t count)
{
    int result;

    if (link_.state != LINK_READY) {
        return -EPIPE;
    }
    if (link_is_blocked()) {
        return -EAGAIN;
    }
    result = channel_try_send(&link_.channel, MSG_OUTPUT, msg, pieces, count);
    if (result == -EINVAL) {
        die_bug("an OUTPUT does not fit its own table");
    }
    if (result == 0 && log_traces(TRACE_MSG)) {
        trace(true, MSG_OUTPUT, (const union proto_any *)(const void *)msg,
              encoded_size(MSG_OUTPUT, msg) + msg->data.len);
    }
    if (result < 0 && result != -EAGAIN) {
        link_fault("cannot be sent output: %s", strerror(-result));
    }
    return result;
}

void link_refuse(uint32_t sid, uint32_t req, int32_t code, const char *kind, const char *format,
                 ...)
{
    struct msg_REFUSED msg = {.sid = sid, .req = req, .code = code, .kind = span_of(kind)};
    char text[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    msg.text = span_of(text);
    link_tell(MSG_REFUSED, &msg);
}

/* ---- hearing ---- */

static void become_ready(const struct msg_READY *msg)
{
    if (msg->version != PROTO_VERSION) {
        link_fault("speaks version %u of the messages, we speak %d", msg->version, PROTO_VERSION);
        return;
    }
    link_.state = LINK_READY;
    link_.served_once = true;
    loop_timer_cancel(link_.config.loop, &link_.timer);
    log_debug("frontend %d is locked in", (int)link_.pid);
    link_.config.ready();
}

static void relay_log(const struct msg_LOG *msg)
{
    log_relay("bulkhead-frontend", (enum log_level)msg->level, msg->sid, msg->text.data,
              (unsigned)msg->text.len);
}

/* One datagram. fd is closed by the caller unless a handler took it (and left -1). */
static void handle_datagram(const char *data, size_t len, int *fd)
{
    union proto_any msg;
    enum proto_code code;
    int result = proto_decode(ASK, data, len, &code, &msg);

    if (result < 0) {
        link_fault("sent a bad message (%s, %zu bytes): %s", code != 0 ? proto_name(code) : "?",
                   len, proto_strerror(result));
        return;
    }
    trace(false, code, &msg, len);
    if (*fd >= 0 && !(proto_flags(code) & MAY_FD)) {
        link_fault("sent a descriptor with %s", proto_name(code));
        return;
    }
    if (!(proto_states(code) & P_NEW) && link_.state != LINK_READY) {
        link_fault("sent %s before READY", proto_name(code));
        return;
    }
    if (code == MSG_LOG) {
        relay_log(&msg.LOG);
    } else if (code != MSG_READY) {
        dispatch(code, &msg, fd);
    } else if (link_.state == LINK_STARTING) {
        become_ready(&msg.READY);
    } else {
        link_fault("sent READY twice");
    }
}

static void receive_some(void)
{
    static char buf[PROTO_MAX];

    for (int i = 0; i < BATCH; i++) {
        long got;
        int fd;

        if ((link_.state != LINK_READY && link_.state != LINK_STARTING) ||
            link_.channel.queued > ANSWERS_HIGH) {
            return;
        }
        got = channel_receive(&link_.channel, buf, sizeof(buf), &fd);
        if (got == -EAGAIN) {
            return;
        }
        if (got == 0) {
            link_fault("closed its channel");
            return;
        }
        if (got < 0) {
            link_fault("its channel fails: %s", strerror((int)-got));
            return;
        }
        handle_datagram(buf, (size_t)got, &fd);
        if (fd >= 0) {
            close(fd);
        }
    }
}

static void on_channel(struct watch *watch, uint32_t events)
{
    (void)watch;
    if (events & EPOLLOUT) {
        int result = channel_flush(&link_.channel);

        if (result < 0) {
            link_fault("cannot be told anything: %s", strerror(-result));
        } else if (!channel_pending(&link_.channel)) {
            link_.blocked = false;
            output_channel_ready();
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        receive_some();
    }
    if (link_.channel.fd >= 0) {
        watch_update();
    }
}

/* ---- starting ---- */

/* Above the places of the channel and the listeners. */
static int first_free_fd(void)
{
    return FD_CHANNEL + (int)link_.config.listener_count + 1;
}

/* Puts the channel and the listeners where the frontend expects them. Async-signal-safe. */
static int place_descriptors(int channel)
{
    size_t count = link_.config.listener_count;
    int scratch[1 + LISTEN_MAX];

    for (size_t i = 0; i <= count; i++) {
        int from = i == 0 ? channel : link_.config.listeners[i - 1];

        scratch[i] = fcntl(from, F_DUPFD_CLOEXEC, first_free_fd());
        if (scratch[i] < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i <= count; i++) {
        if (dup2(scratch[i], FD_CHANNEL + (int)i) < 0) {
            return -1;
        }
    }
    return (int)syscall(SYS_close_range, first_free_fd(), ~0U, CLOSE_RANGE_CLOEXEC);
}

/* A sanitizer's settings are the only thing that passes from our environment. */
static char **frontend_environment(void)
{
    static char *kept[4];
#if defined(__SANITIZE_ADDRESS__)
    static const char *const names[] = {"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
    size_t count = 0;

    for (char **at = environ; *at != NULL; at++) {
        for (size_t i = 0; i < 3; i++) {
            if (strncmp(*at, names[i], strlen(names[i])) == 0 && count < 3) {
                kept[count++] = *at;
            }
        }
    }
#endif
    return kept;
}

__attribute__((noreturn)) static void frontend_child(int channel, pid_t parent)
{
    static char name[] = "bulkhead-frontend";
    char *const argv[] = {name, NULL};
    char **envp = frontend_environment();
    const char *step = "descriptors";
    /* Ours is close-on-exec and must be found again, wherever place_descriptors moves things. */
    int program = fcntl(link_.config.program_fd, F_DUPFD_CLOEXEC, first_free_fd());
    sigset_t none;

    sigemptyset(&none);
    if (program < 0 || place_descriptors(channel) < 0) {
        goto failed;
    }
    if (identity_become_frontend(link_.config.identity, &step) < 0) {
        goto failed;
    }
    step = "death signal";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) {
        goto failed;
    }
    if (getppid() != parent) {
        _exit(EXIT_SYSTEM); /* it ended before we could ask to be told */
    }
    step = "exec";
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
    if (errno == ENOENT) {
        /* A script: its interpreter needs a name to open. */
        (void)execve(link_.config.program_path, argv, envp);
    }
failed:
    log_error("frontend %s: %s: %s", link_.config.program_path, step, strerror(errno));
    _exit(EXIT_SYSTEM);
}

static int start_one(void)
{
    pid_t parent = getpid();
    int pair[2];
    int result;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    result = channel_init(&link_.channel, pair[0], link_.config.queue_max);
    if (result < 0) {
        close(pair[0]);
        close(pair[1]);
        return result;
    }
    link_.pid = fork();
    if (link_.pid < 0) {
        result = -errno;
        link_.pid = 0;
        close(pair[1]);
        channel_finish(&link_.channel);
        return result;
    }
    if (link_.pid == 0) {
        frontend_child(pair[1], parent);
    }
    close(pair[1]);
    link_.watch = (struct watch){.fd = pair[0], .events = EPOLLIN};
    link_.watch.fn = on_channel;
    link_.state = LINK_STARTING;
    link_.blocked = false;
    link_.started_us = loop_now_us();
    result = loop_watch(link_.config.loop, &link_.watch);
    if (result == 0) {
        result = loop_timer_set(link_.config.loop, &link_.timer, READY_US);
    }
    if (result < 0) {
        return result;
    }
    link_tell(MSG_HELLO, &link_.config.hello);
    return 0;
}

/* ---- ending and starting again ---- */

static void kill_frontend(void)
{
    const struct identity *identity = link_.config.identity;

    if (link_.pid <= 0) {
        return;
    }
    /* Another uid's process; becoming that uid is how we may signal it. */
    if (identity->system && sweep_uid(identity->frontend_uid, identity->frontend_uid) < 0) {
        log_error("frontend %d: cannot be killed", (int)link_.pid);
    } else if (!identity->system) {
        (void)kill(link_.pid, SIGKILL);
    }
}

static void tear_down(void)
{
    if (link_.state == LINK_DOWN) {
        return;
    }
    link_.state = LINK_DOWN;
    loop_unwatch(link_.config.loop, &link_.watch);
    channel_finish(&link_.channel);
    loop_timer_cancel(link_.config.loop, &link_.timer);
    kill_frontend();
    link_.config.gone();
}

static void schedule_next(void)
{
    bool lived = loop_now_us() - link_.started_us > BACKOFF_LAST_US;

    if (lived || link_.backoff_us == 0) {
        link_.backoff_us = BACKOFF_FIRST_US;
    } else if (link_.backoff_us < BACKOFF_LAST_US) {
        link_.backoff_us *= 2;
    }
    if (loop_timer_set(link_.config.loop, &link_.timer, link_.backoff_us) < 0) {
        die_system("no memory to start the frontend again");
    }
}

static void on_timer(struct timer *timer)
{
    int result;

    (void)timer;
    switch (link_.state) {
    case LINK_STARTING:
        link_fault("is not ready after %d s", READY_US / 1000000);
        break;
    case LINK_FAILED:
        tear_down(); /* the next one is started when this one is reaped */
        if (link_.pid == 0 && !link_.finishing) {
            schedule_next();
        }
        break;
    case LINK_DOWN:
        result = start_one();
        if (result < 0) {
            log_error("frontend cannot be started: %s", strerror(-result));
            tear_down();
            schedule_next();
        }
        break;
    case LINK_READY:
        break;
    }
}

bool link_reaped(pid_t pid, int status)
{
    if (pid != link_.pid || pid == 0) {
        return false;
    }
    link_.pid = 0;
    if (!link_.finishing) {
        log_warn("frontend %d ended (%s %d)", (int)pid, WIFEXITED(status) ? "exit" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
    tear_down();
    if (link_.finishing) {
        return true;
    }
    if (!link_.served_once) {
        die_system("the frontend %s does not start; its own message is above",
                   link_.config.program_path);
    }
    schedule_next();
    return true;
}

int link_start(const struct link_config *config)
{
    link_.config = *config;
    link_.channel.fd = -1;
    link_.timer.fn = on_timer;
    return start_one();
}

void link_finish(void)
{
    link_.finishing = true;
    tear_down();
    loop_timer_cancel(link_.config.loop, &link_.timer);
    while (link_.pid > 0 && waitpid(link_.pid, NULL, 0) < 0 && errno == EINTR) {
    }
    link_.pid = 0;
}
