/*
 * Looks over a msgpack text before a library unpacks it: every array, map,
 * string and bin must have room for what it claims within the bytes that are
 * there. So the memory that unpacking takes is bounded by the text's length,
 * and not by a number written in it.
 */
#ifndef BULKHEAD_SHAPE_H
#define BULKHEAD_SHAPE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether data begins with one whole object, of any type and depth. Allocates nothing. */
bool shape_is_sound(const char *data, size_t len);

#endif
