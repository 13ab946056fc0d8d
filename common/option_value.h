/* One value of an option table: from text to its place in the options struct. */
#ifndef BULKHEAD_OPTION_VALUE_H
#define BULKHEAD_OPTION_VALUE_H

#include "common/option.h"

/* More options than any table has. */
#define OPTION_SPECS_MAX 64

/*
 * Checks text and stores it at the spec's offset.
 * replace  a list drops what it holds before it takes the new item.
 * Returns 0, or -EINVAL or -ENOMEM with the reason in error; the old value is
 * then unchanged. The reason does not name the option: "\"x\" is not a number".
 */
int option_value_set(const struct option_spec *spec, void *options, const char *text, bool replace,
                     struct option_error *error);

/* Frees what the value holds and makes it zero. */
void option_value_clear(const struct option_spec *spec, void *options);

/* The same for a value that was never set: nothing is freed. */
void option_value_zero(const struct option_spec *spec, void *options);

/* The spec of that long name, NULL when there is none. The name ends at len. */
const struct option_spec *option_find(const struct option_table *table, const char *name,
                                      size_t len);

/* Puts the reason into error. Returns code. */
__attribute__((format(printf, 3, 4))) int option_refuse(struct option_error *error, int code,
                                                        const char *format, ...);

#endif
