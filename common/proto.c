/*
 * The codec of the message table. Runs in both processes; what it decodes
 * comes from the other one and is not believed: every field must be there,
 * once, with its type and within its maximum, and nothing may follow.
 *
 * All messages share one encoder and one decoder, driven by descriptors that
 * are expanded from common/proto.def.
 */
#include "common/proto.h"

#include <limits.h>
#include <string.h>

#include <msgpack.h>

#include "common/shape.h"

enum field_type { T_U32, T_U64, T_I32, T_BOOL, T_STR, T_BIN, T_SECRET, T_LIST, T_TAIL };

static const char *const type_names[] = {"U32", "U64",    "I32",  "BOOL", "STR",
                                         "BIN", "SECRET", "LIST", "TAIL"};

struct field {
    const char *name;
    unsigned key;
    enum field_type type;
    size_t offset;
    uint64_t max;
};

struct message {
    const char *name;
    enum proto_direction direction;
    unsigned states;
    unsigned flags;
    size_t max;
    size_t struct_size;
    const struct field *fields;
    size_t field_count;
};

/* Field arrays: fields_READY[], fields_OPEN[], ... */
#define MSG(name, code, direction, states, max, flags) static const struct field fields_##name[] = {
#define FIELD(message, key, type, name, max) \
    {#name, key, T_##type, offsetof(struct msg_##message, name), max},
#define END(name) \
    }             \
    ;
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END

static const struct message messages[] = {
#define MSG(name, code, direction, states, max, flags)  \
    [code] = {#name,         direction,                 \
              (states),      flags,                     \
              max,           sizeof(struct msg_##name), \
              fields_##name, sizeof(fields_##name) / sizeof(fields_##name[0])},
#define FIELD(message, key, type, name, max)
#define END(name)
#include "common/proto.def"
#undef MSG
#undef FIELD
#undef END
};

#define MESSAGE_COUNT (sizeof(messages) / sizeof(messages[0]))

static const struct message *message_of(unsigned code)
{
    if (code >= MESSAGE_COUNT || messages[code].name == NULL) {
        return NULL;
    }
    return &messages[code];
}

/* ---- encoder ---- */

struct sink {
    char *buf;
    size_t used;
    size_t cap;
};

/* msgpack_packer_write: a fixed buffer instead of the library's growing one. */
static int sink_write(void *data, const char *bytes, size_t len)
{
    struct sink *sink = data;

    if (len > sink->cap - sink->used) {
        return -1;
    }
    if (len > 0) { /* an empty span may have no address */
        memcpy(sink->buf + sink->used, bytes, len);
        sink->used += len;
    }
    return 0;
}

static bool list_is_sound(struct span list)
{
    return list.len == 0 || list.data[list.len - 1] == '\0';
}

static int encode_span(msgpack_packer *packer, const struct field *field, struct span value)
{
    if (value.len > field->max) {
        return PROTO_RANGE;
    }
    switch (field->type) {
    case T_STR:
        if (value.len > 0 && memchr(value.data, '\0', value.len) != NULL) {
            return PROTO_RANGE;
        }
        if (msgpack_pack_str(packer, value.len) != 0 ||
            msgpack_pack_str_body(packer, value.data, value.len) != 0) {
            return PROTO_SIZE;
        }
        return PROTO_OK;
    case T_TAIL:
        return msgpack_pack_bin(packer, value.len) == 0 ? PROTO_OK : PROTO_SIZE;
    case T_LIST:
        if (!list_is_sound(value)) {
            return PROTO_RANGE;
        }
        break;
    default:
        break;
    }
    if (msgpack_pack_bin(packer, value.len) != 0 ||
        msgpack_pack_bin_body(packer, value.data, value.len) != 0) {
        return PROTO_SIZE;
    }
    return PROTO_OK;
}

static bool within(uint64_t value, const struct field *field)
{
    return field->max == 0 || value <= field->max;
}

static int encode_field(msgpack_packer *packer, const struct field *field, const char *msg)
{
    const void *at = msg + field->offset;
    int failed;

    switch (field->type) {
    case T_U32:
        if (!within(*(const uint32_t *)at, field)) {
            return PROTO_RANGE;
        }
        failed = msgpack_pack_uint32(packer, *(const uint32_t *)at);
        break;
    case T_U64:
        if (!within(*(const uint64_t *)at, field)) {
            return PROTO_RANGE;
        }
        failed = msgpack_pack_uint64(packer, *(const uint64_t *)at);
        break;
    case T_I32:
        failed = msgpack_pack_int32(packer, *(const int32_t *)at);
        break;
    case T_BOOL:
        failed = *(const bool *)at ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
        break;
    default:
        return encode_span(packer, field, *(const struct span *)at);
    }
    return failed ? PROTO_SIZE : PROTO_OK;
}

int proto_encode(enum proto_code code, const void *msg, char *buf, size_t cap, size_t *used)
{
    const struct message *message = message_of(code);
    struct sink sink = {buf, 0, cap};
    msgpack_packer packer;
    size_t tail = 0;

    if (message == NULL) {
        return PROTO_CODE;
    }
    msgpack_packer_init(&packer, &sink, sink_write);
    if (msgpack_pack_array(&packer, 2) != 0 || msgpack_pack_uint8(&packer, (uint8_t)code) != 0 ||
        msgpack_pack_map(&packer, message->field_count) != 0) {
        return PROTO_SIZE;
    }
    for (size_t i = 0; i < message->field_count; i++) {
        const struct field *field = &message->fields[i];
        int result;

        if (msgpack_pack_uint8(&packer, (uint8_t)field->key) != 0) {
            return PROTO_SIZE;
        }
        result = encode_field(&packer, field, msg);
        if (result != PROTO_OK) {
            return result;
        }
        if (field->type == T_TAIL) {
            tail = ((const struct span *)(const void *)((const char *)msg + field->offset))->len;
        }
    }
    if (sink.used + tail > message->max) {
        return PROTO_SIZE;
    }
    *used = sink.used;
    return PROTO_OK;
}

/* ---- decoder ---- */

static int decode_unsigned(const msgpack_object *value, uint64_t type_max,
                           const struct field *field, uint64_t *out)
{
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        return PROTO_TYPE;
    }
    if (value->via.u64 > type_max || !within(value->via.u64, field)) {
        return PROTO_RANGE;
    }
    *out = value->via.u64;
    return PROTO_OK;
}

static int decode_i32(const msgpack_object *value, int32_t *out)
{
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        if (value->via.u64 > INT32_MAX) {
            return PROTO_RANGE;
        }
        *out = (int32_t)value->via.u64;
        return PROTO_OK;
    }
    if (value->type != MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        return PROTO_TYPE;
    }
    if (value->via.i64 < INT32_MIN) {
        return PROTO_RANGE;
    }
    *out = (int32_t)value->via.i64;
    return PROTO_OK;
}

