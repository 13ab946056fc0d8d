/*
 * The codec of the message table, common/proto.def.
 *
 * Used by both processes. Neither side believes what it decodes: the caller
 * still checks the state the message is allowed in (proto_states).
 */
#ifndef BULKHEAD_PROTO_H
#define BULKHEAD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/span.h"

#define PROTO_VERSION 1

/* The largest datagram in the table; a receive buffer of this size fits all. */
#define PROTO_MAX 204800

/* The most bytes one OUTPUT or STDIN carries. */
#define PROTO_DATA_MAX 65536

enum proto_direction { ASK = 1, TELL = 2 };
enum proto_state { P_NEW = 1, P_READY = 2, S_FREE = 4, S_OPEN = 8 };
enum proto_flag { ONCE = 1, MAY_FD = 2 };

enum proto_stream { STREAM_STDOUT = 1, STREAM_STDERR = 2 };
enum proto_action { ACTION_PAUSE = 1, ACTION_RESUME = 2, ACTION_CANCEL = 3, ACTION_SIGNAL = 4 };

/* Message codes: MSG_READY, MSG_OPEN, ... */
enum proto_code {
#define MSG(name, code, direction, states, max, flags) MSG_##name = (code),
#define FIELD(message, key, type, name, max)
#define END(name)
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END
};

#define PROTO_CTYPE_U32 uint32_t
#define PROTO_CTYPE_U64 uint64_t
#define PROTO_CTYPE_I32 int32_t
#define PROTO_CTYPE_BOOL bool
#define PROTO_CTYPE_STR struct span
#define PROTO_CTYPE_BIN struct span
#define PROTO_CTYPE_SECRET struct span
#define PROTO_CTYPE_LIST struct span
#define PROTO_CTYPE_TAIL struct span

/* One struct a message: struct msg_ready, struct msg_open, ... */
#define MSG(name, code, direction, states, max, flags) struct msg_##name {
#define FIELD(message, key, type, name, max) PROTO_CTYPE_##type name;
#define END(name) \
    }             \
    ;
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END

/* Room for any decoded message. */
union proto_any {
#define MSG(name, code, direction, states, max, flags) struct msg_##name name;
#define FIELD(message, key, type, name, max)
#define END(name)
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END
};

enum proto_error {
    PROTO_OK = 0,
    PROTO_MALFORMED = -1, /* not one msgpack array [code, map] */
    PROTO_LEFTOVER = -2,  /* bytes after the message */
    PROTO_CODE = -3,      /* no such message */
    PROTO_FIELD = -4,     /* a key the message does not have */
    PROTO_TWICE = -5,     /* a key given twice */
    PROTO_MISSING = -6,   /* a field left out */
    PROTO_TYPE = -7,      /* a value of another type */
    PROTO_RANGE = -8,     /* a value or length beyond its maximum */
    PROTO_SIZE = -9,      /* the message is larger than its maximum */
    PROTO_NOMEM = -10,
};

/*
 * Encodes a message into buf.
 * code     which message; msg points to the struct of that name.
 * buf      at least the message's maximum size less its TAIL bytes.
 * used     receives the bytes written. A TAIL field's bytes are not written:
 *          the datagram is buf[0..used) followed by the tail's bytes.
 * Returns PROTO_OK, PROTO_RANGE (a field is beyond its maximum) or PROTO_SIZE.
 */
int proto_encode(enum proto_code code, const void *msg, char *buf, size_t cap, size_t *used);

/*
 * Decodes one datagram that came from the given direction.
 * out      the struct of the message's name within the union is filled in;
 *          its spans point into data and live as long as data does.
 * Returns PROTO_OK, with the code in *code, or an enum proto_error. The code
 * is set as far as it could be read, else 0. Nothing is kept or allocated
 * beyond the call.
 */
int proto_decode(enum proto_direction from, const char *data, size_t len, enum proto_code *code,
                 union proto_any *out);

/* "EXECUTE", or "?" for a code that is not in the table. */
const char *proto_name(enum proto_code code);

/* The states, flags and direction of a message; 0 for an unknown code. */
unsigned proto_states(enum proto_code code);
unsigned proto_flags(enum proto_code code);
unsigned proto_direction_of(enum proto_code code);
size_t proto_max(enum proto_code code);

/* One line for a person: "a field is missing". */
const char *proto_strerror(int error);

/*
 * The sid field of a decoded message, 0 where the message has none.
 */
uint32_t proto_sid(enum proto_code code, const union proto_any *msg);

/*
 * Steps through a LIST: returns the next NUL-ended string and moves *list past
 * it, NULL at the end.
 *     for (const char *s; (s = proto_list_next(&list)) != NULL;)
 */
const char *proto_list_next(struct span *list);

/*
 * What an OUTPUT costs of the window, and what CREDIT gives back for it: the
 * bytes of the stream that it stands for, or those it carries if the markers
 * of cut lines make them more. So a command whose output is taken out is held
 * back by a slow client like any other.
 */
static inline uint64_t proto_output_cost(const struct msg_OUTPUT *msg)
{
    return msg->bytes > msg->data.len ? msg->bytes : msg->data.len;
}

/* How many strings a LIST holds. */
size_t proto_list_count(struct span list);

/*
 * For tests and the manual: calls fn for every message and field of the table
 * in order; field is NULL for the message itself.
 */
void proto_describe(void (*fn)(void *arg, enum proto_code code, const char *message,
                               const char *field, const char *type, unsigned long max),
                    void *arg);

#endif
