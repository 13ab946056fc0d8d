/*
 * Runs in bulkheadd while it starts. In: the administrator's addresses, or
 * sockets from the service manager.
 */
#include "supervisor/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/settings.h"

/* sd_listen_fds(3): the first one. */
#define INHERITED_FIRST 3

/* Connections the kernel may hold before the frontend takes them. */
#define BACKLOG 512

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;

        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
}

/* Fills in what is known of a socket by asking it. */
static int describe(struct listeners *listeners, size_t i)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[INET6_ADDRSTRLEN], port[8], name[64];

    memset(&address, 0, sizeof(address)); /* the kernel fills in as much as there is */
    if (getsockname(listeners->fds[i], (struct sockaddr *)&address, &len) < 0) {
        return -errno;
    }
    if (address.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)&address;

        listeners->is_unix[i] = true;
        (void)snprintf(listeners->urls[i], sizeof(listeners->urls[i]), "ws+unix://%.*s",
                       (int)sizeof(un->sun_path), un->sun_path);
        return 0;
    }
    if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return -EAFNOSUPPORT;
    }
    listeners->is_loopback[i] = is_loopback(&address);
    (void)snprintf(name, sizeof(name), address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
                   port);
    memcpy(listeners->hosts[i], name, sizeof(name));
    (void)snprintf(listeners->urls[i], sizeof(listeners->urls[i]), "ws://%s/ws", name);
    return 0;
}

/* ---- from the service manager ---- */

static int take_inherited(struct listeners *listeners, char *error, size_t size)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    uint64_t pid_value, count_value;

    if (pid == NULL || count == NULL || option_parse_uint(pid, &pid_value) < 0 ||
        pid_value != (uint64_t)getpid()) {
        return 0;
    }
    if (option_parse_uint(count, &count_value) < 0 || count_value == 0 ||
        count_value > LISTEN_MAX) {
        (void)snprintf(error, size, "LISTEN_FDS %s: not 1 to %d sockets", count, LISTEN_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < count_value; i++) {
        int fd = INHERITED_FIRST + (int)i;
        int flags = fcntl(fd, F_GETFL);

        listeners->fds[i] = fd;
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
            fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || describe(listeners, i) < 0) {
            (void)snprintf(error, size, "socket %d from the service manager: %s", fd,
                           strerror(errno));
            return -EINVAL;
        }
        listeners->count++;
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    return 0;
}

/* ---- our own ---- */

/* A socket file that nobody listens on any more is in the way of nobody else. */
static void remove_stale(const struct sockaddr_un *address)
{
    struct stat info;
    int fd;

    if (lstat(address->sun_path, &info) < 0 || !S_ISSOCK(info.st_mode)) {
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
        errno == ECONNREFUSED) {
        (void)unlink(address->sun_path);
    }
    close(fd);
}

/* Says why, and closes what there is. Returns -errno. */
static int give_up(int *fd, const char *kind, const char *name, char *error, size_t size)
{
    int result = -errno;

    (void)snprintf(error, size, "listen %s%s: %s", kind, name, strerror(errno));
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return result;
}

static int open_unix(const char *path, gid_t gid, bool check_only, int *fd, char *error,
                     size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int failed;

    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path)) {
        (void)snprintf(error, size, "listen unix:%s: not an absolute path of at most %zu bytes",
                       path, sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    if (check_only) {
        return 0;
    }
    strcpy(address.sun_path, path);
    remove_stale(&address);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Owner and group may connect, and the file is born so: nothing is changed by name later. */
    mask = umask(0117);
    (void)setfsgid(gid);
    failed = *fd < 0 || bind(*fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
             listen(*fd, BACKLOG) < 0;
    (void)setfsgid(getegid());
    (void)umask(mask);
    return failed ? give_up(fd, "unix:", path, error, size) : 0;
}

/* Splits HOST:PORT or [V6]:PORT. Returns false when it is neither. */
static bool split(const char *text, char host[64], const char **port)
{
    const char *colon = strrchr(text, ':');
    size_t len;

    if (colon == NULL || colon == text) {
        return false;
    }
    len = (size_t)(colon - text);
    *port = colon + 1;
    if (text[0] == '[') {
        if (text[len - 1] != ']') {
            return false;
        }
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return false;
    }
    if (len == 0 || len >= 64) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    return true;
}

static int open_tcp(const char *text, bool check_only, int *fd, bool *loopback, char *error,
                    size_t size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const char *port;
    char host[64];
    uint64_t number;
    int one = 1;
    int failed;

    if (!split(text, host, &port) || option_parse_uint(port, &number) < 0 || number > 65535) {
        (void)snprintf(error, size, "listen %s: not HOST:PORT, [V6]:PORT or unix:PATH", text);
        return -EINVAL;
    }
    failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0) {
        (void)snprintf(error, size, "listen %s: %s", text, gai_strerror(failed));
        return -EINVAL;
    }
    *loopback = is_loopback((const void *)found->ai_addr);
    if (check_only) {
        freeaddrinfo(found);
        return 0;
    }
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    failed = *fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
             (found->ai_family == AF_INET6 &&
              setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
             bind(*fd, found->ai_addr, found->ai_addrlen) < 0 || listen(*fd, BACKLOG) < 0;
    freeaddrinfo(found);
    return failed ? give_up(fd, "", text, error, size) : 0;
}

/* Returns 0 or -errno with the reason. */
static int open_one(struct listeners *listeners, const char *address, gid_t gid, bool check_only,
                    char *error, size_t size)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    size_t i = listeners->count;
    int *fd = &listeners->fds[i];
    int result;

    *fd = -1;
    result = is_unix ? open_unix(address + 5, gid, check_only, fd, error, size)
                     : open_tcp(address, check_only, fd, &listeners->is_loopback[i], error, size);
    if (result < 0) {
        return result;
    }
    listeners->count++;
    listeners->is_unix[i] = is_unix;
    if (check_only) {
        (void)snprintf(listeners->hosts[i], sizeof(listeners->hosts[i]), "%s", address);
        return 0;
    }
    if (is_unix) {
        (void)snprintf(listeners->paths[i], sizeof(listeners->paths[i]), "%s", address + 5);
    }
    return describe(listeners, i);
}

int listen_open(struct listeners *listeners, const struct option_list *addresses, gid_t gid,
                bool check_only, char *error, size_t error_size)
{
    int result;

    *listeners = (struct listeners){0};
    result = take_inherited(listeners, error, error_size);
    if (result < 0 || listeners->count > 0) {
        return result;
    }
    if (addresses->count > LISTEN_MAX) {
        (void)snprintf(error, error_size, "listen: %zu addresses are more than %d",
                       addresses->count, LISTEN_MAX);
        return -EINVAL;
    }
    if (addresses->count == 0) {
        return open_one(listeners, SETTINGS_LISTEN_DEFAULT, gid, check_only, error, error_size);
    }
    for (size_t i = 0; i < addresses->count && result == 0; i++) {
        result = open_one(listeners, addresses->items[i], gid, check_only, error, error_size);
    }
    return result;
}

void listen_close(struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->count; i++) {
        close(listeners->fds[i]);
        if (listeners->paths[i][0] != '\0') {
            /* In a directory that is not ours it stays, and the next start takes it away. */
            (void)unlink(listeners->paths[i]);
        }
    }
    listeners->count = 0;
}
