/*
 * All code that runs between fork and exec of a command.
 *
 * The child is made with vfork semantics: it shares our memory, we stand still
 * until it has exec'ed or given up, and so it can leave the name and errno of
 * a failing step right where we read it. Only system calls are made there.
 */
#ifndef BULKHEAD_SPAWN_H
#define BULKHEAD_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The steps, in order. The names are what a client reads in `stage`. */
#define SPAWN_STAGES(X)             \
    X(NONE, "none")                 \
    X(FORK, "fork")                 \
    X(SETSID, "setsid")             \
    X(STDIO, "stdio")               \
    X(CLOSE, "close_range")         \
    X(RLIMITS, "rlimits")           \
    X(GID, "setresgid")             \
    X(UID, "setresuid")             \
    X(CAPABILITIES, "capabilities") \
    X(DEATH_SIGNAL, "death_signal") \
    X(NO_NEW_PRIVS, "no_new_privs") \
    X(DIRECTORY, "chdir")           \
    X(SIGNALS, "signal_mask")       \
    X(LANDLOCK, "landlock")         \
    X(SECCOMP, "seccomp")           \
    X(GATE, "read_back")            \
    X(EXEC, "exec")

enum spawn_stage {
#define X(name, text) STAGE_##name,
    SPAWN_STAGES(X)
#undef X
        STAGE_COUNT
};

/* "setsid", ...; "unknown" for a number that is none. */
const char *spawn_stage_name(unsigned stage);

struct rlimit_entry;
struct sock_fprog;

struct spawn_plan {
    char *const *argv; /* argv[0] without a slash is looked for along PATH of envp */
    char *const *envp;
    const char *cwd;
    int fds[3];
    int gate;     /* says a byte there, and runs only when "y" comes back */
    bool set_ids; /* take uid and gid, which must be ours in one of the three places */
    uid_t uid;
    gid_t gid;
    const struct rlimit_entry *limits;
    size_t limit_count;
    int landlock; /* a ruleset, or -1 */
    const struct sock_fprog *filter;
};

/*
 * Starts a command in a new session and process group.
 * Returns 0 with the pid, or -errno with the stage that failed; then nothing
 * runs and nothing is left to reap. All signals must be blocked by the caller.
 */
int spawn_command(const struct spawn_plan *plan, pid_t *pid, enum spawn_stage *stage);

#endif