static int decode_span(const msgpack_object *value, const struct field *field, struct span *out)
{
    bool text = field->type == T_STR;

    if (value->type != (text ? MSGPACK_OBJECT_STR : MSGPACK_OBJECT_BIN)) {
        return PROTO_TYPE;
    }
    *out = text ? (struct span){value->via.str.ptr, value->via.str.size}
                : (struct span){value->via.bin.ptr, value->via.bin.size};
    if (out->len > field->max) {
        return PROTO_RANGE;
    }
    if (text && out->len > 0 && memchr(out->data, '\0', out->len) != NULL) {
        return PROTO_RANGE;
    }
    if (field->type == T_LIST && !list_is_sound(*out)) {
        return PROTO_RANGE;
    }
    return PROTO_OK;
}

static int decode_value(const msgpack_object *value, const struct field *field, char *msg)
{
    void *at = msg + field->offset;
    uint64_t number;
    int result;

    switch (field->type) {
    case T_U32:
        result = decode_unsigned(value, UINT32_MAX, field, &number);
        if (result == PROTO_OK) {
            *(uint32_t *)at = (uint32_t)number;
        }
        return result;
    case T_U64:
        return decode_unsigned(value, UINT64_MAX, field, at);
    case T_I32:
        return decode_i32(value, at);
    case T_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN) {
            return PROTO_TYPE;
        }
        *(bool *)at = value->via.boolean;
        return PROTO_OK;
    default:
        return decode_span(value, field, at);
    }
}

static int decode_fields(const struct message *message, const msgpack_object_map *map, char *msg)
{
    uint64_t seen = 0;

    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        const struct field *field = NULL;
        int result;

        for (size_t f = 0; f < message->field_count; f++) {
            if (key->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
                key->via.u64 == message->fields[f].key) {
                field = &message->fields[f];
                break;
            }
        }
        if (field == NULL) {
            return PROTO_FIELD;
        }
        if (seen & (UINT64_C(1) << field->key)) {
            return PROTO_TWICE;
        }
        seen |= UINT64_C(1) << field->key;
        result = decode_value(&map->ptr[i].val, field, msg);
        if (result != PROTO_OK) {
            return result;
        }
    }
    /* No key twice and none unknown: the count alone says whether all are here. */
    return map->size == message->field_count ? PROTO_OK : PROTO_MISSING;
}

static int decode_object(enum proto_direction from, const msgpack_object *object, size_t len,
                         enum proto_code *code, union proto_any *out)
{
    const msgpack_object *head;
    const struct message *message;

