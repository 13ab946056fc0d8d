/*
 * The plain dialect: JSON-RPC 2.0 in text frames, as the clients of the
 * predecessor speak it. Parsing is jansson's, within the arena.
 */
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include "common/proto.h"
#include "frontend/arena.h"
#include "frontend/dialect.h"
#include "frontend/utf8.h"

#define PARSE_ERROR (-32700)
#define INVALID_REQUEST (-32600)
#define TOO_LARGE (-32017)

/* An id longer than this is not sent back. */
#define ID_MAX 512

/* ---- reading ---- */

static struct value value_of(const json_t *node)
{
    struct value v = {.kind = VALUE_NULL, .node = node};

    switch (json_typeof(node)) {
    case JSON_OBJECT:
        v.kind = VALUE_MAP;
        v.count = json_object_size(node);
        break;
    case JSON_ARRAY:
        v.kind = VALUE_LIST;
        v.count = json_array_size(node);
        break;
    case JSON_STRING:
        v.kind = VALUE_STR;
        v.bytes = (struct span){json_string_value(node), json_string_length(node)};
        break;
    case JSON_INTEGER:
        v.kind = VALUE_INT;
        v.integer = json_integer_value(node);
        break;
    case JSON_REAL:
        v.kind = VALUE_REAL;
        v.real = json_real_value(node);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        v.kind = VALUE_BOOL;
        v.boolean = json_is_true(node);
        break;
    case JSON_NULL:
        break;
    }
    return v;
}

static bool plain_next(struct walk *walk, struct value *key, struct value *value)
{
    json_t *in = (json_t *)(uintptr_t)walk->in->node;
    void *at;

    if (walk->next >= walk->in->count) {
        return false;
    }
    if (walk->in->kind == VALUE_LIST) {
        *value = value_of(json_array_get(in, walk->next++));
        return true;
    }
    at = walk->next++ == 0 ? json_object_iter(in)
                           : json_object_iter_next(in, (void *)(uintptr_t)walk->at);
    walk->at = at;
    *key = (struct value){.kind = VALUE_STR, .bytes = span_of(json_object_iter_key(at))};
    *value = value_of(json_object_iter_value(at));
    return true;
}

static const struct reader plain_reader = {plain_next};

