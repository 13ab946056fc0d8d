/*
 * The messages of the dialect bulkhead.msgpack.v1, as a client sees them:
 * MessagePack-RPC in binary frames, see bulkhead-protocol(7).
 */
#ifndef BULKHEAD_MESSAGE_H
#define BULKHEAD_MESSAGE_H

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/span.h"

struct request;

/* The longest message that a server may send: 128 KiB of output and what is around it. */
#define MESSAGE_MAX ((128 + 8) * 1024)

/* The most bytes of stdin that one message carries. */
#define MESSAGE_STDIN_MAX 65536

/* ---- what the server says ---- */

/* The errors that we tell apart. */
enum {
    ERROR_NO_PROCESS = -32002,
    ERROR_SESSION_LIMIT = -32003,
    ERROR_UNAUTHORIZED = -32010,
    ERROR_START_FAILED = -32013,
    ERROR_STDIN_CLOSED = -32014,
};

enum message_kind {
    MESSAGE_OTHER, /* nothing that we must know: ping, process.paused, ... */
    MESSAGE_RESPONSE,
    MESSAGE_ERROR,
    MESSAGE_CONNECTED,
    MESSAGE_STARTED,
    MESSAGE_OUTPUT,
    MESSAGE_STDIN_CREDIT,
    MESSAGE_COMPLETED,
    MESSAGE_KINDS
};

/* What lies in a message, by its kind. Spans and params point into the message. */
struct message {
    enum message_kind kind;
    uint64_t id; /* RESPONSE, ERROR: of the request; 0: of none */
    struct {
        int64_t code;
        struct span text, stage;
        int64_t number; /* errno of a start that failed, else 0 */
    } error;
    struct {
        bool is_stderr;
        struct span data;
    } output;
    struct {
        uint32_t bytes;
        bool closed;
    } credit;
    const msgpack_object *params; /* of a notification: a map */
};

/* Keeps what a decoded message points to. */
struct message_reader {
    msgpack_unpacked unpacked;
};

void message_reader_init(struct message_reader *reader);
void message_reader_finish(struct message_reader *reader);

/*
 * Decodes one message. What it holds lives until the next call and as long as
 * data does. Returns 0, or -EPROTO for what is not a message of this dialect.
 */
int message_decode(struct message_reader *reader, const char *data, size_t len,
                   struct message *message);

/* The value of a key in a map, or NULL. */
const msgpack_object *message_field(const msgpack_object *map, const char *key);

/* ---- what we say ---- */

enum { REQUEST_EXECUTE = 1, REQUEST_CANCEL = 2 }; /* ids */

/* A message on its way out, after some bytes that the connection wants for itself. */
struct message_writer {
    msgpack_sbuffer bytes;
    bool failed; /* there was no memory for all of it */
};

void message_writer_init(struct message_writer *writer);
void message_writer_finish(struct message_writer *writer);

/*
 * Each writes one message after headroom bytes, in place of what was there. 0 or -ENOMEM.
 * exec_id is the field of a stdin.credit, packed, as message_pack_field gave it.
 */
int message_execute(struct message_writer *writer, size_t headroom, const struct request *request);
int message_cancel(struct message_writer *writer, size_t headroom);
int message_stdin(struct message_writer *writer, size_t headroom, struct span exec_id,
                  struct span data, bool eof);

/*
 * Packs a field of a map anew into room of cap bytes, so that it can be sent
 * back as it came, whatever its type. The length, or -EPROTO if it is not
 * there or does not fit.
 */
long message_pack_field(const msgpack_object *map, const char *key, char *room, size_t cap);

#endif
