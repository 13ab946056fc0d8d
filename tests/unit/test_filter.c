/* The default seccomp program, run in a small interpreter and by the kernel (policy/filter.c). */
#include "tests/unit/unit.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/filter.h"

/* More than any kernel has; all of them are tried. */
#define NUMBERS 1024

#if defined __x86_64__
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define FOREIGN_ARCH AUDIT_ARCH_I386
#elif defined __aarch64__
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define FOREIGN_ARCH AUDIT_ARCH_ARM
#endif

#define ALLOWED SECCOMP_RET_ALLOW
#define FAILS(error) (SECCOMP_RET_ERRNO | (error))
#define KILLED SECCOMP_RET_KILL_PROCESS

static struct filter built;

static int build(void **state)
{
    (void)state;
    return filter_build_default(&built, false);
}

static int build_for_cell(void **state)
{
    (void)state;
    filter_finish(&built);
    return filter_build_default(&built, true);
}

static int build_again(void **state)
{
    (void)state;
    filter_finish(&built);
    return filter_build_default(&built, false);
}

static int finish(void **state)
{
    (void)state;
    filter_finish(&built);
    filter_finish(&built);
    return 0;
}

/* ---- the interpreter ---- */

static bool jump_taken(unsigned operation, uint32_t a, uint32_t k)
{
    switch (operation) {
    case BPF_JEQ:
        return a == k;
    case BPF_JGT:
        return a > k;
    case BPF_JGE:
        return a >= k;
    case BPF_JSET:
        return (a & k) != 0;
    default:
        fail_msg("jump %#x is not known here", operation);
        return false;
    }
}

/* What the kernel would answer. Fails on any instruction that seccomp does not take. */
static uint32_t answer(const struct seccomp_data *data)
{
    const struct sock_fprog *program = &built.program;
    uint32_t a = 0;
    for (unsigned pc = 0; pc < program->len; pc++) {
        const struct sock_filter *f = &program->filter[pc];
        switch (f->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(f->k % 4 == 0 && f->k + 4 <= sizeof *data);
            memcpy(&a, (const char *)data + f->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= f->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += f->k;
            break;
        case BPF_RET | BPF_K:
            return f->k;
        default:
            assert_int_equal(BPF_CLASS(f->code), BPF_JMP);
            pc += jump_taken(BPF_OP(f->code), a, f->k) ? f->jt : f->jf;
        }
    }
    fail_msg("the program runs off its end");
    return 0;
}

static uint32_t answer_to(uint32_t arch, uint32_t number, const uint64_t args[6])
{
    struct seccomp_data data = {.nr = (int)number, .arch = arch};
    memcpy(data.args, args, sizeof data.args);
    return answer(&data);
}

static const uint64_t zeros[6];

/* ---- tests ---- */

static void test_filter_is_what_the_kernel_takes(void **state)
{
    (void)state;
    assert_in_range(built.program.len, 100, BPF_MAXINSNS);
    assert_int_equal(BPF_CLASS(built.program.filter[built.program.len - 1].code), BPF_RET);
}

/* Every number against the table's word for it, with arguments that no rule minds. */
static void test_filter_every_number_is_as_the_table_says(void **state)
{
    enum { ALLOW, REFUSE, ABSENT };
    static const struct {
        const char *name;
        int decision;
    } table[] = {
#define SYSCALL(name, decision) {#name, decision},
#define REFUSE_IF(name, error, arg, compare, a, b)
#define REFUSE_ON_HOST_IF(name, error, arg, compare, a, b)
#define REFUSE_IN_CELL_IF(name, error, arg, compare, a, b)
#define ALLOW_IF(name, arg, value)
#include "policy/syscalls.def"
    };
    static const uint64_t args[6] = {AF_UNIX}; /* and no flag of clone's that matters */
    uint32_t expected[NUMBERS];
    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++) {
        expected[i] = FAILS(ENOSYS);
    }
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        int number = seccomp_syscall_resolve_name(table[i].name);
        if (number >= 0) {
            assert_in_range(number, 0, NUMBERS - 1);
            expected[number] = table[i].decision == ALLOW    ? ALLOWED
                               : table[i].decision == REFUSE ? FAILS(EPERM)
                                                             : FAILS(ENOSYS);
        }
    }
    for (unsigned i = 0; i < NUMBERS; i++) {
        uint32_t got = answer_to(NATIVE_ARCH, i, args);
        if (got != expected[i]) {
            fail_msg("call %u: %#x instead of %#x", i, got, expected[i]);
        }
    }
}

