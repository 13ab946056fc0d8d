/* Runs in the supervisor. What is added comes from a client, by way of the frontend. */
#include "policy/environment.h"

#include <errno.h>
#include <stdbool.h>

const char *const environment_default[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/tmp",
    "TMPDIR=/tmp",
    "SHELL=/bin/sh",
    "USER=nobody",
    "LOGNAME=nobody",
    "LANG=C.UTF-8",
    "TERM=dumb",
    NULL,
};

const char *const environment_cell[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/workspace",
    "TMPDIR=/tmp",
    "SHELL=/bin/sh",
    "USER=tenant",
    "LOGNAME=tenant",
    "LANG=C.UTF-8",
    "TERM=dumb",
    NULL,
};

/* The length of NAME=, 0 when the entry has no name. */
static size_t name_len(const char *entry)
{
    size_t len = strcspn(entry, "=");
    return len > 0 && entry[len] == '=' ? len + 1 : 0;
}

static bool same_name(const char *a, const char *b)
{
    size_t len = name_len(a);
    return strncmp(a, b, len) == 0;
}

/* Cuts the added strings apart. Returns how many, or -errno. */
static int split(struct span added, const char *entries[ENVIRONMENT_ADDED_MAX])
{
    int count = 0;
    while (added.len > 0) {
        const char *nul = memchr(added.data, '\0', added.len);
        if (!nul || name_len(added.data) == 0) {
            return -EINVAL;
        }
        if (count == ENVIRONMENT_ADDED_MAX) {
            return -E2BIG;
        }
        entries[count++] = added.data;
        added.len -= (size_t)(nul + 1 - added.data);
        added.data = nul + 1;
    }
    return count;
}

/* Whether a later one of the entries replaces this one. */
static bool replaced(const char *entry, const char *const *later, int count)
{
    for (int i = 0; i < count; i++) {
        if (same_name(entry, later[i])) {
            return true;
        }
    }
    return false;
}

struct output {
    char *bytes;
    size_t cap, used;
};

static int put(struct output *out, const char *entry)
{
    size_t len = strlen(entry) + 1;
    if (len > out->cap - out->used) {
        return -E2BIG;
    }
    memcpy(out->bytes + out->used, entry, len);
    out->used += len;
    return 0;
}

long environment_merge(const char *const *base, struct span added, char *bytes, size_t cap)
{
    const char *entries[ENVIRONMENT_ADDED_MAX];
    int count = split(added, entries);
    if (count < 0) {
        return count;
    }
    struct output out = {bytes, cap, 0};
    int code = 0;
    for (; *base && code == 0; base++) {
        if (!replaced(*base, entries, count)) {
            code = put(&out, *base);
        }
    }
    for (int i = 0; i < count && code == 0; i++) {
        if (!replaced(entries[i], entries + i + 1, count - i - 1)) {
            code = put(&out, entries[i]);
        }
    }
    return code == 0 ? (long)out.used : code;
}
