/* The codec where the other side is broken or hostile (common/proto.c). */
#include "tests/unit/unit.h"

#include "tests/unit/wire.h"

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

/* Decodes from memory that ends where the datagram does, so that a sanitizer sees a step too far.
 */
static int decode_exact(enum proto_direction from, const char *data, size_t len,
                        enum proto_code *code, union proto_any *out)
{
    char *copy = malloc(len + !len);
    assert_non_null(copy);
    memcpy(copy, data, len);
    int result = proto_decode(from, copy, len, code, out);
    free(copy);
    return result;
}

static void expect(const struct wire_message *message, const struct wire_field *field, int wanted)
{
    union proto_any out;
    enum proto_code code;
    int got = decode_exact(message->direction, bytes.data, bytes.size, &code, &out);
    if (got != wanted) {
        fail_msg("%s.%s: \"%s\" instead of \"%s\"", message->name, field ? field->name : "",
                 proto_strerror(got), proto_strerror(wanted));
    }
}

/* ---- the whole ---- */

static void test_proto_truncated_at_every_byte(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        wire_write_usual(&bytes, &wire_table[m]);
        for (size_t len = 0; len < bytes.size; len++) {
            union proto_any out;
            enum proto_code code;
            int got = decode_exact(wire_table[m].direction, bytes.data, len, &code, &out);
            if (got != (len ? PROTO_MALFORMED : PROTO_SIZE)) {
                fail_msg("%s, %zu of %zu bytes: %s", wire_table[m].name, len, bytes.size,
                         proto_strerror(got));
            }
        }
    }
}

static void test_proto_left_over(void **state)
{
    static const unsigned char after[] = {0x00, 0x80, 0xc0, 0xc1, 0xff};
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        for (size_t i = 0; i < COUNT_OF(after); i++) {
            wire_write_usual(&bytes, &wire_table[m]);
            msgpack_sbuffer_write(&bytes, (const char *)&after[i], 1);
            expect(&wire_table[m], NULL, PROTO_LEFTOVER);
        }
    }
}

static void test_proto_not_a_message(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        int wanted;
    } cases[] = {
        {"\xc0", 1, PROTO_MALFORMED},
        {"\x01", 1, PROTO_MALFORMED},
        {"\x80", 1, PROTO_MALFORMED},
        {"\x90", 1, PROTO_MALFORMED},
        {"\xa1x", 2, PROTO_MALFORMED},
        {"\xc1", 1, PROTO_MALFORMED},
        {"\x91\x08", 2, PROTO_MALFORMED},                 /* [8] */
        {"\x93\x08\x81\x01\x01\xc0", 6, PROTO_MALFORMED}, /* [8, {1: 1}, nil] */
        {"\x92\x08\xc0", 3, PROTO_MALFORMED},             /* [8, nil] */
        {"\x92\x08\x92\x01\x01", 5, PROTO_MALFORMED},     /* [8, [1, 1]] */
        {"\x92\x00\x80", 3, PROTO_CODE},
        {"\x92\x1f\x80", 3, PROTO_CODE},
        {"\x92\xff\x80", 3, PROTO_CODE},                    /* code -1 */
        {"\x92\xcd\x01\x08\x80", 5, PROTO_CODE},            /* code 8 + 256 */
        {"\x92\xcf\0\0\0\1\0\0\0\x08\x80", 11, PROTO_CODE}, /* code 8 + 2^32 */
        {"\x92\xa1\x08\x80", 4, PROTO_CODE},                /* code "\x08" */
        {"\x92\xca\x41\x00\x00\x00\x80", 7, PROTO_CODE},    /* code 8.0 */
        {"\x92\xc3\x80", 3, PROTO_CODE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        union proto_any out;
        enum proto_code code;
        int got = decode_exact(ASK, cases[i].data, cases[i].len, &code, &out);
        if (got != cases[i].wanted) {
            fail_msg("case %zu: %s", i, proto_strerror(got));
        }
    }
}

static void test_proto_wrong_direction(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        union proto_any out;
        enum proto_code code;
        enum proto_direction other = wire_table[m].direction == ASK ? TELL : ASK;
        wire_write_usual(&bytes, &wire_table[m]);
        assert_int_equal(decode_exact(other, bytes.data, bytes.size, &code, &out), PROTO_CODE);
    }
}

/* Every field within its bounds, and all of it more than the message may be. */
static void test_proto_message_too_large(void **state)
{
    static char large[PROTO_MAX + 1];
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        union proto_any out;
        enum proto_code code;
        msgpack_packer p;
        msgpack_packer_init(&p, &bytes, msgpack_sbuffer_write);
        msgpack_sbuffer_clear(&bytes);
        wire_put_head(&p, message, 1);
        msgpack_pack_uint8(&p, (uint8_t)message->fields[0].key);
        msgpack_pack_bin_with_body(&p, large, message->max);
        int got = decode_exact(message->direction, bytes.data, bytes.size, &code, &out);
        assert_int_equal(got, PROTO_SIZE);
    }
    union proto_any out;
    enum proto_code code;
    assert_int_equal(proto_decode(ASK, large, sizeof large, &code, &out), PROTO_SIZE);
    assert_int_equal(proto_decode(ASK, large, 0, &code, &out), PROTO_SIZE);
}

