/*
 * Runs in bulkheadd while it starts, and in the child that becomes the
 * frontend. In: --user and --uid-range, which the administrator wrote.
 */
#include "supervisor/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/option.h"

/* One byte of this file stands for each uid, and is locked by whoever uses it. */
#define LOCK_FILE "/run/bulkhead-uids.lock"

/* In a block: the frontend's uid, perhaps the supervisor's, then the sessions'. */
#define OWN_UIDS 2

/* The user a package makes; without it the range's second uid serves. */
#define DEFAULT_USER "bulkhead"

static bool may_change_ids(void)
{
    cap_flag_value_t setuid_ok = CAP_CLEAR, setgid_ok = CAP_CLEAR;
    cap_t caps = cap_get_proc();

    if (caps == NULL) {
        return false;
    }
    if (cap_get_flag(caps, CAP_SETUID, CAP_EFFECTIVE, &setuid_ok) < 0 ||
        cap_get_flag(caps, CAP_SETGID, CAP_EFFECTIVE, &setgid_ok) < 0) {
        setuid_ok = CAP_CLEAR;
    }
    cap_free(caps);
    return setuid_ok == CAP_SET && setgid_ok == CAP_SET;
}

static int parse_range(const char *text, uint64_t *first, uint64_t *last)
{
    char copy[64];
    char *dash;

    if (strlen(text) >= sizeof(copy)) {
        return -EINVAL;
    }
    strcpy(copy, text);
    dash = strchr(copy, '-');
    if (dash == NULL) {
        return -EINVAL;
    }
    *dash = '\0';
    if (option_parse_uint(copy, first) < 0 || option_parse_uint(dash + 1, last) < 0) {
        return -EINVAL;
    }
    /* The largest uid means "none", so the range ends before it; 0 is root. */
    return *first > 0 && *first < *last && *last < UINT32_MAX ? 0 : -EINVAL;
}

/* Finds the supervisor's own user. Returns 0 or -EINVAL. */
static int find_user(struct identity *identity, const char *name, uid_t fallback, char *error,
                     size_t error_size)
{
    const struct passwd *entry = getpwnam(name != NULL ? name : DEFAULT_USER);
    uint64_t number;

    if (entry != NULL) {
        identity->uid = entry->pw_uid;
        identity->gid = entry->pw_gid;
    } else if (name == NULL) {
        identity->uid = identity->gid = fallback;
    } else if (option_parse_uint(name, &number) == 0 && number < UINT32_MAX) {
        identity->uid = identity->gid = (uid_t)number;
    } else {
        (void)snprintf(error, error_size,
                       "--user %s: no such user; make it (adduser --system --group %s) or give "
                       "another one",
                       name, name);
        return -EINVAL;
    }
    if (identity->uid == 0) {
        (void)snprintf(error, error_size, "--user %s is root; give an ordinary user", name);
        return -EINVAL;
    }
    return 0;
}

/* Open file description locks: fcntl_locking(2). They end with the last of our processes. */
static int lock_block(int fd, uint64_t first, uint64_t count)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = (off_t)count};

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Finds a block of uids that no other bulkheadd uses. Returns 0 or -EINVAL with the reason. */
static int take_block(struct identity *identity, uint64_t first, uint64_t last, size_t sessions,
                      char *error, size_t error_size)
{
    uint64_t wanted = sessions + OWN_UIDS;
    uint64_t count = last - first + 1 < wanted ? last - first + 1 : wanted;
    uint64_t start = first;
    int result = 0;

    identity->lock_fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (identity->lock_fd < 0 && geteuid() == 0) {
        (void)snprintf(error, error_size, "%s: %s", LOCK_FILE, strerror(errno));
        return -EINVAL;
    }
    /* A unit that is not root has a user and a range of its own, and needs no lock. */
    while (identity->lock_fd >= 0) {
        result = lock_block(identity->lock_fd, start, count);
        if (result == 0 || start + 2 * count - 1 > last) {
            break;
        }
        start += count;
    }
    if (result < 0) {
        (void)snprintf(error, error_size,
                       "--uid-range %llu-%llu: others use it all (%s); give a range of its own",
                       (unsigned long long)first, (unsigned long long)last, strerror(-result));
        close(identity->lock_fd);
        identity->lock_fd = -1;
        return -EINVAL;
    }
    identity->frontend_uid = (uid_t)start;
    identity->first_session_uid = (uid_t)(start + OWN_UIDS);
    identity->session_uids = (size_t)(count - OWN_UIDS);
    return 0;
}

