/* What a msgpack text claims against what it holds (common/shape.c). */
#include "tests/unit/unit.h"

#include <msgpack.h>
#include <stdint.h>
#include <string.h>

#include "common/shape.h"

/* One of each type, nested; every number of bytes less must be noticed. */
static void pack_all(msgpack_packer *p)
{
    static const char text[70000];

    msgpack_pack_array(p, 18);
    msgpack_pack_nil(p);
    msgpack_pack_true(p);
    msgpack_pack_uint8(p, 200);
    msgpack_pack_uint16(p, 60000);
    msgpack_pack_uint32(p, 4000000000U);
    msgpack_pack_uint64(p, UINT64_MAX);
    msgpack_pack_int8(p, -100);
    msgpack_pack_int16(p, -30000);
    msgpack_pack_int32(p, -2000000000);
    msgpack_pack_int64(p, INT64_MIN);
    msgpack_pack_float(p, 1.5f);
    msgpack_pack_double(p, 2.5);
    msgpack_pack_str_with_body(p, text, 20);
    msgpack_pack_str_with_body(p, text, 200);
    msgpack_pack_bin_with_body(p, text, 300);
    msgpack_pack_bin_with_body(p, text, sizeof(text));
    msgpack_pack_ext_with_body(p, text, 16, 5);
    msgpack_pack_map(p, 1);
    msgpack_pack_int(p, -1);
    msgpack_pack_array(p, 0);
}

static void test_shape_takes_every_type_and_no_prefix(void **state)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    (void)state;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    pack_all(&packer);
    assert_true(shape_is_sound(buffer.data, buffer.size));
    for (size_t len = 0; len < buffer.size; len += len < 2000 ? 1 : 997) {
        assert_false(shape_is_sound(buffer.data, len));
    }
    assert_false(shape_is_sound(buffer.data, buffer.size - 1));
    msgpack_sbuffer_destroy(&buffer);
}

static void test_shape_refuses_what_cannot_be_there(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } claims[] = {
        {"\xdd\xff\xff\xff\xff", 5},         /* array of 2^32 - 1 */
        {"\xdf\xff\xff\xff\xff\x01", 6},     /* map of 2^32 - 1 */
        {"\x92\x03\xdf\xff\xff\xff\xff", 7}, /* the same, within a message */
        {"\xde\x00\x02\x01\x01\x02", 6},     /* half a pair is missing */
        {"\xc6\xff\xff\xff\xff", 5},         /* bin of 4 GiB */
        {"\xdb\x00\x00\x00\x02x", 6},
        {"\xc1", 1}, /* never used */
        {"\x91", 1},
        {"", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(claims); i++) {
        assert_false(shape_is_sound(claims[i].bytes, claims[i].len));
    }
}

static void test_shape_follows_any_depth(void **state)
{
    char deep[10000];
    (void)state;
    memset(deep, '\x91', sizeof(deep));
    assert_false(shape_is_sound(deep, sizeof(deep)));
    deep[sizeof(deep) - 1] = '\x00';
    assert_true(shape_is_sound(deep, sizeof(deep)));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_shape_takes_every_type_and_no_prefix),
    cmocka_unit_test(test_shape_refuses_what_cannot_be_there),
    cmocka_unit_test(test_shape_follows_any_depth),
};

UNIT_MAIN(tests)
