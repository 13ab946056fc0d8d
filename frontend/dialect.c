/*
 * The table of dialects, in the frontend: path and subprotocol choose, and
 * nothing else does.
 */
#include "frontend/dialect.h"

#include <string.h>

static const struct dialect *const dialects[] = {
    &dialect_plain,
    &dialect_plain_mcp,
    &dialect_msgpack,
};

#define DIALECTS (sizeof(dialects) / sizeof(dialects[0]))

bool dialect_path_exists(const char *path)
{
    for (size_t i = 0; i < DIALECTS; i++) {
        if (strcmp(dialects[i]->path, path) == 0) {
            return true;
        }
    }
    return false;
}

/* One name of the offer; NULL stands for no offer at all. */
static const struct dialect *dialect_find(const char *path, const char *name, size_t len)
{
    for (size_t i = 0; i < DIALECTS; i++) {
        const struct dialect *d = dialects[i];
        bool same = name == NULL ? d->subprotocol == NULL
                                 : d->subprotocol != NULL && strlen(d->subprotocol) == len &&
                                       memcmp(d->subprotocol, name, len) == 0;

        if (same && strcmp(d->path, path) == 0) {
            return d;
        }
    }
    return NULL;
}

const struct dialect *dialect_choose(const char *path, const char *offered)
{
    if (offered[0] == '\0') {
        return dialect_find(path, NULL, 0);
    }
    while (*offered != '\0') {
        size_t len;
        const struct dialect *found;

        offered += strspn(offered, ", \t");
        len = strcspn(offered, ", \t");
        found = len > 0 ? dialect_find(path, offered, len) : NULL;
        if (found != NULL) {
            return found;
        }
        offered += len;
    }
    return NULL;
}