/* The calls that this was written for, told apart from the table. */
static void test_filter_known_calls(void **state)
{
    static const struct {
        const char *name;
        uint64_t args[6];
        uint32_t answer;
    } cases[] = {
        {"read", {0}, ALLOWED},
        {"execve", {0}, ALLOWED},
        {"prctl", {PR_SET_NO_NEW_PRIVS}, ALLOWED},
        {"unshare", {0}, FAILS(EPERM)},
        {"setns", {0}, FAILS(EPERM)},
        {"mount", {0}, FAILS(EPERM)},
        {"umount2", {0}, FAILS(EPERM)},
        {"fsopen", {0}, FAILS(EPERM)},
        {"move_mount", {0}, FAILS(EPERM)},
        {"open_tree", {0}, FAILS(EPERM)},
        {"mount_setattr", {0}, FAILS(EPERM)},
        {"pivot_root", {0}, FAILS(EPERM)},
        {"chroot", {0}, FAILS(EPERM)},
        {"ptrace", {0}, FAILS(EPERM)},
        {"process_vm_readv", {0}, FAILS(EPERM)},
        {"process_vm_writev", {0}, FAILS(EPERM)},
        {"pidfd_getfd", {0}, FAILS(EPERM)},
        {"bpf", {0}, FAILS(EPERM)},
        {"perf_event_open", {0}, FAILS(EPERM)},
        {"userfaultfd", {0}, FAILS(EPERM)},
        {"io_uring_setup", {0}, FAILS(EPERM)},
        {"io_uring_enter", {0}, FAILS(EPERM)},
        {"keyctl", {0}, FAILS(EPERM)},
        {"add_key", {0}, FAILS(EPERM)},
        {"request_key", {0}, FAILS(EPERM)},
        {"kexec_load", {0}, FAILS(EPERM)},
        {"kexec_file_load", {0}, FAILS(EPERM)},
        {"init_module", {0}, FAILS(EPERM)},
        {"finit_module", {0}, FAILS(EPERM)},
        {"delete_module", {0}, FAILS(EPERM)},
        {"swapon", {0}, FAILS(EPERM)},
        {"swapoff", {0}, FAILS(EPERM)},
        {"reboot", {0}, FAILS(EPERM)},
        {"clock_settime", {0}, FAILS(EPERM)},
        {"settimeofday", {0}, FAILS(EPERM)},
        {"adjtimex", {0}, FAILS(EPERM)},
        {"quotactl", {0}, FAILS(EPERM)},
        {"open_by_handle_at", {0}, FAILS(EPERM)},
        {"fanotify_init", {0}, FAILS(EPERM)},
        {"syslog", {0}, FAILS(EPERM)},
        {"acct", {0}, FAILS(EPERM)},
        {"setgroups", {0}, FAILS(EPERM)},
        {"clone3", {0}, FAILS(ENOSYS)},
        {"shmget", {0}, FAILS(ENOSYS)},

        {"clone", {0}, ALLOWED},
        {"clone", {17}, ALLOWED},
        {"clone", {CLONE_VM | CLONE_VFORK | 17}, ALLOWED},
        {"clone", {0x3d0f00}, ALLOWED}, /* a thread of glibc's */
        {"clone", {CLONE_NEWNS}, FAILS(EPERM)},
        {"clone", {CLONE_NEWUTS | 17}, FAILS(EPERM)},
        {"clone", {CLONE_NEWIPC}, FAILS(EPERM)},
        {"clone", {CLONE_NEWUSER | 17}, FAILS(EPERM)},
        {"clone", {CLONE_NEWPID}, FAILS(EPERM)},
        {"clone", {CLONE_NEWNET}, FAILS(EPERM)},
        {"clone", {CLONE_NEWCGROUP}, FAILS(EPERM)},
        {"clone", {CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | 17}, FAILS(EPERM)},
        {"clone", {UINT64_C(0xffffffff00000000) | CLONE_NEWUSER}, FAILS(EPERM)},

        {"ioctl", {0, 0x5401}, ALLOWED},
        {"ioctl", {0, 0}, ALLOWED},
        {"ioctl", {0, TIOCSTI}, FAILS(EPERM)},
        {"ioctl", {0, TIOCLINUX}, FAILS(EPERM)},
        {"ioctl", {0, UINT64_C(0x100000000) | TIOCSTI}, FAILS(EPERM)},
        {"ioctl", {0, UINT64_C(0xffffffff00000000) | TIOCLINUX}, FAILS(EPERM)},
        {"ioctl", {0, TIOCSTI + 1}, ALLOWED},
        {"ioctl", {TIOCSTI, 0, TIOCSTI}, ALLOWED},

        {"socket", {AF_UNIX}, ALLOWED},
        {"socket", {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0}, ALLOWED},
        {"socket", {AF_UNSPEC}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_INET}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_INET6}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_NETLINK}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_PACKET}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_ALG}, FAILS(EAFNOSUPPORT)},
        {"socket", {AF_VSOCK}, FAILS(EAFNOSUPPORT)},
        {"socket", {UINT64_C(0x100000000) | AF_INET}, FAILS(EAFNOSUPPORT)},
        {"socketpair", {AF_UNIX}, ALLOWED},
        {"socketpair", {AF_TIPC}, FAILS(EAFNOSUPPORT)},

        {"personality", {0}, ALLOWED},
        {"personality", {0xffffffff}, ALLOWED},
        {"personality", {0x0400000}, FAILS(ENOSYS)}, /* READ_IMPLIES_EXEC */
        {"personality", {0x0040000}, FAILS(ENOSYS)}, /* ADDR_NO_RANDOMIZE */
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int number = seccomp_syscall_resolve_name(cases[i].name);
        if (number < 0) {
            continue; /* not of this machine */
        }
        uint32_t got = answer_to(NATIVE_ARCH, (uint32_t)number, cases[i].args);
        if (got != cases[i].answer) {
            fail_msg("%s(%#jx, %#jx): %#x instead of %#x", cases[i].name,
                     (uintmax_t)cases[i].args[0], (uintmax_t)cases[i].args[1], got,
                     cases[i].answer);
        }
    }
}

