/*
 * The init of a cell. Trusts the supervisor, whose fork it is; does not trust
 * the commands, which are its children. In: requests and three descriptors
 * each. Out: reports.
 *
 * Identity in a cell with namespaces: pid 1 and, in system mode, root of the
 * user namespace only; it keeps CAP_KILL, CAP_SETUID and CAP_SETGID there.
 *
 * Identity without (level basic, system mode): the real and saved uid stay the
 * supervisor's, the effective uid is the session's. So we may signal the session's processes and
 * give a child their uid, without a capability, while they may not signal us
 * (kill(2): a sender's uids against the target's real and saved uid).
 */
#include "supervisor/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/landlock.h"
#include "supervisor/cell_proto.h"
#include "supervisor/spawn.h"
#include "supervisor/sweep.h"
#include "supervisor/view.h"

/* Where our descriptors lie, so that everything above can be closed at once. */
#define FD_CHANNEL 3
#define FD_LOCK 4
#define FD_GATE 5
#define FD_SIGNALS 6

/* In a cell with namespaces: the init's own place, all it needs for others' sake. */
#define CELL_ROOT 0
#define KEPT_CAPABILITIES (1U << CAP_KILL | 1U << CAP_SETUID | 1U << CAP_SETGID)

struct usage {
    uint64_t user_us, system_us, peak_bytes;
};

struct init {
    const struct init_plan *plan;
    uint32_t id;  /* of the command, 0: none */
    pid_t leader; /* 0: none, or reaped */
    bool exited;  /* the leader is a zombie, kept so that its group's number is */
    struct usage orphans;
    int landlock; /* the ruleset of commands, or -1 */
};

static void report_send(const struct cell_report *report)
{
    /* Blocks when the supervisor is slow; when it is gone, so are we soon. */
    while (send(FD_CHANNEL, report, sizeof(*report), MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* ---- confinement ---- */

static int set_capabilities(uint32_t kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{.effective = kept, .permitted = kept}, {0}};

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) {
        return -1;
    }
    return (int)syscall(SYS_capset, &header, sets);
}

static int empty_bounding_set(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return -1;
        }
    }
    return 0;
}

