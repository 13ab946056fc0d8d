/*
 * The frontend, seen from the supervisor: the process, its channel, its
 * restarts. Everything for the frontend goes out through here.
 */
#ifndef BULKHEAD_LINK_H
#define BULKHEAD_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/proto.h"

struct identity;
struct loop;

struct link_config {
    struct loop *loop;
    const struct identity *identity;
    int program_fd;           /* the frontend's executable, opened while that was possible */
    const char *program_path; /* the same by name, for a script */
    const int *listeners;
    size_t listener_count;
    struct msg_HELLO hello; /* its spans must stay */
    size_t queue_max;       /* bytes of answers that may wait for the frontend */
    void (*ready)(void);    /* the frontend is locked in and serves */
    void (*gone)(void);     /* it ended; all it carried is void */
};

/* Starts the first frontend. The config's pointers are kept. Returns 0 or -errno. */
int link_start(const struct link_config *config);

/* Ends the frontend, and starts no other. Returns when it is gone or was killed. */
void link_finish(void);

/* Called for every child that was reaped; true when it was the frontend. */
bool link_reaped(pid_t pid, int status);

pid_t link_frontend_pid(void); /* 0: none now */

/* Tells the frontend something. What cannot go at once waits its turn. If the
 * frontend does not read, it is replaced. */
void link_tell(enum proto_code code, const void *msg);

/* One OUTPUT, now or not at all: 0, -EAGAIN, or another -errno (there is no frontend). */
int link_try_output(const struct msg_OUTPUT *msg, const struct iovec *pieces, size_t count);

/* Whether an OUTPUT would be refused now. */
bool link_is_blocked(void);

/* Has output_channel_ready called when the channel takes messages again. */
void link_want_writable(void);

/*
 * REFUSED, with a text for a person.
 * kind: a word for programs ("session_limit"). code: of the protocol's table.
 */
__attribute__((format(printf, 5, 6))) void link_refuse(uint32_t sid, uint32_t req, int32_t code,
                                                       const char *kind, const char *format, ...);

/* Ends a frontend that broke the rules; another one is started. */
__attribute__((format(printf, 1, 2))) void link_fault(const char *format, ...);

#endif
