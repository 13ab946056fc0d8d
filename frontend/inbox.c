/*
 * Assembly of inbound messages, in the frontend. A frame announces its
 * length, so a message that is too large is refused with its first piece.
 */
#include "frontend/inbox.h"

#include <stdlib.h>

static size_t total; /* capacity of all inboxes */

void inbox_reset(struct inbox *in)
{
    free(in->data);
    total -= in->cap;
    *in = (struct inbox){0};
}

/* Makes room for need bytes in all. */
static int inbox_reserve(struct inbox *in, size_t need)
{
    size_t cap = in->cap > 0 ? in->cap : 4096;
    char *data;

    if (need <= in->cap) {
        return 0;
    }
    while (cap < need) {
        cap *= 2;
    }
    if (cap - in->cap > INBOX_TOTAL_MAX - total) {
        return -1;
    }
    data = realloc(in->data, cap);
    if (data == NULL) {
        return -1;
    }
    total += cap - in->cap;
    in->data = data;
    in->cap = cap;
    return 0;
}

enum inbox_result inbox_add(struct inbox *in, struct span piece, size_t remaining, bool final,
                            struct span *message)
{
    bool ends = final && remaining == 0;

    if (in->skipping) {
        if (ends) {
            inbox_reset(in);
        }
        return INBOX_MORE;
    }
    if (remaining > INBOX_MESSAGE_MAX || piece.len + remaining > INBOX_MESSAGE_MAX - in->len) {
        return INBOX_TOO_BIG;
    }
    if (ends && in->len == 0) {
        *message = piece;
        return INBOX_WHOLE;
    }
    if (inbox_reserve(in, in->len + piece.len) < 0) {
        inbox_reset(in);
        in->skipping = !ends;
        return INBOX_NO_ROOM;
    }
    if (piece.len > 0) {
        memcpy(in->data + in->len, piece.data, piece.len);
    }
    in->len += piece.len;
    *message = (struct span){in->data, in->len};
    return ends ? INBOX_WHOLE : INBOX_MORE;
}
