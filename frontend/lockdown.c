/*
 * The lock-in of the frontend. It begins with what it was started with, at
 * best an unprivileged uid, makes itself root of a user namespace of its own
 * for as long as it takes to leave everything behind, and then drops that too.
 */
#include "frontend/lockdown.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <sys/capability.h>

#include "common/log.h"
#include "frontend/listener.h"

/* Descriptors beside those of connections: our own, copies on their way to the supervisor. */
#define OWN_DESCRIPTORS 64

/* Memory: the same for everybody, and for each connection its buffers. */
#define DATA_BASE ((rlim_t)64 << 20)
#define DATA_EACH ((rlim_t)512 << 10)
#define ADDRESS_SPACE_BASE ((rlim_t)512 << 20)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#if SANITIZED
/* The leak check stops the process from a helper of its own; locked in, it can have none. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

static void check(int result, const char *step)
{
    if (result < 0) {
        die_system("lock-in: %s: %s", step, strerror(errno));
    }
}

static void limit(int resource, rlim_t most, const char *step)
{
    struct rlimit now, value = {most, most};

    check(getrlimit(resource, &now), step);
    if (now.rlim_max < most) {
        value.rlim_cur = value.rlim_max = now.rlim_max;
    }
    check(setrlimit(resource, &value), step);
}

static void reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++) {
        signal(number, number == SIGPIPE || number == SIGXFSZ ? SIG_IGN : SIG_DFL);
    }
    sigemptyset(&none);
    check(sigprocmask(SIG_SETMASK, &none, NULL), "sigprocmask");
}

void lockdown_begin(size_t listeners, size_t connections)
{
    reset_signals();
    check(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
    check(close_range(LISTENER_FIRST_FD + (unsigned)listeners, ~0u, 0), "close_range");
    limit(RLIMIT_NOFILE, LISTENER_FIRST_FD + listeners + connections + OWN_DESCRIPTORS,
          "RLIMIT_NOFILE");
}

/* ---- namespaces ---- */

/* Where a namespace can not be had: fatal, or in the level basic a warning. */
static bool missing(bool basic, const char *step, const char *remedy)
{
    if (!basic) {
        die_system("lock-in: %s: %s; %s, or choose --level basic", step, strerror(errno), remedy);
    }
    log_warn("frontend without namespaces: %s: %s; %s", step, strerror(errno), remedy);
    return false;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good;
    int error;

    if (fd < 0) {
        return false;
    }
    good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    error = errno;
    close(fd);
    errno = error;
    return good;
}

/* Maps only our own uid and gid, to themselves. */
static bool map_ids(uid_t uid, gid_t gid)
{
    char line[64];

    if (!write_file("/proc/self/setgroups", "deny")) {
        return false;
    }
    snprintf(line, sizeof(line), "%u %u 1", gid, gid);
    if (!write_file("/proc/self/gid_map", line)) {
        return false;
    }
    snprintf(line, sizeof(line), "%u %u 1", uid, uid);
    return write_file("/proc/self/uid_map", line);
}

/* An empty, read-only tmpfs becomes the root; what was mounted before is let go of. */
static const char *empty_root(void)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return "making the mounts private";
    }
    /* Any directory does to mount it on; /proc is there, as the maps were written. */
    if (mount("bulkhead", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0) {
        return "mounting a tmpfs";
    }
    if (chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0) {
        return "pivot_root";
    }
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
        return "leaving the old root";
    }
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0) {
        return "making the root read-only";
    }
    return NULL;
}

static bool enter_namespaces(bool basic)
{
    const int kinds =
        CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    const char *allow = "allow unprivileged user namespaces (kernel.unprivileged_userns_clone, "
                        "user.max_user_namespaces, AppArmor, the container's seccomp profile)";
    uid_t uid = geteuid();
    gid_t gid = getegid();
    const char *step;

    if (unshare(kinds) < 0) {
        return missing(basic, "making namespaces", allow);
    }
    /* The maps belong to root as long as the process is not dumpable. */
    check(prctl(PR_SET_DUMPABLE, 1), "PR_SET_DUMPABLE");
    if (!map_ids(uid, gid)) {
        return missing(basic, "mapping uid and gid", allow);
    }
    step = empty_root();
    return step == NULL || missing(basic, step, allow);
}

/* ---- privileges ---- */

static void drop_capabilities(void)
{
    cap_t none = cap_init();

    check(none != NULL ? 0 : -1, "cap_init");
    /* Where this is not allowed there is nothing in the bounding set that could be had. */
    for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++) {
        if (cap_drop_bound(cap) < 0 && errno != EPERM) {
            check(-1, "dropping the bounding set");
        }
    }
    check(cap_reset_ambient(), "dropping the ambient set");
    check(cap_set_proc(none), "dropping the capabilities");
    cap_free(none);
}

static void limit_resources(size_t connections)
{
    rlim_t data = DATA_BASE + (rlim_t)connections * DATA_EACH;

    limit(RLIMIT_CORE, 0, "RLIMIT_CORE");
    limit(RLIMIT_NPROC, 0, "RLIMIT_NPROC");
    limit(RLIMIT_MEMLOCK, 0, "RLIMIT_MEMLOCK");
    limit(RLIMIT_MSGQUEUE, 0, "RLIMIT_MSGQUEUE");
    if (SANITIZED) {
        return; /* its shadow is larger than all memory, and it writes reports */
    }
#ifndef BULKHEAD_DEBUG /* which writes to stderr */
    limit(RLIMIT_FSIZE, 0, "RLIMIT_FSIZE");
#endif
    limit(RLIMIT_DATA, data, "RLIMIT_DATA");
    limit(RLIMIT_AS, ADDRESS_SPACE_BASE + data, "RLIMIT_AS");
}

void lockdown_finish(bool basic, size_t connections)
{
    enter_namespaces(basic);
    drop_capabilities();
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
    check(prctl(PR_SET_DUMPABLE, 0), "PR_SET_DUMPABLE");
    check(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
    limit_resources(connections);
    lockdown_filter();
}
