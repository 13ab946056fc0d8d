/*
 * Locks the frontend in. What a break-in gets afterwards: its clients, one
 * socketpair, and no way to open, connect, run or signal anything.
 *
 * Each step that fails names itself and ends the process with 111; only the
 * namespaces may be missing, and only in the level "basic", which the
 * administrator asked for by name.
 */
#ifndef BULKHEAD_FRONTEND_LOCKDOWN_H
#define BULKHEAD_FRONTEND_LOCKDOWN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Before anything else: signals as they should be, the parent's death is
 * ours, no descriptors but 0 .. 3 and the first listeners behind them, and
 * room for no more descriptors than connections need.
 */
void lockdown_begin(size_t listeners, size_t connections);

/* After everything was opened and loaded, and before a client is accepted. */
void lockdown_finish(bool basic, size_t connections);

/* The last step, by itself: the list of syscalls. */
void lockdown_filter(void);

#endif
