/*
 * The message table once more, for tests: its fields as data, and messages
 * written by hand, right or wrong, without the codec under test.
 */
#ifndef BULKHEAD_UNIT_WIRE_H
#define BULKHEAD_UNIT_WIRE_H

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <msgpack.h>

#include "common/proto.h"

enum wire_type { W_U32, W_U64, W_I32, W_BOOL, W_STR, W_BIN, W_SECRET, W_LIST, W_TAIL };

struct wire_field {
    const char *name;
    unsigned key;
    enum wire_type type;
    size_t offset;
    uint64_t max;
};

struct wire_message {
    const char *name;
    enum proto_code code;
    enum proto_direction direction;
    unsigned states;
    size_t max;
    unsigned flags;
    const struct wire_field *fields;
    size_t field_count;
};

#define MSG(name, code, direction, states, max, flags) \
    static const struct wire_field wire_fields_##name[] = {
#define FIELD(message, key, type, name, max) \
    {#name, key, W_##type, offsetof(struct msg_##message, name), max},
#define END(name) \
    }             \
    ;
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END

static const struct wire_message wire_table[] = {
#define MSG(name, code, direction, states, max, flags) \
    {#name,                                            \
     MSG_##name,                                       \
     direction,                                        \
     states,                                           \
     max,                                              \
     flags,                                            \
     wire_fields_##name,                               \
     sizeof wire_fields_##name / sizeof wire_fields_##name[0]},
#define FIELD(message, key, type, name, max)
#define END(name)
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END
};

#define WIRE_COUNT (sizeof wire_table / sizeof wire_table[0])

/* The largest number or length a field takes. */
static inline uint64_t wire_limit(const struct wire_field *field)
{
    if (field->max) {
        return field->max;
    }
    return field->type == W_U64 ? UINT64_MAX : field->type == W_I32 ? INT32_MAX : UINT32_MAX;
}

static inline bool wire_is_span(const struct wire_field *field)
{
    return field->type >= W_STR;
}

/* ---- messages written by hand ---- */

/* A value of a field as it is usually: not empty, within its bounds. */
static inline void wire_put_usual(msgpack_packer *p, const struct wire_field *field)
{
    switch (field->type) {
    case W_U32:
    case W_U64:
        msgpack_pack_uint8(p, 1);
        break;
    case W_I32:
        msgpack_pack_int8(p, -1);
        break;
    case W_BOOL:
        msgpack_pack_true(p);
        break;
    case W_STR:
        msgpack_pack_str_with_body(p, "text", 4);
        break;
    case W_LIST:
        msgpack_pack_bin_with_body(p, "a\0b", 4);
        break;
    default:
        msgpack_pack_bin_with_body(p, "\0\xff", 2);
    }
}

static inline void wire_put_head(msgpack_packer *p, const struct wire_message *message,
                                 size_t pairs)
{
    msgpack_pack_array(p, 2);
    msgpack_pack_uint32(p, message->code);
    msgpack_pack_map(p, pairs);
}

/*
 * The message with its usual values, but for the field at index `except`
 * (beyond the last: none), whose value are the raw bytes.
 */
static inline void wire_write(msgpack_sbuffer *out, const struct wire_message *message,
                              size_t except, const void *raw, size_t raw_len)
{
    msgpack_packer p;
    msgpack_packer_init(&p, out, msgpack_sbuffer_write);
    msgpack_sbuffer_clear(out);
    wire_put_head(&p, message, message->field_count);
    for (size_t i = 0; i < message->field_count; i++) {
        msgpack_pack_uint8(&p, (uint8_t)message->fields[i].key);
        if (i == except) {
            msgpack_sbuffer_write(out, raw, raw_len);
        } else {
            wire_put_usual(&p, &message->fields[i]);
        }
    }
}

#define WIRE_NO_FIELD ((size_t)-1)

static inline void wire_write_usual(msgpack_sbuffer *out, const struct wire_message *message)
{
    wire_write(out, message, WIRE_NO_FIELD, NULL, 0);
}

/* The codec's word for the bytes, as if they came from the side that sends the message. */
static inline int wire_decode(const struct wire_message *message, const msgpack_sbuffer *bytes,
                              union proto_any *out)
{
    enum proto_code code;
    return proto_decode(message->direction, bytes->data, bytes->size, &code, out);
}

#endif
