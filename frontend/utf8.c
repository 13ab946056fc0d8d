/*
 * UTF-8 checking and JSON escaping, for command output in text dialects. The
 * bytes come from commands and are believed in nothing.
 */
#include "frontend/utf8.h"

#include <stdint.h>

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Whether all eight bytes can be copied as they are. */
static inline int eight_are_plain(const char *p)
{
    uint64_t v, quote, slash;

    memcpy(&v, p, sizeof(v));
    quote = v ^ (ONES * '"');
    slash = v ^ (ONES * '\\');
    /* A byte above 127 has its high bit; one below 0x20, or made zero, borrows into it. */
    return ((v | (((v - ONES * 0x20) | (quote - ONES) | (slash - ONES)) & ~v)) & HIGHS) == 0;
}

/* The bounds of the second byte, and how many bytes follow the first. */
static size_t lead_byte(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (c >= 0xC2 && c <= 0xDF) {
        return 1;
    }
    if (c >= 0xE0 && c <= 0xEF) {
        *low = c == 0xE0 ? 0xA0 : 0x80;
        *high = c == 0xED ? 0x9F : 0xBF; /* no surrogates */
        return 2;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        *low = c == 0xF0 ? 0x90 : 0x80;
        *high = c == 0xF4 ? 0x8F : 0xBF; /* nothing above U+10FFFF */
        return 3;
    }
    return 0;
}

size_t utf8_step(struct span in, int *valid)
{
    unsigned char low, high;
    size_t follow;

    *valid = 1;
    if ((unsigned char)in.data[0] < 0x80) {
        return 1;
    }
    follow = lead_byte((unsigned char)in.data[0], &low, &high);
    for (size_t n = 1; n <= follow; n++) {
        unsigned char c = n < in.len ? (unsigned char)in.data[n] : 0;

        if (c < low || c > high) {
            *valid = 0;
            return n;
        }
        low = 0x80;
        high = 0xBF;
    }
    *valid = follow > 0;
    return follow + 1;
}

/* What follows the backslash; the other control characters need a number. */
static const char shorts[256] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                 ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

/* Writes a character that is not plain ASCII; *taken receives its length in the input. */
static size_t escape_rare(char *out, struct span in, size_t *taken)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char c = (unsigned char)in.data[0];
    int valid;

    *taken = 1;
    if (c < 0x20) {
        memcpy(out, "\\u00", 4);
        out[4] = hex[c >> 4];
        out[5] = hex[c & 15];
        return 6;
    }
    *taken = utf8_step(in, &valid);
    memcpy(out, valid ? in.data : "\xEF\xBF\xBD", valid ? *taken : 3);
    return valid ? *taken : 3;
}

/* Writes one character, escaped or replaced. */
static inline size_t escape_char(char *out, struct span in, size_t *taken)
{
    unsigned char c = (unsigned char)in.data[0];

    *taken = 1;
    if (shorts[c] != 0) {
        out[0] = '\\';
        out[1] = shorts[c];
        return 2;
    }
    if (c >= 0x20 && c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    return escape_rare(out, in, taken);
}

size_t utf8_escape_json(char *out, size_t room, struct span in, size_t *used)
{
    size_t from = 0, to = 0, taken;

    while (from < in.len && room - to >= 8 * UTF8_ESCAPED_MAX) {
        if (in.len - from >= 8 && eight_are_plain(in.data + from)) {
            memcpy(out + to, in.data + from, 8);
            from += 8;
            to += 8;
            continue;
        }
        /* Where one character is special, its neighbours often are. */
        for (int n = 0; n < 8 && from < in.len; n++) {
            to += escape_char(out + to, (struct span){in.data + from, in.len - from}, &taken);
            from += taken;
        }
    }
    while (from < in.len && room - to >= UTF8_ESCAPED_MAX) {
        to += escape_char(out + to, (struct span){in.data + from, in.len - from}, &taken);
        from += taken;
    }
    *used = from;
    return to;
}
