/*
 * What a cell sees of the file system: a root of its own, made of read-only
 * pieces of the host and of small tmpfs. Runs in the cell's init, as root of
 * the cell's user namespace.
 */
#ifndef BULKHEAD_VIEW_H
#define BULKHEAD_VIEW_H

#include <sys/types.h>

/* Where a session's files are; it starts there. */
#define VIEW_WORKSPACE "/workspace"

struct view_plan {
    uid_t uid; /* of commands, as the cell sees it */
    gid_t gid;
};

/*
 * Builds the view in the caller's mount namespace and makes it the root; what
 * was there before is gone. Returns 0, or -errno with the step in *step; then
 * the namespace is half made and good for nothing.
 */
int view_enter(const struct view_plan *plan, const char **step);

#endif
