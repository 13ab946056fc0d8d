#include "client/locate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/option.h"

#define SYSTEM_RUNTIME_DIR "/run/bulkhead"

__attribute__((format(printf, 2, 3))) static int refuse(struct locate_error *error,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return -EINVAL;
}

/* ---- the address ---- */

/* Copies len bytes and a NUL; false where they do not fit. */
static bool copy(char *to, size_t cap, const char *from, size_t len)
{
    if (len >= cap) {
        return false;
    }
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

static bool all_printable(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

static int parse_socket(const char *path, struct address *address, struct locate_error *error)
{
    if (path[0] != '/' || path[1] == '\0') {
        return refuse(error, "\"%.200s\": after ws+unix:// comes the absolute path of a socket",
                      address->url);
    }
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        return refuse(error, "\"%.200s\": the path of a socket has at most %zu bytes", address->url,
                      sizeof((struct sockaddr_un *)0)->sun_path - 1);
    }
    address->local_socket = true;
    strcpy(address->host, path);
    strcpy(address->path, "/ws");
    return 0;
}

static int parse_network(const char *authority, struct address *address, struct locate_error *error)
{
    size_t len = strcspn(authority, "/");
    const char *path = authority + len;
    const char *host = authority, *end = authority + len;
    const char *host_end = memchr(host, *host == '[' ? ']' : ':', len);
    const char *colon = host_end && *host == '[' ? host_end + 1 : host_end;
    if (*host == '[' && !host_end) {
        return refuse(error, "\"%.200s\": the closing ] is missing", address->url);
    }
    if (*host == '[') {
        host++;
    }
    if (!host_end) {
        host_end = colon = end;
    }
    uint64_t port = 80;
    if (colon < end) {
        char digits[8];
        if (*colon != ':' || !copy(digits, sizeof digits, colon + 1, (size_t)(end - colon - 1)) ||
            option_parse_uint(digits, &port) != 0 || port == 0 || port > 65535) {
            return refuse(error, "\"%.200s\": a port is a number from 1 to 65535", address->url);
        }
    }
    address->port = (unsigned)port;
    if (host == host_end || host_end - host > ADDRESS_HOST_MAX ||
        memchr(host, '@', (size_t)(host_end - host))) {
        return refuse(error, "\"%.200s\": that is no host name", address->url);
    }
    copy(address->host, sizeof address->host, host, (size_t)(host_end - host));
    if (!copy(address->path, sizeof address->path, path[0] && path[1] ? path : "/ws",
              path[0] && path[1] ? strlen(path) : 3)) {
        return refuse(error, "\"%.200s\": the path is too long", address->url);
    }
    return 0;
}

int address_parse(const char *url, struct address *address, struct locate_error *error)
{
    memset(address, 0, sizeof *address);
    if (!copy(address->url, sizeof address->url, url, strlen(url))) {
        return refuse(error, "the URL is longer than %zu bytes", sizeof address->url - 1);
    }
    if (!all_printable(url)) {
        return refuse(error, "\"%.200s\": a URL has no blanks or other characters than ASCII", url);
    }
    if (strncmp(url, "ws+unix://", 10) == 0) {
        return parse_socket(url + 10, address, error);
    }
    if (strncmp(url, "ws://", 5) == 0) {
        return parse_network(url + 5, address, error);
    }
    return refuse(error, "\"%.200s\": an address is ws://HOST:PORT/ws or ws+unix:///PATH/OF/SOCKET",
                  url);
}

static bool is_this_host(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(host, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_place(const struct address *a, const struct address *b)
{
    if (a->local_socket || b->local_socket) {
        return a->local_socket == b->local_socket && strcmp(a->host, b->host) == 0;
    }
    return a->port == b->port &&
           (strcmp(a->host, b->host) == 0 || (is_this_host(a->host) && is_this_host(b->host)));
}

/* ---- the files of a runtime directory ---- */

/* Reads the start of a file, at most cap - 1 bytes, and ends it with a NUL. 0 or -errno. */
static int read_start(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    size_t len = 0;
    int code = 0;
    while (len < cap - 1) {
        ssize_t n = read(fd, text + len, cap - 1 - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            code = -errno;
        }
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    close(fd);
    text[len] = '\0';
    return code;
}

static int read_token(struct location *location, struct locate_error *error)
{
    char text[TOKEN_MAX + 4];
    int code = read_start(location->token_path, text, sizeof text);
    if (code != 0) {
        return refuse(error, "cannot read the token in %.600s: %s", location->token_path,
                      strerror(-code));
    }
    text[strcspn(text, "\r\n")] = '\0';
    if (!text[0] || strlen(text) > TOKEN_MAX || !all_printable(text)) {
        return refuse(error,
                      "%.600s holds no token: its first line must be 1 to %d printable "
                      "characters without blanks",
                      location->token_path, TOKEN_MAX);
    }
    strcpy(location->token, text);
    return 0;
}

/* dir/name; false where it is too long to be a path. */
static bool join(char path[PATH_MAX], const char *dir, const char *name)
{
    int len = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < PATH_MAX;
}

struct runtime_dir {
    char path[PATH_MAX];
};

/* The directories to look in, the given one only if there is one. Ends with an empty path. */
static void runtime_dirs(const char *given, struct runtime_dir dirs[3])
{
    const char *user = getenv("XDG_RUNTIME_DIR");
    size_t count = 0;
    memset(dirs, 0, 3 * sizeof dirs[0]);
    if (given) {
        snprintf(dirs[count++].path, PATH_MAX, "%s", given);
        return;
    }
    if (user && user[0] == '/') {
        snprintf(dirs[count++].path, PATH_MAX, "%s/bulkhead", user);
    }
    snprintf(dirs[count++].path, PATH_MAX, "%s", SYSTEM_RUNTIME_DIR);
}

/*
 * Reads the addresses of a running bulkheadd: the first one, or, where an
 * address is wanted, whether that one is among them. The text is used up.
 */
static bool pick_address(char *text, const struct address *wanted, struct address *found)
{
    struct locate_error ignored;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (*line && address_parse(line, found, &ignored) == 0 &&
            (!wanted || same_place(wanted, found))) {
            return true;
        }
    }
    return false;
}

/* Sets the token path of the directory if there is a token in it. */
static void token_of_dir(const char *dir, struct location *location)
{
    char path[PATH_MAX];
    if (join(path, dir, "token") && access(path, F_OK) == 0) {
        strcpy(location->token_path, path);
    }
}

/* Looks for the address (wanted NULL) or only for the token that belongs to it. */
static int search_dirs(const struct locate_options *options, const struct address *wanted,
                       struct location *location, struct locate_error *error)
{
    struct runtime_dir dirs[3];
    runtime_dirs(options->runtime_dir, dirs);
    for (size_t i = 0; dirs[i].path[0]; i++) {
        char path[PATH_MAX], text[8192];
        struct address found;
        int code = join(path, dirs[i].path, "address") ? read_start(path, text, sizeof text)
                                                       : -ENAMETOOLONG;
        if (code != 0 && code != -ENOENT && !wanted) {
            return refuse(error, "cannot read %.600s: %s", path, strerror(-code));
        }
        if (code != 0 || !pick_address(text, wanted, &found)) {
            continue;
        }
        if (!wanted) {
            location->address = found;
        }
        if (!location->token_path[0] && !location->address.local_socket) {
            token_of_dir(dirs[i].path, location);
        }
        return 0;
    }
    if (wanted) {
        return 0;
    }
    return refuse(
        error,
        "no running bulkheadd found: there is no file \"address\" in %.300s%s%.300s; start "
        "one, name its address with --url, or use `bulkhead run`",
        dirs[0].path, dirs[1].path[0] ? " or " : "", dirs[1].path);
}

int locate(const struct locate_options *options, struct location *location,
           struct locate_error *error)
{
    memset(location, 0, sizeof *location);
    const char *url = options->url ? options->url : getenv("BULKHEAD_URL");
    const char *file = options->token_file ? options->token_file : getenv("BULKHEAD_TOKEN_FILE");
    if (options->runtime_dir) { /* what was typed wins over the environment */
        url = options->url;
        file = options->token_file;
    }
    if (file && file[0] &&
        !copy(location->token_path, sizeof location->token_path, file, strlen(file))) {
        return refuse(error, "the name of the token file is too long");
    }
    int code = 0;
    if (url && url[0]) {
        code = address_parse(url, &location->address, error);
    }
    if (code == 0) {
        code = search_dirs(options, url && url[0] ? &location->address : NULL, location, error);
    }
    if (code == 0 && location->token_path[0]) {
        code = read_token(location, error);
    }
    return code;
}
