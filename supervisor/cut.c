/* Line cutting. Sees every byte a command writes, and believes none to be text. */
#include "supervisor/cut.h"

#include <string.h>

size_t cut_partial_character(const char *data, size_t len)
{
    size_t look = len < 3 ? len : 3;

    for (size_t back = 1; back <= look; back++) {
        unsigned char byte = (unsigned char)data[len - back];
        size_t need;

        if ((byte & 0xC0) == 0x80) {
            continue; /* a continuation: its first byte is further back */
        }
        need = byte >= 0xF0 && byte <= 0xF4   ? 4
               : byte >= 0xE0 && byte <= 0xEF ? 3
               : byte >= 0xC2 && byte <= 0xDF ? 2
                                              : 1;
        return need > back ? back : 0;
    }
    return 0;
}

/* Adds a piece; one that continues the last is joined to it. */
static void add(struct cut_plan *plan, const char *data, size_t len)
{
    struct iovec *last = plan->count > 0 ? &plan->pieces[plan->count - 1] : NULL;

    if (len == 0) {
        return;
    }
    plan->data_len += len;
    if (last != NULL && (const char *)last->iov_base + last->iov_len == data) {
        last->iov_len += len;
        return;
    }
    plan->pieces[plan->count++] = (struct iovec){(void *)data, len};
}

/* Passes over a line's rest. Returns whether its newline was found. */
static bool skip_rest(const char *data, size_t len, struct cut_plan *plan)
{
    const char *from = data + plan->consumed;
    const char *newline = memchr(from, '\n', len - plan->consumed);
    size_t skipped = newline != NULL ? (size_t)(newline - from) : len - plan->consumed;

    plan->consumed += skipped;
    plan->dropped += skipped;
    plan->next.dropping = newline == NULL;
    plan->next.line_sent = 0;
    return newline != NULL;
}

/* What is to be done with the bytes at hand, up to a newline if there is one. */
struct piece {
    size_t len;
    bool newline; /* ends with one */
    bool beyond;  /* the line goes on beyond the limit */
};

/* Returns false when there is nothing to send of it yet. */
static bool next_piece(const char *from, size_t left, uint64_t room, unsigned how,
                       struct piece *piece)
{
    const char *newline = memchr(from, '\n', left <= room ? left : (size_t)room + 1);

    *piece = (struct piece){.newline = newline != NULL, .beyond = newline == NULL && left > room};
    if (piece->newline) {
        piece->len = (size_t)(newline - from) + 1;
    } else if (piece->beyond) {
        /* Where the cut falls into a character, the character goes. */
        piece->len = (size_t)room - cut_partial_character(from, (size_t)room);
    } else if (how & CUT_LAST) {
        piece->len = left;
    } else if (how & CUT_FLUSH) {
        piece->len = left - cut_partial_character(from, left);
    } else {
        return false;
    }
    return true;
}

/* Sends as much of a piece as there is room for, if the message would be empty without it. */
static void split_piece(const char *from, size_t space, unsigned how, struct cut_plan *plan)
{
    size_t len = space - cut_partial_character(from, space);

    if (plan->data_len == 0 && (how & CUT_SPLIT)) {
        add(plan, from, len);
        plan->consumed += len;
        plan->next.line_sent += len;
    }
}

void cut_lines(const struct cut_state *state, const char *data, size_t len, uint64_t max_line,
               size_t max_data, unsigned how, struct cut_plan *plan)
{
    plan->count = plan->data_len = plan->consumed = plan->dropped = 0;
    plan->next = *state;

    while (plan->consumed < len && plan->count + 2 < CUT_PIECES_MAX) {
        uint64_t sent;
        struct piece piece;
        const char *from;
        size_t space;

        if (plan->next.dropping && !skip_rest(data, len, plan)) {
            break;
        }
        sent = plan->next.line_sent;
        from = data + plan->consumed;
        if (max_data - plan->data_len <= CUT_MARKER_LEN ||
            !next_piece(from, len - plan->consumed, max_line > sent ? max_line - sent : 0, how,
                        &piece)) {
            break;
        }
        space = max_data - plan->data_len - CUT_MARKER_LEN;
        if (piece.len > space) {
            split_piece(from, space, how, plan);
            break;
        }
        add(plan, from, piece.len);
        plan->consumed += piece.len;
        plan->next.line_sent = piece.newline ? 0 : sent + piece.len;
        if (piece.beyond) {
            add(plan, CUT_MARKER, CUT_MARKER_LEN);
            plan->next.dropping = true;
        } else if (!piece.newline) {
            break;
        }
    }
}

void cut_nothing(const char *data, size_t len, size_t max_data, struct cut_plan *plan)
{
    plan->count = plan->data_len = plan->consumed = plan->dropped = 0;
    plan->next = (struct cut_state){0};
    add(plan, data, len < max_data ? len : max_data);
    plan->consumed = plan->data_len;
}
