/*
 * Makes, keeps and destroys cells. Runs in the supervisor. In: reports of the
 * inits, which are checked for length, op and command. Nothing a command does
 * is seen here other than through them.
 */
#include "supervisor/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "supervisor/gate.h"
#include "supervisor/identity.h"
#include "supervisor/init.h"
#include "supervisor/spawn.h"
#include "supervisor/sweep.h"
#include "supervisor/title.h"

/* After an init that could not confine itself, none is made ahead for so long. */
#define BROKEN_US 1000000

/* How long an init may take to kill all it started before the host stops. */
#define FINISH_MS 5000

/* In a cell with namespaces: a command's uid and gid, as the cell sees them. */
#define INNER_UID 1000

struct cell {
    struct cell *next;
    pid_t init_pid;
    uid_t uid; /* of its commands, as the host sees it */
    size_t uid_slot;
    bool ready;         /* the init said so */
    bool taken;         /* by a session, and not released */
    bool released;      /* its end was asked for */
    struct watch watch; /* our end of the channel; fd -1 once it ended */
    struct watch gate;  /* our end of the gate, the same */
    pid_t leader;       /* what passed the gate last, as the host sees it */
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
    bool proven; /* one was ready: the host gives what a cell needs */
    struct gate_expectation expectation;
} cells;

size_t cells_uids_each(bool namespaces)
{
    return namespaces ? 2 : 1; /* the second one is the init's */
}

static bool bounding_set_is_empty(void)
{
    for (int cap = 0;; cap++) {
        int in = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

        if (in != 0) {
            return in < 0; /* past the last one */
        }
    }
}

