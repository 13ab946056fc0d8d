/*
 * The protections of a command, by name: what verdicts list, and what
 * --require can insist on.
 */
#ifndef BULKHEAD_PROTECTIONS_H
#define BULKHEAD_PROTECTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define PROTECTIONS(X)                    \
    X(PROCESS_GROUP, "process_group")     \
    X(RLIMITS, "rlimits")                 \
    X(UID, "uid")                         \
    X(CAPABILITIES, "capabilities")       \
    X(NO_NEW_PRIVS, "no_new_privs")       \
    X(SECCOMP, "seccomp")                 \
    X(READ_BACK, "read_back")             \
    X(LANDLOCK, "landlock")               \
    X(USER_NAMESPACE, "user_namespace")   \
    X(MOUNT_NAMESPACE, "mount_namespace") \
    X(PID_NAMESPACE, "pid_namespace")     \
    X(NET_NAMESPACE, "network_namespace") \
    X(IPC_NAMESPACE, "ipc_namespace")     \
    X(UTS_NAMESPACE, "uts_namespace")     \
    X(CGROUP_NAMESPACE, "cgroup_namespace")

enum protection {
#define X(name, word) PROTECTION_##name,
    PROTECTIONS(X)
#undef X
        PROTECTION_COUNT
};

/* The names in the order of the enum, ended by NULL. */
extern const char *const protection_names[];

/*
 * The set (bit i for protection i) that every command has.
 * landlock    the kernel's ABI adds something: policy/landlock.h
 * own_uid     a session's commands have a uid that nobody else has
 * namespaces  cells have namespaces of their own
 */
unsigned protections_given(bool own_uid, bool landlock, bool namespaces);

/* Writes the names of a set as a LIST: each ended by a NUL. Returns its length, at most size. */
size_t protections_list(unsigned set, char *list, size_t size);

#endif
