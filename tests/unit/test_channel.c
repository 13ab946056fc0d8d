/* The SEQPACKET channel (common/channel.c). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/channel.h"

#define QUEUE_MAX 300000

static struct channel near, far;
static char buffer[PROTO_MAX];

static int make_pair(void **state)
{
    int fds[2];
    (void)state;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return -1;
    }
    return channel_init(&near, fds[0], QUEUE_MAX) || channel_init(&far, fds[1], QUEUE_MAX);
}

static int finish_pair(void **state)
{
    (void)state;
    channel_finish(&near);
    channel_finish(&far);
    channel_finish(&far);
    return 0;
}

static long receive(struct channel *channel, int *fd)
{
    return channel_receive(channel, buffer, sizeof buffer, fd);
}

/* The next message at the far end, decoded; fails when it is none of the code. */
static void expect(enum proto_code wanted, union proto_any *out, int *fd)
{
    enum proto_code code;
    long len = receive(&far, fd);
    assert_true(len > 0);
    assert_int_equal(proto_decode((enum proto_direction)proto_direction_of(wanted), buffer,
                                  (size_t)len, &code, out),
                     PROTO_OK);
    assert_int_equal(code, wanted);
}

static void test_channel_carries_messages(void **state)
{
    const struct msg_CLOSE close_it = {7};
    const struct msg_STDIN input = {.sid = 7, .exec = 1, .eof = true, .data = {"a\0b", 3}};
    union proto_any out;
    int fd;
    (void)state;
    assert_int_equal(receive(&far, &fd), -EAGAIN);
    assert_int_equal(fd, -1);
    assert_int_equal(channel_send(&near, MSG_CLOSE, &close_it, -1), 0);
    assert_int_equal(channel_send(&near, MSG_STDIN, &input, -1), 0);
    expect(MSG_CLOSE, &out, &fd);
    assert_int_equal(out.CLOSE.sid, 7);
    assert_int_equal(fd, -1);
    expect(MSG_STDIN, &out, &fd);
    assert_int_equal(out.STDIN.data.len, 3);
    assert_memory_equal(out.STDIN.data.data, "a\0b", 3);
    assert_int_equal(receive(&far, &fd), -EAGAIN);
    assert_false(channel_pending(&near));
}

static void test_channel_refuses_what_the_table_does_not_hold(void **state)
{
    struct msg_CONTROL control = {.sid = 1, .action = 5};
    (void)state;
    assert_int_equal(channel_send(&near, MSG_CONTROL, &control, -1), -EINVAL);
    assert_int_equal(channel_send(&near, (enum proto_code)31, &control, -1), -EINVAL);
    assert_int_equal(channel_try_send(&near, MSG_CONTROL, &control, NULL, 0), -EINVAL);
}

/* The largest of everything passes through whole. */
static void test_channel_carries_the_largest(void **state)
{
    static char argv[131072], env[65536], cwd[4095];
    struct msg_EXECUTE execute = {
        .sid = 1, .argv = {argv, sizeof argv}, .env = {env, sizeof env}, .cwd = {cwd, sizeof cwd}};
    union proto_any out;
    int fd;
    (void)state;
    memset(cwd, 'x', sizeof cwd);
    assert_int_equal(channel_send(&near, MSG_EXECUTE, &execute, -1), 0);
    expect(MSG_EXECUTE, &out, &fd);
    assert_int_equal(out.EXECUTE.argv.len, sizeof argv);
    assert_int_equal(out.EXECUTE.cwd.len, sizeof cwd);
}

/* ---- queueing ---- */

static int send_number(uint32_t number)
{
    static char data[PROTO_DATA_MAX];
    const struct msg_OUTPUT output = {
        .sid = 1, .stream = 1, .offset = number, .data = {data, sizeof data}};
    return channel_send(&near, MSG_OUTPUT, &output, -1);
}

static void test_channel_queues_in_order_up_to_its_bound(void **state)
{
    uint32_t sent = 0;
    int code;
    (void)state;
    while ((code = send_number(sent)) == 0) {
        sent++;
        assert_true(near.queued <= QUEUE_MAX);
    }
    assert_int_equal(code, -EOVERFLOW);
    assert_true(channel_pending(&near));
    assert_true(near.queued > QUEUE_MAX - 70000);
    for (uint32_t got = 0; got < sent; got++) {
        union proto_any out;
        int fd;
        expect(MSG_OUTPUT, &out, &fd);
        assert_int_equal(out.OUTPUT.offset, got);
        assert_int_equal(out.OUTPUT.data.len, PROTO_DATA_MAX);
        assert_int_equal(channel_flush(&near), 0);
    }
    assert_false(channel_pending(&near));
    assert_int_equal(near.queued, 0);
    assert_int_equal(send_number(0), 0);
}

