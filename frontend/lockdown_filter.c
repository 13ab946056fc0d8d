/*
 * The syscalls of the locked-in frontend. The list was taken from traces of
 * real runs of its loop, of closing and of leaving. What is not in it kills
 * the process; -DBULKHEAD_DEBUG makes it name the syscall first.
 */
#include "frontend/lockdown.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <seccomp.h>

#include "common/log.h"

static const int allowed[] = {
    /* the loop and the clock */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(restart_syscall),
    /* the clients; no socket, connect, bind or listen */
    SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(shutdown),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(close),
    /* the supervisor */
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(dup),
    /* wake-ups of libuv and libwebsockets: eventfds and pipes */
    SCMP_SYS(read),
    SCMP_SYS(write),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* threads that there are none of, signals, leaving */
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getrandom),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

#if defined(__SANITIZE_ADDRESS__)
/* Reports and the allocator of the sanitizers. */
static const int sanitizer_allowed[] = {
    SCMP_SYS(mmap),     SCMP_SYS(mprotect),    SCMP_SYS(sigaltstack), SCMP_SYS(rt_sigaction),
    SCMP_SYS(readlink), SCMP_SYS(sched_yield), SCMP_SYS(getrusage),   SCMP_SYS(prctl),
};
#endif

static void add(scmp_filter_ctx filter, int result, const char *what)
{
    if (result < 0) {
        seccomp_release(filter);
        die_system("lock-in: seccomp rule for %s: %s", what, strerror(-result));
    }
}

static void add_list(scmp_filter_ctx filter, const int *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        add(filter, seccomp_rule_add(filter, SCMP_ACT_ALLOW, list[i], 0), "a syscall");
    }
}

/* The condition that the bits of mask in an argument are those of value. */
static struct scmp_arg_cmp argument(unsigned number, scmp_datum_t mask, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){
        .arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

static void add_where(scmp_filter_ctx filter, int number, struct scmp_arg_cmp where,
                      const char *what)
{
    add(filter, seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 1, &where), what);
}

/* Syscalls of which only a part is needed. */
static void add_partial(scmp_filter_ctx filter)
{
    static const unsigned requests[] = {FIONBIO, FIONREAD, SIOCOUTQ};
    static const unsigned commands[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC};
    /* Memory that can not be executed, and no files. */
    const struct scmp_arg_cmp anonymous[] = {argument(2, PROT_EXEC, 0),
                                             argument(3, MAP_ANONYMOUS, MAP_ANONYMOUS)};

    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        add_where(filter, SCMP_SYS(ioctl), argument(1, UINT32_MAX, requests[i]), "ioctl");
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        add_where(filter, SCMP_SYS(fcntl), argument(1, UINT32_MAX, commands[i]), "fcntl");
    }
    add(filter, seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, anonymous),
        "mmap");
    add_where(filter, SCMP_SYS(mprotect), argument(2, PROT_EXEC, 0), "mprotect");
}

#ifdef BULKHEAD_DEBUG
/* Says which syscall it was, with nothing but write. */
static void on_trap(int number, siginfo_t *info, void *context)
{
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
    const char *text = name != NULL ? name : "?";

    (void)number;
    (void)context;
    if (write(2, "frontend: syscall not in the list: ", 35) > 0 &&
        write(2, text, strlen(text)) > 0 && write(2, "\n", 1) > 0) {
        _exit(EXIT_BUG);
    }
    _exit(EXIT_BUG);
}

static uint32_t otherwise(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    sigaction(SIGSYS, &action, NULL);
    return SCMP_ACT_TRAP;
}
#else
static uint32_t otherwise(void)
{
    return SCMP_ACT_KILL_PROCESS;
}
#endif

void lockdown_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(otherwise());
    int error;

    if (filter == NULL) {
        die_system("lock-in: seccomp_init: %s", strerror(ENOMEM));
    }
    add_list(filter, allowed, sizeof(allowed) / sizeof(allowed[0]));
#if defined(__SANITIZE_ADDRESS__)
    add_list(filter, sanitizer_allowed, sizeof(sanitizer_allowed) / sizeof(sanitizer_allowed[0]));
#endif
    add_partial(filter);
    add(filter, seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), "the order of its tests");
    error = seccomp_load(filter);
    seccomp_release(filter);
    if (error < 0) {
        die_system("lock-in: loading the seccomp filter: %s", strerror(-error));
    }
}
