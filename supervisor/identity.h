/*
 * Which user does what. System mode: started by root, or with CAP_SETUID and
 * CAP_SETGID; the supervisor, the frontend and every session get uids of their
 * own. User mode: started by anyone else; the caller's uid is all there is.
 */
#ifndef BULKHEAD_IDENTITY_H
#define BULKHEAD_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct identity {
    bool system;
    uid_t invoker; /* who started us */
    uid_t uid;     /* the supervisor's, after identity_assume */
    gid_t gid;
    uid_t frontend_uid; /* gid alike */
    uid_t first_session_uid;
    size_t session_uids; /* 0 in user mode */
    int lock_fd; /* while it is open, here or in an init, nobody else gets our uids; or -1 */
};

/*
 * Works out who is who.
 * user      --user, or NULL
 * range     --uid-range
 * each      uids that one session takes
 * sessions  for how many of them. Several bulkheadd share a range: each takes,
 *           and locks, a block of it that no other one has.
 * Returns 0, or -EINVAL with the reason in error (error_size bytes).
 */
int identity_plan(struct identity *identity, const char *user, const char *range, size_t each,
                  size_t sessions, char *error, size_t error_size);

/*
 * Becomes the supervisor's user, for good: uid, gid, no groups, at most
 * CAP_SETUID and CAP_SETGID, an empty bounding set, no_new_privs, and uid 0
 * means nothing any more. After it nothing is privileged.
 * Returns 0, or -errno with the step that failed in *step.
 */
int identity_assume(const struct identity *identity, const char **step);

/* The same for the child that becomes the frontend: its uid, and no capability. */
int identity_become_frontend(const struct identity *identity, const char **step);

#endif