/* What is small does not overtake what waits, though there is room for it again. */
static void test_channel_waits_its_turn(void **state)
{
    const struct msg_CLOSED closed = {9};
    union proto_any out;
    uint32_t sent = 0;
    int fd;
    (void)state;
    while (!channel_pending(&near)) {
        assert_int_equal(send_number(sent++), 0);
    }
    expect(MSG_OUTPUT, &out, &fd);
    assert_int_equal(channel_send(&near, MSG_CLOSED, &closed, -1), 0);
    assert_int_equal(channel_try_send(&near, MSG_CLOSED, &closed, NULL, 0), -EAGAIN);
    for (uint32_t got = 1; got < sent; got++) {
        channel_flush(&near);
        expect(MSG_OUTPUT, &out, &fd);
        assert_int_equal(out.OUTPUT.offset, got);
    }
    channel_flush(&near);
    expect(MSG_CLOSED, &out, &fd);
}

static void test_channel_finish_drops_the_queue(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    while (!channel_pending(&near)) {
        assert_int_equal(send_number(0), 0);
    }
    const struct msg_OPEN open_it = {.sid = 1, .peer = {"uid 0", 5}};
    assert_int_equal(channel_send(&near, MSG_OPEN, &open_it, fds[1]), 0);
    channel_finish(&near);
    assert_int_equal(near.queued, 0);
    assert_false(channel_pending(&near));
    assert_int_equal(near.fd, -1);
    /* The queue's copy of the descriptor went with it. */
    close(fds[1]);
    char byte;
    assert_int_equal(read(fds[0], &byte, 1), 0);
    close(fds[0]);
    assert_int_equal(send_number(0), -EPIPE);
}

static void test_channel_try_send_never_queues(void **state)
{
    char first[] = "first", second[] = "-second";
    const struct iovec pieces[] = {{first, 5}, {second, 7}};
    const struct msg_OUTPUT output = {.sid = 1, .stream = 2, .bytes = 12, .data = {NULL, 12}};
    union proto_any out;
    int fd, code = 0;
    (void)state;
    assert_int_equal(channel_try_send(&near, MSG_OUTPUT, &output, pieces, 2), 0);
    expect(MSG_OUTPUT, &out, &fd);
    assert_int_equal(out.OUTPUT.data.len, 12);
    assert_memory_equal(out.OUTPUT.data.data, "first-second", 12);

    static char much[PROTO_DATA_MAX];
    const struct iovec piece = {much, sizeof much};
    const struct msg_OUTPUT large = {.sid = 1, .stream = 1, .data = {NULL, sizeof much}};
    for (int i = 0; i < 1000 && code == 0; i++) {
        code = channel_try_send(&near, MSG_OUTPUT, &large, &piece, 1);
    }
    assert_int_equal(code, -EAGAIN);
    assert_false(channel_pending(&near));
}

/* ---- descriptors ---- */

static bool same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void test_channel_carries_a_descriptor(void **state)
{
    const struct msg_OPEN open_it = {.sid = 1, .peer = {"uid 0", 5}};
    union proto_any out;
    int fds[2], fd;
    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(channel_send(&near, MSG_OPEN, &open_it, fds[0]), 0);
    expect(MSG_OPEN, &out, &fd);
    assert_true(fd >= 0);
    assert_true(same_file(fd, fds[0]));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fds[0], F_GETFD) >= 0);
    close(fd);
    close(fds[0]);
    close(fds[1]);
}

