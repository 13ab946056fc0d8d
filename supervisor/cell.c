/*
 * Makes, keeps and destroys cells. Runs in the supervisor. In: reports of the
 * inits, which are checked for length, op and command. Nothing a command does
 * is seen here other than through them.
 */
#include "supervisor/cell.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "supervisor/identity.h"
#include "supervisor/init.h"
#include "supervisor/spawn.h"
#include "supervisor/sweep.h"
#include "supervisor/title.h"

/* After an init that could not confine itself, none is made ahead for so long. */
#define BROKEN_US 1000000

/* How long an init may take to kill all it started before the host stops. */
#define FINISH_MS 5000

struct cell {
    struct cell *next;
    pid_t init_pid;
    uid_t uid;
    size_t uid_slot;
    bool ready;         /* the init said so */
    bool taken;         /* by a session, and not released */
    struct watch watch; /* our end of the channel; fd -1 once it ended */
    uint32_t id;        /* of the command that runs, 0: none */
    const struct cell_user *functions;
    void *user;
};

static struct {
    struct cells_config config;
    struct cell *all;
    size_t count;
    uint8_t *uid_used; /* a byte for each of the uids we may have at a time */
    size_t uid_slots;
    size_t uid_next;
    uint64_t no_refill_before_us;
} cells;

int cells_init(const struct cells_config *config)
{
    cells.config = *config;
    cells.uid_slots = config->cells_max;
    if (config->identity->system && cells.uid_slots > config->identity->session_uids) {
        cells.uid_slots = config->identity->session_uids;
    }
    cells.uid_used = calloc(cells.uid_slots, 1);
    return cells.uid_used != NULL ? 0 : -ENOMEM;
}

size_t cells_count(void)
{
    return cells.count;
}

/* ---- uids: each is one cell's until that cell's end is proven ---- */

/* Round robin, so that a uid rests for as long as it can. */
static int uid_take(size_t *slot)
{
    for (size_t i = 0; i < cells.uid_slots; i++) {
        size_t candidate = (cells.uid_next + i) % cells.uid_slots;

        if (!cells.uid_used[candidate]) {
            cells.uid_used[candidate] = 1;
            cells.uid_next = candidate + 1;
            *slot = candidate;
            return 0;
        }
    }
    return -EAGAIN;
}

static uid_t uid_of(size_t slot)
{
    const struct identity *identity = cells.config.identity;

    return identity->system ? identity->first_session_uid + (uid_t)slot : identity->uid;
}

/* ---- the end of a cell ---- */

static void channel_close(struct cell *cell)
{
    if (cell->watch.fd >= 0) {
        loop_unwatch(cells.config.loop, &cell->watch);
        close(cell->watch.fd);
        cell->watch.fd = -1;
    }
}

static void cell_free(struct cell *cell)
{
    struct cell **link = &cells.all;

    while (*link != cell) {
        link = &(*link)->next;
    }
    *link = cell->next;
    cells.count--;
    channel_close(cell);
    cells.uid_used[cell->uid_slot] = 0;
    free(cell);
}

bool cells_is_init(pid_t pid)
{
    for (const struct cell *cell = cells.all; cell != NULL; cell = cell->next) {
        if (cell->init_pid == pid) {
            return true;
        }
    }
    return false;
}

/* The next report, if one came, would be of a command that is no more. */
static void forget_command(struct cell *cell)
{
    cell->functions = NULL;
    cell->user = NULL;
    cell->id = 0;
}

/* Tells the user, once, that nothing more will come of this cell. */
static void lose(struct cell *cell)
{
    const struct cell_user *functions = cell->functions;
    void *user = cell->user;

    channel_close(cell);
    forget_command(cell);
    if (functions != NULL) {
        functions->lost(user);
    }
}

/* Gives an init up. It is lost once it is reaped and what it left was swept: cells_reaped. */
static void break_off(struct cell *cell)
{
    if (cell->init_pid > 0) {
        (void)kill(cell->init_pid, SIGKILL); /* our child, not reaped: it names no other */
    }
    channel_close(cell);
}

