/*
 * bulkhead.msgpack.v1: MessagePack-RPC in binary frames; output as it came.
 *
 * Messages are written with msgpack-c. They are read in place: msgpack-c
 * would build a tree of 24 bytes for every byte that a stranger sends as
 * empty values, here nothing is allocated and nothing recurses.
 */
#include <string.h>

#include <msgpack.h>

#include "common/proto.h"
#include "frontend/dialect.h"

#define PARSE_ERROR (-32700)
#define INVALID_REQUEST (-32600)

#define RPC_REQUEST 0
#define RPC_RESPONSE 1
#define RPC_NOTIFY 2

/* An id longer than this is not sent back. */
#define ID_MAX 512

/* ---- reading ---- */

/* What is left of a message. */
struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static bool take_number(struct cursor *c, size_t size, uint64_t *value)
{
    if ((size_t)(c->end - c->at) < size) {
        return false;
    }
    for (*value = 0; size > 0; size--) {
        *value = *value << 8 | *c->at++;
    }
    return true;
}

/* Sign-extends a number of size bytes. */
static int64_t as_signed(uint64_t value, size_t size)
{
    unsigned shift = (unsigned)(64 - 8 * size);

    return (int64_t)(value << shift) >> shift;
}

static bool take_bytes(struct cursor *c, struct value *v, enum value_kind kind, uint64_t len)
{
    if (len > (size_t)(c->end - c->at)) {
        return false;
    }
    v->kind = kind;
    v->bytes = (struct span){(const char *)c->at, (size_t)len};
    c->at += len;
    return true;
}

/* A list or map announces no more than could follow: every value has a byte at least. */
static bool take_group(struct cursor *c, struct value *v, enum value_kind kind, uint64_t count)
{
    if (count * (kind == VALUE_MAP ? 2 : 1) > (size_t)(c->end - c->at)) {
        return false;
    }
    v->kind = kind;
    v->count = (size_t)count;
    v->node = c->at;
    return true;
}

static bool take_int(struct cursor *c, struct value *v, size_t size, bool negative)
{
    uint64_t n;

    if (!take_number(c, size, &n)) {
        return false;
    }
    v->kind = VALUE_INT;
    v->integer = negative ? as_signed(n, size) : n > INT64_MAX ? INT64_MAX : (int64_t)n;
    return true;
}

static bool take_real(struct cursor *c, struct value *v, size_t size)
{
    uint64_t n;

    if (!take_number(c, size, &n)) {
        return false;
    }
    v->kind = VALUE_REAL;
    if (size == 4) {
        uint32_t bits = (uint32_t)n;
        float f;

        memcpy(&f, &bits, sizeof(f));
        v->real = (double)f;
    } else {
        memcpy(&v->real, &n, sizeof(v->real));
    }
    return true;
}

/* Values whose length stands in 1, 2 or 4 bytes. */
static bool take_sized(struct cursor *c, struct value *v, enum value_kind kind, size_t size)
{
    uint64_t n;

    if (!take_number(c, size, &n)) {
        return false;
    }
    return kind == VALUE_LIST || kind == VALUE_MAP ? take_group(c, v, kind, n)
                                                   : take_bytes(c, v, kind, n);
}

