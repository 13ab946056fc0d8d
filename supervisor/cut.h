/*
 * Cuts a text stream into what one OUTPUT message carries: whole lines, a line
 * beyond the limit shortened and marked, never half a UTF-8 character.
 *
 * Pure: no descriptor, no clock, no allocation. The state is a value; keep the
 * new one only when the message was really sent.
 */
#ifndef BULKHEAD_CUT_H
#define BULKHEAD_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define CUT_MARKER "..."
#define CUT_MARKER_LEN 3

/* Pieces one plan may have; fits CHANNEL_IOV_MAX. */
#define CUT_PIECES_MAX 48

struct cut_state {
    uint64_t line_sent; /* bytes of the unfinished line that were sent */
    bool dropping;      /* beyond the limit, waiting for the newline */
};

struct cut_plan {
    struct iovec pieces[CUT_PIECES_MAX]; /* into the data, and markers */
    size_t count;
    size_t data_len; /* sum of the pieces */
    size_t consumed; /* bytes of the input that are dealt with */
    size_t dropped;  /* of those, taken out */
    struct cut_state next;
};

/*
 * Plans one message.
 * data, len  what there is of the stream, after what was consumed before
 * max_line   bytes of a line that are kept, its newline not counted; at least 1
 * max_data   bytes the message may carry
 * how        CUT_ flags
 * plan->consumed 0 means there is nothing to send yet.
 */
enum cut_how {
    CUT_FLUSH = 1, /* an unfinished line may be sent too (but for a character's half) */
    CUT_LAST = 2,  /* nothing follows: all of it may be sent */
    CUT_SPLIT = 4, /* a line longer than max_data is sent in parts; else it waits for more room */
};
void cut_lines(const struct cut_state *state, const char *data, size_t len, uint64_t max_line,
               size_t max_data, unsigned how, struct cut_plan *plan);

/* The same interface for a stream that is carried as it comes. */
void cut_nothing(const char *data, size_t len, size_t max_data, struct cut_plan *plan);

/*
 * How many bytes at the end of data are the beginning of a UTF-8 character
 * (RFC 3629) that is not complete: 0 to 3.
 */
size_t cut_partial_character(const char *data, size_t len);

#endif