/* What claims to be far larger than it is must cost neither time nor memory. */
static void test_proto_large_claims(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {
        {"\xdd\xff\xff\xff\xff", 5},     {"\xdf\xff\xff\xff\xff", 5},
        {"\xdb\xff\xff\xff\xff", 5},     {"\xc6\xff\xff\xff\xff", 5},
        {"\xc9\xff\xff\xff\xff\x01", 6}, {"\x92\x08\xdf\x00\xff\xff\xff", 7},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        union proto_any out;
        enum proto_code code;
        int got = decode_exact(ASK, cases[i].data, cases[i].len, &code, &out);
        assert_true(got == PROTO_MALFORMED || got == PROTO_NOMEM);
    }
    static char nested[100000];
    for (int byte = 0x81; byte <= 0x91; byte += 0x10) {
        union proto_any out;
        enum proto_code code;
        memset(nested, byte, sizeof nested);
        int got = decode_exact(ASK, nested, sizeof nested, &code, &out);
        assert_true(got == PROTO_MALFORMED || got == PROTO_NOMEM);
    }
}

/* ---- the fields ---- */

static void test_proto_missing_field(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t left_out = 0; left_out < message->field_count; left_out++) {
            msgpack_packer p;
            msgpack_packer_init(&p, &bytes, msgpack_sbuffer_write);
            msgpack_sbuffer_clear(&bytes);
            wire_put_head(&p, message, message->field_count - 1);
            for (size_t i = 0; i < message->field_count; i++) {
                if (i != left_out) {
                    msgpack_pack_uint8(&p, (uint8_t)message->fields[i].key);
                    wire_put_usual(&p, &message->fields[i]);
                }
            }
            expect(message, &message->fields[left_out], PROTO_MISSING);
        }
    }
}

static void test_proto_field_twice(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        size_t count = message->field_count;
        for (size_t twice = 0; twice < count; twice++) {
            /* Once on top of all, once in the place of another. */
            for (size_t instead = 0; instead <= count; instead++) {
                if (instead == twice) {
                    continue;
                }
                msgpack_packer p;
                msgpack_packer_init(&p, &bytes, msgpack_sbuffer_write);
                msgpack_sbuffer_clear(&bytes);
                wire_put_head(&p, message, instead == count ? count + 1 : count);
                for (size_t i = 0; i < count + (instead == count); i++) {
                    size_t f = i == instead ? twice : i;
                    msgpack_pack_uint8(&p, (uint8_t)message->fields[f].key);
                    wire_put_usual(&p, &message->fields[f]);
                }
                expect(message, &message->fields[twice], PROTO_TWICE);
            }
        }
    }
}

static void test_proto_unknown_field(void **state)
{
    static const struct {
        const char *key;
        size_t len;
    } keys[] = {
        {"\x00", 1},
        {"\x3f", 1},
        {"\xff", 1},
        {"\xcc\xff", 2},
        {"\xcf\0\0\0\1\0\0\0\1", 9},
        {"\xc0", 1},
        {"\xc3", 1},
        {"\xa1\x01", 2},
        {"\xca\x3f\x80\0\0", 5},
        {"\x91\x01", 2},
        {"\xcd\x01\x01", 3},
    };
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t k = 0; k < COUNT_OF(keys); k++) {
            msgpack_packer p;
            msgpack_packer_init(&p, &bytes, msgpack_sbuffer_write);
            msgpack_sbuffer_clear(&bytes);
            wire_put_head(&p, message, message->field_count + 1);
            for (size_t i = 0; i < message->field_count; i++) {
                msgpack_pack_uint8(&p, (uint8_t)message->fields[i].key);
                wire_put_usual(&p, &message->fields[i]);
            }
            msgpack_sbuffer_write(&bytes, keys[k].key, keys[k].len);
            msgpack_pack_uint8(&p, 1);
            expect(message, NULL, PROTO_FIELD);
        }
    }
}

static void test_proto_wrong_type(void **state)
{
    enum kind { K_UINT, K_INT, K_BOOL, K_STR, K_BIN, K_OTHER };
    static const struct {
        const char *data;
        size_t len;
        enum kind kind;
    } values[] = {
        {"\x01", 1, K_UINT},
        {"\xff", 1, K_INT},
        {"\xc3", 1, K_BOOL},
        {"\xa1x", 2, K_STR},
        {"\xc4\x01\0", 3, K_BIN},
        {"\xc0", 1, K_OTHER},
        {"\xca\x3f\x80\0\0", 5, K_OTHER},
        {"\xcb\x3f\xf0\0\0\0\0\0\0", 9, K_OTHER},
        {"\x91\x01", 2, K_OTHER},
        {"\x81\x01\x01", 3, K_OTHER},
        {"\xd4\x01\x01", 3, K_OTHER},
    };
    static const enum kind kind_of[] = {
        [W_U32] = K_UINT, [W_U64] = K_UINT, [W_I32] = K_INT,    [W_BOOL] = K_BOOL, [W_STR] = K_STR,
        [W_BIN] = K_BIN,  [W_LIST] = K_BIN, [W_SECRET] = K_BIN, [W_TAIL] = K_BIN,
    };
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            for (size_t v = 0; v < COUNT_OF(values); v++) {
                bool fits = values[v].kind == kind_of[field->type] ||
                            (field->type == W_I32 && values[v].kind == K_UINT);
                wire_write(&bytes, message, i, values[v].data, values[v].len);
                expect(message, field, fits ? PROTO_OK : PROTO_TYPE);
            }
        }
    }
}

