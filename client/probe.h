/*
 * What a host gives: each thing that cells are made of is tried, for real, in a
 * child of its own that leaves nothing behind.
 */
#ifndef BULKHEAD_PROBE_H
#define BULKHEAD_PROBE_H

#include <stdbool.h>
#include <sys/types.h>

enum probe_verdict { PROBE_NO, PROBE_YES, PROBE_NONE /* does not concern this user or kernel */ };

struct probe_answer {
    enum probe_verdict verdict;
    char found[256]; /* one line, for a person */
};

/* Who would do it: bulkheadd, when the user who asks starts it. */
struct probe_user {
    bool system;    /* with CAP_SETUID and CAP_SETGID; otherwise the uids are the caller's */
    uid_t uid;      /* of bulkheadd */
    gid_t gid;      /* of bulkheadd */
    uid_t cell_uid; /* of a command; the next one is its init's. The gids are the same */
};

/* The levels of bulkheadd that cannot do without it. */
enum probe_need { NEEDED_BY_NONE, NEEDED_BY_FULL, NEEDED_BY_BOTH };

struct probe {
    const char *name;
    const char *what_for;
    enum probe_need need;
    const char *after; /* the row without which it need not be tried, or NULL */
    void (*run)(const struct probe *probe, const struct probe_user *user,
                struct probe_answer *answer);
    int namespaces;                   /* probe_namespaces: CLONE_NEW... beside the user's */
    int (*inside)(const char **step); /* and what is done in them: 0, or -1 with errno */
    const char *remedy;
};

/*
 * Tries one, in a child that is killed when it takes too long.
 * Returns 0, or -errno when there was no child to try it in; answer is not set then.
 */
int probe_run(const struct probe *probe, const struct probe_user *user,
              struct probe_answer *answer);

/* ---- for the functions that probes run; all are in the child ---- */

__attribute__((format(printf, 3, 4))) void
probe_answer_set(struct probe_answer *answer, enum probe_verdict verdict, const char *format, ...);

/*
 * Becomes what bulkheadd is after its start: its uid, no groups, CAP_SETUID and
 * CAP_SETGID, no_new_privs. Returns 0, or -1 with a "no" in answer.
 */
int probe_become(const struct probe_user *user, struct probe_answer *answer);

/* ---- probe_namespaces.c ---- */

void probe_namespaces(const struct probe *probe, const struct probe_user *user,
                      struct probe_answer *answer);

int inside_user(const char **step);
int inside_mount(const char **step);
int inside_pid(const char **step);
int inside_network(const char **step);
int inside_ipc(const char **step);
int inside_uts(const char **step);
int inside_cgroup(const char **step);
int inside_files(const char **step);
int inside_proc(const char **step);
int inside_usr(const char **step);
int inside_root(const char **step);

/* ---- probe_kernel.c ---- */

typedef void probe_fn(const struct probe *probe, const struct probe_user *user,
                      struct probe_answer *answer);

probe_fn probe_kernel, probe_seccomp, probe_no_new_privs, probe_landlock, probe_uid_range,
    probe_sealed_copy, probe_read_back, probe_whole_proc, probe_max_namespaces, probe_userns_clone,
    probe_apparmor;

/* ---- probe_cgroup.c ---- */

probe_fn probe_cgroup_v2, probe_cgroup_controllers, probe_cgroup_delegation;

#endif
