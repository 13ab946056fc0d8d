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

/* As much of the piece as ends with a whole character; all of it if that would be nothing. */
static size_t whole_characters(const char *data, size_t len)
{
    size_t whole = len - cut_partial_character(data, len);

    return whole > 0 ? whole : len;
}

void cut_lines(const struct cut_state *state, const char *data, size_t len, uint64_t max_line,
               size_t max_data, bool flush, bool last, struct cut_plan *plan)
{
    plan->count = plan->data_len = plan->consumed = plan->dropped = 0;
    plan->next = *state;

    while (plan->consumed < len && plan->count + 2 < CUT_PIECES_MAX) {
        const char *from, *newline;
        size_t left, space, piece;
        uint64_t room;

        if (plan->next.dropping && !skip_rest(data, len, plan)) {
            break;
        }
        if (max_data - plan->data_len <= CUT_MARKER_LEN) {
            break;
        }
        from = data + plan->consumed;
        left = len - plan->consumed;
        space = max_data - plan->data_len - CUT_MARKER_LEN;
        room = max_line > plan->next.line_sent ? max_line - plan->next.line_sent : 0;
        newline = memchr(from, '\n', left <= room ? left : (size_t)room + 1);

        if (newline != NULL) {
            piece = (size_t)(newline - from) + 1;
        } else if (left > room) {
            piece = (size_t)room;
            /* Where the cut falls into a character, the character goes. */
            piece -= cut_partial_character(from, piece);
        } else if (flush || last) {
            piece = last ? left : left - cut_partial_character(from, left);
        } else {
            break;
        }
        if (piece > space) {
            /* The rest goes with the next message, unless this one would stay empty. */
            if (plan->data_len > 0 || space == 0) {
                break;
            }
            piece = whole_characters(from, space);
            add(plan, from, piece);
            plan->consumed += piece;
            plan->next.line_sent += piece;
            break;
        }
        add(plan, from, piece);
        plan->consumed += piece;
        if (newline != NULL) {
            plan->next.line_sent = 0;
        } else if (left > room) {
            add(plan, CUT_MARKER, CUT_MARKER_LEN);
            plan->next.dropping = true;
        } else {
            plan->next.line_sent += piece;
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
