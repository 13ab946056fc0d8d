/*
 * The table of sessions. A session is there from OPENED until its CLOSED; both
 * happen here and nowhere else, so it is there whole or not at all.
 */
#ifndef BULKHEAD_SESSION_H
#define BULKHEAD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/span.h"

struct cell;
struct command;

struct session {
    struct session *next; /* in its bucket */
    uint32_t sid;         /* the frontend's number for it */
    char id[37];          /* a UUID, what the client sees */
    char peer[65];
    uint64_t opened_us;
    uint32_t last_exec;
    bool closing;            /* CLOSE came; CLOSED follows when nothing is left */
    bool orphan;             /* the frontend that carried it is gone; its sid means nothing */
    struct cell *cell;       /* NULL until the first command */
    struct command *command; /* NULL: none runs */
};

/*
 * max      sessions at a time
 * emptied  called whenever the last one ended; it must not open one
 * Returns 0 or -ENOMEM.
 */
int sessions_init(size_t max, void (*emptied)(void));
void sessions_finish(void);

size_t sessions_count(void);
size_t sessions_max(void);
size_t sessions_commands(void);

struct session *session_find(uint32_t sid);

/* The session with the smallest sid that is not below sid, or NULL. */
struct session *session_at_least(uint32_t sid);

/*
 * Makes a session. peer is cut to 64 bytes.
 * Returns 0, -EEXIST (the sid is taken), -EUSERS (no place), -ENOMEM, or
 * -errno of getrandom(2).
 */
int session_open(uint32_t sid, struct span peer, struct session **made);

/* Its client is gone: stops its command; CLOSED is told once nothing is left. */
void session_close(struct session *session);

/* The command ended: forgets it; ends the session if it is closing. */
void session_command_done(struct session *session);

/* The frontend is gone: ends all sessions, as if each had closed. Those whose command
 * takes its time still count, but their sids are free. */
void sessions_abandon(void);

/* The host stops: stops every command, with the reason `shutdown`. */
void sessions_shutdown(void);

/* Logs each session and its command, for SIGUSR1. */
void sessions_log(void);

#endif
