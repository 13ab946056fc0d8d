#ifndef BULKHEAD_SPAN_H
#define BULKHEAD_SPAN_H

#include <stddef.h>
#include <string.h>

/* Bytes that somebody else owns. Not ended by a NUL, may be empty (then data may be NULL). */
struct span {
    const char *data;
    size_t len;
};

static inline struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

#endif