bool cells_reaped(pid_t pid, int status)
{
    struct cell *cell = cells.all;

    while (cell != NULL && cell->init_pid != pid) {
        cell = cell->next;
    }
    if (cell == NULL) {
        return false;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        cells.no_refill_before_us = loop_now_us() + BROKEN_US;
        log_warn("cell of uid %u: its init ended unasked (status %#x); what it left is killed",
                 cell->uid, (unsigned)status);
        if (cells.config.identity->system && sweep_uid(cell->uid, cell->uid) < 0) {
            log_error("cell of uid %u: sweeping failed; the uid is not used again", cell->uid);
            lose(cell);
            cell->init_pid = 0;
            cell->taken = true;
            return true;
        }
    }
    /* Releases the user's hold perhaps; with the pid still set, that frees nothing. */
    lose(cell);
    cell->init_pid = 0;
    if (!cell->taken) {
        cell_free(cell);
    }
    return true;
}

void cell_release(struct cell *cell)
{
    cell->taken = false;
    forget_command(cell);
    channel_close(cell); /* the init sees the end, sweeps, and leaves with 0 */
    if (cell->init_pid == 0) {
        cell_free(cell);
    }
}

/* ---- reports ---- */

static void on_report(struct cell *cell, const struct cell_report *report)
{
    const struct cell_user *functions = cell->functions;
    void *user = cell->user;

    switch (report->op) {
    case CELL_READY:
        cell->ready = true;
        return;
    case CELL_BROKEN:
        log_error("cell of uid %u: %s: %s", cell->uid, spawn_stage_name(report->stage),
                  strerror(report->error));
        return;
    default:
        break;
    }
    if (functions == NULL || report->id != cell->id) {
        return; /* of a command that nobody waits for */
    }
    switch (report->op) {
    case CELL_STARTED:
        functions->started(user, report->pid);
        break;
    case CELL_FAILED:
        forget_command(cell);
        functions->failed(user, report->stage, report->error);
        break;
    case CELL_EXITED:
        functions->exited(user, report);
        break;
    case CELL_SIGNALED:
        functions->signaled(user, report->cookie, report->error);
        break;
    case CELL_SWEPT:
        forget_command(cell);
        functions->swept(user, report);
        break;
    default:
        log_warn("cell of uid %u: report %u is unknown", cell->uid, report->op);
        break;
    }
}

static void on_channel(struct watch *watch, uint32_t events)
{
    struct cell *cell = OWNER_OF(watch, struct cell, watch);
    struct cell_report report;
    ssize_t got = recv(watch->fd, &report, sizeof(report), MSG_DONTWAIT | MSG_TRUNC);

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got != (ssize_t)sizeof(report)) {
        break_off(cell); /* its end, or nothing an init would say */
        return;
    }
    on_report(cell, &report);
}

/* ---- making ---- */

static void init_child(int channel, uid_t uid)
{
    struct init_plan plan = {
        .channel = channel,
        .uid_lock = cells.config.identity->lock_fd,
        .set_ids = cells.config.identity->system,
        .uid = uid,
        .gid = uid,
        .limits = cells.config.limits,
        .limit_count = cells.config.limit_count,
        .filter = cells.config.filter,
    };

    title_set("bulkhead-init: uid %u", uid);
    init_main(&plan);
}

static int cell_make(struct cell **made)
{
    int pair[2] = {-1, -1};
    struct cell *cell;
    size_t slot;
    int result;

    result = uid_take(&slot);
    if (result < 0) {
        return result;
    }
    result = -ENOMEM;
    cell = calloc(1, sizeof(*cell));
    if (cell == NULL) {
        goto out;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        result = -errno;
        goto out;
    }
    *cell = (struct cell){.uid = uid_of(slot), .uid_slot = slot};
    cell->watch = (struct watch){.fd = pair[0], .events = EPOLLIN, .fn = on_channel};
    result = loop_watch(cells.config.loop, &cell->watch);
    if (result < 0) {
        goto out;
    }
    cell->init_pid = fork();
    if (cell->init_pid < 0) {
        result = -errno;
        loop_unwatch(cells.config.loop, &cell->watch);
        goto out;
    }
    if (cell->init_pid == 0) {
        init_child(pair[1], cell->uid);
    }
    close(pair[1]);
    cell->next = cells.all;
    cells.all = cell;
    cells.count++;
    *made = cell;
    return 0;
out:
    if (pair[0] >= 0) {
        close(pair[0]);
        close(pair[1]);
    }
    free(cell);
    cells.uid_used[slot] = 0;
    return result;
}

static size_t pool_count(void)
{
    size_t count = 0;

    for (const struct cell *cell = cells.all; cell != NULL; cell = cell->next) {
        count += !cell->taken && cell->watch.fd >= 0;
    }
    return count;
}

