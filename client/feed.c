#include "client/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client/connection.h"
#include "client/message.h"

int feed_open(struct feed *feed, struct connection *connection)
{
    *feed = (struct feed){.connection = connection, .open = true};
    feed->chunk = malloc(MESSAGE_STDIN_MAX);
    return feed->chunk ? 0 : -ENOMEM;
}

static void unwatch(struct feed *feed)
{
    if (feed->watched) {
        connection_watch(feed->connection, STDIN_FILENO, 0);
    }
    feed->watched = false;
}

void feed_close(struct feed *feed)
{
    unwatch(feed);
    free(feed->chunk);
    feed->chunk = NULL;
    feed->open = feed->full = false;
}

int feed_read(struct feed *feed)
{
    if (!feed->open || feed->full || feed->credit == 0) {
        return 0;
    }
    size_t room = feed->credit < MESSAGE_STDIN_MAX ? feed->credit : MESSAGE_STDIN_MAX;
    ssize_t n = read(STDIN_FILENO, feed->chunk, room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return 0;
    }
    if (n < 0) {
        int code = -errno;
        feed_close(feed);
        return code;
    }
    unwatch(feed);
    feed->len = (size_t)n;
    feed->eof = n == 0;
    feed->full = true;
    connection_want_write(feed->connection);
    return 0;
}

int feed_go_on(struct feed *feed)
{
    if (!feed->open || feed->full || feed->watched || feed->credit == 0) {
        return 0;
    }
    feed->watched = connection_watch(feed->connection, STDIN_FILENO, EPOLLIN) == 0;
    return feed->watched ? 0 : feed_read(feed); /* a plain file is always ready */
}

int feed_grant(struct feed *feed, const struct message *message)
{
    if (!feed->open) {
        return 0;
    }
    if (message->credit.closed) {
        feed_close(feed);
        return 0;
    }
    long len = message_pack_field(message->params, "exec_id", feed->exec_id, sizeof feed->exec_id);
    if (len < 0 || message->credit.bytes > UINT32_MAX - feed->credit) {
        return -EPROTO;
    }
    feed->exec_id_len = (size_t)len;
    feed->credit += message->credit.bytes;
    return feed_go_on(feed);
}

int feed_take(struct feed *feed, struct message_writer *writer)
{
    int code =
        message_stdin(writer, CONNECTION_HEADROOM, (struct span){feed->exec_id, feed->exec_id_len},
                      (struct span){feed->chunk, feed->len}, feed->eof);
    feed->full = false;
    feed->credit -= (uint32_t)feed->len;
    if (feed->eof) {
        feed_close(feed);
    }
    return code;
}
