/*
 * The settings that the supervisor hands down, in the frontend. The
 * supervisor is trusted; the checks find faults, not attacks.
 */
#include "frontend/hello.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct span list_copy(struct span list)
{
    char *copy = malloc(list.len + 1);

    if (copy == NULL) {
        return (struct span){0};
    }
    if (list.len > 0) {
        memcpy(copy, list.data, list.len);
    }
    return (struct span){copy, list.len};
}

const char *hello_read(struct hello *hello, const struct msg_HELLO *msg)
{
    struct span kinds = msg->listeners;

    if (msg->version != PROTO_VERSION) {
        return "the supervisor speaks another version";
    }
    *hello = (struct hello){
        .need_token = msg->need_token,
        .basic = msg->basic,
        .max_sessions = msg->max_sessions,
        .handshake_ms = msg->handshake_ms,
        .send_timeout_ms = msg->send_timeout_ms,
        .log_level = msg->log_level,
        .origins = list_copy(msg->origins),
        .hosts = list_copy(msg->hosts),
    };
    if (hello->origins.data == NULL || hello->hosts.data == NULL) {
        return "out of memory";
    }
    for (const char *kind; (kind = proto_list_next(&kinds)) != NULL;) {
        bool local = strcmp(kind, "unix") == 0;

        if (hello->listeners == HELLO_LISTENERS_MAX || (!local && strcmp(kind, "tcp") != 0)) {
            return "a listener is of no known kind, or one too many";
        }
        hello->local[hello->listeners++] = local;
    }
    if (hello->listeners == 0 || hello->max_sessions == 0 || hello->max_sessions > 100000) {
        return "no listeners, or no bound for sessions";
    }
    return NULL;
}

bool hello_lists(struct span list, const char *text)
{
    for (const char *item; (item = proto_list_next(&list)) != NULL;) {
        if (strcasecmp(item, text) == 0) {
            return true;
        }
    }
    return false;
}
