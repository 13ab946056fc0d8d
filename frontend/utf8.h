/*
 * Bytes that should be UTF-8, made fit for a JSON string. Pure functions.
 */
#ifndef BULKHEAD_FRONTEND_UTF8_H
#define BULKHEAD_FRONTEND_UTF8_H

#include <stddef.h>

#include "common/span.h"

/* The most bytes that one character takes when it is escaped: "\u0000". */
#define UTF8_ESCAPED_MAX 6

/*
 * Writes as much of in as fits into room bytes at out, escaped for the inside
 * of a JSON string. What is not UTF-8 becomes U+FFFD, one for each maximal
 * subpart (as the WHATWG encoding standard has it); so does a character that
 * is not complete at the end of in.
 * used     receives how many bytes of in were taken; never 0 when in is not
 *          empty and room is at least UTF8_ESCAPED_MAX.
 * Returns the bytes written.
 */
size_t utf8_escape_json(char *out, size_t room, struct span in, size_t *used);

/*
 * The length of the first character of in (len > 0): 1 to 4. *valid tells
 * whether it is one, or the maximal subpart of something that is not UTF-8.
 */
size_t utf8_step(struct span in, int *valid);

#endif
