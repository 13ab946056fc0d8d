/*
 * Puts the pieces of an inbound message together, within a bound for each
 * message and one for all connections.
 */
#ifndef BULKHEAD_FRONTEND_INBOX_H
#define BULKHEAD_FRONTEND_INBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/span.h"

#define INBOX_MESSAGE_MAX ((size_t)1 << 20)
#define INBOX_TOTAL_MAX ((size_t)8 << 20)

struct inbox {
    char *data;
    size_t len, cap;
    bool skipping; /* the rest of this message is not wanted */
};

enum inbox_result {
    INBOX_MORE,    /* the message is not complete yet */
    INBOX_WHOLE,   /* *message is it */
    INBOX_TOO_BIG, /* it is, or is going to be, larger than INBOX_MESSAGE_MAX */
    INBOX_NO_ROOM, /* all connections together hold too much; the message is skipped */
};

/*
 * Takes one piece.
 * remaining  bytes of the same frame that are still to come
 * final      whether the frame ends the message
 * message    borrows from the piece or from the inbox: use it, then call inbox_reset
 */
enum inbox_result inbox_add(struct inbox *in, struct span piece, size_t remaining, bool final,
                            struct span *message);

/* Ends a message and gives its memory back. */
void inbox_reset(struct inbox *in);

#endif
