/*
 * Sessions by the number that the frontend gave them. The frontend chooses the
 * numbers, so a bad one may choose them to collide: then its own lookups get
 * slow, bounded by max_sessions.
 */
#include "supervisor/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/log.h"
#include "supervisor/cell.h"
#include "supervisor/command.h"
#include "supervisor/link.h"
#include "supervisor/loop.h"

static struct {
    struct session **buckets;
    size_t bucket_count;     /* a power of two */
    struct session *orphans; /* of a frontend that died; only their end is awaited */
    size_t count, max;
    void (*emptied)(void);
} sessions;

int sessions_init(size_t max, void (*emptied)(void))
{
    size_t buckets = 16;

    while (buckets < max) {
        buckets *= 2;
    }
    sessions.buckets = calloc(buckets, sizeof(struct session *));
    if (sessions.buckets == NULL) {
        return -ENOMEM;
    }
    sessions.bucket_count = buckets;
    sessions.max = max;
    sessions.emptied = emptied;
    return 0;
}

void sessions_finish(void)
{
    free(sessions.buckets);
    sessions.buckets = NULL;
    sessions.bucket_count = 0;
}

size_t sessions_count(void)
{
    return sessions.count;
}

size_t sessions_max(void)
{
    return sessions.max;
}

static struct session **bucket_of(uint32_t sid)
{
    return &sessions.buckets[sid & (sessions.bucket_count - 1)];
}

struct session *session_find(uint32_t sid)
{
    struct session *session = *bucket_of(sid);

    while (session != NULL && session->sid != sid) {
        session = session->next;
    }
    return session;
}

static void for_list(struct session *session, void (*fn)(struct session *session, void *arg),
                     void *arg)
{
    struct session *next;

    for (; session != NULL; session = next) {
        next = session->next;
        fn(session, arg);
    }
}

/* Calls fn for every session, orphans last; fn may end the one it is given. */
static void for_each(void (*fn)(struct session *session, void *arg), void *arg)
{
    for (size_t b = 0; b < sessions.bucket_count; b++) {
        for_list(sessions.buckets[b], fn, arg);
    }
    for_list(sessions.orphans, fn, arg);
}

struct search {
    uint32_t from;
    struct session *best;
};

static void look_at(struct session *session, void *arg)
{
    struct search *search = arg;

    if (!session->orphan && session->sid >= search->from &&
        (search->best == NULL || session->sid < search->best->sid)) {
        search->best = session;
    }
}

struct session *session_at_least(uint32_t sid)
{
    struct search search = {.from = sid};

    for_each(look_at, &search);
    return search.best;
}

static void count_command(struct session *session, void *arg)
{
    *(size_t *)arg += session->command != NULL;
}

size_t sessions_commands(void)
{
    size_t count = 0;

    for_each(count_command, &count);
    return count;
}

/* A random UUID: RFC 9562, section 5.4. */
static int make_id(char id[37])
{
    unsigned char b[16];

    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b)) {
        return -EAGAIN;
    }
    b[6] = (unsigned char)((b[6] & 0x0F) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3F) | 0x80);
    (void)snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                   b[13], b[14], b[15]);
    return 0;
}

int session_open(uint32_t sid, struct span peer, struct session **made)
{
    struct session **bucket = bucket_of(sid);
    struct session *session;
    int result;

    if (session_find(sid) != NULL) {
        return -EEXIST;
    }
    if (sessions.count >= sessions.max) {
        return -EUSERS;
    }
    session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return -ENOMEM;
    }
    result = make_id(session->id);
    if (result < 0) {
        free(session);
        return result;
    }
    session->sid = sid;
    session->opened_us = loop_now_us();
    memcpy(session->peer, peer.data,
           peer.len < sizeof(session->peer) ? peer.len : sizeof(session->peer) - 1);
    session->next = *bucket;
    *bucket = session;
    sessions.count++;
    *made = session;
    return 0;
}

static void unlink_session(struct session *session)
{
    struct session **link = session->orphan ? &sessions.orphans : bucket_of(session->sid);

    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
}

static void session_end(struct session *session)
{
    struct msg_CLOSED closed = {.sid = session->sid};

    unlink_session(session);
    sessions.count--;
    if (session->cell != NULL) {
        cell_release(session->cell);
        cells_refill();
    }
    if (!session->orphan) {
        link_tell(MSG_CLOSED, &closed);
    }
    log_session(LOG_DEBUG, session->sid, "session %s ended", session->id);
    free(session);
    if (sessions.count == 0) {
        sessions.emptied();
    }
}

void session_close(struct session *session)
{
    session->closing = true;
    if (session->command != NULL) {
        command_disconnect(session->command); /* may end it, and the session, at once */
    } else {
        session_end(session);
    }
}

void session_command_done(struct session *session)
{
    session->command = NULL;
    if (session->closing) {
        session_end(session);
    }
}

/* The next frontend numbers its sessions anew, so this one gives its number up at once. */
static void orphan(struct session *session, void *arg)
{
    (void)arg;
    if (session->orphan) {
        return;
    }
    unlink_session(session);
    session->orphan = true;
    session->next = sessions.orphans;
    sessions.orphans = session;
    if (!session->closing) {
        session_close(session);
    }
}

void sessions_abandon(void)
{
    for_each(orphan, NULL);
}

static void shut_down(struct session *session, void *arg)
{
    (void)arg;
    if (session->command != NULL) {
        command_shutdown(session->command);
    }
}

void sessions_shutdown(void)
{
    for_each(shut_down, NULL);
}

static void log_one(struct session *session, void *arg)
{
    const struct command *command = session->command;

    (void)arg;
    log_session(LOG_INFO, session->sid, "session %s: peer %s, cell init %d, uid %u", session->id,
                session->peer, session->cell != NULL ? (int)cell_init_pid(session->cell) : 0,
                session->cell != NULL ? cell_uid(session->cell) : 0);
    if (command != NULL) {
        log_session(LOG_INFO, session->sid, "command %u: pid %d, %s, %llu + %llu bytes out",
                    command_exec(command), (int)command_pid(command), command_state_name(command),
                    (unsigned long long)command_bytes(command, STREAM_STDOUT),
                    (unsigned long long)command_bytes(command, STREAM_STDERR));
    }
}

void sessions_log(void)
{
    log_info("%zu sessions, %zu commands, %zu cells", sessions.count, sessions_commands(),
             cells_count());
    for_each(log_one, NULL);
}
