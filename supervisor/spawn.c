/*
 * Runs in a cell's init, and for a moment in the child that becomes a command.
 * The child trusts its plan, which the supervisor made; it ends as the least
 * trusted process there is. Each step may only take something away.
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/rlimits.h"

/* The child's own stack, beside ours; a guard page lies below it. */
#define STACK_SIZE 65536

/* The sanitizers' shadow memory is shared with the parent too: leave it alone. */
#define IN_CHILD __attribute__((no_sanitize("address", "undefined"), noinline))

struct spawn_child {
    const struct spawn_plan *plan;
    const char *path; /* PATH of the plan's environment */
    volatile enum spawn_stage stage;
    volatile int error;
};

const char *spawn_stage_name(unsigned stage)
{
    static const char *const names[] = {
#define X(name, text) [STAGE_##name] = (text),
        SPAWN_STAGES(X)
#undef X
    };

    return stage < STAGE_COUNT ? names[stage] : "unknown";
}

/* Raw calls: the C library's wrappers would try to reach other threads of the parent. */
IN_CHILD static int set_ids(const struct spawn_plan *plan, volatile enum spawn_stage *stage)
{
    *stage = STAGE_GID;
    if (syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0) {
        return -1;
    }
    *stage = STAGE_UID;
    return (int)syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid);
}

/* All five sets: permitted, effective and inheritable here; ambient goes with them. */
IN_CHILD static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    if (syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) {
        return -1;
    }
    return (int)syscall(SYS_capset, &header, none);
}

IN_CHILD static int take_stdio(const int fds[3])
{
    for (int i = 0; i < 3; i++) {
        /* The plan's descriptors are above 2, so none is overwritten before its turn. */
        if (syscall(SYS_dup3, fds[i], i, 0) < 0) {
            return -1;
        }
    }
    return 0;
}

IN_CHILD static int set_limits(const struct spawn_plan *plan)
{
    for (size_t i = 0; i < plan->limit_count; i++) {
        if (syscall(SYS_prlimit64, 0, plan->limits[i].resource, &plan->limits[i].value, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

IN_CHILD static int unblock_signals(void)
{
    uint64_t none = 0;

    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

/* Waits until the supervisor has seen, from outside, that all of the above is so. */
IN_CHILD static int pass_gate(int gate)
{
    char word = '?';

    if (syscall(SYS_write, gate, &word, 1) != 1 || syscall(SYS_read, gate, &word, 1) != 1) {
        return -1;
    }
    if (word != 'y') {
        errno = EPERM;
        return -1;
    }
    return 0;
}

/* Tries one directory of PATH. Returns only when the program is not there to be run. */
IN_CHILD static void exec_in(const struct spawn_plan *plan, const char *dir, size_t dir_len)
{
    char path[4096];
    size_t name_len = 0;

    while (plan->argv[0][name_len] != '\0') {
        name_len++;
    }
    if (dir_len == 0 || dir_len + 1 + name_len + 1 > sizeof(path)) {
        errno = ENAMETOOLONG;
        return;
    }
    memcpy(path, dir, dir_len);
    path[dir_len] = '/';
    memcpy(path + dir_len + 1, plan->argv[0], name_len + 1);
    (void)syscall(SYS_execve, path, plan->argv, plan->envp);
}

/* execve(2), along PATH where the name has no slash. Returns only on failure, with errno. */
IN_CHILD static void exec_program(const struct spawn_plan *plan, const char *path)
{
    int seen = ENOENT;

    for (const char *c = plan->argv[0]; *c != '\0'; c++) {
        if (*c == '/') {
            (void)syscall(SYS_execve, plan->argv[0], plan->argv, plan->envp);
            return;
        }
    }
    while (plan->argv[0][0] != '\0') {
        const char *end = path;

        while (*end != ':' && *end != '\0') {
            end++;
        }
        exec_in(plan, path, (size_t)(end - path));
        /* As a shell does: "not allowed" is worth more than "not there". */
        if (errno == EACCES) {
            seen = EACCES;
        } else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG) {
            return;
        }
        if (*end == '\0') {
            break;
        }
        path = end + 1;
    }
    errno = seen;
}

#define STEP(name, expression)            \
    do {                                  \
        child->stage = STAGE_##name;      \
        if ((expression) < 0) {           \
            child->error = errno;         \
            syscall(SYS_exit_group, 127); \
        }                                 \
    } while (0)

IN_CHILD static int child_main(void *argument)
{
    struct spawn_child *child = argument;
    const struct spawn_plan *plan = child->plan;

    STEP(SETSID, syscall(SYS_setsid));
    STEP(STDIO, take_stdio(plan->fds));
    /* At exec: until then the gate is needed. */
    STEP(CLOSE, syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC));
    STEP(RLIMITS, set_limits(plan));
    if (plan->set_ids) {
        STEP(UID, set_ids(plan, &child->stage));
    }
    STEP(CAPABILITIES, drop_capabilities());
    /* After the uid changed: that clears it. The init is our parent, and this outlives exec. */
    STEP(DEATH_SIGNAL, syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    STEP(NO_NEW_PRIVS, syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    STEP(DIRECTORY, syscall(SYS_chdir, plan->cwd));
    STEP(SIGNALS, unblock_signals());
    if (plan->landlock >= 0) {
        STEP(LANDLOCK, syscall(SYS_landlock_restrict_self, plan->landlock, 0));
    }
    STEP(SECCOMP, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, plan->filter));
    STEP(GATE, pass_gate(plan->gate));
    child->stage = STAGE_EXEC;
    exec_program(plan, child->path);
    child->error = errno;
    syscall(SYS_exit_group, 127);
    return 0;
}

static const char *path_of(char *const *envp)
{
    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0) {
            return *envp + 5;
        }
    }
    return "/usr/bin:/bin";
}

/* Made once: an init starts one command after the other. */
static char *child_stack(void)
{
    static char *stack;

    if (stack == NULL) {
        long page = sysconf(_SC_PAGESIZE);
        char *map = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

        if (map == MAP_FAILED) {
            return NULL;
        }
        if (mprotect(map, (size_t)page, PROT_NONE) < 0) {
            int error = errno;

            (void)munmap(map, STACK_SIZE);
            errno = error;
            return NULL;
        }
        stack = map;
    }
    return stack + STACK_SIZE;
}

/* The child that failed is reaped here, so that its pid names nothing. */
static int reap_failed(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int spawn_command(const struct spawn_plan *plan, pid_t *pid, enum spawn_stage *stage)
{
    struct spawn_child child = {.plan = plan, .path = path_of(plan->envp), .stage = STAGE_FORK};
    char *stack = child_stack();
    siginfo_t info = {0};
    pid_t made;

    *stage = STAGE_FORK;
    if (stack == NULL) {
        return -errno;
    }
    made = clone(child_main, stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
    if (made < 0) {
        return -errno;
    }
    *stage = child.stage;
    if (child.error != 0) {
        int reaped = reap_failed(made);

        return reaped < 0 ? reaped : -child.error;
    }
    /* Killed on the way (out of memory, say), so it left no word: not a result of the command. */
    if (child.stage != STAGE_EXEC &&
        waitid(P_PID, (id_t)made, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == made) {
        (void)reap_failed(made);
        return -ECANCELED;
    }
    *pid = made;
    return 0;
}
