/* What to tell the user about a connection that failed: what, with which address, what to do. */
#ifndef BULKHEAD_FAILURE_H
#define BULKHEAD_FAILURE_H

#include <stddef.h>

struct location;

/*
 * It was never open. http_status is what the server answered, 0 for nothing;
 * then connecting is tried once more (for a second at most), only to learn
 * what stands in the way.
 */
void failure_to_open(const struct location *location, unsigned http_status, char *text, size_t cap);

/* It was open and ended too early. close_code is what the server gave, 0 for none. */
void failure_to_last(const struct location *location, unsigned close_code, const char *close_text,
                     char *text, size_t cap);

#endif
