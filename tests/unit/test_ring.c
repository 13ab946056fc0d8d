/* The double-mapped ring (supervisor/ring.c). */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/ring.h"

static void test_ring_starts_empty(void **state)
{
    struct ring ring;
    (void)state;
    assert_int_equal(ring_init(&ring), 0);
    assert_non_null(ring.base);
    assert_int_equal(ring_used(&ring), 0);
    assert_int_equal(ring_space(&ring), RING_SIZE);
    ring_finish(&ring);
    assert_null(ring.base);
    ring_finish(&ring);
}

/* Goes around many times with pieces that do not fit evenly; what it holds is one piece always. */
static void test_ring_is_contiguous_all_around(void **state)
{
    struct ring ring;
    unsigned char in = 0, out = 0;
    (void)state;
    assert_int_equal(ring_init(&ring), 0);
    for (int round = 0; round < 200; round++) {
        size_t add = ring_space(&ring) - (size_t)(round % 7) * 1000;
        char *room = ring_room(&ring);
        for (size_t i = 0; i < add; i++) {
            room[i] = (char)in++;
        }
        ring_filled(&ring, add);
        assert_int_equal(ring_space(&ring), (size_t)(round % 7) * 1000);
        size_t take = ring_used(&ring) - (size_t)(round % 11) * 777;
        const char *data = ring_data(&ring);
        for (size_t i = 0; i < take; i++) {
            if ((unsigned char)data[i] != out++) {
                fail_msg("round %d, byte %zu", round, i);
            }
        }
        ring_consume(&ring, take);
    }
    ring_finish(&ring);
}

static void test_ring_positions_count_the_stream(void **state)
{
    struct ring ring;
    (void)state;
    assert_int_equal(ring_init(&ring), 0);
    for (int i = 0; i < 5; i++) {
        ring_filled(&ring, RING_SIZE);
        ring_consume(&ring, RING_SIZE);
    }
    ring_filled(&ring, 10);
    assert_int_equal(ring.start, 5 * RING_SIZE);
    assert_int_equal(ring.end, 5 * RING_SIZE + 10);
    ring_finish(&ring);
}

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* Two at a time never share memory, and none holds a descriptor or, once spares are gone, a page.
 */
static void test_ring_many_at_once(void **state)
{
    struct ring rings[20];
    int before = open_descriptors();
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rings); i++) {
        assert_int_equal(ring_init(&rings[i]), 0);
        memset(ring_room(&rings[i]), (int)i, RING_SIZE);
        ring_filled(&rings[i], RING_SIZE);
    }
    assert_int_equal(open_descriptors(), before);
    for (size_t i = 0; i < COUNT_OF(rings); i++) {
        assert_int_equal(ring_data(&rings[i])[0], (int)i);
        assert_int_equal(ring_data(&rings[i])[RING_SIZE - 1], (int)i);
        ring_finish(&rings[i]);
    }
    ring_release_spares();
}

/* A child that reads a ring's memory finds that it has none. */
static void test_ring_is_not_inherited(void **state)
{
    struct ring ring;
    unsigned char resident[2 * RING_SIZE / 4096];
    int status;
    (void)state;
    assert_int_equal(ring_init(&ring), 0);
    memcpy(ring_room(&ring), "secret", 6);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(mincore(ring.base, 2 * RING_SIZE, resident) == 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    ring_finish(&ring);
    ring_release_spares();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ring_starts_empty),
    cmocka_unit_test(test_ring_is_contiguous_all_around),
    cmocka_unit_test(test_ring_positions_count_the_stream),
    cmocka_unit_test(test_ring_many_at_once),
    cmocka_unit_test(test_ring_is_not_inherited),
};

UNIT_MAIN(tests)
