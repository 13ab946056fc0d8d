/*
 * Our own lines on stderr, which the command's stderr shares: each begins with
 * "bulkhead: " and at the start of a line.
 */
#ifndef BULKHEAD_SAY_H
#define BULKHEAD_SAY_H

#include <stdbool.h>

/* Routes the log (common/log.h) here: log_error() says a line. */
void say_init(void);

/* Writes a text to stderr as it is, at the start of a line. */
void say_raw(const char *text);

/* To be told when the command's stderr ended in the middle of a line. */
void say_after_part(bool line_begun);

#endif