/* Takes one value; of a list or map only its head. Extension types are not spoken. */
static bool take_value(struct cursor *c, struct value *v)
{
    unsigned char tag;

    *v = (struct value){.kind = VALUE_NULL};
    if (c->at == c->end) {
        return false;
    }
    tag = *c->at++;
    if (tag <= 0x7f || tag >= 0xe0) {
        v->kind = VALUE_INT;
        v->integer = (signed char)tag;
        return true;
    }
    if (tag <= 0x8f) {
        return take_group(c, v, VALUE_MAP, tag & 15);
    }
    if (tag <= 0x9f) {
        return take_group(c, v, VALUE_LIST, tag & 15);
    }
    if (tag <= 0xbf) {
        return take_bytes(c, v, VALUE_STR, tag & 31);
    }
    switch (tag) {
    case 0xc0:
        return true;
    case 0xc2:
    case 0xc3:
        v->kind = VALUE_BOOL;
        v->boolean = tag == 0xc3;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_sized(c, v, VALUE_BIN, (size_t)1 << (tag - 0xc4));
    case 0xca:
    case 0xcb:
        return take_real(c, v, tag == 0xca ? 4 : 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take_int(c, v, (size_t)1 << (tag - 0xcc), false);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_int(c, v, (size_t)1 << (tag - 0xd0), true);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_sized(c, v, VALUE_STR, (size_t)1 << (tag - 0xd9));
    case 0xdc:
    case 0xdd:
        return take_sized(c, v, VALUE_LIST, (size_t)2 << (tag - 0xdc));
    case 0xde:
    case 0xdf:
        return take_sized(c, v, VALUE_MAP, (size_t)2 << (tag - 0xde));
    default:
        return false;
    }
}

/* Takes a value with all that is in it. */
static bool take_whole(struct cursor *c, struct value *v)
{
    uint64_t open = 1;
    struct value inner;
    bool first = true;

    while (open > 0) {
        if (!take_value(c, &inner)) {
            return false;
        }
        open += inner.kind == VALUE_LIST ? inner.count : 0;
        open += inner.kind == VALUE_MAP ? inner.count * 2 : 0;
        open--;
        if (first) {
            *v = inner;
            first = false;
        }
    }
    return true;
}

/* The message was walked once in full, so what is walked again here is there. */
static const unsigned char *message_end;

static bool msgpack_next(struct walk *walk, struct value *key, struct value *value)
{
    struct cursor c = {walk->next == 0 ? walk->in->node : walk->at, message_end};

    if (walk->next >= walk->in->count) {
        return false;
    }
    if (walk->in->kind == VALUE_MAP && !take_whole(&c, key)) {
        return false;
    }
    if (!take_whole(&c, value)) {
        return false;
    }
    walk->next++;
    walk->at = c.at;
    return true;
}

static const struct reader msgpack_reader = {msgpack_next};

static enum envelope_result msgpack_fault(struct envelope *e, int code, const char *kind,
                                          const char *text)
{
    e->fault = (struct fault){.code = code, .kind = kind, .text = text};
    return ENVELOPE_FAULT;
}

/* [0, id, method, params] or [2, method, params]; the head is taken already. */
static enum envelope_result msgpack_rpc(struct cursor *c, size_t count, struct envelope *e)
{
    struct value type, id, method;
    const unsigned char *id_start;

    if (!take_whole(c, &type) || type.kind != VALUE_INT) {
        return msgpack_fault(e, INVALID_REQUEST, "invalid_request", "The type is not a number");
    }
    if (type.integer == RPC_RESPONSE && count == 4) {
        return ENVELOPE_IGNORE;
    }
    id_start = c->at;
    if (type.integer == RPC_REQUEST && count == 4) {
        if (!take_whole(c, &id) || id.kind > VALUE_BIN || c->at - id_start > ID_MAX) {
            return msgpack_fault(e, INVALID_REQUEST, "invalid_request",
                                 "The id is not a plain value, or too long");
        }
        e->id = (struct span){(const char *)id_start, (size_t)(c->at - id_start)};
    } else if (type.integer == RPC_NOTIFY && count == 3) {
        e->id = (struct span){0};
    } else {
        return msgpack_fault(e, INVALID_REQUEST, "invalid_request",
                             "Neither [0, id, method, params] nor [2, method, params]");
    }
    if (!take_whole(c, &method) || method.kind != VALUE_STR) {
        return msgpack_fault(e, INVALID_REQUEST, "invalid_request", "The method is not a string");
    }
    e->method = method.bytes;
    take_whole(c, &e->params);
    return ENVELOPE_OK;
}

static enum envelope_result msgpack_decode(struct span message, struct envelope *e)
{
    struct cursor c = {(const unsigned char *)message.data,
                       (const unsigned char *)message.data + message.len};
    struct cursor all = c;
    struct value root;

    e->id = dialect_msgpack.no_id;
    message_end = c.end;
    if (message.len == 0 || !take_whole(&all, &root) || all.at != all.end) {
        return msgpack_fault(e, PARSE_ERROR, "parse_error", "The message is not MessagePack");
    }
    if (root.kind != VALUE_LIST) {
        return msgpack_fault(e, INVALID_REQUEST, "invalid_request", "The request is not an array");
    }
    c.at = root.node;
    return msgpack_rpc(&c, root.count, e);
}

static void msgpack_release(void)
{
    message_end = NULL;
}

/* ---- writing ---- */

static int write_to_text(void *data, const char *bytes, size_t len)
{
    text_add(data, bytes, len);
    return 0;
}

static msgpack_packer packer_of(struct text *t)
{
    msgpack_packer pk;

    msgpack_packer_init(&pk, t, write_to_text);
    return pk;
}

static void pack_str(msgpack_packer *pk, struct span s)
{
    msgpack_pack_str(pk, s.len);
    msgpack_pack_str_body(pk, s.data, s.len);
}

static void msgpack_notify(struct text *t, const char *method, unsigned members)
{
    msgpack_packer pk = packer_of(t);

    msgpack_pack_array(&pk, 3);
    msgpack_pack_int(&pk, RPC_NOTIFY);
    pack_str(&pk, span_of(method));
    msgpack_pack_map(&pk, members);
}

static void msgpack_result(struct text *t, struct span id, unsigned members)
{
    msgpack_packer pk = packer_of(t);

    msgpack_pack_array(&pk, 4);
    msgpack_pack_int(&pk, RPC_RESPONSE);
    text_add(t, id.data, id.len);
    msgpack_pack_nil(&pk);
    msgpack_pack_map(&pk, members);
}

static void msgpack_end(struct text *t)
{
    (void)t;
}

static void msgpack_null(struct text *t, const char *key)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    msgpack_pack_nil(&pk);
}

