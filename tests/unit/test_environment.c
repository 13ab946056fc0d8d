/* A command's environment, put together (policy/environment.c). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "policy/environment.h"

static const char *const base[] = {"PATH=/bin", "HOME=/tmp", "LANG=C", NULL};

/* The strings of a literal, each with its NUL. */
#define STRINGS(literal) ((struct span){literal, sizeof(literal) - 1})

static void test_environment_merge(void **state)
{
    static const struct {
        struct span added;
        const char *merged; /* with | for the NULs */
    } cases[] = {
        {{NULL, 0}, "PATH=/bin|HOME=/tmp|LANG=C|"},
        {STRINGS("A=1\0"), "PATH=/bin|HOME=/tmp|LANG=C|A=1|"},
        {STRINGS("HOME=/x\0"), "PATH=/bin|LANG=C|HOME=/x|"},
        {STRINGS("HOME=\0"), "PATH=/bin|LANG=C|HOME=|"},
        {STRINGS("HOMER=1\0HOM=2\0"), "PATH=/bin|HOME=/tmp|LANG=C|HOMER=1|HOM=2|"},
        {STRINGS("A=1\0B=2\0A=3\0"), "PATH=/bin|HOME=/tmp|LANG=C|B=2|A=3|"},
        {STRINGS("A==\0"), "PATH=/bin|HOME=/tmp|LANG=C|A==|"},
        {STRINGS("PATH=a\0PATH=b\0PATH=c\0"), "HOME=/tmp|LANG=C|PATH=c|"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char out[256];
        long len = environment_merge(base, cases[i].added, out, sizeof out);
        assert_in_range(len, 1, sizeof out - 1);
        out[len] = '\0';
        for (long at = 0; at < len; at++) {
            out[at] = out[at] ? out[at] : '|';
        }
        assert_string_equal(out, cases[i].merged);
    }
}

static void test_environment_refuses(void **state)
{
    static const struct span cases[] = {
        STRINGS("A\0"), STRINGS("=1\0"), STRINGS("\0"), STRINGS("A=1\0B\0"), {"A=1", 3},
    };
    char out[256];
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(environment_merge(base, cases[i], out, sizeof out), -EINVAL);
    }
}

static void test_environment_bounds(void **state)
{
    char out[8192];
    char many[(ENVIRONMENT_ADDED_MAX + 1) * 6];
    size_t len = 0;
    (void)state;
    long needed = environment_merge(base, (struct span){NULL, 0}, out, sizeof out);
    assert_int_equal(environment_merge(base, (struct span){NULL, 0}, out, (size_t)needed), needed);
    assert_int_equal(environment_merge(base, (struct span){NULL, 0}, out, (size_t)needed - 1),
                     -E2BIG);
    for (int i = 0; i <= ENVIRONMENT_ADDED_MAX; i++) {
        len += (size_t)sprintf(many + len, "%04d=", i) + 1;
    }
    assert_true(environment_merge(base, (struct span){many, len - 6}, out, sizeof out) > 0);
    assert_int_equal(environment_merge(base, (struct span){many, len}, out, sizeof out), -E2BIG);
}

static void test_environment_default_is_sound(void **state)
{
    bool path = false;
    (void)state;
    for (const char *const *entry = environment_default; *entry; entry++) {
        assert_true(strchr(*entry, '=') > *entry);
        path |= strncmp(*entry, "PATH=/", 6) == 0;
    }
    assert_true(path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_environment_merge),
    cmocka_unit_test(test_environment_refuses),
    cmocka_unit_test(test_environment_bounds),
    cmocka_unit_test(test_environment_default_is_sound),
};

UNIT_MAIN(tests)