int cells_init(const struct cells_config *config)
{
    size_t uids = config->identity->session_uids / cells_uids_each(config->namespaces);

    cells.config = *config;
    cells.uid_slots = config->cells_max;
    if (config->identity->system && cells.uid_slots > uids) {
        cells.uid_slots = uids;
    }
    cells.expectation.no_groups = config->identity->system;
    cells.expectation.empty_bounding = config->namespaces || bounding_set_is_empty();
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

/* Of the commands; the init's, where it has one, is the next. */
static uid_t uid_of(size_t slot)
{
    const struct identity *identity = cells.config.identity;
    size_t first = slot * cells_uids_each(cells.config.namespaces);

    return identity->system ? identity->first_session_uid + (uid_t)first : identity->uid;
}

/* ---- the end of a cell ---- */

static void watch_close(struct watch *watch)
{
    if (watch->fd >= 0) {
        loop_unwatch(cells.config.loop, watch);
        close(watch->fd);
        watch->fd = -1;
    }
}

static void channel_close(struct cell *cell)
{
    watch_close(&cell->watch);
    watch_close(&cell->gate);
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
    /* One that was let go while it was being made has started nothing. */
    if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && (cell->ready || !cell->released)) {
        cells.no_refill_before_us = loop_now_us() + BROKEN_US;
        log_warn("cell of uid %u: its init ended unasked (status %#x); what it left is killed",
                 cell->uid, (unsigned)status);
        /* With namespaces the kernel killed what was in them when their pid 1 ended. */
        if (!cells.config.namespaces && cells.config.identity->system &&
            sweep_uid(cell->uid, cell->uid) < 0) {
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
    cell->released = true;
    forget_command(cell);
    channel_close(cell); /* the init sees the end, sweeps, and leaves with 0 */
    if (cell->init_pid == 0) {
        cell_free(cell);
    }
}

/* ---- its namespaces ---- */

/* On a host that cannot do it at all this ends us, before a client was let in. */
static void on_broken(const struct cell *cell, const char *step, int error)
{
    if (!cells.proven && cells.config.namespaces) {
        die_system("a cell cannot be made: %.31s: %s; allow unprivileged user namespaces "
                   "(kernel.unprivileged_userns_clone, user.max_user_namespaces, AppArmor, the "
                   "container's seccomp profile and masked /proc), or choose --level basic",
                   step, strerror(error));
    }
    log_error("cell of uid %u: %.31s: %s", cell->uid, step, strerror(error));
}

/* The first cell is ready. Whether its commands can be read back is seen now, not at the first. */
static void prove(const struct cell *cell)
{
    int result = cells.proven ? 0 : gate_try(cell->init_pid);

    if (result < 0) {
        die_system("/proc/%d/status: %s; commands could not be read back: mount /proc without "
                   "hidepid, or with gid= of a group of bulkheadd's",
                   (int)cell->init_pid, strerror(-result));
    }
    cells.proven = true;
}

static int write_map(pid_t pid, const char *name, const char *text)
{
    char path[64];
    ssize_t written;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    written = write(fd, text, strlen(text)); /* one write, or the kernel takes none of it */
    close(fd);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* Whether a process is in none of our own namespaces, by the kernel's links: namespaces(7). */
static bool has_own_namespaces(pid_t pid)
{
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char path[64], its[64], ours[64];
        ssize_t its_len, our_len;

        (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kinds[i]);
        its_len = readlink(path, its, sizeof(its));
        (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
        our_len = readlink(path, ours, sizeof(ours));
        if (its_len <= 0 || our_len <= 0 ||
            (its_len == our_len && memcmp(its, ours, (size_t)its_len) == 0)) {
            errno = its_len > 0 && our_len > 0 ? EEXIST : errno;
            return false;
        }
    }
    return true;
}

/*
 * Says who is who in a new user namespace: user_namespaces(7). System mode: the
 * init is its root and a command its uid 1000, two host uids that are nobody
 * else's. User mode: only the caller's own uid can be mapped.
 */
static void map_ids(struct cell *cell)
{
    char uids[64], gids[64];

    if (cells.config.identity->system) {
        (void)snprintf(uids, sizeof(uids), "0 %u 1\n%d %u 1\n", cell->uid + 1, INNER_UID,
                       cell->uid);
        memcpy(gids, uids, sizeof(gids));
    } else {
        (void)snprintf(uids, sizeof(uids), "%d %u 1\n", INNER_UID, cells.config.identity->uid);
        (void)snprintf(gids, sizeof(gids), "%d %u 1\n", INNER_UID, cells.config.identity->gid);
    }
    /* Seen once for all its commands: none of them can leave, and its links are shown only now. */
    if (!has_own_namespaces(cell->init_pid)) {
        on_broken(cell, "own namespaces", errno);
        break_off(cell);
        return;
    }
    if (write_map(cell->init_pid, "setgroups", "deny") < 0 ||
        write_map(cell->init_pid, "gid_map", gids) < 0 ||
        write_map(cell->init_pid, "uid_map", uids) < 0) {
        on_broken(cell, "uid map", errno);
        break_off(cell);
    } else if (gate_answer(cell->gate.fd, true) < 0) {
        break_off(cell);
    }
}

/* ---- the gate ---- */

static void on_gate(struct watch *watch, uint32_t events)
{
    struct cell *cell = OWNER_OF(watch, struct cell, gate);
    struct gate_expectation expectation = cells.expectation;
    char fault[128];
    int result = gate_receive(watch->fd, &cell->leader);

    (void)events;
    if (result == -EAGAIN) {
        return;
    }
    if (result == 0) {
        expectation.uid = cell->uid;
        expectation.gid = cells.config.identity->system ? cell->uid : cells.config.identity->gid;
        result = gate_check(cell->leader, &expectation, fault, sizeof(fault));
        if (result < 0) {
            log_error("cell of uid %u: a command was not confined as it must be, and not run: %s",
                      cell->uid, fault);
        }
        if (gate_answer(watch->fd, result == 0) == 0) {
            return;
        }
    }
    break_off(cell);
}

/* ---- reports ---- */

static void on_report(struct cell *cell, const struct cell_report *report)
{
    const struct cell_user *functions = cell->functions;
    void *user = cell->user;

    switch (report->op) {
    case CELL_READY:
        cell->ready = true;
        prove(cell);
        return;
    case CELL_UNMAPPED:
        map_ids(cell);
        return;
    case CELL_BROKEN:
        on_broken(cell, report->step, report->error);
        return;
    default:
        break;
    }
    if (functions == NULL || report->id != cell->id) {
        return; /* of a command that nobody waits for */
    }
    switch (report->op) {
    case CELL_STARTED:
        functions->started(user, cell->leader);
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

static void init_child(int channel, int gate, uid_t uid)
{
    uid_t inner = cells.config.namespaces ? INNER_UID : uid;
    struct init_plan plan = {
        .channel = channel,
        .gate = gate,
        .namespaces = cells.config.namespaces,
        .uid_lock = cells.config.identity->lock_fd,
        .set_ids = cells.config.identity->system,
        .uid = inner,
        .gid = inner,
        .limits = cells.config.limits,
        .limit_count = cells.config.limit_count,
        .filter = cells.config.filter,
    };

    title_set("bulkhead-init: uid %u", uid);
    init_main(&plan);
}

/* fork(2), into namespaces of its own where a cell has such: clone(2). */
static pid_t make_init(void)
{
    struct clone_args args = {.exit_signal = SIGCHLD};

    if (!cells.config.namespaces) {
        return fork();
    }
    args.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                 CLONE_NEWUTS | CLONE_NEWCGROUP;
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Connects a new cell's two sockets; the init's ends are left in ends. 0 or -errno. */
static int connect_cell(struct cell *cell, int ends[2])
{
    int channel[2], gate[2];
    int result;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        return -errno;
    }
    cell->watch = (struct watch){.fd = channel[0], .events = EPOLLIN, .fn = on_channel};
    ends[0] = channel[1];
    result = gate_make(gate);
    if (result < 0) {
        return result;
    }
    cell->gate = (struct watch){.fd = gate[0], .events = EPOLLIN, .fn = on_gate};
    ends[1] = gate[1];
    result = loop_watch(cells.config.loop, &cell->watch);
    return result == 0 ? loop_watch(cells.config.loop, &cell->gate) : result;
}

static int cell_make(struct cell **made)
{
    int ends[2] = {-1, -1};
    struct cell *cell;
    size_t slot;
    int result;

    result = uid_take(&slot);
    if (result < 0) {
        return result;
    }
    cell = calloc(1, sizeof(*cell));
    if (cell == NULL) {
        cells.uid_used[slot] = 0;
        return -ENOMEM;
    }
    *cell = (struct cell){.uid = uid_of(slot), .uid_slot = slot, .watch.fd = -1, .gate.fd = -1};
    result = connect_cell(cell, ends);
    if (result == 0) {
        cell->init_pid = make_init();
        result = cell->init_pid < 0 ? -errno : 0;
    }
    if (result == 0 && cell->init_pid == 0) {
        init_child(ends[0], ends[1], cell->uid);
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
        }
    }
    if (result < 0) {
        channel_close(cell);
        free(cell);
        cells.uid_used[slot] = 0;
        return result;
    }
    cell->next = cells.all;
    cells.all = cell;
    cells.count++;
    *made = cell;
    return 0;
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
    /* The first one is made in any case, to see that the host can. */
    size_t wanted = cells.config.pool > 0 || cells.proven ? cells.config.pool : 1;
    struct cell *cell;

    while (pool_count() < wanted && loop_now_us() >= cells.no_refill_before_us) {
        int result = cell_make(&cell);

        if (result < 0) {
            if (!cells.proven && cells.config.namespaces && result != -EAGAIN) {
                struct cell none = {0};

                on_broken(&none, "making namespaces", -result);
            }
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