static int default_signals(void)
{
    /* The kernel's struct: handler, flags, restorer and mask, all zero. The C library would
     * refuse its own two signals, and one that an ancestor ignores would stay ignored. */
    static const unsigned long action[4];
    sigset_t all;

    for (int number = 1; number < NSIG; number++) {
        /* Refused for SIGKILL and SIGSTOP: they need none. */
        (void)syscall(SYS_rt_sigaction, number, action, NULL, sizeof(uint64_t));
    }
    sigfillset(&all);
    return sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Moves ours to their places and closes all else; needs no descriptor more than there are. */
static int take_descriptors(const struct init_plan *plan)
{
    int from[] = {plan->channel, plan->uid_lock >= 0 ? plan->uid_lock : STDIN_FILENO, plan->gate};
    const int places = sizeof(from) / sizeof(from[0]);
    sigset_t child;

    for (int i = 0; i < places; i++) {
        int place = FD_CHANNEL + i;

        for (int later = i + 1; later < places; later++) {
            if (from[later] == place) {
                /* One that is still to be moved lies here: it changes places with this one. */
                int aside = FD_SIGNALS + later;

                while (aside == from[0] || aside == from[1] || aside == from[2]) {
                    aside++;
                }
                if (dup3(from[later], aside, O_CLOEXEC) < 0) {
                    return -1;
                }
                from[later] = aside;
            }
        }
        if (from[i] != place && dup3(from[i], place, O_CLOEXEC) < 0) {
            return -1;
        }
    }
    if (syscall(SYS_close_range, FD_SIGNALS, ~0U, 0) < 0) {
        return -1;
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    /* The lowest number that is free. */
    return signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK) == FD_SIGNALS ? 0 : -1;
}

/*
 * The supervisor writes our maps: /proc/PID/uid_map is its to write while we
 * can be looked into. Its word comes through the gate, as a request for a
 * first command may wait in the channel already.
 */
static int get_mapped(void)
{
    struct cell_report report = {.op = CELL_UNMAPPED};
    char word = '?';

    if (prctl(PR_SET_DUMPABLE, 1) < 0) {
        return -1;
    }
    report_send(&report);
    if (read(FD_GATE, &word, 1) != 1 || word != 'y') {
        errno = EPERM;
        return -1;
    }
    return prctl(PR_SET_DUMPABLE, 0);
}

/* Nothing but loopback, and that up: netdevice(7). */
static int raise_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result;

    if (fd < 0) {
        return -1;
    }
    result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

#define STEP(name, expression)  \
    do {                        \
        *step = (name);         \
        if ((expression) < 0) { \
            return -1;          \
        }                       \
    } while (0)

/* Pid 1 of its own namespaces: makes them a place to live in. */
static int enter_cell(const struct init_plan *plan, const char **step)
{
    const struct view_plan view = {.uid = plan->uid, .gid = plan->gid};
    int result;

    STEP("uid map", get_mapped());
    if (plan->set_ids) {
        STEP("setresgid", setresgid(CELL_ROOT, CELL_ROOT, CELL_ROOT));
        STEP("setresuid", setresuid(CELL_ROOT, CELL_ROOT, CELL_ROOT));
    }
    STEP("hostname", sethostname("cell", 4));
    STEP("loopback", raise_loopback());
    result = view_enter(&view, step);
    if (result < 0) {
        errno = -result;
        return -1;
    }
    STEP("bounding set", empty_bounding_set());
    STEP("capabilities", set_capabilities(plan->set_ids ? KEPT_CAPABILITIES : 0));
    /* When the supervisor ends, so do we, and the kernel takes the whole cell with us. */
    STEP("death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
    return 0;
}

/* No namespaces: the effective uid is the session's, the real one stays the supervisor's. */
static int take_identity(const struct init_plan *plan, const char **step)
{
    STEP("subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1));
    if (plan->set_ids) {
        gid_t own_gid = getgid();
        uid_t own_uid = getuid();

        STEP("setgroups", setgroups(0, NULL));
        STEP("setresgid", setresgid(own_gid, plan->gid, own_gid));
        STEP("setresuid", setresuid(own_uid, plan->uid, own_uid));
    }
    STEP("capabilities", set_capabilities(0));
    return 0;
}

/* Its paths are those of the view, so it is made within. */
static int make_ruleset(const struct init_plan *plan, int *fd)
{
    struct landlock_plan rules;
    int result;

    landlock_plan_for(landlock_abi(), plan->namespaces, &rules);
    result = landlock_build(&rules, fd);
    if (result < 0) {
        errno = -result;
        return -1;
    }
    return 0;
}

static int confine(const struct init_plan *plan, int *landlock, const char **step)
{
    STEP("signals", default_signals());
    STEP("name", prctl(PR_SET_NAME, "bulkhead-init"));
    if ((plan->namespaces ? enter_cell(plan, step) : take_identity(plan, step)) < 0) {
        return -1;
    }
    STEP("landlock", make_ruleset(plan, landlock));
    STEP("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    STEP("dumpable", prctl(PR_SET_DUMPABLE, 0));
    return 0;
}

/* ---- starting ---- */

/* The NUL-ended strings of a block as an array that ends with NULL. */
static char **strings_of(char *block, size_t len)
{
    size_t count = 0, at = 0;
    char **strings;

    for (size_t i = 0; i < len; i++) {
        count += block[i] == '\0';
    }
    strings = calloc(count + 1, sizeof(char *));
    for (size_t i = 0; strings != NULL && i < count; i++) {
        strings[i] = block + at;
        at += strlen(block + at) + 1;
    }
    return strings;
}

static void start(struct init *init, const struct cell_request *request, char *blocks,
                  const int fds[3])
{
    char **argv = strings_of(blocks, request->argv_len);
    char **envp = strings_of(blocks + request->argv_len, request->env_len);
    struct spawn_plan plan = {
        .argv = argv,
        .envp = envp,
        .cwd = blocks + request->argv_len + request->env_len,
        .fds = {fds[0], fds[1], fds[2]},
        .gate = FD_GATE,
        .landlock = init->landlock,
        .set_ids = init->plan->set_ids,
        .uid = init->plan->uid,
        .gid = init->plan->gid,
        .limits = init->plan->limits,
        .limit_count = init->plan->limit_count,
        .filter = init->plan->filter,
    };
    struct cell_report report = {.op = CELL_STARTED, .id = request->id};
    enum spawn_stage stage = STAGE_FORK;
    int result = -ENOMEM;
    pid_t pid = 0;

    if (argv != NULL && envp != NULL) {
        result = spawn_command(&plan, &pid, &stage);
    }
    if (result < 0) {
        report.op = CELL_FAILED;
        report.stage = stage;
        report.error = -result;
    } else {
        init->id = request->id;
        init->leader = pid;
        init->exited = false;
        init->orphans = (struct usage){0};
        report.pid = pid;
    }
    report_send(&report);
    free(argv);
    free(envp);
}

/* ---- reaping ---- */

static void usage_add(struct usage *usage, const struct rusage *used)
{
    uint64_t peak = (uint64_t)used->ru_maxrss * 1024;

    usage->user_us += (uint64_t)used->ru_utime.tv_sec * 1000000 + (uint64_t)used->ru_utime.tv_usec;
    usage->system_us +=
        (uint64_t)used->ru_stime.tv_sec * 1000000 + (uint64_t)used->ru_stime.tv_usec;
    if (peak > usage->peak_bytes) {
        usage->peak_bytes = peak;
    }
}

/* Reaps orphans that came to us; the leader, once it ended, is only reported. */
static void reap(struct init *init)
{
    siginfo_t info;

    while (!init->exited) {
        struct rusage used;

        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return;
        }
        if (info.si_pid == init->leader) {
            struct cell_report report = {.op = CELL_EXITED, .id = init->id};

            init->exited = true;
            report.code = info.si_code;
            report.status = info.si_status;
            report_send(&report);
        } else if (wait4(info.si_pid, NULL, 0, &used) > 0) {
            usage_add(&init->orphans, &used);
        }
    }
}

/* Reaps what waitid showed. */
static void reap_one(struct init *init, const siginfo_t *info, siginfo_t *leader)
{
    struct rusage used;

    if (info->si_pid == init->leader) {
        *leader = *info;
    }
    if (wait4(info->si_pid, NULL, 0, &used) > 0) {
        usage_add(&init->orphans, &used);
    }
}

/* Reaps all that is left; blocks until it is. leader receives how the leader ended. */
static void reap_all(struct init *init, siginfo_t *leader)
{
    siginfo_t info = {0};

    for (;;) {
        if (!init->plan->set_ids && !init->plan->namespaces) {
            /* Orphans of the killed come to us one generation at a time. */
            (void)sweep_children(NULL);
        }
        if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return; /* ECHILD: the kernel says that nothing is left */
        }
        /* All the dead at once: they would fill the list in which the living are looked for. */
        do {
            reap_one(init, &info, leader);
            info.si_pid = 0;
        } while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0);
    }
}

static void sweep(struct init *init, siginfo_t *leader)
{
    int killed;

    if (init->plan->namespaces) {
        /* All but ourselves, at one stroke; and no one can come in from outside. */
        (void)kill(-1, SIGKILL);
        reap_all(init, leader);
        return;
    }
    killed = init->plan->set_ids ? sweep_uid(init->plan->uid, init->plan->gid) : 0;

    if (killed < 0) {
        /* No process to do it by uid (memory, limits): down the tree then, again and again. */
        while (sweep_children(NULL) > 0) {
            siginfo_t info = {0};

            (void)waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
        }
    }
    reap_all(init, leader);
}

static void sweep_and_report(struct init *init, const struct cell_request *request)
{
    struct cell_report report = {.op = CELL_SWEPT, .id = request->id};
    siginfo_t leader = {0};

    sweep(init, &leader);
    report.code = leader.si_code;
    report.status = leader.si_status;
    report.user_us = init->orphans.user_us;
    report.system_us = init->orphans.system_us;
    report.peak_bytes = init->orphans.peak_bytes;
    init->leader = 0;
    init->id = 0;
    init->exited = false;
    report_send(&report);
}

static void signal_group(struct init *init, const struct cell_request *request)
{
    struct cell_report report = {
        .op = CELL_SIGNALED, .id = request->id, .cookie = request->cookie, .error = ESRCH};

    /* The leader is not reaped, so its number cannot be another group's. */
    if (init->leader > 0 && request->id == init->id) {
        report.error = kill(-init->leader, (int)request->signal) < 0 ? errno : 0;
    }
    report_send(&report);
}

/* ---- the loop ---- */

static void fds_close(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

/* Receives one request with its descriptors. Returns its length, 0 at the end, -1 to go on. */
static ssize_t receive(char *buf, size_t cap, int fds[3], size_t *count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec iov = {buf, cap};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(FD_CHANNEL, &header, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c;

    *count = 0;
    if (got <= 0) {
        return got < 0 && errno == EINTR ? -1 : 0;
    }
    c = CMSG_FIRSTHDR(&header);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        *count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), *count * sizeof(int));
    }
    return got;
}

