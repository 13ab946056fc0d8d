/*
 * One end of the SOCK_SEQPACKET socketpair between frontend and supervisor: a
 * message is a datagram, the sender's identity is the descriptor it came from.
 *
 * What does not fit into the kernel's buffer waits in a queue with a bound.
 * Never blocks.
 */
#ifndef BULKHEAD_CHANNEL_H
#define BULKHEAD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/proto.h"

struct channel_item;

struct channel {
    int fd; /* -1: closed */
    size_t queue_max;
    size_t queued; /* bytes waiting */
    struct channel_item *head, *tail;
};

/*
 * Takes a connected SEQPACKET descriptor over and makes it non-blocking.
 * queue_max is the most bytes that may wait. Returns 0 or -errno.
 */
int channel_init(struct channel *ch, int fd, size_t queue_max);

/* Closes the descriptor and drops what waits. May be called twice. */
void channel_finish(struct channel *ch);

/*
 * Receives one datagram into buf (cap at least PROTO_MAX).
 * fd receives a descriptor that came along (close-on-exec, the caller's to
 * close), or -1. More than one descriptor, or a datagram longer than cap, is
 * -EPROTO, and what came is closed.
 * Returns the length (> 0), 0 when the other end is gone, or -errno (-EAGAIN).
 */
long channel_receive(struct channel *ch, char *buf, size_t cap, int *fd);

/*
 * Encodes and sends a message; waits its turn behind what is queued.
 * fd       a descriptor to send along, or -1; it stays the caller's (a copy is
 *          kept if the message must wait).
 * Returns 0 (sent or queued), -EOVERFLOW (the queue is full), -EINVAL (the
 * message does not fit its table), -ENOMEM, or -errno of sendmsg(2); -EPIPE
 * when the other end is gone. A TAIL field is sent from where it lies and
 * copied only if the message must wait.
 */
int channel_send(struct channel *ch, enum proto_code code, const void *msg, int fd);

/*
 * As channel_send, but a message that cannot be sent at once is not queued:
 * -EAGAIN. The tail's bytes come from iov instead of the TAIL field, whose len
 * must be their sum; at most CHANNEL_IOV_MAX pieces.
 */
#define CHANNEL_IOV_MAX 64
struct iovec;
int channel_try_send(struct channel *ch, enum proto_code code, const void *msg,
                     const struct iovec *iov, size_t count);

/* Sends what waits, as far as it goes. Returns 0 or -errno (not -EAGAIN). */
int channel_flush(struct channel *ch);

/* Whether something waits for the descriptor to become writable. */
static inline bool channel_pending(const struct channel *ch)
{
    return ch->head != NULL;
}

#endif