/* With a network namespace of its own: Unix and internet sockets, no other family. */
static void test_filter_in_a_cell_loopback_can_be_used(void **state)
{
    int number = seccomp_syscall_resolve_name("socket");
    (void)state;
    for (uint64_t family = 0; family < 64; family++) {
        bool good = family == AF_UNIX || family == AF_INET || family == AF_INET6;
        uint64_t args[6] = {family, SOCK_STREAM};
        uint64_t high[6] = {family | UINT64_C(1) << 32, SOCK_STREAM};

        assert_int_equal(answer_to(NATIVE_ARCH, (uint32_t)number, args),
                         good ? ALLOWED : FAILS(EAFNOSUPPORT));
        assert_int_equal(answer_to(NATIVE_ARCH, (uint32_t)number, high), FAILS(EAFNOSUPPORT));
    }
}

/* A call that nobody decided on was forgotten: up to the newest known here, Linux 6.17. */
static void test_filter_table_leaves_no_call_out(void **state)
{
    static const char *const decided[] = {
#undef SYSCALL
#define SYSCALL(name, decision) #name,
#include "policy/syscalls.def"
    };
    (void)state;
    for (int number = 0; number <= 469; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        bool found = name == NULL;
        for (size_t i = 0; i < COUNT_OF(decided) && !found; i++) {
            found = strcmp(decided[i], name) == 0;
        }
        if (!found) {
            print_error("%s (%d) is not in policy/syscalls.def\n", name, number);
        }
        free(name);
        assert_true(found);
    }
}

