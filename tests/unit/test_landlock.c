/* What is asked of Landlock for each version of its interface (policy/landlock.c). */
#include "tests/unit/unit.h"

#include <stdbool.h>

#include "policy/landlock.h"

static void test_landlock_asks_only_for_what_an_abi_knows(void **state)
{
    static const struct {
        int abi;
        uint64_t fs, net, scoped; /* all that the ABI has, from the kernel's manual */
    } known[] = {
        {0, 0, 0, 0},      {1, 0x1fff, 0, 0}, {2, 0x3fff, 0, 0}, {3, 0x7fff, 0, 0},
        {4, 0x7fff, 3, 0}, {5, 0xffff, 3, 0}, {6, 0xffff, 3, 3}, {7, 0xffff, 3, 3},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        struct landlock_plan cell, host;

        landlock_plan_for(known[i].abi, true, &cell);
        landlock_plan_for(known[i].abi, false, &host);
        assert_int_equal(cell.handled_fs, known[i].fs);
        assert_int_equal(cell.handled_net, 0);
        assert_int_equal(host.handled_fs, 0);
        assert_int_equal(host.handled_net, known[i].net);
        assert_int_equal(cell.scoped, known[i].scoped);
        assert_int_equal(host.scoped, known[i].scoped);
    }
}

static void test_landlock_allows_only_what_it_handles(void **state)
{
    (void)state;
    for (int abi = 1; abi <= LANDLOCK_ABI_MAX; abi++) {
        struct landlock_plan plan;

        landlock_plan_for(abi, true, &plan);
        assert_int_equal((plan.read | plan.write | plan.device) & ~plan.handled_fs, 0);
        assert_int_equal(plan.read & 0x2, 0);     /* no writing where only reading is meant */
        assert_int_equal(plan.device & 0x1, 0);   /* no program runs from /dev */
        assert_int_equal(plan.device & 0xff0, 0); /* and nothing is made or removed there */
    }
}

static void test_landlock_of_this_kernel_takes_it(void **state)
{
    struct landlock_plan plan;
    int fd;
    (void)state;
    landlock_plan_for(landlock_abi(), false, &plan);
    assert_int_equal(landlock_build(&plan, &fd), 0);
    if (landlock_abi() < 4) {
        assert_int_equal(fd, -1);
    } else {
        assert_true(fd >= 0);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_landlock_asks_only_for_what_an_abi_knows),
    cmocka_unit_test(test_landlock_allows_only_what_it_handles),
    cmocka_unit_test(test_landlock_of_this_kernel_takes_it),
};

UNIT_MAIN(tests)
