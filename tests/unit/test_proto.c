/* The codec where all is well, and the table itself (common/proto.c, proto.def). */
#include "tests/unit/unit.h"

#include "tests/unit/wire.h"

/* ---- structs with values ---- */

enum fill { FILL_LEAST, FILL_USUAL, FILL_MOST };

static char text[PROTO_MAX]; /* no NUL in it */
static char list[PROTO_MAX]; /* "x", each ended by a NUL */

static int make_bytes(void **state)
{
    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof list; i++) {
        list[i] = i % 2 ? '\0' : 'x';
    }
    return 0;
}

static struct span filled_span(const struct wire_field *field, enum fill fill)
{
    size_t len = fill == FILL_LEAST ? 0 : fill == FILL_MOST ? (size_t)field->max : 2;
    if (field->type == W_LIST) {
        return (struct span){list + len % 2, len}; /* so that it ends with a NUL */
    }
    return (struct span){text, len};
}

static void fill_field(const struct wire_field *field, enum fill fill, void *msg)
{
    void *at = (char *)msg + field->offset;
    uint64_t number = fill == FILL_LEAST ? 0 : fill == FILL_MOST ? wire_limit(field) : 1;
    switch (field->type) {
    case W_U32:
        *(uint32_t *)at = (uint32_t)number;
        break;
    case W_U64:
        *(uint64_t *)at = number;
        break;
    case W_I32:
        *(int32_t *)at = fill == FILL_LEAST ? INT32_MIN : fill == FILL_MOST ? INT32_MAX : -7;
        break;
    case W_BOOL:
        *(bool *)at = fill != FILL_LEAST;
        break;
    default:
        *(struct span *)at = filled_span(field, fill);
    }
}

static void fill_message(const struct wire_message *message, enum fill fill, union proto_any *msg)
{
    memset(msg, 0, sizeof *msg);
    for (size_t i = 0; i < message->field_count; i++) {
        fill_field(&message->fields[i], fill, msg);
    }
}

static bool same_field(const struct wire_field *field, const void *a, const void *b)
{
    const void *x = (const char *)a + field->offset, *y = (const char *)b + field->offset;
    if (wire_is_span(field)) {
        const struct span *s = x, *t = y;
        return s->len == t->len && (s->len == 0 || memcmp(s->data, t->data, s->len) == 0);
    }
    switch (field->type) {
    case W_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case W_U64:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    default:
        return memcmp(x, y, 4) == 0;
    }
}

/* ---- the codec ---- */

static char datagram[PROTO_MAX];

/* Encodes, with the tail's bytes behind; the length, or an enum proto_error. */
static long encode(const struct wire_message *message, const union proto_any *msg)
{
    size_t used;
    int code = proto_encode(message->code, msg, datagram, sizeof datagram, &used);
    if (code != PROTO_OK) {
        return code;
    }
    const struct wire_field *last = &message->fields[message->field_count - 1];
    if (last->type == W_TAIL) {
        const struct span *tail = (const void *)((const char *)msg + last->offset);
        assert_true(used + tail->len <= sizeof datagram);
        memcpy(datagram + used, tail->data, tail->len);
        used += tail->len;
    }
    return (long)used;
}

static void test_proto_round_trip(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        for (enum fill fill = FILL_LEAST; fill <= FILL_MOST; fill++) {
            const struct wire_message *message = &wire_table[m];
            union proto_any in, out;
            enum proto_code code;
            fill_message(message, fill, &in);
            long len = encode(message, &in);
            if (len < 0 || (size_t)len > message->max) {
                fail_msg("%s, fill %d: %ld bytes of %zu", message->name, fill, len, message->max);
            }
            assert_int_equal(proto_decode(message->direction, datagram, (size_t)len, &code, &out),
                             PROTO_OK);
            assert_int_equal(code, message->code);
            for (size_t i = 0; i < message->field_count; i++) {
                if (!same_field(&message->fields[i], &in, &out)) {
                    fail_msg("%s.%s, fill %d", message->name, message->fields[i].name, fill);
                }
            }
        }
    }
}

/* What is written by hand is taken as well: the codec and the test agree on the wire. */
static void test_proto_takes_what_others_write(void **state)
{
    msgpack_sbuffer bytes;
    (void)state;
    msgpack_sbuffer_init(&bytes);
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        union proto_any out;
        wire_write_usual(&bytes, &wire_table[m]);
        if (wire_decode(&wire_table[m], &bytes, &out) != PROTO_OK) {
            fail_msg("%s", wire_table[m].name);
        }
    }
    msgpack_sbuffer_destroy(&bytes);
}

static void test_proto_encode_needs_its_room(void **state)
{
    char small[512];
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        union proto_any in;
        size_t used, again;
        fill_message(&wire_table[m], FILL_USUAL, &in);
        assert_int_equal(proto_encode(wire_table[m].code, &in, small, sizeof small, &used),
                         PROTO_OK);
        for (size_t cap = 0; cap < used; cap++) {
            assert_int_equal(proto_encode(wire_table[m].code, &in, small, cap, &again), PROTO_SIZE);
        }
        assert_int_equal(proto_encode(wire_table[m].code, &in, small, used, &again), PROTO_OK);
    }
}

