#include "client/outlet.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

void outlet_init(struct outlet *outlet, int fd)
{
    *outlet = (struct outlet){.fd = fd, .kind = OUTLET_STREAM};
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return; /* the first write says what is wrong */
    }
    if (S_ISSOCK(st.st_mode)) {
        outlet->kind = OUTLET_SOCKET;
    } else if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
        outlet->kind = OUTLET_FILE;
    }
}

/*
 * After POLLOUT a pipe takes PIPE_BUF bytes without waiting. Another writer of
 * the same pipe may be faster, then we wait for the reader this once.
 */
static ssize_t write_bit(int fd, const char *data, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int ready = poll(&p, 1, 0);
    if (ready < 0) {
        return -1;
    }
    if (ready == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, data, len < PIPE_BUF ? len : PIPE_BUF);
}

static ssize_t write_stream(struct outlet *outlet, const char *data, size_t len)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    ssize_t n = pwritev2(outlet->fd, &piece, 1, -1, RWF_NOWAIT);
    if (n >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)) {
        return n;
    }
    outlet->kind = OUTLET_BIT;
    return write_bit(outlet->fd, data, len);
}

static ssize_t write_once(struct outlet *outlet, const char *data, size_t len)
{
    switch (outlet->kind) {
    case OUTLET_FILE:
        return write(outlet->fd, data, len);
    case OUTLET_SOCKET:
        return send(outlet->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    case OUTLET_STREAM:
        return write_stream(outlet, data, len);
    case OUTLET_BIT:
        return write_bit(outlet->fd, data, len);
    }
    errno = EINVAL;
    return -1;
}

ssize_t outlet_write(struct outlet *outlet, const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write_once(outlet, data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            outlet->error = errno;
            return -outlet->error;
        }
        done += (size_t)n;
        outlet->line_begun = data[done - 1] != '\n';
    }
    return (ssize_t)done;
}
