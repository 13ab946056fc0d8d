/*
 * Makes policy/syscalls.def into one BPF program, with libseccomp. Runs in the
 * supervisor, once, before any client is served; takes nothing from outside.
 */
#include "policy/filter.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __s390__
#define CLONE_FLAGS_ARG 1
#else
#define CLONE_FLAGS_ARG 0
#endif

/* ---- the table ---- */

enum decision { ALLOW, REFUSE, ABSENT };

struct call_rule {
    const char *name;
    enum decision decision;
};

enum place { ANYWHERE, ON_HOST, IN_CELL };

struct argument_rule {
    const char *name;
    enum place place;
    int error;
    struct scmp_arg_cmp argument;
};

#define SYSCALL(name, decision) {#name, decision},
#define REFUSE_IF(name, error, arg, compare, a, b)
#define REFUSE_ON_HOST_IF(name, error, arg, compare, a, b)
#define REFUSE_IN_CELL_IF(name, error, arg, compare, a, b)
#define ALLOW_IF(name, arg, value)
static const struct call_rule calls[] = {
#include "policy/syscalls.def"
};
#undef SYSCALL
#undef REFUSE_IF
#undef REFUSE_ON_HOST_IF
#undef REFUSE_IN_CELL_IF
#undef ALLOW_IF

#define SYSCALL(name, decision)
#define REFUSE_AT(place, name, error, arg, compare, a, b) \
    {#name, place, error, {arg, SCMP_CMP_##compare, a, b}},
#define REFUSE_IF(...) REFUSE_AT(ANYWHERE, __VA_ARGS__)
#define REFUSE_ON_HOST_IF(...) REFUSE_AT(ON_HOST, __VA_ARGS__)
#define REFUSE_IN_CELL_IF(...) REFUSE_AT(IN_CELL, __VA_ARGS__)
#define ALLOW_IF(name, arg, value)
static const struct argument_rule refusals[] = {
#include "policy/syscalls.def"
};
#undef REFUSE_IF
#undef REFUSE_ON_HOST_IF
#undef REFUSE_IN_CELL_IF
#undef ALLOW_IF

#define REFUSE_IF(name, error, arg, compare, a, b)
#define REFUSE_ON_HOST_IF(name, error, arg, compare, a, b)
#define REFUSE_IN_CELL_IF(name, error, arg, compare, a, b)
#define ALLOW_IF(name, arg, value) {#name, ANYWHERE, 0, {arg, SCMP_CMP_EQ, value, 0}},
static const struct argument_rule exceptions[] = {
#include "policy/syscalls.def"
};
#undef SYSCALL
#undef REFUSE_IF
#undef REFUSE_ON_HOST_IF
#undef REFUSE_IN_CELL_IF
#undef ALLOW_IF

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- two programs ---- */

static int add_rule(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned count,
                    const struct scmp_arg_cmp *argument)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number < 0) {
        return 0; /* another machine's, or newer than this libseccomp: answered as unknown */
    }
    return seccomp_rule_add_array(ctx, action, number, count, argument);
}

/* What an allowed call must not be asked for; everything else goes on to the next program. */
static int add_refusals(scmp_filter_ctx ctx, enum place elsewhere)
{
    int code = 0;
    for (size_t i = 0; i < COUNT(refusals) && code == 0; i++) {
        if (refusals[i].place == elsewhere) {
            continue;
        }
        code = add_rule(ctx, SCMP_ACT_ERRNO((uint32_t)refusals[i].error), refusals[i].name, 1,
                        &refusals[i].argument);
    }
    return code;
}

static int add_calls(scmp_filter_ctx ctx, enum place elsewhere)
{
    (void)elsewhere;
    int code = 0;
    for (size_t i = 0; i < COUNT(calls) && code == 0; i++) {
        if (calls[i].decision == ABSENT) {
            continue; /* the default */
        }
        uint32_t action = calls[i].decision == ALLOW ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM);
        code = add_rule(ctx, action, calls[i].name, 0, NULL);
    }
    for (size_t i = 0; i < COUNT(exceptions) && code == 0; i++) {
        code = add_rule(ctx, SCMP_ACT_ALLOW, exceptions[i].name, 1, &exceptions[i].argument);
    }
    return code;
}

static int read_program(int fd, struct sock_fprog *program)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    size_t size = (size_t)status.st_size, count = size / sizeof *program->filter;
    if (count == 0 || count > BPF_MAXINSNS) {
        return -E2BIG;
    }
    struct sock_filter *code = malloc(size);
    if (!code) {
        return -ENOMEM;
    }
    if (pread(fd, code, size, 0) != (ssize_t)size) {
        free(code);
        return -EIO;
    }
    *program = (struct sock_fprog){(unsigned short)count, code};
    return 0;
}

/* libseccomp gives its program to a descriptor only. */
static int export(scmp_filter_ctx ctx, struct sock_fprog *program)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int code = seccomp_export_bpf(ctx, fd);
    if (code == 0) {
        code = read_program(fd, program);
    }
    close(fd);
    return code;
}

static int compile(uint32_t otherwise, int (*add)(scmp_filter_ctx ctx, enum place elsewhere),
                   enum place elsewhere, struct sock_fprog *program)
{
    scmp_filter_ctx ctx = seccomp_init(otherwise);
    if (!ctx) {
        return -ENOMEM;
    }
    int code = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (code == 0) { /* a binary tree instead of one comparison a call */
        code = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    if (code == 0) {
        code = add(ctx, elsewhere);
    }
    if (code == 0) {
        code = export(ctx, program);
    }
    seccomp_release(ctx);
    return code;
}

/*
 * One program out of two: where the first would let a call through, the second
 * is asked. libseccomp cannot say "allowed, but not with this argument" in a
 * program whose default is to refuse, and to load two costs twice.
 */
static int chain(const struct sock_fprog *first, const struct sock_fprog *second,
                 struct sock_fprog *out)
{
    size_t count = (size_t)first->len + second->len;
    if (first->len == 0 || second->len == 0 || count > BPF_MAXINSNS) {
        return -E2BIG;
    }
    struct sock_filter *code = malloc(count * sizeof *code);
    if (!code) {
        return -ENOMEM;
    }
    memcpy(code, first->filter, first->len * sizeof *code);
    memcpy(code + first->len, second->filter, second->len * sizeof *code);
    for (unsigned i = 0; i < first->len; i++) {
        if (code[i].code == (BPF_RET | BPF_K) && code[i].k == SECCOMP_RET_ALLOW) {
            code[i] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, first->len - i - 1);
        }
    }
    *out = (struct sock_fprog){(unsigned short)count, code};
    return 0;
}

int filter_build_default(struct filter *out, bool own_network)
{
    enum place elsewhere = own_network ? ON_HOST : IN_CELL;
    struct sock_fprog refuse = {0, NULL}, allow = {0, NULL};
    int code = compile(SCMP_ACT_ALLOW, add_refusals, elsewhere, &refuse);
    if (code == 0) {
        code = compile(SCMP_ACT_ERRNO(ENOSYS), add_calls, elsewhere, &allow);
    }
    if (code == 0) {
        code = chain(&refuse, &allow, &out->program);
    }
    free(refuse.filter);
    free(allow.filter);
    return code;
}

void filter_finish(struct filter *filter)
{
    free(filter->program.filter);
    filter->program = (struct sock_fprog){0, NULL};
}