static void test_proto_encode_refuses_what_is_too_large(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            if (field->max == 0 || field->type == W_BOOL) {
                continue;
            }
            struct wire_field wider = *field;
            union proto_any in;
            wider.max += field->type == W_LIST ? 2 : 1;
            fill_message(message, FILL_USUAL, &in);
            fill_field(&wider, FILL_MOST, &in);
            if (encode(message, &in) != PROTO_RANGE) {
                fail_msg("%s.%s", message->name, field->name);
            }
        }
    }
}

static void test_proto_encode_refuses_bad_strings(void **state)
{
    union proto_any in = {.LOG = {.level = 1, .text = {"a\0b", 3}}};
    (void)state;
    size_t used;
    assert_int_equal(proto_encode(MSG_LOG, &in, datagram, sizeof datagram, &used), PROTO_RANGE);
    in = (union proto_any){.VERDICT = {.protections = {"a\0b", 3}}};
    assert_int_equal(proto_encode(MSG_VERDICT, &in, datagram, sizeof datagram, &used), PROTO_RANGE);
    assert_int_equal(proto_encode((enum proto_code)31, &in, datagram, sizeof datagram, &used),
                     PROTO_CODE);
}

/* ---- the table ---- */

static void test_proto_table_is_sound(void **state)
{
    size_t most = 0;
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        assert_string_equal(proto_name(message->code), message->name);
        assert_int_equal(proto_max(message->code), message->max);
        assert_int_equal(proto_states(message->code), message->states);
        assert_int_equal(proto_flags(message->code), message->flags);
        assert_int_equal(proto_direction_of(message->code), message->direction);
        assert_in_range(message->code, 1, 63);
        assert_true(message->states != 0);
        most = message->max > most ? message->max : most;
        for (size_t other = 0; other < m; other++) {
            assert_int_not_equal(wire_table[other].code, message->code);
        }
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            assert_in_range(field->key, 1, 63);
            assert_true(!wire_is_span(field) || field->max > 0);
            assert_true(field->type != W_TAIL || i + 1 == message->field_count);
            for (size_t other = 0; other < i; other++) {
                assert_int_not_equal(message->fields[other].key, field->key);
            }
        }
    }
    assert_int_equal(most, PROTO_MAX);
}

static void test_proto_unknown_codes(void **state)
{
    static const unsigned codes[] = {0, 11, 31, 45, 63, 64, 255, 1u << 20};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        enum proto_code code = (enum proto_code)codes[i];
        assert_string_equal(proto_name(code), "?");
        assert_int_equal(proto_states(code), 0);
        assert_int_equal(proto_flags(code), 0);
        assert_int_equal(proto_direction_of(code), 0);
        assert_int_equal(proto_max(code), 0);
    }
}

static void test_proto_sid(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        union proto_any msg;
        uint32_t expected = 0;
        memset(&msg, 0, sizeof msg);
        for (size_t i = 0; i < message->field_count; i++) {
            if (strcmp(message->fields[i].name, "sid") == 0) {
                expected = 4711;
                memcpy((char *)&msg + message->fields[i].offset, &expected, sizeof expected);
            }
        }
        assert_int_equal(proto_sid(message->code, &msg), expected);
    }
}

struct described {
    size_t messages, fields;
};

static void count(void *arg, enum proto_code code, const char *message, const char *field,
                  const char *type, unsigned long max)
{
    struct described *seen = arg;
    assert_string_equal(proto_name(code), message);
    assert_true(max > 0 || field);
    seen->messages += field == NULL;
    seen->fields += field != NULL && type != NULL;
}

static void test_proto_describe_walks_the_table(void **state)
{
    struct described seen = {0, 0};
    size_t fields = 0;
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        fields += wire_table[m].field_count;
    }
    proto_describe(count, &seen);
    assert_int_equal(seen.messages, WIRE_COUNT);
    assert_int_equal(seen.fields, fields);
}

static void test_proto_errors_have_words(void **state)
{
    (void)state;
    for (int error = PROTO_OK; error >= PROTO_NOMEM; error--) {
        const char *words = proto_strerror(error);
        assert_non_null(words);
        for (int other = PROTO_OK; other > error; other--) {
            assert_string_not_equal(words, proto_strerror(other));
        }
    }
    assert_non_null(proto_strerror(-99));
}

static void test_proto_list(void **state)
{
    struct span three = {"a\0\0bc", 6};
    struct span none = {NULL, 0};
    (void)state;
    assert_int_equal(proto_list_count(three), 3);
    assert_int_equal(proto_list_count(none), 0);
    assert_string_equal(proto_list_next(&three), "a");
    assert_string_equal(proto_list_next(&three), "");
    assert_string_equal(proto_list_next(&three), "bc");
    assert_null(proto_list_next(&three));
    assert_null(proto_list_next(&none));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_proto_round_trip),
    cmocka_unit_test(test_proto_takes_what_others_write),
    cmocka_unit_test(test_proto_encode_needs_its_room),
    cmocka_unit_test(test_proto_encode_refuses_what_is_too_large),
    cmocka_unit_test(test_proto_encode_refuses_bad_strings),
    cmocka_unit_test(test_proto_table_is_sound),
    cmocka_unit_test(test_proto_unknown_codes),
    cmocka_unit_test(test_proto_sid),
    cmocka_unit_test(test_proto_describe_walks_the_table),
    cmocka_unit_test(test_proto_errors_have_words),
    cmocka_unit_test(test_proto_list),
};

UNIT_MAIN_WITH(tests, make_bytes, NULL)
