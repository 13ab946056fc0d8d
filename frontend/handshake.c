/*
 * The checks before an upgrade, in the frontend. Everything here was sent by
 * a stranger. The token itself is the supervisor's to compare.
 */
#include "frontend/handshake.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "frontend/dialect.h"
#include "frontend/hello.h"

#define HOST_MAX 256

/* libwebsockets hangs up without a word where these headers are longer. */
#define SHORT_HEADER_MAX 120

/* Copies the host of "host", "host:port" or "[v6]:port", without brackets. */
static bool host_name(const char *header, char *name)
{
    size_t len = strcspn(header, ":");
    const char *rest;

    if (header[0] == '[') {
        header++;
        len = strcspn(header, "]");
        if (header[len] != ']') {
            return false;
        }
    }
    if (len == 0 || len >= HOST_MAX) {
        return false;
    }
    memcpy(name, header, len);
    name[len] = '\0';
    rest = header + len + (header[len] == ']' ? 1 : 0);
    return rest[0] == '\0' || (rest[0] == ':' && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

/* 127.0.0.0/8 in numbers only: "127.evil.example" is a name that anybody can own. */
static bool is_loopback(const char *name)
{
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "::1") == 0 ||
           (strncmp(name, "127.", 4) == 0 && name[strspn(name, "0123456789.")] == '\0');
}

static bool host_is_ours(const struct hello *hello, const struct request *request)
{
    char name[HOST_MAX];

    if (request->local) {
        return true;
    }
    if (!host_name(request->host, name)) {
        return false;
    }
    return is_loopback(name) || strcasecmp(name, request->address) == 0 ||
           hello_lists(hello->hosts, name) || hello_lists(hello->hosts, request->host);
}

static bool origin_is_ours(const struct hello *hello, const struct request *request)
{
    const char *origin = request->origin;
    const char *authority = strstr(origin, "://");

    if (origin[0] == '\0' || hello_lists(hello->origins, origin)) {
        return true;
    }
    return authority != NULL &&
           (strncasecmp(origin, "http://", 7) == 0 || strncasecmp(origin, "https://", 8) == 0) &&
           request->host[0] != '\0' && strcasecmp(authority + 3, request->host) == 0;
}

bool handshake_same_site(const struct hello *hello, const struct request *request)
{
    return host_is_ours(hello, request) && origin_is_ours(hello, request);
}

struct span handshake_token(const struct request *request)
{
    const char *value = request->authorization;
    struct span token = {"", 0};

    if (strncasecmp(value, "Bearer ", 7) != 0) {
        return token;
    }
    value += 7;
    value += strspn(value, " ");
    for (const char *c = value; *c != '\0'; c++) {
        if (!isgraph((unsigned char)*c)) {
            return token;
        }
    }
    if (strlen(value) <= HANDSHAKE_TOKEN_MAX) {
        token = span_of(value);
    }
    return token;
}

static bool well_formed(const struct request *request)
{
    return request->key[0] != '\0' && strcasestr(request->connection, "upgrade") != NULL &&
           strlen(request->connection) <= SHORT_HEADER_MAX &&
           strlen(request->subprotocols) <= SHORT_HEADER_MAX;
}

int handshake_check(const struct hello *hello, const struct request *request,
                    const struct dialect **dialect)
{
    if (!dialect_path_exists(request->path)) {
        return 404;
    }
    if (!request->get) {
        return 405;
    }
    if (!handshake_same_site(hello, request)) {
        return 403;
    }
    if (strcmp(request->version, "13") != 0) {
        return 426;
    }
    *dialect = dialect_choose(request->path, request->subprotocols);
    if (!well_formed(request) || *dialect == NULL) {
        return 400;
    }
    if (hello->need_token && !request->local && handshake_token(request).len == 0) {
        return 401;
    }
    return 101;
}
