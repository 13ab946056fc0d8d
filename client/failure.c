#include "client/failure.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/locate.h"

/* Connects once more, only to learn what the system says. 0 or an errno. */
static int try_connect(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    int code = connect(fd, address, len) == 0 ? 0 : errno;
    if (code == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof code;
        if (poll(&p, 1, 1000) != 1) {
            code = ETIMEDOUT;
        } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) {
            code = errno;
        }
    }
    close(fd);
    return code;
}

/* The text of what stands in the way, NULL if nothing does. */
static const char *obstacle(const struct address *to)
{
    int code = 0;
    if (to->local_socket) {
        struct sockaddr_un local = {.sun_family = AF_UNIX};
        snprintf(local.sun_path, sizeof local.sun_path, "%.*s", (int)sizeof local.sun_path - 1,
                 to->host);
        code = try_connect((struct sockaddr *)&local, sizeof local);
        return code ? strerror(code) : NULL;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", to->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    code = getaddrinfo(to->host, port, &hints, &found);
    if (code != 0) {
        return gai_strerror(code);
    }
    for (struct addrinfo *one = found; one; one = one->ai_next) {
        code = try_connect(one->ai_addr, one->ai_addrlen);
        if (code == 0) {
            break;
        }
    }
    freeaddrinfo(found);
    return code ? strerror(code) : NULL;
}

static void explain_status(const struct location *location, unsigned status, char *text, size_t cap)
{
    const char *url = location->address.url;
    if (status == 401 && location->token[0]) {
        snprintf(text, cap,
                 "%s does not accept the token in %.400s; name the file of the right one with "
                 "--token-file",
                 url, location->token_path);
    } else if (status == 401) {
        snprintf(text, cap, "%s wants a token and none was found; name its file with --token-file",
                 url);
    } else if (status == 403) {
        snprintf(text, cap,
                 "%s refused us (HTTP status 403): we may not use this socket, or bulkheadd does "
                 "not know itself by this host name (its --allow-host)",
                 url);
    } else if (status == 404) {
        snprintf(text, cap, "%s: nothing is served under this path (HTTP status 404); try /ws",
                 url);
    } else {
        snprintf(text, cap, "%s answered with HTTP status %u; is that a bulkheadd of this version?",
                 url, status);
    }
}

void failure_to_open(const struct location *location, unsigned http_status, char *text, size_t cap)
{
    const char *url = location->address.url;
    if (http_status != 0 && http_status != 101 && http_status != 200) {
        explain_status(location, http_status, text, cap);
        return;
    }
    const char *reason = obstacle(&location->address);
    if (reason) {
        snprintf(text, cap,
                 "cannot connect to %s: %s; is bulkheadd running there? Name another address with "
                 "--url",
                 url, reason);
    } else {
        snprintf(text, cap,
                 "%s does not answer as a bulkheadd does; look at the address, and at what serves "
                 "it",
                 url);
    }
}

void failure_to_last(const struct location *location, unsigned close_code, const char *close_text,
                     char *text, size_t cap)
{
    const char *url = location->address.url;
    if (close_code == 4003) {
        snprintf(text, cap,
                 "%s closed the connection (4003): our output was not read for too long; see "
                 "--send-timeout of bulkheadd(8)",
                 url);
    } else if (close_code) {
        snprintf(text, cap,
                 "%s closed the connection before the verdict (%u%s%.120s); how the command ended "
                 "is not known",
                 url, close_code, close_text[0] ? " " : "", close_text);
    } else {
        snprintf(text, cap,
                 "the connection to %s was lost before the verdict; how the command ended is not "
                 "known. Is bulkheadd still running?",
                 url);
    }
}
