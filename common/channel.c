/*
 * The SOCK_SEQPACKET channel, for both processes. What it receives is handed
 * on undecoded; what it sends comes from our own code.
 */
#include "common/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The largest header in front of a TAIL, with room to spare. */
#define HEAD_MAX 256

/* Asked of the kernel for each direction; it grants what wmem_max allows. */
#define SOCKET_BUFFER (1 << 20)

struct channel_item {
    struct channel_item *next;
    int fd; /* ours, or -1 */
    size_t len;
    char data[];
};

int channel_init(struct channel *ch, int fd, size_t queue_max)
{
    int size = SOCKET_BUFFER;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0) {
        return -errno;
    }
    *ch = (struct channel){.fd = fd, .queue_max = queue_max};
    return 0;
}

static void item_free(struct channel_item *item)
{
    if (item->fd >= 0) {
        close(item->fd);
    }
    free(item);
}

void channel_finish(struct channel *ch)
{
    while (ch->head != NULL) {
        struct channel_item *item = ch->head;

        ch->head = item->next;
        item_free(item);
    }
    ch->tail = NULL;
    ch->queued = 0;
    if (ch->fd >= 0) {
        close(ch->fd);
        ch->fd = -1;
    }
}

/* Takes the one descriptor that may ride along; more than one is a fault of the peer. */
static int take_descriptors(struct msghdr *header, int *fd)
{
    int count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int one = *(int *)(void *)(CMSG_DATA(c) + at);

            if (++count == 1) {
                *fd = one;
            } else {
                close(one);
            }
        }
    }
    return count > 1 ? -EPROTO : 0;
}

long channel_receive(struct channel *ch, char *buf, size_t cap, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {buf, cap};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    ssize_t got;
    int result;

    *fd = -1;
    do {
        got = recvmsg(ch->fd, &header, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        /* The other end closed with our messages unread. */
        return errno == ECONNRESET ? 0 : -errno;
    }
    result = take_descriptors(&header, fd);
    if (result < 0 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        if (*fd >= 0) {
            close(*fd);
            *fd = -1;
        }
        return -EPROTO;
    }
    return got;
}

/* One sendmsg, all or nothing as SEQPACKET does. Returns 0 or -errno. */
static int send_now(int to, const struct iovec *iov, size_t count, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr header = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
    ssize_t sent;

    if (fd >= 0) {
        struct cmsghdr *c;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        *(int *)(void *)CMSG_DATA(c) = fd;
    }
    do {
        sent = sendmsg(to, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return 0;
    }
    return errno == ECONNRESET ? -EPIPE : -errno;
}

static int enqueue(struct channel *ch, const struct iovec *iov, size_t count, int fd)
{
    struct channel_item *item;
    size_t len = 0;
    char *at;

    for (size_t i = 0; i < count; i++) {
        len += iov[i].iov_len;
    }
    if (len > ch->queue_max - ch->queued) {
        return -EOVERFLOW;
    }
    item = malloc(sizeof(*item) + len);
    if (item == NULL) {
        return -ENOMEM;
    }
    *item = (struct channel_item){.fd = -1, .len = len};
    if (fd >= 0) {
        item->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (item->fd < 0) {
            int error = errno;

            free(item);
            return -error;
        }
    }
    at = item->data;
    for (size_t i = 0; i < count; i++) {
        if (iov[i].iov_len > 0) {
            memcpy(at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
    }
    if (ch->tail != NULL) {
        ch->tail->next = item;
    } else {
        ch->head = item;
    }
    ch->tail = item;
    ch->queued += len;
    return 0;
}

/* The bytes of the two messages that have a TAIL, for callers that do not bring their own. */
static struct span tail_of(enum proto_code code, const void *msg)
{
    switch (code) {
    case MSG_OUTPUT:
        return ((const struct msg_OUTPUT *)msg)->data;
    case MSG_STDIN:
        return ((const struct msg_STDIN *)msg)->data;
    default:
        return (struct span){NULL, 0};
    }
}

int channel_send(struct channel *ch, enum proto_code code, const void *msg, int fd)
{
    struct span tail = tail_of(code, msg);
    char head[HEAD_MAX];
    char *large = NULL;
    size_t cap = proto_max(code) - tail.len;
    struct iovec iov[2];
    int result;

    iov[0].iov_base = head;
    if (cap > sizeof(head) && tail.len == 0) {
        large = malloc(cap);
        if (large == NULL) {
            return -ENOMEM;
        }
        iov[0].iov_base = large;
    } else {
        cap = sizeof(head);
    }
    iov[1] = (struct iovec){(void *)tail.data, tail.len};
    result = proto_encode(code, msg, iov[0].iov_base, cap, &iov[0].iov_len);
    if (result != PROTO_OK) {
        result = -EINVAL;
    } else if (ch->fd < 0) {
        result = -EPIPE;
    } else {
        result = ch->head != NULL ? -EAGAIN : send_now(ch->fd, iov, 2, fd);
        if (result == -EAGAIN) {
            result = enqueue(ch, iov, 2, fd);
        }
    }
    free(large);
    return result;
}

int channel_try_send(struct channel *ch, enum proto_code code, const void *msg,
                     const struct iovec *iov, size_t count)
{
    struct iovec all[CHANNEL_IOV_MAX + 1];
    char head[HEAD_MAX];

    if (ch->fd < 0) {
        return -EPIPE;
    }
    if (ch->head != NULL) {
        return -EAGAIN;
    }
    if (count > CHANNEL_IOV_MAX ||
        proto_encode(code, msg, head, sizeof(head), &all[0].iov_len) != PROTO_OK) {
        return -EINVAL;
    }
    all[0].iov_base = head;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = iov[i];
    }
    return send_now(ch->fd, all, count + 1, -1);
}

int channel_flush(struct channel *ch)
{
    while (ch->head != NULL) {
        struct channel_item *item = ch->head;
        struct iovec iov = {item->data, item->len};
        int result = send_now(ch->fd, &iov, 1, item->fd);

        if (result == -EAGAIN) {
            return 0;
        }
        if (result < 0) {
            return result;
        }
        ch->head = item->next;
        if (ch->head == NULL) {
            ch->tail = NULL;
        }
        ch->queued -= item->len;
        item_free(item);
    }
    return 0;
}
