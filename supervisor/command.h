/*
 * A command, from EXECUTE to VERDICT, as a state machine: [state][event].
 *
 * The end of a command is when its exit status, the end of stdout and the end
 * of stderr are all in and nothing of it runs any more; then follows exactly
 * one VERDICT, after the last byte.
 */
#ifndef BULKHEAD_COMMAND_H
#define BULKHEAD_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proto.h"

struct command;
struct loop;
struct session;

struct command_config {
    struct loop *loop;
    uint64_t max_line;
    uint64_t timeout_ms, max_timeout_ms, grace_ms;
    const char *shell;              /* "/bin/sh": runs what came as one string */
    const char *const *environment; /* policy/environment.h */
    const char *directory;          /* where a command starts that asks for no other place */
    bool cpu_limited;
    struct span protections; /* LIST: what every verdict names */
};

/* Keeps the strings. */
void commands_init(const struct command_config *config);

/* Handles EXECUTE for a session: STARTED and later VERDICT follow, or REFUSED. */
void command_execute(struct session *session, const struct msg_EXECUTE *msg);

/* Handles CONTROL: CONTROLLED or REFUSED follows. command may be NULL. */
void command_control(struct command *command, const struct msg_CONTROL *msg);

/* More output may be sent. Returns 0, or -EOVERFLOW: more than any window is. */
int command_credit(struct command *command, uint32_t exec, uint32_t bytes);

/* Bytes for stdin. Returns 0, or a negative code that is the frontend's fault. */
int command_stdin(struct command *command, const struct msg_STDIN *msg);

/* Its client is gone: stops it, throws its output away. May free it. */
void command_disconnect(struct command *command);

/* The host stops. */
void command_shutdown(struct command *command);

/* What status shows. */
uint32_t command_exec(const struct command *command);
pid_t command_pid(const struct command *command);
const char *command_state_name(const struct command *command);
uint64_t command_bytes(const struct command *command, enum proto_stream stream);

#endif
