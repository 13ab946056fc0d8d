/*
 * Accepting clients, in the frontend. When there are as many connections as
 * there may be, the sockets are not polled: who comes now waits in the
 * kernel's queue.
 */
#include "frontend/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "common/log.h"
#include "frontend/conn.h"
#include "frontend/hello.h"
#include "frontend/ws.h"

/* Clients taken in one go from one socket. */
#define BATCH 16

/* The pause after the system had no descriptor or memory for us. */
#define PAUSE_MS 1000

static struct {
    uv_poll_t polls[HELLO_LISTENERS_MAX];
    uv_timer_t pause;
    const struct hello *settings;
    bool open;    /* accepting, or waiting for room */
    bool polling; /* accepting */
    bool paused;
} listeners;

static void on_poll(uv_poll_t *poll, int status, int events);

static void listeners_poll(bool on)
{
    if (listeners.polling == on) {
        return;
    }
    listeners.polling = on;
    for (size_t i = 0; i < listeners.settings->listeners; i++) {
        if (on) {
            uv_poll_start(&listeners.polls[i], UV_READABLE, on_poll);
        } else {
            uv_poll_stop(&listeners.polls[i]);
        }
    }
}

static void on_pause_over(uv_timer_t *timer)
{
    (void)timer;
    listeners.paused = false;
    listener_resume();
}

void listener_resume(void)
{
    if (!listeners.paused) {
        listeners_poll(listeners.open && !conn_table_full());
    }
}

void listener_stop(void)
{
    listeners.open = false;
    listeners_poll(false);
}

/* An address as text, without a port; IPv4 inside IPv6 as IPv4. */
static void address_text(const struct sockaddr_storage *address, char *text, size_t size,
                         unsigned *port)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;

    text[0] = '\0';
    *port = 0;
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, text, (socklen_t)size);
        *port = ntohs(v4->sin_port);
    } else if (address->ss_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);

        inet_ntop(mapped ? AF_INET : AF_INET6,
                  mapped ? (const void *)&v6->sin6_addr.s6_addr[12] : &v6->sin6_addr, text,
                  (socklen_t)size);
        *port = ntohs(v6->sin6_port);
    }
}

static void name_ends(struct conn *c, int fd, const struct sockaddr_storage *peer)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof(own);
    char text[INET6_ADDRSTRLEN];
    unsigned port;

    if (c->local) {
        snprintf(c->peer, sizeof(c->peer), "unix");
        return;
    }
    address_text(peer, text, sizeof(text), &port);
    snprintf(c->peer, sizeof(c->peer), strchr(text, ':') != NULL ? "[%s]:%u" : "%s:%u", text, port);
    if (getsockname(fd, (struct sockaddr *)&own, &size) == 0) {
        address_text(&own, c->address, sizeof(c->address), &port);
    }
}

static void take_client(unsigned index, int fd, const struct sockaddr_storage *peer)
{
    bool local = listeners.settings->local[index];
    struct conn *c = conn_new(index, local, fd);
    int on = 1;

    if (c == NULL) {
        close(fd);
        return;
    }
    name_ends(c, fd, peer);
    if (!local) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (ws_adopt(fd, c) < 0) {
        log_warn("a connection could not be taken over");
    }
}

/* Errors of one client are its own; those of the system make us wait. */
static void accept_failed(int error)
{
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        log_warn("accept: %s", strerror(error));
        listeners.paused = true;
        listeners_poll(false);
        uv_timer_start(&listeners.pause, on_pause_over, PAUSE_MS, 0);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    unsigned index = (unsigned)(poll - listeners.polls);
    int listening = LISTENER_FIRST_FD + (int)index;

    (void)events;
    if (status < 0) {
        die_system("polling listener %u: %s", index, uv_strerror(status));
    }
    for (int n = 0; n < BATCH && listeners.polling && !conn_table_full(); n++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof(peer);
        int fd = accept4(listening, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            accept_failed(errno);
            break;
        }
        take_client(index, fd, &peer);
    }
    listener_resume();
}

int listener_start(struct uv_loop_s *loop, const struct hello *hello)
{
    listeners.settings = hello;
    listeners.open = true;
    for (size_t i = 0; i < hello->listeners; i++) {
        int fd = LISTENER_FIRST_FD + (int)i;
        int flags = fcntl(fd, F_GETFL);
        int error;

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
            return -errno;
        }
        error = uv_poll_init(loop, &listeners.polls[i], fd);
        if (error < 0) {
            return error;
        }
    }
    return uv_timer_init(loop, &listeners.pause);
}
