/*
 * bulkhead-frontend: the process that faces the network. It is started by
 * bulkheadd with the channel on descriptor 3 and the listening sockets behind
 * it. It trusts the supervisor, and no client.
 *
 * In: WebSocket and HTTP of strangers. Out: the messages of common/proto.def.
 */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "common/log.h"
#include "frontend/arena.h"
#include "frontend/conn.h"
#include "frontend/hello.h"
#include "frontend/listener.h"
#include "frontend/lockdown.h"
#include "frontend/report.h"
#include "frontend/upstream.h"
#include "frontend/ws.h"

#define CHANNEL_FD 3

/* Blocks from this size on are mappings of their own: freed, they go back at once. */
#define MAPPED_SIZE (64 * 1024)

static struct hello hello;

/* Anything but bulkheadd that starts us gets a sentence. */
static void open_channel(void)
{
    int type = 0;
    socklen_t size = sizeof(type);

    if (getsockopt(CHANNEL_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET ||
        upstream_open(CHANNEL_FD) < 0) {
        fprintf(stderr, "bulkhead-frontend is started by bulkheadd, and by nothing else.\n");
        _exit(EXIT_USAGE);
    }
    log_init("bulkhead-frontend", report_line);
}

static void read_hello(void)
{
    struct msg_HELLO msg;
    const char *fault;

    upstream_wait_hello(&msg);
    fault = hello_read(&hello, &msg);
    if (fault != NULL) {
        die_bug("HELLO: %s", fault);
    }
    log_set_level((enum log_level)hello.log_level);
}

static void must(int result, const char *what)
{
    if (result < 0) {
        die_system("%s: %s", what, result == -1 ? "failed" : strerror(-result));
    }
}

/* Everything that opens, loads or seeds something. */
static void prepare(uv_loop_t *loop)
{
    must(uv_loop_init(loop), "the event loop");
    must(arena_init(), "memory for JSON");
    must(conn_start(loop, &hello), "the table of connections");
    must(ws_start(loop, &hello), "libwebsockets");
    must(listener_start(loop, &hello), "the listening sockets");
    must(upstream_start(loop), "the channel");
}

int main(void)
{
    static uv_loop_t loop;

    mallopt(M_MMAP_THRESHOLD, MAPPED_SIZE);
    mallopt(M_TRIM_THRESHOLD, MAPPED_SIZE);
    mallopt(M_ARENA_MAX, 1);
    open_channel();
    read_hello();
    lockdown_begin(hello.listeners, hello.max_sessions + CONN_SPARE);
    prepare(&loop);
    lockdown_finish(hello.basic, conn_capacity());
    /* From here on nothing can be opened, and only now is a client listened to. */
    ask_ready();
    listener_resume();
    uv_run(&loop, UV_RUN_DEFAULT);
    die_bug("the event loop ended");
}
