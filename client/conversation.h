/*
 * One command over one connection: asks for it, passes its output on, steers
 * it when we are told to stop, and ends with its verdict.
 */
#ifndef BULKHEAD_CONVERSATION_H
#define BULKHEAD_CONVERSATION_H

struct location;
struct request;

/*
 * Runs the command and returns the code to exit with. What went wrong was said
 * on stderr. connected (may be NULL) is called once bulkheadd has taken us in.
 */
int conversation_run(const struct location *location, const struct request *request,
                     void (*connected)(void *arg), void *arg);

#endif