/* The id as JSON text; false when it is no string, number or null, or too long. */
static bool plain_id(const json_t *id, struct span *out)
{
    static char encoded[TEXT_HEADROOM + ID_MAX];
    struct text t;

    text_init_fixed(&t, encoded, sizeof(encoded));
    if (json_is_string(id)) {
        text_add_char(&t, '"');
        text_add_json(&t, (struct span){json_string_value(id), json_string_length(id)});
        text_add_char(&t, '"');
    } else if (json_is_integer(id)) {
        text_addf(&t, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    } else if (json_is_real(id)) {
        text_addf(&t, "%.17g", json_real_value(id));
    } else if (json_is_null(id)) {
        text_add_str(&t, "null");
    } else {
        return false;
    }
    *out = (struct span){t.data, t.len};
    return !t.failed;
}

static enum envelope_result plain_fault(struct envelope *e, int code, const char *kind,
                                        const char *text)
{
    e->fault = (struct fault){.code = code, .kind = kind, .text = text};
    return ENVELOPE_FAULT;
}

static enum envelope_result plain_not_parsed(struct envelope *e, const json_error_t *error)
{
    if (arena_exhausted()) {
        return plain_fault(e, TOO_LARGE, "too_large", "The message holds too many values");
    }
    if (json_error_code(error) == json_error_null_byte_in_key) {
        return plain_fault(e, INVALID_REQUEST, "invalid_request", "A name holds a NUL");
    }
    return plain_fault(e, PARSE_ERROR, "parse_error", "The message is not JSON");
}

static enum envelope_result plain_envelope(const json_t *root, struct envelope *e)
{
    const json_t *version = json_object_get(root, "jsonrpc");
    const json_t *method = json_object_get(root, "method");
    const json_t *id = json_object_get(root, "id");
    const json_t *params = json_object_get(root, "params");

    e->id = dialect_plain.no_id;
    if (!json_is_object(root)) {
        return plain_fault(e, INVALID_REQUEST, "invalid_request", "The request is not an object");
    }
    if (id != NULL && !plain_id(id, &e->id)) {
        e->id = dialect_plain.no_id;
        return plain_fault(e, INVALID_REQUEST, "invalid_request",
                           "The id is not a string, a number or null, or too long");
    }
    if (id == NULL) {
        e->id = (struct span){0};
    }
    if (version != NULL &&
        (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0)) {
        return plain_fault(e, INVALID_REQUEST, "invalid_request", "jsonrpc is not \"2.0\"");
    }
    if (method == NULL &&
        (json_object_get(root, "result") != NULL || json_object_get(root, "error") != NULL)) {
        return ENVELOPE_IGNORE;
    }
    if (!json_is_string(method)) {
        return plain_fault(e, INVALID_REQUEST, "invalid_request", "The method is not a string");
    }
    e->method = (struct span){json_string_value(method), json_string_length(method)};
    e->params = params != NULL ? value_of(params) : (struct value){.kind = VALUE_NULL};
    return ENVELOPE_OK;
}

static enum envelope_result plain_decode(struct span message, struct envelope *e)
{
    json_error_t error;
    json_t *root;

    e->id = dialect_plain.no_id;
    /* jansson takes a NUL for the end of the text. */
    if (message.len == 0 || memchr(message.data, '\0', message.len) != NULL) {
        return plain_fault(e, PARSE_ERROR, "parse_error", "The message is not JSON");
    }
    root = json_loadb(message.data, message.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    return root != NULL ? plain_envelope(root, e) : plain_not_parsed(e, &error);
}

/* ---- writing ---- */

static void plain_notify(struct text *t, const char *method, unsigned members)
{
    (void)members;
    text_addf(t, "{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":{", method);
}

static void plain_head(struct text *t, struct span id)
{
    text_add_str(t, "{\"jsonrpc\":\"2.0\"");
    if (id.len > 0) {
        text_add_str(t, ",\"id\":");
        text_add(t, id.data, id.len);
    }
}

static void plain_result(struct text *t, struct span id, unsigned members)
{
    (void)members;
    plain_head(t, id);
    text_add_str(t, ",\"result\":{");
}

static void plain_end(struct text *t)
{
    text_add_str(t, "}}");
}

static void plain_key(struct text *t, const char *key)
{
    if (t->len > 0 && t->data[t->len - 1] != '{') {
        text_add_char(t, ',');
    }
    text_addf(t, "\"%s\":", key);
}

static void plain_null(struct text *t, const char *key)
{
    plain_key(t, key);
    text_add_str(t, "null");
}

static void plain_boolean(struct text *t, const char *key, bool value)
{
    plain_key(t, key);
    text_add_str(t, value ? "true" : "false");
}

static void plain_integer(struct text *t, const char *key, int64_t value)
{
    plain_key(t, key);
    text_addf(t, "%lld", (long long)value);
}

static void plain_real(struct text *t, const char *key, double value)
{
    plain_key(t, key);
    text_addf(t, "%.6f", value);
}

static void plain_quoted(struct text *t, struct span value)
{
    text_add_char(t, '"');
    text_add_json(t, value);
    text_add_char(t, '"');
}

static void plain_str(struct text *t, const char *key, struct span value)
{
    plain_key(t, key);
    plain_quoted(t, value);
}

static void plain_list(struct text *t, const char *key, struct span list)
{
    const char *comma = "";

    plain_key(t, key);
    text_add_char(t, '[');
    for (const char *item; (item = proto_list_next(&list)) != NULL; comma = ",") {
        text_add_str(t, comma);
        plain_quoted(t, span_of(item));
    }
    text_add_char(t, ']');
}

static void plain_error(struct text *t, struct span id, const struct fault *fault)
{
    plain_head(t, id);
    text_add_str(t, ",\"error\":{");
    plain_integer(t, "code", fault->code);
    plain_str(t, "message", span_of(fault->text));
    plain_key(t, "data");
    text_add_char(t, '{');
    plain_str(t, "kind", span_of(fault->kind));
    if (fault->stage != NULL) {
        plain_str(t, "stage", span_of(fault->stage));
        plain_integer(t, "errno", fault->errnum);
    }
    if (fault->retry_after_ms > 0) {
        plain_integer(t, "retry_after_ms", fault->retry_after_ms);
    }
    text_add_str(t, "}}}");
}

static void plain_data_begin(struct text *t, size_t len)
{
    (void)len;
    plain_key(t, "data");
    text_add_char(t, '"');
}

static void plain_data_end(struct text *t)
{
    text_add_char(t, '"');
}

static const struct writer plain_writer = {
    .notify = plain_notify,
    .result = plain_result,
    .error = plain_error,
    .end = plain_end,
    .null = plain_null,
    .boolean = plain_boolean,
    .integer = plain_integer,
    .real = plain_real,
    .str = plain_str,
    .list = plain_list,
    .data_begin = plain_data_begin,
    .data_copy = utf8_escape_json,
    .data_end = plain_data_end,
};

/* The predecessor answered at two paths; both are the same dialect. */
#define PLAIN(where)                                                                  \
    {                                                                                 \
        .path = (where), .lines = true, .no_id = {"null", 4}, .decode = plain_decode, \
        .release = arena_reset, .reader = &plain_reader, .writer = &plain_writer,     \
    }

const struct dialect dialect_plain = PLAIN("/ws");
const struct dialect dialect_plain_mcp = PLAIN("/ws/mcp");
