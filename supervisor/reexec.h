/*
 * Runs bulkheadd from a sealed copy of itself in memory.
 *
 * A command is our fork until it execs, and then /proc/self/exe still names
 * our executable, through a mount of the host that its own view does not have.
 * What it reaches that way is the copy, which nobody can write (memfd_create(2),
 * F_SEAL_WRITE), and not the file on the host.
 */
#ifndef BULKHEAD_REEXEC_H
#define BULKHEAD_REEXEC_H

/*
 * Replaces the process by one that runs the copy, with the same arguments; in
 * that one it returns 0 at once. Returns -errno with the step that failed in
 * *step. The first thing a program does.
 */
int reexec_sealed(char **argv, const char **step);

/* The name of the executable that was copied; NULL if we run no copy. */
const char *reexec_original(void);

#endif