int identity_plan(struct identity *identity, const char *user, const char *range, size_t each,
                  size_t sessions, char *error, size_t error_size)
{
    uint64_t first, last;

    *identity =
        (struct identity){.invoker = getuid(), .uid = geteuid(), .gid = getegid(), .lock_fd = -1};
    identity->frontend_uid = identity->uid;
    if (parse_range(range, &first, &last) < 0) {
        (void)snprintf(error, error_size,
                       "--uid-range %s: not of the form FIRST-LAST, with 0 < FIRST < LAST < %u",
                       range, UINT32_MAX);
        return -EINVAL;
    }
    identity->system = may_change_ids();
    if (!identity->system) {
        if (identity->uid == 0) {
            (void)snprintf(error, error_size,
                           "started as root without CAP_SETUID and CAP_SETGID, so commands would "
                           "run as root; grant both, or start as an ordinary user");
            return -EINVAL;
        }
        if (user != NULL) {
            (void)snprintf(error, error_size,
                           "--user %s: only root, or a process with CAP_SETUID and CAP_SETGID, "
                           "can change its user; start without --user",
                           user);
            return -EINVAL;
        }
        return 0;
    }
    if (last - first + 1 < OWN_UIDS + each) {
        (void)snprintf(error, error_size, "--uid-range %s: at least %zu uids are needed", range,
                       OWN_UIDS + each);
        return -EINVAL;
    }
    if (take_block(identity, first, last, sessions * each, error, error_size) < 0) {
        return -EINVAL;
    }
    if (identity->uid != 0 && user == NULL) {
        return 0; /* a unit with User= and AmbientCapabilities= chose already */
    }
    if (find_user(identity, user, identity->frontend_uid + 1, error, error_size) < 0) {
        return -EINVAL;
    }
    if (identity->uid >= first && identity->uid <= last &&
        identity->uid != identity->frontend_uid + 1) {
        (void)snprintf(error, error_size, "--user %s lies in --uid-range %s; give another",
                       user != NULL ? user : DEFAULT_USER, range);
        return -EINVAL;
    }
    return 0;
}

/* What is not in the bounding set can never be had again by exec; what is permitted stays. */
static int empty_bounding_set(void)
{
    for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        /* Needs CAP_SETPCAP, which a unit need not give us. */
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
            errno != EPERM) {
            return -1;
        }
    }
    return 0;
}

static int set_capabilities(bool keep_ids)
{
    static const cap_value_t ids[] = {CAP_SETUID, CAP_SETGID};
    cap_t caps = cap_init();
    int result = -1;

    if (caps == NULL) {
        return -1;
    }
    if (!keep_ids || (cap_set_flag(caps, CAP_PERMITTED, 2, ids, CAP_SET) == 0 &&
                      cap_set_flag(caps, CAP_EFFECTIVE, 2, ids, CAP_SET) == 0)) {
        result = cap_set_proc(caps);
    }
    cap_free(caps);
    return result;
}

#define STEP(name, expression)  \
    do {                        \
        *step = (name);         \
        if ((expression) < 0) { \
            return -errno;      \
        }                       \
    } while (0)

int identity_assume(const struct identity *identity, const char **step)
{
    if (identity->system) {
        /* Needs CAP_SETPCAP, as the bounding set does. */
        if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0) < 0 &&
            errno != EPERM) {
            *step = "securebits";
            return -errno;
        }
        STEP("bounding set", empty_bounding_set());
        STEP("keep capabilities", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
        STEP("setgroups", setgroups(0, NULL));
        STEP("setresgid", setresgid(identity->gid, identity->gid, identity->gid));
        STEP("setresuid", setresuid(identity->uid, identity->uid, identity->uid));
    }
    STEP("ambient capabilities", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    STEP("capabilities", set_capabilities(identity->system));
    STEP("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    /* What dies in a cell must come to us; and nobody of our uid may look into us. */
    STEP("child subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    STEP("dumpable", prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    return 0;
}

int identity_become_frontend(const struct identity *identity, const char **step)
{
    if (identity->system) {
        uid_t uid = identity->frontend_uid;

        STEP("setgroups", setgroups(0, NULL));
        STEP("setresgid", setresgid(uid, uid, uid));
        STEP("setresuid", setresuid(uid, uid, uid));
    }
    STEP("capabilities", set_capabilities(false));
    return 0;
}
