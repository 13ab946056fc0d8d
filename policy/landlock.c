/*
 * The numbers are those of the kernel's uapi header, given here because an
 * older system's header lacks the newer ones.
 */
#include "policy/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REFER = 1 << 13,     /* ABI 2: rename and link between folders */
    FS_TRUNCATE = 1 << 14,  /* ABI 3 */
    FS_IOCTL_DEV = 1 << 15, /* ABI 5 */
    FS_ABI_1 = (1 << 13) - 1,
    NET_TCP = 1 << 0 | 1 << 1,  /* ABI 4: bind, connect */
    SCOPE_ALL = 1 << 0 | 1 << 1 /* ABI 6: abstract sockets, signals */
};

/* struct landlock_ruleset_attr as of ABI 6; an older kernel takes its beginning. */
struct ruleset {
    uint64_t handled_fs, handled_net, scoped;
};

/* struct landlock_path_beneath_attr */
struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

#define RULE_PATH_BENEATH 1
#define VERSION_FLAG 1

const char *const landlock_writable[] = {"/tmp", "/workspace", "/dev/shm", NULL};

void landlock_plan_for(int abi, bool files, struct landlock_plan *plan)
{
    *plan = (struct landlock_plan){0};
    if (abi >= 4) {
        plan->handled_net = NET_TCP;
    }
    if (abi >= 6) {
        plan->scoped = SCOPE_ALL;
    }
    if (!files || abi < 1) {
        return;
    }
    /* A cell has a network of its own, and what is in it is its own affair. */
    plan->handled_net = 0;
    plan->handled_fs = FS_ABI_1;
    plan->handled_fs |= abi >= 2 ? FS_REFER : 0;
    plan->handled_fs |= abi >= 3 ? FS_TRUNCATE : 0;
    plan->handled_fs |= abi >= 5 ? FS_IOCTL_DEV : 0;
    plan->read = FS_READ_FILE | FS_READ_DIR | FS_EXECUTE;
    plan->write = plan->handled_fs & ~(uint64_t)FS_IOCTL_DEV;
    plan->device = plan->handled_fs & (FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV);
}

int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_FLAG);

    return abi < 0 ? 0 : abi < LANDLOCK_ABI_MAX ? (int)abi : LANDLOCK_ABI_MAX;
}

static int allow(int ruleset, const char *path, uint64_t access)
{
    struct beneath rule = {.allowed = access};
    int result = 0;

    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0) {
        return -errno;
    }
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0) {
        result = -errno;
    }
    close(rule.parent);
    return result;
}

/* As much of the struct as the kernel has fields for, and as is used. */
static size_t ruleset_size(const struct ruleset *ruleset)
{
    return ruleset->scoped != 0        ? sizeof(*ruleset)
           : ruleset->handled_net != 0 ? 2 * sizeof(uint64_t)
                                       : sizeof(uint64_t);
}

static int add_rules(int ruleset, const struct landlock_plan *plan)
{
    int result = 0;

    if (plan->handled_fs == 0) {
        return 0;
    }
    result = allow(ruleset, "/", plan->read);
    if (result == 0) {
        result = allow(ruleset, "/dev", plan->read | plan->device);
    }
    for (size_t i = 0; result == 0 && landlock_writable[i] != NULL; i++) {
        result = allow(ruleset, landlock_writable[i], plan->read | plan->write);
    }
    return result;
}

int landlock_build(const struct landlock_plan *plan, int *fd)
{
    const struct ruleset ruleset = {plan->handled_fs, plan->handled_net, plan->scoped};
    int result;

    *fd = -1;
    if (plan->handled_fs == 0 && plan->handled_net == 0 && plan->scoped == 0) {
        return 0;
    }
    *fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, ruleset_size(&ruleset), 0);
    if (*fd < 0) {
        return -errno;
    }
    result = add_rules(*fd, plan);
    if (result < 0) {
        close(*fd);
        *fd = -1;
    }
    return result;
}