static void test_filter_foreign_calls_are_killed(void **state)
{
    static const uint32_t others[] = {FOREIGN_ARCH, AUDIT_ARCH_S390X, AUDIT_ARCH_RISCV64, 0,
                                      0xffffffff};
    (void)state;
    for (size_t a = 0; a < COUNT_OF(others); a++) {
        for (uint32_t number = 0; number < NUMBERS; number++) {
            assert_int_equal(answer_to(others[a], number, zeros), KILLED);
        }
    }
}

static void test_filter_x32_calls_are_killed(void **state)
{
    (void)state;
#ifdef __x86_64__
    for (uint32_t number = 0; number < NUMBERS; number++) {
        assert_int_equal(answer_to(NATIVE_ARCH, 0x40000000 | number, zeros), KILLED);
    }
    assert_int_equal(answer_to(NATIVE_ARCH, 0x7fffffff, zeros), KILLED);
    assert_int_equal(answer_to(NATIVE_ARCH, 0x80000000, zeros), KILLED);
#else
    skip();
#endif
}

/* ---- in earnest ---- */

static void load(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &built.program) < 0) {
        _exit(99);
    }
}

/* How a child ends that loads the filter and does what it is told. */
static int status_of(void (*act)(void))
{
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        load();
        act();
        _exit(98);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void act_shell(void)
{
    execl("/bin/sh", "sh", "-c", "x=$(echo 7 | cat) && exit $x", (char *)NULL);
}

static void act_refused(void)
{
    int wrong = 0;
    wrong += syscall(SYS_unshare, CLONE_NEWUSER) != -1 || errno != EPERM;
    wrong += syscall(SYS_socket, AF_INET, SOCK_STREAM, 0) != -1 || errno != EAFNOSUPPORT;
    wrong += syscall(SYS_ioctl, 0, UINT64_C(0x100000000) | TIOCSTI, "x") != -1 || errno != EPERM;
    wrong += syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS;
    wrong += syscall(1023) != -1 || errno != ENOSYS;
    _exit(wrong);
}

static void act_foreign(void)
{
#ifdef __x86_64__
    __asm__ volatile("int $0x80" : : "a"(20) : "memory"); /* getpid of i386 */
#endif
}

static void test_filter_loads_after_vfork(void **state)
{
    (void)state;
    int status = status_of(act_shell);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void test_filter_refuses_in_earnest(void **state)
{
    (void)state;
    int status = status_of(act_refused);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_filter_kills_i386_in_earnest(void **state)
{
    (void)state;
#ifdef __x86_64__
    int status = status_of(act_foreign);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) {
        skip(); /* a kernel without these calls */
    }
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
#else
    skip();
#endif
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_filter_is_what_the_kernel_takes),
    cmocka_unit_test(test_filter_every_number_is_as_the_table_says),
    cmocka_unit_test(test_filter_known_calls),
    cmocka_unit_test_setup_teardown(test_filter_in_a_cell_loopback_can_be_used, build_for_cell,
                                    build_again),
    cmocka_unit_test(test_filter_table_leaves_no_call_out),
    cmocka_unit_test(test_filter_foreign_calls_are_killed),
    cmocka_unit_test(test_filter_x32_calls_are_killed),
    cmocka_unit_test(test_filter_loads_after_vfork),
    cmocka_unit_test(test_filter_refuses_in_earnest),
    cmocka_unit_test(test_filter_kills_i386_in_earnest),
};

UNIT_MAIN_WITH(tests, build, finish)
