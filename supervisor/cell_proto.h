/*
 * What the supervisor and a cell's init say to each other, over a SEQPACKET
 * socketpair of their own. Both are the same program, so plain structs will
 * do; the supervisor still checks op, id and length of every report.
 */
#ifndef BULKHEAD_CELL_PROTO_H
#define BULKHEAD_CELL_PROTO_H

#include <stdint.h>

/* One START: the struct, then argv, env (each string NUL-ended) and cwd (NUL-ended). */
#define CELL_START_MAX 204800

enum cell_op {
    CELL_START = 1, /* three descriptors ride along: stdin, stdout, stderr */
    CELL_SIGNAL,    /* to the command's process group */
    CELL_SWEEP,     /* kill and reap all of it */

    CELL_READY = 16, /* the init is confined and waits */
    CELL_UNMAPPED,   /* it waits for the uid maps of its user namespace, at the gate */
    CELL_BROKEN,     /* it could not confine itself: step, error */
    CELL_STARTED,    /* pid */
    CELL_FAILED,     /* stage, error; nothing runs */
    CELL_EXITED,     /* the leader ended; it is not reaped before CELL_SWEEP */
    CELL_SIGNALED,   /* error 0 or ESRCH */
    CELL_SWEPT,      /* nothing is left; how the leader ended, and what all of it used */
};

struct cell_request {
    uint32_t op;
    uint32_t id;     /* of the command */
    uint32_t signal; /* CELL_SIGNAL */
    uint32_t cookie; /* comes back in CELL_SIGNALED */
    uint32_t argv_len, env_len, cwd_len;
};

struct cell_report {
    uint32_t op;
    uint32_t id;
    uint32_t cookie;
    uint32_t stage; /* enum spawn_stage */
    int32_t error;  /* errno */
    int32_t pid;    /* as the init sees it */
    int32_t code;   /* si_code: CLD_EXITED, CLD_KILLED, CLD_DUMPED */
    int32_t status; /* exit code or signal */
    uint64_t user_us, system_us, peak_bytes;
    char step[32]; /* CELL_BROKEN: what failed */
};

#endif
