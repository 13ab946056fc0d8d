/* What every unit test includes first: cmocka, and a main() that obeys TEST_FILTER. */
#ifndef BULKHEAD_UNIT_H
#define BULKHEAD_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Runs the array of struct CMUnitTest, with a setup and a teardown of the whole, or NULL. */
#define UNIT_MAIN_WITH(tests, setup, teardown)                              \
    int main(void)                                                          \
    {                                                                       \
        const char *filter = getenv("TEST_FILTER");                         \
        if (filter) {                                                       \
            cmocka_set_test_filter(filter);                                 \
        }                                                                   \
        return cmocka_run_group_tests(tests, setup, teardown) == 0 ? 0 : 1; \
    }

#define UNIT_MAIN(tests) UNIT_MAIN_WITH(tests, NULL, NULL)

#endif
