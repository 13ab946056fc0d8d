/*
 * The last look before exec (supervisor/gate.c): a child that took every step
 * passes, and each step that it leaves out is found in the kernel's record.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/gate.h"

#define OTHER 65533

enum step { GROUPS, BOUNDING, GID, UID, CAPABILITIES, NO_NEW_PRIVS, FILTER, STEPS };

static bool as_root;

static int learn_who_we_are(void **state)
{
    (void)state;
    as_root = geteuid() == 0;
    return 0;
}

/* What an ordinary user cannot do is not asked of one. */
static bool is_for_us(enum step step)
{
    return as_root || step == NO_NEW_PRIVS || step == FILTER;
}

static int drop_bounding_set(void)
{
    int result = 0;

    for (int cap = 0; result == 0 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        result = prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    return result;
}

static int load_filter(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    return (int)syscall(SYS_capset, &header, none);
}

static int take(enum step step)
{
    switch (step) {
    case GROUPS:
        return setgroups(0, NULL);
    case BOUNDING:
        return drop_bounding_set();
    case GID:
        return setresgid(OTHER, OTHER, OTHER);
    case UID:
        return setresuid(OTHER, OTHER, OTHER);
    case CAPABILITIES:
        return drop_capabilities();
    case NO_NEW_PRIVS:
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case FILTER:
        return load_filter();
    default:
        return 0;
    }
}

/* Without a privilege, nobody may load a filter who could still gain one. */
static bool is_left_out(enum step step, enum step left_out)
{
    return step == left_out || (step == FILTER && left_out == NO_NEW_PRIVS);
}

/* A child that takes all steps but one, says its word, and stays until it is answered. */
static pid_t stand_at(const int gate[2], enum step left_out)
{
    static const gid_t group = OTHER;
    pid_t pid = fork();
    char word = '?';

    if (pid != 0) {
        return pid;
    }
    close(gate[0]);
    if (as_root && (setgroups(1, &group) < 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)) {
        _exit(100);
    }
    for (int step = 0; step < STEPS; step++) {
        if (!is_left_out((enum step)step, left_out) && is_for_us((enum step)step) &&
            take((enum step)step) < 0) {
            _exit(101 + step);
        }
    }
    _exit(write(gate[1], &word, 1) == 1 && read(gate[1], &word, 1) == 1 ? word : 100);
}

/* Waits for the child's word; the gate itself never waits. */
static pid_t hear(int gate)
{
    pid_t pid = 0;
    int result;

    while ((result = gate_receive(gate, &pid)) == -EAGAIN) {
        usleep(1000);
    }
    assert_int_equal(result, 0);
    return pid;
}

static struct gate_expectation expected(void)
{
    return (struct gate_expectation){.uid = as_root ? OTHER : getuid(),
                                     .gid = as_root ? OTHER : getgid(),
                                     .no_groups = as_root,
                                     .empty_bounding = as_root};
}

static int end_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the gate says of a child that leaves one step out; fault is empty where it passes. */
static void judge(enum step left_out, const struct gate_expectation *expectation, char *fault,
                  size_t size)
{
    int gate[2];
    pid_t pid;
    int result;

    assert_int_equal(gate_make(gate), 0);
    pid = stand_at(gate, left_out);
    assert_true(pid > 0);
    close(gate[1]);
    /* the kernel's word for who it is */
    assert_int_equal(hear(gate[0]), pid);
    fault[0] = '\0';
    result = gate_check(pid, expectation, fault, size);
    assert_int_equal(result, left_out == STEPS && fault[0] == '\0' ? 0 : -EPERM);
    assert_int_equal(gate_answer(gate[0], result == 0), 0);
    assert_int_equal(end_of(pid), result == 0 ? 'y' : 'n');
    assert_int_equal(gate_receive(gate[0], &pid), -EPIPE);
    close(gate[0]);
}

static void test_gate_passes_who_took_every_step(void **state)
{
    struct gate_expectation expectation = expected();
    char fault[128];

    (void)state;
    judge(STEPS, &expectation, fault, sizeof(fault));
    assert_string_equal(fault, "");
}

static void test_gate_names_the_step_that_is_missing(void **state)
{
    static const char *const lines[STEPS] = {
        [GROUPS] = "\nGroups:",
        [BOUNDING] = "\nCapBnd:",
        [GID] = "\nGid:",
        [UID] = "\nUid:",
        [CAPABILITIES] = "\nCapPrm:",
        [FILTER] = "\nSeccomp:\t0",
        [NO_NEW_PRIVS] = "\nNoNewPrivs:\t0",
    };
    struct gate_expectation expectation = expected();
    char fault[128];

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        if (is_for_us((enum step)step)) {
            judge((enum step)step, &expectation, fault, sizeof(fault));
            assert_non_null(strstr(fault, lines[step] + 1));
        }
    }
}

static void test_gate_refuses_another_uid_or_gid(void **state)
{
    struct gate_expectation expectation = expected();
    char fault[128];

    (void)state;
    expectation.uid++;
    judge(STEPS, &expectation, fault, sizeof(fault));
    assert_non_null(strstr(fault, "Uid:"));
    expectation = expected();
    expectation.gid++;
    judge(STEPS, &expectation, fault, sizeof(fault));
    assert_non_null(strstr(fault, "Gid:"));
}

static void test_gate_refuses_who_is_not_there(void **state)
{
    struct gate_expectation expectation = expected();
    char fault[128] = "";
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        _exit(0);
    }
    assert_int_equal(end_of(pid), 0);
    assert_int_equal(gate_check(pid, &expectation, fault, sizeof(fault)), -EPERM);
    assert_non_null(strstr(fault, "No such file"));
}

static void test_gate_waits_for_a_word(void **state)
{
    int gate[2];
    pid_t pid;

    (void)state;
    assert_int_equal(gate_make(gate), 0);
    assert_int_equal(gate_receive(gate[0], &pid), -EAGAIN);
    close(gate[1]);
    assert_int_equal(gate_receive(gate[0], &pid), -EPIPE);
    assert_true(gate_answer(gate[0], true) < 0);
    close(gate[0]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_gate_passes_who_took_every_step),
    cmocka_unit_test(test_gate_names_the_step_that_is_missing),
    cmocka_unit_test(test_gate_refuses_another_uid_or_gid),
    cmocka_unit_test(test_gate_refuses_who_is_not_there),
    cmocka_unit_test(test_gate_waits_for_a_word),
};

UNIT_MAIN_WITH(tests, learn_who_we_are, NULL)