static void msgpack_boolean(struct text *t, const char *key, bool value)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    if (value) {
        msgpack_pack_true(&pk);
    } else {
        msgpack_pack_false(&pk);
    }
}

static void msgpack_integer(struct text *t, const char *key, int64_t value)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    msgpack_pack_int64(&pk, value);
}

static void msgpack_real(struct text *t, const char *key, double value)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    msgpack_pack_double(&pk, value);
}

static void msgpack_str(struct text *t, const char *key, struct span value)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    pack_str(&pk, value);
}

static void msgpack_list(struct text *t, const char *key, struct span list)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of(key));
    msgpack_pack_array(&pk, proto_list_count(list));
    for (const char *item; (item = proto_list_next(&list)) != NULL;) {
        pack_str(&pk, span_of(item));
    }
}

static void msgpack_error(struct text *t, struct span id, const struct fault *fault)
{
    msgpack_packer pk = packer_of(t);
    unsigned members = 1 + (fault->stage != NULL ? 2 : 0) + (fault->retry_after_ms > 0 ? 1 : 0);

    msgpack_pack_array(&pk, 4);
    msgpack_pack_int(&pk, RPC_RESPONSE);
    text_add(t, id.data, id.len);
    msgpack_pack_map(&pk, 3);
    msgpack_integer(t, "code", fault->code);
    msgpack_str(t, "message", span_of(fault->text));
    pack_str(&pk, span_of("data"));
    msgpack_pack_map(&pk, members);
    msgpack_str(t, "kind", span_of(fault->kind));
    if (fault->stage != NULL) {
        msgpack_str(t, "stage", span_of(fault->stage));
        msgpack_integer(t, "errno", fault->errnum);
    }
    if (fault->retry_after_ms > 0) {
        msgpack_integer(t, "retry_after_ms", fault->retry_after_ms);
    }
    msgpack_pack_nil(&pk);
}

static void msgpack_data_begin(struct text *t, size_t len)
{
    msgpack_packer pk = packer_of(t);

    pack_str(&pk, span_of("data"));
    msgpack_pack_bin(&pk, len);
}

static size_t msgpack_data_copy(char *out, size_t room, struct span in, size_t *used)
{
    *used = in.len < room ? in.len : room;
    memcpy(out, in.data, *used);
    return *used;
}

static const struct writer msgpack_writer = {
    .notify = msgpack_notify,
    .result = msgpack_result,
    .error = msgpack_error,
    .end = msgpack_end,
    .null = msgpack_null,
    .boolean = msgpack_boolean,
    .integer = msgpack_integer,
    .real = msgpack_real,
    .str = msgpack_str,
    .list = msgpack_list,
    .data_begin = msgpack_data_begin,
    .data_copy = msgpack_data_copy,
    .data_end = msgpack_end,
};

const struct dialect dialect_msgpack = {
    .path = "/ws",
    .subprotocol = "bulkhead.msgpack.v1",
    .binary = true,
    .wrong_kind_closes = true,
    .answers_need_id = true,
    .no_id = {"\xc0", 1},
    .decode = msgpack_decode,
    .release = msgpack_release,
    .reader = &msgpack_reader,
    .writer = &msgpack_writer,
};