static void test_proto_number_out_of_range(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            if (field->type > W_I32 || wire_limit(field) == UINT64_MAX) {
                continue;
            }
            for (int over = 0; over <= 1; over++) {
                msgpack_sbuffer value;
                msgpack_packer p;
                msgpack_sbuffer_init(&value);
                msgpack_packer_init(&p, &value, msgpack_sbuffer_write);
                msgpack_pack_uint64(&p, wire_limit(field) + (uint64_t)over);
                wire_write(&bytes, message, i, value.data, value.size);
                expect(message, field, over ? PROTO_RANGE : PROTO_OK);
                if (field->type == W_I32) {
                    msgpack_sbuffer_clear(&value);
                    msgpack_pack_int64(&p, (int64_t)INT32_MIN - over);
                    wire_write(&bytes, message, i, value.data, value.size);
                    expect(message, field, over ? PROTO_RANGE : PROTO_OK);
                }
                msgpack_sbuffer_destroy(&value);
            }
        }
    }
}

static void test_proto_bytes_out_of_range(void **state)
{
    static char zeros[PROTO_MAX], ones[PROTO_MAX];
    (void)state;
    memset(ones, '1', sizeof ones);
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            if (!wire_is_span(field)) {
                continue;
            }
            for (size_t over = 0; over <= 1; over++) {
                msgpack_sbuffer value;
                msgpack_packer p;
                msgpack_sbuffer_init(&value);
                msgpack_packer_init(&p, &value, msgpack_sbuffer_write);
                if (field->type == W_STR) {
                    msgpack_pack_str_with_body(&p, ones, field->max + over);
                } else {
                    msgpack_pack_bin_with_body(&p, zeros, field->max + over);
                }
                wire_write(&bytes, message, i, value.data, value.size);
                expect(message, field, over ? PROTO_RANGE : PROTO_OK);
                msgpack_sbuffer_destroy(&value);
            }
        }
    }
}

static void test_proto_unsound_strings(void **state)
{
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        const struct wire_message *message = &wire_table[m];
        for (size_t i = 0; i < message->field_count; i++) {
            const struct wire_field *field = &message->fields[i];
            if (field->type == W_STR) {
                wire_write(&bytes, message, i, "\xa1\0", 2);
                expect(message, field, PROTO_RANGE);
                wire_write(&bytes, message, i, "\xa3y\0y", 4);
                expect(message, field, PROTO_RANGE);
            } else if (field->type == W_LIST) {
                wire_write(&bytes, message, i, "\xc4\x01y", 3);
                expect(message, field, PROTO_RANGE);
                wire_write(&bytes, message, i, "\xc4\x03y\0y", 5);
                expect(message, field, PROTO_RANGE);
            }
        }
    }
}

/* ---- any bytes at all ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Nothing is expected of the answer, but that there is one: the sanitizers watch. */
static void test_proto_changed_bytes(void **state)
{
    uint32_t seed = 20261121;
    size_t taken = 0;
    (void)state;
    for (size_t m = 0; m < WIRE_COUNT; m++) {
        for (int round = 0; round < 3000; round++) {
            union proto_any out;
            enum proto_code code;
            wire_write_usual(&bytes, &wire_table[m]);
            for (uint32_t changes = next_random(&seed) % 4 + 1; changes > 0; changes--) {
                bytes.data[next_random(&seed) % bytes.size] = (char)next_random(&seed);
            }
            int got = decode_exact(wire_table[m].direction, bytes.data, bytes.size, &code, &out);
            assert_in_range(-got, 0, -PROTO_NOMEM);
            taken += got == PROTO_OK;
        }
    }
    assert_true(taken > 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_proto_truncated_at_every_byte),
    cmocka_unit_test(test_proto_left_over),
    cmocka_unit_test(test_proto_not_a_message),
    cmocka_unit_test(test_proto_wrong_direction),
    cmocka_unit_test(test_proto_message_too_large),
    cmocka_unit_test(test_proto_large_claims),
    cmocka_unit_test(test_proto_missing_field),
    cmocka_unit_test(test_proto_field_twice),
    cmocka_unit_test(test_proto_unknown_field),
    cmocka_unit_test(test_proto_wrong_type),
    cmocka_unit_test(test_proto_number_out_of_range),
    cmocka_unit_test(test_proto_bytes_out_of_range),
    cmocka_unit_test(test_proto_unsound_strings),
    cmocka_unit_test(test_proto_changed_bytes),
};

UNIT_MAIN_WITH(tests, make_buffer, free_buffer)
