/*
 * What the parts of a command share: its states and events, and the struct
 * itself. For supervisor/command*.c only; others see command.h.
 */
#ifndef BULKHEAD_COMMAND_STATE_H
#define BULKHEAD_COMMAND_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/command.h"
#include "supervisor/input.h"
#include "supervisor/loop.h"
#include "supervisor/output.h"
#include "supervisor/verdict.h"

struct cell;
struct cell_user;
struct session;

/* Control requests that may be on their way to the init at once. */
#define CONTROLS_MAX 8

enum state {
    COMMAND_STARTING, /* the init was asked */
    COMMAND_RUNNING,
    COMMAND_PAUSED,
    COMMAND_STOPPING, /* SIGTERM was sent, grace runs */
    COMMAND_DRAINING, /* the leader ended; the streams have not */
    COMMAND_SWEEPING, /* the init kills and reaps what is left */
    COMMAND_FLUSHING, /* nothing runs; the last bytes wait for the client */
    COMMAND_DONE,
    STATE_COUNT
};

enum event {
    EV_STARTED,
    EV_FAILED, /* the start */
    EV_PAUSED,
    EV_RESUMED,
    EV_STOP,   /* cancel, timeout, disconnect, shutdown, a broken stream */
    EV_EXITED, /* the leader */
    EV_EOF,    /* both streams ended */
    EV_TIMER,  /* grace, or the wait for the streams, is over */
    EV_SWEPT,
    EV_EMPTY, /* both streams ended, and all of them was sent */
    EV_LOST,  /* the init is gone */
    EVENT_COUNT
};

/* A control request whose answer the init owes us. */
struct pending {
    uint32_t req; /* 0: ours, nobody waits */
    uint32_t action;
    int signal;
    bool used;
};

struct command {
    struct output_owner owner; /* sid, exec, credit: what both streams share */
    struct session *session;
    struct cell *cell;
    enum state state;
    uint32_t req;
    pid_t pid;
    uid_t uid;
    struct output out[2];
    struct input in;
    struct timer total; /* the timeout */
    struct timer bound; /* grace, or the wait for the streams */
    struct pending pending[CONTROLS_MAX];
    struct verdict_facts facts;
    bool stop_wanted; /* it came before the start was confirmed */
    bool gone;        /* the client is: nothing is told any more */
    uint64_t started_us, ended_us;
    uint64_t user_us, system_us, peak_bytes;
};

/* What commands_init was given. */
extern struct command_config command_config;

/* What a cell reports goes here; supervisor/command.c. */
extern const struct cell_user command_cell_user;

/* ---- supervisor/command_machine.c ---- */

/* Lets an event act in the state the command is in. It may end and free the command. */
void command_handle(struct command *command, enum event event);

/* For a test: whether something is written for every event in every state. */
bool command_machine_is_whole(void);

/* Whether the leader has not ended yet, as far as we know. */
bool command_leader_lives(const struct command *command);

bool command_streams_ended(const struct command *command);

/* Frees it with all it holds; nobody is told. */
void command_free(struct command *command);

/* ---- supervisor/command.c ---- */

/* Connects the timers and streams of a new command with its state machine. */
void command_attach(struct command *command);

/* Stops it. The first reason counts, and only if it came before the command's own end. */
void command_stop(struct command *command, enum verdict_reason reason);

/* ---- supervisor/command_control.c ---- */

/*
 * Asks the init for a signal to the group. req is answered when the init says
 * that it was sent; 0: nobody waits. Returns 0 or -errno.
 */
int command_signal(struct command *command, int signal, uint32_t req, uint32_t action);

/* The init's answer. */
void command_signaled(struct command *command, uint32_t cookie, int error);

#endif