    if (object->type != MSGPACK_OBJECT_ARRAY || object->via.array.size != 2) {
        return PROTO_MALFORMED;
    }
    head = object->via.array.ptr;
    if (head[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || head[0].via.u64 >= MESSAGE_COUNT) {
        return PROTO_CODE;
    }
    message = message_of((unsigned)head[0].via.u64);
    if (message == NULL || message->direction != from) {
        return PROTO_CODE;
    }
    *code = (enum proto_code)head[0].via.u64;
    if (len > message->max) {
        return PROTO_SIZE;
    }
    if (head[1].type != MSGPACK_OBJECT_MAP) {
        return PROTO_MALFORMED;
    }
    memset(out, 0, message->struct_size);
    return decode_fields(message, &head[1].via.map, (char *)out);
}

int proto_decode(enum proto_direction from, const char *data, size_t len, enum proto_code *code,
                 union proto_any *out)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    int result;

    *code = (enum proto_code)0;
    if (len == 0 || len > PROTO_MAX) {
        return PROTO_SIZE;
    }
    if (!shape_is_sound(data, len)) {
        return PROTO_MALFORMED;
    }
    msgpack_unpacked_init(&unpacked);
    switch (msgpack_unpack_next(&unpacked, data, len, &offset)) {
    case MSGPACK_UNPACK_SUCCESS:
    case MSGPACK_UNPACK_EXTRA_BYTES:
        result =
            offset == len ? decode_object(from, &unpacked.data, len, code, out) : PROTO_LEFTOVER;
        break;
    case MSGPACK_UNPACK_NOMEM_ERROR:
        result = PROTO_NOMEM;
        break;
    default:
        result = PROTO_MALFORMED;
        break;
    }
    /* Strings and bins point into data, not into the unpacker's zone. */
    msgpack_unpacked_destroy(&unpacked);
    return result;
}

/* ---- the table, asked ---- */

const char *proto_name(enum proto_code code)
{
    const struct message *message = message_of(code);

    return message != NULL ? message->name : "?";
}

unsigned proto_states(enum proto_code code)
{
    const struct message *message = message_of(code);

    return message != NULL ? message->states : 0;
}

unsigned proto_flags(enum proto_code code)
{
    const struct message *message = message_of(code);

    return message != NULL ? message->flags : 0;
}

unsigned proto_direction_of(enum proto_code code)
{
    const struct message *message = message_of(code);

    return message != NULL ? message->direction : 0;
}

size_t proto_max(enum proto_code code)
{
    const struct message *message = message_of(code);

    return message != NULL ? message->max : 0;
}

const char *proto_strerror(int error)
{
    static const char *const texts[] = {
        [-PROTO_OK] = "no error",
        [-PROTO_MALFORMED] = "not a msgpack array of a code and a map",
        [-PROTO_LEFTOVER] = "bytes are left over after the message",
        [-PROTO_CODE] = "no message of this direction has that code",
        [-PROTO_FIELD] = "a field is unknown",
        [-PROTO_TWICE] = "a field is given twice",
        [-PROTO_MISSING] = "a field is missing",
        [-PROTO_TYPE] = "a field has the wrong type",
        [-PROTO_RANGE] = "a field is beyond its maximum",
        [-PROTO_SIZE] = "the message is beyond its maximum size",
        [-PROTO_NOMEM] = "out of memory",
    };

    if (error > 0 || error < PROTO_NOMEM) {
        return "unknown error";
    }
    return texts[-error];
}

uint32_t proto_sid(enum proto_code code, const union proto_any *msg)
{
    const struct message *message = message_of(code);

    for (size_t f = 0; message != NULL && f < message->field_count; f++) {
        if (strcmp(message->fields[f].name, "sid") == 0) {
            return *(const uint32_t *)(const void *)((const char *)msg + message->fields[f].offset);
        }
    }
    return 0;
}

const char *proto_list_next(struct span *list)
{
    const char *item = list->data;
    size_t len;

    if (list->len == 0) {
        return NULL;
    }
    len = strlen(item) + 1;
    list->data += len;
    list->len -= len;
    return item;
}

size_t proto_list_count(struct span list)
{
    size_t count = 0;

    while (proto_list_next(&list) != NULL) {
        count++;
    }
    return count;
}

void proto_describe(void (*fn)(void *arg, enum proto_code code, const char *message,
                               const char *field, const char *type, unsigned long max),
                    void *arg)
{
    for (unsigned code = 0; code < MESSAGE_COUNT; code++) {
        const struct message *message = message_of(code);

        if (message == NULL) {
            continue;
        }
        fn(arg, (enum proto_code)code, message->name, NULL,
           message->direction == ASK ? "ASK" : "TELL", message->max);
        for (size_t f = 0; f < message->field_count; f++) {
            const struct field *field = &message->fields[f];

            fn(arg, (enum proto_code)code, message->name, field->name, type_names[field->type],
               field->max);
        }
    }
}
