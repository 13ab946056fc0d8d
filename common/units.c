/* Numbers as people type them: plain, with a size suffix, with a unit of time. */
#include "common/option.h"

#include <errno.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit size_units[] = {
    {"", 1},   {"K", UINT64_C(1) << 10}, {"M", UINT64_C(1) << 20}, {"G", UINT64_C(1) << 30},
    {NULL, 0},
};

static const struct unit time_units[] = {
    {"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {NULL, 0},
};

/* strtoull would take signs, blanks and hexadecimal; none of them is meant here. */
static int parse(const char *text, const struct unit *units, uint64_t *value)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0) {
        return -EINVAL;
    }
    const struct unit *unit = units;
    while (unit->suffix && strcmp(unit->suffix, text + digits) != 0) {
        unit++;
    }
    if (!unit->suffix) {
        return -EINVAL;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < digits; i++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number)) {
            return -ERANGE;
        }
    }
    if (__builtin_mul_overflow(number, unit->factor, &number)) {
        return -ERANGE;
    }
    *value = number;
    return 0;
}

int option_parse_uint(const char *text, uint64_t *value)
{
    return parse(text, no_units, value);
}

int option_parse_size(const char *text, uint64_t *bytes)
{
    return parse(text, size_units, bytes);
}

int option_parse_duration(const char *text, uint64_t *milliseconds)
{
    return parse(text, time_units, milliseconds);
}