void cells_refill(void)
{
    struct cell *cell;

    while (pool_count() < cells.config.pool && loop_now_us() >= cells.no_refill_before_us) {
        int result = cell_make(&cell);

        if (result < 0) {
            /* The next session tries again, and is told. */
            log_debug("cell pool: %s", strerror(-result));
            return;
        }
    }
}

int cell_take(struct cell **taken)
{
    struct cell *best = NULL;
    int result;

    for (struct cell *cell = cells.all; cell != NULL; cell = cell->next) {
        /* One that is not ready yet will be: requests wait in its channel. */
        if (!cell->taken && cell->watch.fd >= 0 && (best == NULL || cell->ready)) {
            best = cell;
        }
    }
    if (best == NULL) {
        result = cell_make(&best);
        if (result < 0) {
            return result;
        }
    }
    best->taken = true;
    *taken = best;
    return 0;
}

pid_t cell_init_pid(const struct cell *cell)
{
    return cell->init_pid;
}

uid_t cell_uid(const struct cell *cell)
{
    return cell->uid;
}

/* ---- requests ---- */

static int request_send(struct cell *cell, struct iovec *iov, size_t count, const int *fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control = {0};
    struct msghdr header = {.msg_iov = iov, .msg_iovlen = count};

    if (cell->watch.fd < 0) {
        return -EPIPE;
    }
    if (fds != NULL) {
        struct cmsghdr *c;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(3 * sizeof(int));
        memcpy(CMSG_DATA(c), fds, 3 * sizeof(int));
    }
    /* A command has few requests under way; a full buffer means a stuck init. */
    return sendmsg(cell->watch.fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int cell_start(struct cell *cell, uint32_t id, struct span argv, struct span env, struct span cwd,
               const int fds[3], const struct cell_user *functions, void *user)
{
    struct cell_request request = {
        .op = CELL_START,
        .id = id,
        .argv_len = (uint32_t)argv.len,
        .env_len = (uint32_t)env.len,
        .cwd_len = (uint32_t)cwd.len + 1,
    };
    struct iovec iov[] = {
        {&request, sizeof(request)},
        {(void *)argv.data, argv.len},
        {(void *)env.data, env.len},
        {(void *)cwd.data, cwd.len},
        {(void *)"", 1},
    };
    int result;

    if (argv.len + env.len + cwd.len + 1 > CELL_START_MAX) {
        return -E2BIG;
    }
    result = request_send(cell, iov, sizeof(iov) / sizeof(iov[0]), fds);
    if (result == 0) {
        cell->id = id;
        cell->functions = functions;
        cell->user = user;
    }
    return result;
}

int cell_signal(struct cell *cell, uint32_t id, int signal, uint32_t cookie)
{
    struct cell_request request = {
        .op = CELL_SIGNAL, .id = id, .signal = (uint32_t)signal, .cookie = cookie};
    struct iovec iov = {&request, sizeof(request)};

    return request_send(cell, &iov, 1, NULL);
}

void cell_sweep(struct cell *cell, uint32_t id)
{
    struct cell_request request = {.op = CELL_SWEEP, .id = id};
    struct iovec iov = {&request, sizeof(request)};

    if (request_send(cell, &iov, 1, NULL) < 0) {
        break_off(cell);
    }
}

void cell_break(struct cell *cell)
{
    break_off(cell);
}

bool cell_is_usable(const struct cell *cell)
{
    return cell->watch.fd >= 0;
}

/* ---- the end of all ---- */

static void reap_some(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        (void)cells_reaped(pid, status);
    }
}

/* Waits for a child to end (SIGCHLD is blocked), at most until a moment. */
static void wait_for_child(uint64_t until_us)
{
    uint64_t now = loop_now_us();
    uint64_t left = until_us > now ? until_us - now : 0;
    struct timespec time = {(time_t)(left / 1000000), (long)(left % 1000000) * 1000};
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    (void)sigtimedwait(&child, NULL, &time);
}

void cells_finish(void)
{
    uint64_t until = loop_now_us() + FINISH_MS * 1000;
    struct cell *next;

    for (struct cell *cell = cells.all; cell != NULL; cell = next) {
        next = cell->next;
        cell_release(cell);
    }
    reap_some();
    while (cells.all != NULL && loop_now_us() < until) {
        wait_for_child(until);
        reap_some();
    }
    for (const struct cell *cell = cells.all; cell != NULL; cell = cell->next) {
        log_error("cell of uid %u: still there after %d ms; killed", cell->uid, FINISH_MS);
        (void)kill(cell->init_pid, SIGKILL);
    }
    free(cells.uid_used);
    cells.uid_used = NULL;
}
