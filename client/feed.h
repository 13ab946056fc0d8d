/*
 * Our stdin on its way to the command: one chunk at a time, never more than
 * the command has room for, and read only when there is something to read.
 */
#ifndef BULKHEAD_FEED_H
#define BULKHEAD_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;
struct message;
struct message_writer;

struct feed {
    struct connection *connection;
    bool open;    /* the command may still read */
    bool watched; /* we wait for something to read */
    bool full;    /* a chunk, or the end of all, waits to be sent */
    bool eof;
    uint32_t credit; /* bytes that may still be sent */
    char *chunk;     /* MESSAGE_STDIN_MAX bytes */
    size_t len;
    char exec_id[64]; /* packed */
    size_t exec_id_len;
};

/* Opens the feed; the command's first grant starts it. 0 or -ENOMEM. */
int feed_open(struct feed *feed, struct connection *connection);

/* Reads no more. May be called twice, and on one that is all zero. */
void feed_close(struct feed *feed);

/* Takes a stdin.credit. 0, -EPROTO for one that makes no sense, or as feed_go_on. */
int feed_grant(struct feed *feed, const struct message *message);

/* Reads on as far as the command has room. 0, or -errno of a read that failed: it is closed. */
int feed_go_on(struct feed *feed);

/* Our stdin has something to read. As feed_go_on. */
int feed_read(struct feed *feed);

/* Writes the waiting chunk as a message. 0 or -ENOMEM. */
int feed_take(struct feed *feed, struct message_writer *writer);

#endif
