/* What one process can be asked to do to itself, and what the kernel says about itself. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/probe.h"

/* clone3 with all we give it, mount_setattr, close_range with CLOEXEC, and a patched core. */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 14

/* linux/memfd.h; newer than the C library of Debian 12. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#define LANDLOCK_VERSION 1U /* LANDLOCK_CREATE_RULESET_VERSION */

void probe_kernel(const struct probe *probe, const struct probe_user *user,
                  struct probe_answer *answer)
{
    struct utsname name;
    unsigned version, patchlevel;
    (void)probe;
    (void)user;
    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &version, &patchlevel) != 2) {
        probe_answer_set(answer, PROBE_NO, "it does not say its version");
        return;
    }
    bool enough = version > KERNEL_MAJOR || (version == KERNEL_MAJOR && patchlevel >= KERNEL_MINOR);
    probe_answer_set(answer, enough ? PROBE_YES : PROBE_NO, "%.64s", name.release);
}

void probe_no_new_privs(const struct probe *probe, const struct probe_user *user,
                        struct probe_answer *answer)
{
    (void)probe;
    (void)user;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        probe_answer_set(answer, PROBE_NO, "prctl: %s", strerror(errno));
    } else {
        probe_answer_set(answer, PROBE_YES, "%s", "");
    }
}

void probe_seccomp(const struct probe *probe, const struct probe_user *user,
                   struct probe_answer *answer)
{
    /* A filter with one rule that can be seen at work: getppid(2) fails with EDOM. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    (void)probe;
    (void)user;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        probe_answer_set(answer, PROBE_NO, "seccomp: %s", strerror(errno));
    } else if (syscall(SYS_getppid) != -1 || errno != EDOM) {
        probe_answer_set(answer, PROBE_NO, "a filter was taken and does nothing");
    } else {
        probe_answer_set(answer, PROBE_YES, "%s", "");
    }
}

void probe_landlock(const struct probe *probe, const struct probe_user *user,
                    struct probe_answer *answer)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
    (void)probe;
    (void)user;
    if (abi < 0) {
        probe_answer_set(answer, PROBE_NO, "%s",
                         errno == EOPNOTSUPP ? "built in and not enabled" : strerror(errno));
    } else {
        probe_answer_set(answer, PROBE_YES, "ABI %ld", abi);
    }
}

/* ---- a program out of memory ---- */

static int copy_of_ourselves(void)
{
    int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int copy = memfd_create("bulkhead", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    struct stat info;
    if (copy < 0 && errno == EINVAL) { /* before Linux 6.3, where all of them are executable */
        copy = memfd_create("bulkhead", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (exe < 0 || copy < 0 || fstat(exe, &info) < 0 ||
        sendfile(copy, exe, NULL, (size_t)info.st_size) != info.st_size ||
        fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
        return -1;
    }
    return copy;
}

void probe_sealed_copy(const struct probe *probe, const struct probe_user *user,
                       struct probe_answer *answer)
{
    static char *const argv[] = {"bulkhead", "--version", NULL};
    static char *const environment[] = {NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), copy = copy_of_ourselves();
    (void)probe;
    (void)user;
    if (null < 0 || dup2(null, STDOUT_FILENO) < 0 || copy < 0) {
        probe_answer_set(answer, PROBE_NO, "memfd_create: %s", strerror(errno));
        return;
    }
    /* Does not come back when it works. */
    probe_answer_set(answer, PROBE_YES, "%s", "");
    syscall(SYS_execveat, copy, "", argv, environment, AT_EMPTY_PATH);
    probe_answer_set(answer, PROBE_NO, "executing it: %s", strerror(errno));
}

/* ---- other uids, and what is seen of them ---- */

void probe_uid_range(const struct probe *probe, const struct probe_user *user,
                     struct probe_answer *answer)
{
    (void)probe;
    if (!user->system && user->uid == 0) {
        probe_answer_set(answer, PROBE_NO,
                         "root without CAP_SETUID and CAP_SETGID: commands would "
                         "run as root");
        return;
    }
    if (!user->system) {
        probe_answer_set(answer, PROBE_NONE,
                         "user mode: without CAP_SETUID and CAP_SETGID there "
                         "is one uid for all");
        return;
    }
    if (probe_become(user, answer) < 0) {
        return;
    }
    for (uid_t uid = user->cell_uid + 1; uid >= user->cell_uid; uid--) {
        if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, user->uid) < 0 ||
            setresuid(user->uid, user->uid, user->uid) < 0) {
            probe_answer_set(answer, PROBE_NO, "uid %u: %s", uid, strerror(errno));
            return;
        }
    }
    probe_answer_set(answer, PROBE_YES, "bulkheadd as uid %u, sessions from %u on", user->uid,
                     user->cell_uid);
}

/* Like a command that stands at the gate: of another uid, and not to be dumped. */
static void stand_still(const struct probe_user *user, int channel)
{
    char word = '?';
    if (user->system && (setresgid(user->cell_uid, user->cell_uid, user->cell_uid) < 0 ||
                         setresuid(user->cell_uid, user->cell_uid, user->cell_uid) < 0)) {
        return;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && prctl(PR_SET_DUMPABLE, 0) == 0 &&
        write(channel, &word, 1) == 1) {
        (void)!read(channel, &word, 1); /* nothing comes: until the other end is closed */
    }
}

static void look_at(pid_t pid, struct probe_answer *answer)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        probe_answer_set(answer, PROBE_NO, "the status of a command in /proc cannot be read: %s",
                         strerror(errno));
        return;
    }
    probe_answer_set(answer, PROBE_YES, "%s", "");
    close(fd);
}

