/* How a command's end is named (supervisor/verdict.c), and that no event is forgotten. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "supervisor/command_state.h"
#include "supervisor/verdict.h"

static void test_verdict_is_what_the_facts_say(void **state)
{
    static const struct {
        struct verdict_facts facts;
        enum verdict_reason reason;
        int exit_code;
        unsigned signal;
    } cases[] = {
        {{.code = CLD_EXITED, .status = 0}, REASON_EXITED, 0, 0},
        {{.code = CLD_EXITED, .status = 7}, REASON_EXITED, 7, 0},
        {{.code = CLD_KILLED, .status = SIGKILL}, REASON_SIGNALED, -SIGKILL, SIGKILL},
        {{.code = CLD_DUMPED, .status = SIGSEGV}, REASON_SIGNALED, -SIGSEGV, SIGSEGV},
        {{.code = CLD_KILLED, .status = SIGSYS}, REASON_SECCOMP, -SIGSYS, SIGSYS},
        {{.code = CLD_KILLED, .status = SIGXCPU}, REASON_SIGNALED, -SIGXCPU, SIGXCPU},
        {{.code = CLD_KILLED, .status = SIGXCPU, .cpu_limited = true},
         REASON_CPU_LIMIT,
         -SIGXCPU,
         SIGXCPU},
        /* What we stopped did not succeed, whatever it made of our signal. */
        {{.stopped = REASON_TIMEOUT, .code = CLD_EXITED, .status = 0},
         REASON_TIMEOUT,
         -SIGTERM,
         SIGTERM},
        {{.stopped = REASON_CANCELED, .code = CLD_EXITED, .status = 3}, REASON_CANCELED, 3, 0},
        {{.stopped = REASON_TIMEOUT, .code = CLD_KILLED, .status = SIGKILL},
         REASON_TIMEOUT,
         -SIGKILL,
         SIGKILL},
        {{.lost = true}, REASON_CELL_LOST, -SIGKILL, SIGKILL},
        {{.code = 0}, REASON_CELL_LOST, -SIGKILL, SIGKILL},
        {{.lost = true, .stopped = REASON_DISCONNECTED}, REASON_DISCONNECTED, -SIGTERM, SIGTERM},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct verdict verdict;

        verdict_decide(&cases[i].facts, &verdict);
        assert_int_equal(verdict.reason, cases[i].reason);
        assert_int_equal(verdict.exit_code, cases[i].exit_code);
        assert_int_equal(verdict.signal, cases[i].signal);
    }
}

/* Exit code 0 means one thing only, and every other reason has words. */
static void test_verdict_success_is_only_what_exited_with_zero(void **state)
{
    static const int codes[] = {0, CLD_EXITED, CLD_KILLED, CLD_DUMPED};
    (void)state;
    for (unsigned stopped = 0; stopped <= REASON_STREAM_FAILED; stopped++) {
        for (size_t i = 0; i < COUNT_OF(codes); i++) {
            for (int lost = 0; lost < 2; lost++) {
                struct verdict_facts facts = {.stopped = (enum verdict_reason)stopped,
                                              .lost = lost != 0,
                                              .code = codes[i],
                                              .status = codes[i] == CLD_EXITED ? 0 : SIGTERM};
                struct verdict verdict;

                if (stopped == REASON_EXITED) {
                    continue; /* nobody stops a command with that */
                }
                verdict_decide(&facts, &verdict);
                assert_int_equal(verdict.exit_code == 0, verdict.reason == REASON_EXITED);
                assert_int_equal(verdict.error[0] == '\0', verdict.reason == REASON_EXITED);
            }
        }
    }
}

static void test_verdict_reasons_have_names(void **state)
{
    (void)state;
    for (unsigned reason = 1; reason <= REASON_STREAM_FAILED; reason++) {
        assert_string_not_equal(verdict_reason_name(reason), "unknown");
    }
    assert_string_equal(verdict_reason_name(0), "unknown");
}

static void test_command_machine_has_no_empty_cell(void **state)
{
    (void)state;
    assert_true(command_machine_is_whole());
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_verdict_is_what_the_facts_say),
    cmocka_unit_test(test_verdict_success_is_only_what_exited_with_zero),
    cmocka_unit_test(test_verdict_reasons_have_names),
    cmocka_unit_test(test_command_machine_has_no_empty_cell),
};

UNIT_MAIN(tests)
