/* The default resource limits (policy/rlimits.c). */
#include "tests/unit/unit.h"

#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/rlimits.h"

static const struct rlimit *find(const struct rlimit_entry *entries, int count, int resource)
{
    for (int i = 0; i < count; i++) {
        if (entries[i].resource == resource) {
            return &entries[i].value;
        }
    }
    fail_msg("resource %d has no limit", resource);
    return NULL;
}

static void test_rlimits_are_sound(void **state)
{
    struct rlimit_entry entries[RLIMITS_MAX];
    (void)state;
    for (int own = 0; own <= 1; own++) {
        int count = rlimits_default(entries, own);
        assert_in_range(count, 1, RLIMITS_MAX);
        for (int i = 0; i < count; i++) {
            struct rlimit held;
            assert_int_equal(getrlimit(entries[i].resource, &held), 0);
            assert_true(entries[i].value.rlim_max <= held.rlim_max);
            assert_true(entries[i].value.rlim_cur <= entries[i].value.rlim_max);
            for (int j = 0; j < i; j++) {
                assert_int_not_equal(entries[j].resource, entries[i].resource);
            }
        }
        assert_int_equal(find(entries, count, RLIMIT_CORE)->rlim_max, 0);
        assert_int_equal(find(entries, count, RLIMIT_MSGQUEUE)->rlim_max, 0);
    }
}

static void test_rlimits_shared_uid_has_more_processes(void **state)
{
    struct rlimit_entry own[RLIMITS_MAX], shared[RLIMITS_MAX];
    (void)state;
    struct rlimit held;
    assert_int_equal(getrlimit(RLIMIT_NPROC, &held), 0);
    int count = rlimits_default(own, true);
    assert_int_equal(rlimits_default(shared, false), count);
    assert_int_equal(find(own, count, RLIMIT_NPROC)->rlim_cur,
                     held.rlim_max < 256 ? held.rlim_max : 256);
    assert_int_equal(find(shared, count, RLIMIT_NPROC)->rlim_cur,
                     held.rlim_max < 4096 ? held.rlim_max : 4096);
}

/* In a child whose own hard limit is lower than a default: 0 when all can be set as they are. */
static int child_with_less(void)
{
    const struct rlimit less = {100, 200};
    struct rlimit_entry entries[RLIMITS_MAX];
    if (setrlimit(RLIMIT_NOFILE, &less) < 0) {
        return 1;
    }
    int count = rlimits_default(entries, true);
    for (int i = 0; i < count; i++) {
        if (setrlimit(entries[i].resource, &entries[i].value) < 0) {
            return 2;
        }
        if (entries[i].resource == RLIMIT_NOFILE && entries[i].value.rlim_cur != 200) {
            return 3;
        }
    }
    return 0;
}

static void test_rlimits_never_above_our_own(void **state)
{
    int status;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(child_with_less());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_rlimits_are_sound),
    cmocka_unit_test(test_rlimits_shared_uid_has_more_processes),
    cmocka_unit_test(test_rlimits_never_above_our_own),
};

UNIT_MAIN(tests)