static bool start_is_sound(const struct cell_request *request, const char *blocks, size_t len,
                           size_t fd_count)
{
    size_t cwd = (size_t)request->argv_len + request->env_len;

    return fd_count == 3 && request->argv_len > 0 && request->cwd_len > 1 &&
           cwd + request->cwd_len == len && blocks[request->argv_len - 1] == '\0' &&
           (request->env_len == 0 || blocks[cwd - 1] == '\0') && blocks[len - 1] == '\0';
}

/* Returns false when the channel ended. */
static bool serve(struct init *init)
{
    static char buf[sizeof(struct cell_request) + CELL_START_MAX];
    struct cell_request request;
    size_t fd_count;
    int fds[3];
    ssize_t len = receive(buf, sizeof(buf), fds, &fd_count);

    if (len <= 0) {
        return len < 0;
    }
    if ((size_t)len < sizeof(request)) {
        fds_close(fds, fd_count);
        return false;
    }
    memcpy(&request, buf, sizeof(request));
    switch (request.op) {
    case CELL_START:
        if (init->leader != 0 || !start_is_sound(&request, buf + sizeof(request),
                                                 (size_t)len - sizeof(request), fd_count)) {
            fds_close(fds, fd_count);
            return false;
        }
        start(init, &request, buf + sizeof(request), fds);
        break;
    case CELL_SIGNAL:
        signal_group(init, &request);
        break;
    case CELL_SWEEP:
        sweep_and_report(init, &request);
        break;
    default:
        fds_close(fds, fd_count);
        return false;
    }
    fds_close(fds, fd_count);
    return true;
}

void init_main(const struct init_plan *plan)
{
    struct init init = {.plan = plan};
    struct cell_report report = {.op = CELL_READY};
    const char *step = "descriptors";
    struct pollfd polls[2] = {{.fd = FD_CHANNEL, .events = POLLIN},
                              {.fd = FD_SIGNALS, .events = POLLIN}};
    siginfo_t leader = {0};
    bool open = true;

    if (take_descriptors(plan) < 0 || confine(plan, &init.landlock, &step) < 0) {
        report = (struct cell_report){.op = CELL_BROKEN, .error = errno};
        (void)snprintf(report.step, sizeof(report.step), "%s", step);
        report_send(&report);
        _exit(1);
    }
    report_send(&report);
    while (open) {
        struct signalfd_siginfo info;

        if (poll(polls, 2, -1) < 0) {
            continue;
        }
        if (polls[1].revents != 0) {
            while (read(FD_SIGNALS, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            }
            reap(&init);
        }
        if (polls[0].revents != 0) {
            open = serve(&init);
        }
    }
    sweep(&init, &leader);
    _exit(0);
}
