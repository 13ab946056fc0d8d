/*
 * The signals that ask us to stop (SIGINT, SIGTERM, SIGHUP), as a descriptor.
 * One that was ignored when we were started stays ignored, as nohup(1) and
 * background jobs of a plain shell expect.
 */
#ifndef BULKHEAD_INTERRUPT_H
#define BULKHEAD_INTERRUPT_H

/*
 * Blocks the signals and returns a descriptor that is readable when one came;
 * the same one every time, never to be closed. -errno on failure.
 */
int interrupt_open(void);

/* The number of a signal that came and was not taken yet, or 0. Never blocks. */
int interrupt_take(void);

/* How many were taken so far. */
unsigned interrupt_times(void);

/* In a child before exec: signals as they were when we were started. Async-signal-safe. */
void interrupt_restore(void);

#endif
