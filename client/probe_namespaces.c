/*
 * Namespaces, made the way bulkheadd makes a cell: clone3(2) from its identity,
 * uid and gid maps written from outside, and then something that takes each
 * kind's own powers. All of it ends with the child.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/probe.h"

/* A command's uid, and its init's, as a cell sees them. */
#define INNER_UID 1000
#define CELL_ROOT 0

/* Where something can be mounted: one of these is there. */
static const char *const places[] = {"/tmp", "/run", "/mnt", "/var"};

#define STEP(name, expression)  \
    do {                        \
        *step = (name);         \
        if ((expression) < 0) { \
            return -1;          \
        }                       \
    } while (0)

/* ---- what is done inside ---- */

static const char *place(void)
{
    struct stat info;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (stat(places[i], &info) == 0 && S_ISDIR(info.st_mode)) {
            return places[i];
        }
    }
    return "/";
}

static int set_read_only(const char *path)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof attr);
}

int inside_user(const char **step)
{
    /* AppArmor can let the namespace be made and take the powers in it away. */
    STEP("using a capability in it", prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
    return 0;
}

int inside_mount(const char **step)
{
    STEP("private mounts", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    return 0;
}

int inside_pid(const char **step)
{
    *step = "being pid 1";
    errno = EINVAL;
    return getpid() == 1 ? 0 : -1;
}

int inside_network(const char **step)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd;
    STEP("a socket", fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    STEP("loopback", ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
    return 0;
}

/* These two are all there is to it once they are made. */
int inside_ipc(const char **step)
{
    *step = "";
    return 0;
}

int inside_cgroup(const char **step)
{
    *step = "";
    return 0;
}

int inside_uts(const char **step)
{
    STEP("hostname", sethostname("cell", 4));
    return 0;
}

int inside_files(const char **step)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV;
    if (inside_mount(step) < 0) {
        return -1;
    }
    STEP("tmpfs", mount("tmpfs", place(), "tmpfs", flags, "size=1m,nr_inodes=64"));
    STEP("devpts", mount("devpts", place(), "devpts", MS_NOSUID, "newinstance,ptmxmode=0666"));
    return 0;
}

int inside_proc(const char **step)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (inside_mount(step) < 0) {
        return -1;
    }
    STEP("mounting /proc", mount("proc", place(), "proc", flags, "hidepid=invisible"));
    return 0;
}

int inside_usr(const char **step)
{
    if (inside_mount(step) < 0) {
        return -1;
    }
    STEP("binding /usr", mount("/usr", place(), NULL, MS_BIND | MS_REC, NULL));
    STEP("mount_setattr", set_read_only(place()));
    return 0;
}

int inside_root(const char **step)
{
    if (inside_mount(step) < 0) {
        return -1;
    }
    STEP("tmpfs", mount("tmpfs", place(), "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=64"));
    STEP("chdir", chdir(place()));
    STEP("pivot_root", syscall(SYS_pivot_root, ".", "."));
    STEP("leaving the old root", umount2(".", MNT_DETACH));
    return 0;
}

/* ---- making them ---- */

static int write_map(pid_t pid, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t written = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

static int map_ids(pid_t pid, const struct probe_user *user, const char **step)
{
    char uids[64], gids[64];
    if (user->system) {
        snprintf(uids, sizeof uids, "%d %u 1\n%d %u 1\n", CELL_ROOT, user->cell_uid + 1, INNER_UID,
                 user->cell_uid);
        memcpy(gids, uids, sizeof gids);
    } else {
        snprintf(uids, sizeof uids, "%d %u 1\n", INNER_UID, user->uid);
        snprintf(gids, sizeof gids, "%d %u 1\n", INNER_UID, user->gid);
    }
    STEP("writing setgroups", write_map(pid, "setgroups", "deny"));
    STEP("writing gid_map", write_map(pid, "gid_map", gids));
    STEP("writing uid_map", write_map(pid, "uid_map", uids));
    return 0;
}

static int become_root(const struct probe_user *user, const char **step)
{
    if (user->system) {
        STEP("setresgid", setresgid(CELL_ROOT, CELL_ROOT, CELL_ROOT));
        STEP("setresuid", setresuid(CELL_ROOT, CELL_ROOT, CELL_ROOT));
    }
    STEP("death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
    return 0;
}

/* The first process in there. Ends when its maker does: by the channel's end, or the signal. */
static void live_inside(const struct probe *probe, const struct probe_user *user, int channel,
                        struct probe_answer *answer)
{
    const char *step = "";
    char word = '?';
    prctl(PR_SET_DUMPABLE, 1); /* or the maps are root's to write */
    if (write(channel, &word, 1) != 1 || read(channel, &word, 1) != 1) {
        return; /* the maker says why */
    }
    if (become_root(user, &step) < 0 || probe->inside(&step) < 0) {
        probe_answer_set(answer, PROBE_NO, "%s: %s", step, strerror(errno));
    } else {
        probe_answer_set(answer, PROBE_YES, "%s", "");
    }
}

static void make(const struct probe *probe, const struct probe_user *user, const int channel[2],
                 struct probe_answer *answer)
{
    struct clone_args args = {.flags = CLONE_NEWUSER | (unsigned)probe->namespaces,
                              .exit_signal = SIGCHLD};
    const char *step = "";
    char word;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) {
        probe_answer_set(answer, PROBE_NO, "clone3: %s",
                         errno == ENOSPC ? "a limit of user.max_*_namespaces" : strerror(errno));
        return;
    }
    if (pid == 0) {
        close(channel[0]);
        live_inside(probe, user, channel[1], answer);
        _exit(0);
    }
    close(channel[1]);
    if (read(channel[0], &word, 1) == 1 && map_ids(pid, user, &step) < 0) {
        probe_answer_set(answer, PROBE_NO, "%s: %s", step, strerror(errno));
        kill(pid, SIGKILL);
    } else if (write(channel[0], "y", 1) != 1) {
        kill(pid, SIGKILL);
    }
    close(channel[0]);
    waitpid(pid, NULL, 0);
}

void probe_namespaces(const struct probe *probe, const struct probe_user *user,
                      struct probe_answer *answer)
{
    int channel[2];
    signal(SIGPIPE, SIG_IGN);
    if (probe_become(user, answer) < 0) {
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        probe_answer_set(answer, PROBE_NO, "socketpair: %s", strerror(errno));
        return;
    }
    make(probe, user, channel, answer);
}