void probe_read_back(const struct probe *probe, const struct probe_user *user,
                     struct probe_answer *answer)
{
    int channel[2];
    char word;
    (void)probe;
    if (probe_become(user, answer) < 0) {
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
        probe_answer_set(answer, PROBE_NO, "socketpair: %s", strerror(errno));
        return;
    }
    pid_t pid = fork();
    if (pid < 0) {
        probe_answer_set(answer, PROBE_NO, "fork: %s", strerror(errno));
        return;
    }
    if (pid == 0) {
        close(channel[0]);
        stand_still(user, channel[1]);
        _exit(0);
    }
    close(channel[1]);
    if (read(channel[0], &word, 1) == 1) {
        look_at(pid, answer);
    } else {
        probe_answer_set(answer, PROBE_NO, "a process of uid %u cannot be made", user->cell_uid);
    }
    close(channel[0]); /* we may not signal what runs under another's uid */
    waitpid(pid, NULL, 0);
}

/* A container's runtime hides parts of /proc by mounting something over them. */
void probe_whole_proc(const struct probe *probe, const struct probe_user *user,
                      struct probe_answer *answer)
{
    /* An empty folder, made to be mounted on; it hides nothing. */
    static const char expected[] = "/proc/sys/fs/binfmt_misc";
    char covered[160] = "", *line = NULL;
    size_t size = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    (void)probe;
    (void)user;
    while (file && getline(&line, &size, file) > 0) {
        char path[128];
        size_t used = strlen(covered);
        if (sscanf(line, "%*s %*s %*s %*s %127s", path) == 1 && strncmp(path, "/proc/", 6) == 0 &&
            strcmp(path, expected) != 0) {
            snprintf(covered + used, sizeof covered - used, " %s", path);
        }
    }
    free(line);
    if (!file) {
        probe_answer_set(answer, PROBE_NO, "/proc/self/mountinfo: %s", strerror(errno));
        return;
    }
    fclose(file);
    if (covered[0]) {
        probe_answer_set(answer, PROBE_NO, "covered:%s", covered);
    } else {
        probe_answer_set(answer, PROBE_YES, "%s", "");
    }
}

/* ---- switches ---- */

/* The value of a sysctl, or -1 when there is none. */
static long read_number(const char *path)
{
    long value = -1;
    FILE *file = fopen(path, "re");
    if (!file) {
        return -1;
    }
    if (fscanf(file, "%ld", &value) != 1) {
        value = -1;
    }
    fclose(file);
    return value;
}

void probe_max_namespaces(const struct probe *probe, const struct probe_user *user,
                          struct probe_answer *answer)
{
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    long smallest = -1;
    (void)probe;
    (void)user;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/user/max_%s_namespaces", kinds[i]);
        long value = read_number(path);
        if (value == 0) {
            probe_answer_set(answer, PROBE_NO, "user.max_%s_namespaces = 0", kinds[i]);
            return;
        }
        if (value > 0 && (smallest < 0 || value < smallest)) {
            smallest = value;
        }
    }
    if (smallest < 0) {
        probe_answer_set(answer, PROBE_NONE, "cannot be read here");
    } else {
        probe_answer_set(answer, PROBE_YES, "%ld or more of each kind", smallest);
    }
}

static void probe_switch(const char *path, const char *name, long good, struct probe_answer *answer)
{
    long value = read_number(path);
    if (value < 0) {
        probe_answer_set(answer, PROBE_NONE, "not there: this kernel has no such switch");
    } else {
        probe_answer_set(answer, value == good ? PROBE_YES : PROBE_NO, "%s = %ld", name, value);
    }
}

void probe_userns_clone(const struct probe *probe, const struct probe_user *user,
                        struct probe_answer *answer)
{
    (void)user;
    probe_switch("/proc/sys/kernel/unprivileged_userns_clone", probe->name, 1, answer);
}

void probe_apparmor(const struct probe *probe, const struct probe_user *user,
                    struct probe_answer *answer)
{
    (void)user;
    probe_switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", probe->name, 0, answer);
}
