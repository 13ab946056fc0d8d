#include "client/probe.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 5

void probe_answer_set(struct probe_answer *answer, enum probe_verdict verdict, const char *format,
                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(answer->found, sizeof answer->found, format, arguments);
    va_end(arguments);
    answer->verdict = verdict;
}

/* ---- the identity of bulkheadd ---- */

static int keep_id_capabilities(void)
{
    const uint32_t ids = 1U << CAP_SETUID | 1U << CAP_SETGID;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{.effective = ids, .permitted = ids}, {0}};
    return (int)syscall(SYS_capset, &header, sets);
}

#define STEP(name, expression)                                                     \
    do {                                                                           \
        if ((expression) < 0) {                                                    \
            probe_answer_set(answer, PROBE_NO, "%s: %s", (name), strerror(errno)); \
            return -1;                                                             \
        }                                                                          \
    } while (0)

int probe_become(const struct probe_user *user, struct probe_answer *answer)
{
    if (user->system) {
        STEP("keeping capabilities", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
        STEP("giving up groups", setgroups(0, NULL));
        STEP("taking bulkheadd's gid", setresgid(user->gid, user->gid, user->gid));
        STEP("taking bulkheadd's uid", setresuid(user->uid, user->uid, user->uid));
        STEP("capabilities", keep_id_capabilities());
    }
    STEP("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    /* A change of uid clears it, so it is set anew: who asked is gone, so are we. */
    STEP("death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
    return 0;
}

/* ---- one child for each ---- */

/* Waits for the child; kills it after its time. Returns its wait status, -1 if it was killed. */
static int wait_for(pid_t pid, const sigset_t *child_ended)
{
    struct timespec now, end, left;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += LIMIT_SECONDS;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec) {
            kill(pid, SIGKILL); /* not reaped, so it is nobody else */
            waitpid(pid, &status, 0);
            return -1;
        }
        left = (struct timespec){.tv_sec = end.tv_sec - now.tv_sec};
        sigtimedwait(child_ended, NULL, &left);
    }
    return status;
}

static void judge(int status, struct probe_answer *answer)
{
    if (status == -1) {
        probe_answer_set(answer, PROBE_NO, "it took longer than %d s", LIMIT_SECONDS);
    } else if (WIFSIGNALED(status)) {
        probe_answer_set(answer, PROBE_NO, "trying it was ended by a signal: %s",
                         strsignal(WTERMSIG(status)));
    }
}

static int run_in_child(const struct probe *probe, const struct probe_user *user,
                        struct probe_answer *answer)
{
    sigset_t child_ended, before;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, &before);
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        probe->run(probe, user, answer);
        _exit(0);
    }
    if (pid > 0) {
        judge(wait_for(pid, &child_ended), answer);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? -error : 0;
}

int probe_run(const struct probe *probe, const struct probe_user *user, struct probe_answer *answer)
{
    /* The answer is written in there by the child, or by a child of its. */
    struct probe_answer *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return -errno;
    }
    probe_answer_set(shared, PROBE_NO, "trying it came to no end");
    int code = run_in_child(probe, user, shared);
    *answer = *shared;
    munmap(shared, sizeof *shared);
    return code;
}
