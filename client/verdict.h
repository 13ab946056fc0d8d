/* The verdict on a command, as process.completed brings it. */
#ifndef BULKHEAD_CLIENT_VERDICT_H
#define BULKHEAD_CLIENT_VERDICT_H

#include <jansson.h>
#include <msgpack.h>
#include <stdbool.h>

/* Our own exit codes; the others are the command's. */
enum {
    EXIT_TIMEOUT = 124,
    EXIT_OURS = 125, /* a failure that is not the command's */
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_SIGNAL = 128, /* and the signal's number */
};

struct verdict {
    json_t *fields;  /* all of them, as they came */
    int exit_code;   /* what we exit with */
    bool conclusive; /* it says how the command ended */
};

/*
 * Reads the params of process.completed. 0, -EPROTO for what is no verdict, or
 * -ENOMEM. Nothing else than a verdict that says "exited" with 0 becomes 0.
 */
int verdict_read(const msgpack_object *params, struct verdict *verdict);
void verdict_finish(struct verdict *verdict);

/*
 * A line for the user where the exit code alone does not tell the story, the
 * caller's to free; NULL where it does.
 */
char *verdict_explain(const struct verdict *verdict);

/* One line of JSON and a newline, the caller's to free; NULL without memory. */
char *verdict_line(const struct verdict *verdict);

#endif
