/* The formats are those of the MessagePack specification, section "Formats". */
#include "common/shape.h"

#include <stdint.h>

struct cursor {
    const unsigned char *at;
    size_t left;
    uint64_t wanted; /* objects that are still to come */
};

static bool skip(struct cursor *c, uint64_t bytes)
{
    if (bytes > c->left) {
        return false;
    }
    c->at += bytes;
    c->left -= (size_t)bytes;
    return true;
}

/* A big-endian number of 1, 2 or 4 bytes. */
static bool take_number(struct cursor *c, size_t size, uint64_t *number)
{
    *number = 0;
    if (size > c->left) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        *number = *number << 8 | c->at[i];
    }
    return skip(c, size);
}

/* Each object that is claimed takes a byte at least. */
static bool expect(struct cursor *c, uint64_t objects)
{
    c->wanted += objects;
    return c->wanted <= c->left;
}

/* A length of size bytes, then so much and extra bytes more. */
static bool skip_counted(struct cursor *c, size_t size, size_t extra)
{
    uint64_t length;

    return take_number(c, size, &length) && skip(c, length + extra);
}

static bool expect_counted(struct cursor *c, size_t size, unsigned each)
{
    uint64_t count;

    return take_number(c, size, &count) && expect(c, count * each);
}

/* What follows a first byte from 0xc0 on. */
static bool take_rest(struct cursor *c, unsigned type)
{
    switch (type) {
    case 0xc4: /* bin 8, 16, 32 */
    case 0xc5:
    case 0xc6:
        return skip_counted(c, (size_t)1 << (type - 0xc4), 0);
    case 0xc7: /* ext 8, 16, 32: a type byte more */
    case 0xc8:
    case 0xc9:
        return skip_counted(c, (size_t)1 << (type - 0xc7), 1);
    case 0xca: /* float 32, 64 */
    case 0xcb:
        return skip(c, (size_t)4 << (type - 0xca));
    case 0xcc: /* uint 8 to 64 */
    case 0xcd:
    case 0xce:
    case 0xcf:
        return skip(c, (size_t)1 << (type - 0xcc));
    case 0xd0: /* int 8 to 64 */
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return skip(c, (size_t)1 << (type - 0xd0));
    case 0xd4: /* fixext 1 to 16 */
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return skip(c, ((size_t)1 << (type - 0xd4)) + 1);
    case 0xd9: /* str 8, 16, 32 */
    case 0xda:
    case 0xdb:
        return skip_counted(c, (size_t)1 << (type - 0xd9), 0);
    case 0xdc: /* array 16, 32 */
    case 0xdd:
        return expect_counted(c, (size_t)2 << (type - 0xdc), 1);
    case 0xde: /* map 16, 32 */
    case 0xdf:
        return expect_counted(c, (size_t)2 << (type - 0xde), 2);
    default:
        return type != 0xc1; /* never used; the others are nil, false, true, negative fixint */
    }
}

static bool take_object(struct cursor *c)
{
    unsigned type;

    if (c->left == 0) {
        return false;
    }
    type = *c->at;
    (void)skip(c, 1);
    if (type <= 0x7f) {
        return true; /* positive fixint */
    }
    if (type <= 0x8f) {
        return expect(c, (uint64_t)(type & 0x0f) * 2); /* fixmap */
    }
    if (type <= 0x9f) {
        return expect(c, type & 0x0f); /* fixarray */
    }
    if (type <= 0xbf) {
        return skip(c, type & 0x1f); /* fixstr */
    }
    return take_rest(c, type);
}

bool shape_is_sound(const char *data, size_t len)
{
    struct cursor c = {.at = (const unsigned char *)data, .left = len, .wanted = 1};

    while (c.wanted > 0) {
        c.wanted--;
        if (!take_object(&c)) {
            return false;
        }
    }
    return true;
}
