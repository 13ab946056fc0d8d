/* Encodings of other people's making, each decoded to the value it stands for (common/proto.c). */
#include "tests/unit/unit.h"

#include <jansson.h>

#include "tests/unit/wire.h"

/* Where other people's test data lies when it is there; beside the source tree. */
#define CORPUS "../shared/data/msgpack/dist/msgpack-test-suite.json"

static msgpack_sbuffer bytes;

static int make_buffer(void **state)
{
    (void)state;
    msgpack_sbuffer_init(&bytes);
    return 0;
}

static int free_buffer(void **state)
{
    (void)state;
    msgpack_sbuffer_destroy(&bytes);
    return 0;
}

/* "c4-01-ff" */
static size_t from_hex(const char *hex, char *out)
{
    size_t len = 0;
    for (; hex[0] && hex[1]; hex += hex[2] ? 3 : 2) {
        unsigned byte;
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[len++] = (char)byte;
    }
    return len;
}

/* A field that the encodings are tried on. */
struct probe {
    enum proto_code code;
    const char *field;
    enum wire_type type;
};

static const struct probe probes[] = {
    {MSG_HEALTH_IS, "req", W_U32}, {MSG_HEALTH_IS, "uptime_ms", W_U64},
    {MSG_REFUSED, "code", W_I32},  {MSG_HEALTH_IS, "ready", W_BOOL},
    {MSG_REFUSED, "text", W_STR},  {MSG_STDIN, "data", W_TAIL},
};

static const struct wire_message *message_of(enum proto_code code)
{
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        if (wire_table[m].code == code) {
            return &wire_table[m];
        }
    }
    return NULL;
}

static size_t field_index(const struct wire_message *message, const char *name)
{
    size_t i = 0;
    while (strcmp(message->fields[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* A number of the corpus: "number" where JSON can hold it, else "bignum" in digits. */
static bool corpus_number(const json_t *entry, bool *negative, uint64_t *magnitude)
{
    const json_t *number = json_object_get(entry, "number");
    const char *digits = json_string_value(json_object_get(entry, "bignum"));
    if (digits) {
        *negative = digits[0] == '-';
        *magnitude = strtoull(digits + *negative, NULL, 10);
        return true;
    }
    if (!json_is_integer(number)) {
        return false;
    }
    json_int_t value = json_integer_value(number);
    *negative = value < 0;
    *magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
    return true;
}

static int wanted_for_number(enum wire_type type, bool negative, uint64_t magnitude)
{
    switch (type) {
    case W_U32:
        return negative ? PROTO_TYPE : magnitude > UINT32_MAX ? PROTO_RANGE : PROTO_OK;
    case W_U64:
        return negative ? PROTO_TYPE : PROTO_OK;
    case W_I32:
        return magnitude > (uint64_t)INT32_MAX + negative ? PROTO_RANGE : PROTO_OK;
    default:
        return PROTO_TYPE;
    }
}

/* What the codec must answer for the encoding; the first byte says a float, which is never taken.
 */
static int wanted_for(const json_t *entry, enum wire_type type, unsigned char first)
{
    bool negative;
    uint64_t magnitude;
    const char *string = json_string_value(json_object_get(entry, "string"));
    if (first == 0xca || first == 0xcb) {
        return PROTO_TYPE;
    }
    if (corpus_number(entry, &negative, &magnitude)) {
        return wanted_for_number(type, negative, magnitude);
    }
    if (json_object_get(entry, "bool")) {
        return type == W_BOOL ? PROTO_OK : PROTO_TYPE;
    }
    if (string) {
        return type == W_STR ? PROTO_OK : PROTO_TYPE;
    }
    return json_object_get(entry, "binary") && type == W_TAIL ? PROTO_OK : PROTO_TYPE;
}

static void check_value(const json_t *entry, enum wire_type type, const void *at)
{
    bool negative = false;
    uint64_t magnitude = 0;
    char binary[256];
    const struct span *span = at;
    struct span wanted;
    corpus_number(entry, &negative, &magnitude);
    switch (type) {
    case W_U32:
        assert_int_equal(*(const uint32_t *)at, magnitude);
        break;
    case W_U64:
        assert_true(*(const uint64_t *)at == magnitude);
        break;
    case W_I32:
        assert_true(*(const int32_t *)at == (negative ? -(int64_t)magnitude : (int64_t)magnitude));
        break;
    case W_BOOL:
        assert_int_equal(*(const bool *)at, json_is_true(json_object_get(entry, "bool")));
        break;
    default:
        wanted = type == W_STR
                     ? span_of(json_string_value(json_object_get(entry, "string")))
                     : (struct span){
                           binary,
                           from_hex(json_string_value(json_object_get(entry, "binary")), binary)};
        assert_int_equal(span->len, wanted.len);
        assert_memory_equal(span->data, wanted.data, wanted.len);
    }
}

static void check_encoding(const json_t *entry, const char *hex)
{
    char raw[1024];
    size_t len = from_hex(hex, raw);
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        const struct wire_message *message = message_of(probes[i].code);
        size_t index = field_index(message, probes[i].field);
        union proto_any out;
        wire_write(&bytes, message, index, raw, len);
        int wanted = wanted_for(entry, probes[i].type, (unsigned char)raw[0]);
        int got = wire_decode(message, &bytes, &out);
        if (got != wanted) {
            fail_msg("%s as %s.%s: %s instead of %s", hex, message->name, probes[i].field,
                     proto_strerror(got), proto_strerror(wanted));
        }
        if (got == PROTO_OK) {
            check_value(entry, probes[i].type, (char *)&out + message->fields[index].offset);
        }
    }
}

static void test_proto_corpus_of_encodings(void **state)
{
    json_error_t error;
    json_t *corpus = json_load_file(CORPUS, 0, &error);
    const char *name;
    json_t *group, *entry, *hex;
    size_t i, j, count = 0;
    (void)state;
    if (!corpus) {
        print_message("# skipped: data not present (%s)\n", CORPUS);
        skip();
    }
    json_object_foreach(corpus, name, group)
    {
        json_array_foreach(group, i, entry)
        {
            json_array_foreach(json_object_get(entry, "msgpack"), j, hex)
            {
                check_encoding(entry, json_string_value(hex));
                count++;
            }
        }
    }
    json_decref(corpus);
    assert_int_equal(count, 233);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_proto_corpus_of_encodings),
};

UNIT_MAIN_WITH(tests, make_buffer, free_buffer)