static void test_channel_keeps_a_descriptor_in_the_queue(void **state)
{
    const struct msg_OPEN open_it = {.sid = 1, .peer = {"uid 0", 5}};
    union proto_any out;
    int fds[2], fd;
    uint32_t sent = 0;
    (void)state;
    while (!channel_pending(&near)) {
        assert_int_equal(send_number(sent++), 0);
    }
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(channel_send(&near, MSG_OPEN, &open_it, fds[0]), 0);
    close(fds[0]);
    for (; sent > 0; sent--) {
        expect(MSG_OUTPUT, &out, &fd);
        assert_int_equal(fd, -1);
        channel_flush(&near);
    }
    expect(MSG_OPEN, &out, &fd);
    assert_int_equal(write(fds[1], "x", 1), 1);
    char byte;
    assert_int_equal(read(fd, &byte, 1), 1);
    close(fd);
    close(fds[1]);
}

/* As a peer could that does not use our code. */
static void send_raw(int to, const char *data, size_t len, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {0};
    struct iovec iov = {(char *)data, len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    assert_int_equal(sendmsg(to, &header, 0), len);
}

/* The lowest free number: the same before and after when nothing was left open. */
static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

static void test_channel_more_descriptors_than_one(void **state)
{
    int fds[8], fd;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = STDERR_FILENO;
    }
    int free_before = lowest_free();
    for (size_t count = 2; count <= COUNT_OF(fds); count++) {
        send_raw(near.fd, "x", 1, fds, count);
        assert_int_equal(receive(&far, &fd), -EPROTO);
        assert_int_equal(fd, -1);
        assert_int_equal(lowest_free(), free_before);
    }
    send_raw(near.fd, "x", 1, fds, 1);
    assert_int_equal(receive(&far, &fd), 1);
    assert_int_equal(fd, free_before);
    close(fd);
}

static void test_channel_datagram_too_long(void **state)
{
    int fds[] = {STDERR_FILENO}, fd;
    int free_before = lowest_free();
    (void)state;
    send_raw(near.fd, buffer, 101, fds, 1);
    assert_int_equal(channel_receive(&far, buffer, 100, &fd), -EPROTO);
    assert_int_equal(fd, -1);
    assert_int_equal(lowest_free(), free_before);
    send_raw(near.fd, buffer, 100, NULL, 0);
    assert_int_equal(channel_receive(&far, buffer, 100, &fd), 100);
}

/* ---- the end ---- */

static void test_channel_other_end_gone(void **state)
{
    const struct msg_CLOSED closed = {9};
    int fd;
    (void)state;
    assert_int_equal(channel_send(&near, MSG_CLOSED, &closed, -1), 0);
    channel_finish(&near);
    assert_true(receive(&far, &fd) > 0); /* what was sent still arrives */
    assert_int_equal(receive(&far, &fd), 0);
    assert_int_equal(channel_send(&far, MSG_CLOSED, &closed, -1), -EPIPE);
    assert_int_equal(channel_try_send(&far, MSG_CLOSED, &closed, NULL, 0), -EPIPE);
}

static void test_channel_other_end_gone_with_unread_messages(void **state)
{
    const struct msg_CLOSED closed = {9};
    int fd;
    (void)state;
    assert_int_equal(channel_send(&far, MSG_CLOSED, &closed, -1), 0);
    channel_finish(&near);
    assert_int_equal(receive(&far, &fd), 0);
}

static void test_channel_flush_to_nobody(void **state)
{
    (void)state;
    while (!channel_pending(&near)) {
        assert_int_equal(send_number(0), 0);
    }
    channel_finish(&far);
    assert_int_equal(channel_flush(&near), -EPIPE);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, make_pair, finish_pair)

static const struct CMUnitTest tests[] = {
    WITH_PAIR(test_channel_carries_messages),
    WITH_PAIR(test_channel_refuses_what_the_table_does_not_hold),
    WITH_PAIR(test_channel_carries_the_largest),
    WITH_PAIR(test_channel_queues_in_order_up_to_its_bound),
    WITH_PAIR(test_channel_waits_its_turn),
    WITH_PAIR(test_channel_finish_drops_the_queue),
    WITH_PAIR(test_channel_try_send_never_queues),
    WITH_PAIR(test_channel_carries_a_descriptor),
    WITH_PAIR(test_channel_keeps_a_descriptor_in_the_queue),
    WITH_PAIR(test_channel_more_descriptors_than_one),
    WITH_PAIR(test_channel_datagram_too_long),
    WITH_PAIR(test_channel_other_end_gone),
    WITH_PAIR(test_channel_other_end_gone_with_unread_messages),
    WITH_PAIR(test_channel_flush_to_nobody),
};

UNIT_MAIN(tests)
