/*
 * Landlock rules for a command (landlock(7)): what the mount view allows,
 * said once more in another part of the kernel; no TCP; and nobody outside is
 * signalled or reached through an abstract socket.
 *
 * What a kernel offers depends on the version of its interface, the ABI. Each
 * rule is used where it is known; the rest of the protections holds without.
 */
#ifndef BULKHEAD_LANDLOCK_H
#define BULKHEAD_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The newest ABI that is made use of. */
#define LANDLOCK_ABI_MAX 7

struct landlock_plan {
    uint64_t handled_fs;  /* denied where no rule allows it */
    uint64_t handled_net; /* denied altogether */
    uint64_t scoped;      /* kept within the command's own processes */
    uint64_t read;        /* for all the view */
    uint64_t write;       /* for the places of landlock_writable, added to read */
    uint64_t device;      /* for /dev, added to read */
};

/*
 * What to ask of a kernel with that ABI; 0: it has none, and nothing is asked.
 * files  restrict the file system too: there is a view, whose places are known.
 * Pure. An all-zero plan means that there is nothing to be gained.
 */
void landlock_plan_for(int abi, bool files, struct landlock_plan *plan);

/* The kernel's ABI, 0 where there is none or it is switched off. */
int landlock_abi(void);

/* Places a command may write in, ended by NULL. */
extern const char *const landlock_writable[];

/*
 * Makes the ruleset. *fd is the caller's: landlock_restrict_self(2) takes it;
 * -1 when the plan is all zero. Returns 0 or -errno.
 */
int landlock_build(const struct landlock_plan *plan, int *fd);

#endif
