/* Numbers as people type them (common/units.c). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "common/option.h"

struct number {
    const char *text;
    int code;
    uint64_t value;
};

static void check(int (*parse)(const char *text, uint64_t *value), const struct number *table,
                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 4711;
        int code = parse(table[i].text, &value);
        if (code != table[i].code || value != (code == 0 ? table[i].value : 4711)) {
            fail_msg("\"%s\": code %d, value %ju", table[i].text, code, (uintmax_t)value);
        }
    }
}

/* No kind takes any of these. */
static const struct number nonsense[] = {
    {"", -EINVAL, 0},    {" ", -EINVAL, 0},   {"-1", -EINVAL, 0},   {"+1", -EINVAL, 0},
    {" 1", -EINVAL, 0},  {"1 ", -EINVAL, 0},  {"0x10", -EINVAL, 0}, {"1e3", -EINVAL, 0},
    {"1.5", -EINVAL, 0}, {"1,0", -EINVAL, 0}, {"K", -EINVAL, 0},    {"ms", -EINVAL, 0},
    {"1Ks", -EINVAL, 0}, {"1\n", -EINVAL, 0}, {"٣", -EINVAL, 0},    {"1KK", -EINVAL, 0},
    {"--1", -EINVAL, 0}, {"nan", -EINVAL, 0}, {"1k", -EINVAL, 0},   {"1S", -EINVAL, 0},
};

static void test_units_uint(void **state)
{
    static const struct number table[] = {
        {"0", 0, 0},
        {"1", 0, 1},
        {"007", 0, 7},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"184467440737095516150", -ERANGE, 0},
        {"8K", -EINVAL, 0},
        {"8s", -EINVAL, 0},
    };
    (void)state;
    check(option_parse_uint, table, COUNT_OF(table));
    check(option_parse_uint, nonsense, COUNT_OF(nonsense));
}

static void test_units_size(void **state)
{
    static const struct number table[] = {
        {"8192", 0, 8192},
        {"8K", 0, 8192},
        {"1M", 0, 1 << 20},
        {"2G", 0, UINT64_C(2) << 30},
        {"0G", 0, 0},
        {"17179869183G", 0, UINT64_C(17179869183) << 30},
        {"17179869184G", -ERANGE, 0},
        {"18446744073709551615K", -ERANGE, 0},
        {"1T", -EINVAL, 0},
        {"1KB", -EINVAL, 0},
        {"1s", -EINVAL, 0},
    };
    (void)state;
    check(option_parse_size, table, COUNT_OF(table));
    check(option_parse_size, nonsense, COUNT_OF(nonsense));
}

static void test_units_duration(void **state)
{
    static const struct number table[] = {
        {"300", 0, 300000},
        {"2s", 0, 2000},
        {"500ms", 0, 500},
        {"5m", 0, 300000},
        {"1h", 0, 3600000},
        {"0", 0, 0},
        {"18446744073709551615ms", 0, UINT64_MAX},
        {"18446744073709551615", -ERANGE, 0},
        {"18446744073709551615h", -ERANGE, 0},
        {"1d", -EINVAL, 0},
        {"1M", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
    };
    (void)state;
    check(option_parse_duration, table, COUNT_OF(table));
    check(option_parse_duration, nonsense, COUNT_OF(nonsense));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_units_uint),
    cmocka_unit_test(test_units_size),
    cmocka_unit_test(test_units_duration),
};

UNIT_MAIN(tests)
