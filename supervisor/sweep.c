/* Runs in a cell's init and in the supervisor. Reads /proc of our own process only. */
#include "supervisor/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int sweep_uid(uid_t uid, gid_t gid)
{
    pid_t pid = fork();
    int status;

    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        if (syscall(SYS_setresgid, gid, gid, gid) < 0 ||
            syscall(SYS_setresuid, uid, uid, uid) < 0) {
            _exit(errno);
        }
        /* -1 means all that this uid may signal, but for the caller. */
        if (kill(-1, SIGKILL) < 0 && errno != ESRCH) {
            _exit(errno);
        }
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

int sweep_children(bool (*keep)(pid_t pid))
{
    char path[64], list[4096];
    int signalled = 0;
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    /* A list that is longer than this is finished by the next call. */
    len = read(fd, list, sizeof(list) - 1);
    if (len < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    close(fd);
    list[len] = '\0';
    for (char *at = list, *end; *at != '\0'; at = end) {
        long pid = strtol(at, &end, 10);

        if (end == at || (*end != ' ' && len == (ssize_t)sizeof(list) - 1)) {
            break; /* the end, or a number that the buffer cut */
        }
        /* An unreaped child of ours: its number cannot have been used again. */
        if (pid > 0 && (keep == NULL || !keep((pid_t)pid)) && kill((pid_t)pid, SIGKILL) == 0) {
            signalled++;
        }
        while (*end == ' ') {
            end++;
        }
    }
    return signalled;
}
