/* Writes what a client typed to the process it was meant for; never looks at it, never logs it. */
#include "supervisor/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/proto.h"
#include "supervisor/link.h"

static void grant(const struct input *input, uint32_t bytes)
{
    struct msg_STDIN_CREDIT msg = {
        .sid = input->sid, .exec = input->exec, .bytes = bytes, .closed = input->closed};

    link_tell(MSG_STDIN_CREDIT, &msg);
}

static void pipe_close(struct input *input)
{
    if (input->watch.fd >= 0) {
        loop_unwatch(input->loop, &input->watch);
        close(input->watch.fd);
        input->watch.fd = -1;
    }
}

/* The command reads no more. The frontend is told, and what is here is thrown away. */
static void refuse_more(struct input *input)
{
    pipe_close(input);
    input->closed = true;
    ring_consume(&input->ring, ring_used(&input->ring));
    grant(input, 0);
}

/* Writes as far as it goes, and waits for room only while there is something to write. */
static void push(struct input *input)
{
    uint32_t written = 0;

    while (ring_used(&input->ring) > 0) {
        ssize_t sent = write(input->watch.fd, ring_data(&input->ring), ring_used(&input->ring));

        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        if (sent < 0) {
            refuse_more(input);
            return;
        }
        ring_consume(&input->ring, (size_t)sent);
        written += (uint32_t)sent;
    }
    if (ring_used(&input->ring) == 0 && input->eof) {
        pipe_close(input);
    } else if (loop_rewatch(input->loop, &input->watch,
                            ring_used(&input->ring) > 0 ? EPOLLOUT : 0) < 0) {
        refuse_more(input);
        return;
    }
    if (written > 0 && !input->eof) {
        grant(input, written);
    }
}

static void on_pipe(struct watch *watch, uint32_t events)
{
    struct input *input = OWNER_OF(watch, struct input, watch);

    if (events & EPOLLERR) {
        refuse_more(input); /* no reader is left: pipe(7) */
        return;
    }
    push(input);
}

int input_init(struct input *input, uint32_t sid, uint32_t exec, int fd, struct loop *loop)
{
    int flags = fcntl(fd, F_GETFL);
    int result;

    *input = (struct input){.sid = sid, .exec = exec, .loop = loop};
    input->watch = (struct watch){.fd = -1, .fn = on_pipe};
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    result = ring_init(&input->ring);
    if (result < 0) {
        return result;
    }
    input->watch.fd = fd;
    result = loop_watch(loop, &input->watch);
    if (result < 0) {
        input->watch.fd = -1;
        ring_finish(&input->ring);
    }
    return result;
}

void input_open(struct input *input)
{
    grant(input, RING_SIZE);
}

int input_put(struct input *input, struct span data, bool eof)
{
    if (input->eof) {
        return -EPIPE;
    }
    if (input->closed) {
        return 0; /* sent before our word arrived */
    }
    if (data.len > ring_space(&input->ring)) {
        return -EOVERFLOW;
    }
    if (data.len > 0) {
        memcpy(ring_room(&input->ring), data.data, data.len);
        ring_filled(&input->ring, data.len);
    }
    input->eof = eof;
    push(input);
    return 0;
}

void input_finish(struct input *input)
{
    if (input->ring.base == NULL) {
        return;
    }
    pipe_close(input);
    ring_finish(&input->ring);
}
