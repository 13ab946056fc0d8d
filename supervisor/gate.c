/*
 * Runs in the supervisor. In: one byte from a confined child, whose content
 * means nothing; its credentials and its record in /proc are the kernel's.
 */
#include "supervisor/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int gate_make(int pair[2])
{
    int on = 1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
        int error = errno;

        close(pair[0]);
        close(pair[1]);
        return -error;
    }
    return 0;
}

int gate_receive(int fd, pid_t *pid)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c;
    struct ucred cred;

    if (got < 0) {
        return errno == ECONNRESET ? -EPIPE : -errno;
    }
    if (got == 0) {
        return -EPIPE;
    }
    c = CMSG_FIRSTHDR(&header);
    if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) {
        return -EPROTO;
    }
    memcpy(&cred, CMSG_DATA(c), sizeof(cred));
    *pid = cred.pid;
    return 0;
}

int gate_answer(int fd, bool pass)
{
    return send(fd, pass ? "y" : "n", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static ssize_t read_status(pid_t pid, char *text, size_t size)
{
    char path[32];
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    len = read(fd, text, size - 1);
    if (len < 0) {
        len = -errno;
    } else {
        text[len] = '\0';
    }
    close(fd);
    return len;
}

int gate_try(pid_t pid)
{
    char text[64];
    ssize_t len = read_status(pid, text, sizeof(text));

    return len < 0 ? (int)len : 0;
}

/*
 * Looks for a whole line, "\nName:\tvalue\n", behind *at: the lines come in the
 * kernel's order. Where it is not, fault says what stands there instead.
 */
static bool has_line(const char **at, const char *line, char *fault, size_t size)
{
    size_t name_len = strcspn(line, "\t");
    const char *found = strstr(*at, line);
    char name[32];

    if (found != NULL) {
        *at = found + strlen(line) - 1;
        return true;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)name_len, line);
    found = strstr(*at, name);
    found = found != NULL ? found + 1 : line + 1;
    (void)snprintf(fault, size, "%.*s", (int)strcspn(found, "\n"), found);
    return false;
}

int gate_check(pid_t pid, const struct gate_expectation *expectation, char *fault,
               size_t fault_size)
{
    static const char *const rest[] = {
        "\nCapInh:\t0000000000000000\n",
        "\nCapPrm:\t0000000000000000\n",
        "\nCapEff:\t0000000000000000\n",
        "\nCapBnd:\t0000000000000000\n",
        "\nCapAmb:\t0000000000000000\n",
        "\nNoNewPrivs:\t1\n",
        "\nSeccomp:\t2\n",
    };
    char text[4096], line[96];
    const char *at = text;
    ssize_t len = read_status(pid, text, sizeof(text));

    if (len < 0) {
        (void)snprintf(fault, fault_size, "/proc/%d/status: %s", (int)pid, strerror((int)-len));
        return -EPERM;
    }
    (void)snprintf(line, sizeof(line), "\nUid:\t%u\t%u\t%u\t%u\n", expectation->uid,
                   expectation->uid, expectation->uid, expectation->uid);
    if (!has_line(&at, line, fault, fault_size)) {
        return -EPERM;
    }
    (void)snprintf(line, sizeof(line), "\nGid:\t%u\t%u\t%u\t%u\n", expectation->gid,
                   expectation->gid, expectation->gid, expectation->gid);
    if (!has_line(&at, line, fault, fault_size) ||
        (expectation->no_groups && !has_line(&at, "\nGroups:\t \n", fault, fault_size))) {
        return -EPERM;
    }
    for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++) {
        bool bounding = strncmp(rest[i], "\nCapBnd", 7) == 0;

        if ((!bounding || expectation->empty_bounding) &&
            !has_line(&at, rest[i], fault, fault_size)) {
            return -EPERM;
        }
    }
    return 0;
}
