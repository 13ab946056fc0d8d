/* Cutting a stream into messages: lines, limits, characters (supervisor/cut.c). */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "supervisor/cut.h"

/* ---- a reader of messages ---- */

struct reader {
    struct cut_state state;
    char out[8192];
    size_t out_len;
    size_t consumed, dropped;
    bool whole; /* no message may end within a character */
};

/* Checks what every plan must keep, and takes it as sent. */
static void take(struct reader *reader, const struct cut_plan *plan, size_t len, size_t max_data)
{
    size_t sum = 0;
    assert_true(plan->count <= CUT_PIECES_MAX);
    assert_true(plan->consumed <= len);
    assert_true(plan->data_len <= max_data);
    for (size_t i = 0; i < plan->count; i++) {
        const struct iovec *piece = &plan->pieces[i];
        assert_true(piece->iov_len > 0);
        assert_true(reader->out_len + piece->iov_len <= sizeof reader->out);
        memcpy(reader->out + reader->out_len, piece->iov_base, piece->iov_len);
        reader->out_len += piece->iov_len;
        sum += piece->iov_len;
    }
    assert_int_equal(sum, plan->data_len);
    assert_true(!reader->whole || cut_partial_character(reader->out, reader->out_len) == 0);
    assert_true(plan->data_len == 0 || plan->consumed > 0);
    reader->consumed += plan->consumed;
    reader->dropped += plan->dropped;
    reader->state = plan->next;
}

/* One whole stream at once. */
static void read_at_once(struct reader *reader, const char *data, size_t len, size_t max_line,
                         size_t max_data)
{
    *reader = (struct reader){.out_len = 0};
    while (reader->consumed < len) {
        struct cut_plan plan;
        size_t left = len - reader->consumed;
        cut_lines(&reader->state, data + reader->consumed, left, max_line, max_data,
                  CUT_LAST | CUT_SPLIT, &plan);
        assert_true(plan.consumed > 0);
        take(reader, &plan, left, max_data);
    }
}

/* ---- tables ---- */

static void test_cut_lines_at_the_limit(void **state)
{
    static const struct {
        const char *in, *out;
        size_t dropped;
    } cases[] = {
        {"", "", 0},
        {"\n", "\n", 0},
        {"a\n\nb\n", "a\n\nb\n", 0},
        {"12345678\n", "12345678\n", 0},
        {"12345678", "12345678", 0},
        {"123456789\n", "12345678...\n", 1},
        {"123456789", "12345678...", 1},
        {"123456789abc\nx\n", "12345678...\nx\n", 4},
        {"123456789abc\n123456789\n12345678\n", "12345678...\n12345678...\n12345678\n", 5},
        {"1234567\xc3\xa9\n", "1234567...\n", 2},
        {"123456\xc3\xa9\n", "123456\xc3\xa9\n", 0},
        {"12345\xe2\x82\xac!\n", "12345\xe2\x82\xac...\n", 1},
        {"123456\xe2\x82\xac\n", "123456...\n", 3},
        {"12345\xf0\x9f\x98\x80\n", "12345...\n", 4},
        {"1234\xf0\x9f\x98\x80\n", "1234\xf0\x9f\x98\x80\n", 0},
        {"1234\xf0\x9f\x98\x80x\n", "1234\xf0\x9f\x98\x80...\n", 1},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\n", "\x80\x80\x80\x80\x80\x80\x80\x80...\n", 1},
        {"...\n", "...\n", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reader reader;
        read_at_once(&reader, cases[i].in, strlen(cases[i].in), 8, 4096);
        reader.out[reader.out_len] = '\0';
        assert_string_equal(reader.out, cases[i].out);
        assert_int_equal(reader.dropped, cases[i].dropped);
    }
}

static void test_cut_waits_for_the_line(void **state)
{
    static const struct {
        const char *in;
        bool flush;
        size_t consumed;
    } cases[] = {
        {"abc", false, 0},         {"abc", true, 3},
        {"a\nbc", false, 2},       {"a\nbc", true, 4},
        {"12345678", false, 0},    {"123456789", false, 9},
        {"ab\xc3", true, 2},       {"ab\xe2\x82", true, 2},
        {"\xf0\x9f\x98", true, 0}, {"\xf0\x9f\x98\x80", true, 4},
        {"ab\xff", true, 3},       {"ab\xc1", true, 3},
        {"ab\xf5\x80", true, 4},
    };
    const struct cut_state fresh = {0};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct cut_plan plan;
        cut_lines(&fresh, cases[i].in, strlen(cases[i].in), 8, 4096, cases[i].flush ? CUT_FLUSH : 0,
                  &plan);
        if (plan.consumed != cases[i].consumed) {
            fail_msg("case %zu: %zu instead of %zu", i, plan.consumed, cases[i].consumed);
        }
    }
}

static void test_cut_goes_on_where_it_was(void **state)
{
    struct cut_state at = {.line_sent = 6};
    struct cut_plan plan;
    (void)state;
    cut_lines(&at, "abc", 3, 8, 4096, 0, &plan);
    assert_int_equal(plan.data_len, 2 + CUT_MARKER_LEN);
    assert_int_equal(plan.dropped, 1);
    assert_true(plan.next.dropping);
    at = plan.next;
    cut_lines(&at, "defg", 4, 8, 4096, 0, &plan);
    assert_int_equal(plan.data_len, 0);
    assert_int_equal(plan.consumed, 4);
    assert_int_equal(plan.dropped, 4);
    at = plan.next;
    cut_lines(&at, "\nx\n", 3, 8, 4096, 0, &plan);
    assert_int_equal(plan.data_len, 3);
    assert_int_equal(plan.dropped, 0);
    assert_false(plan.next.dropping);
}

static void test_cut_partial_character(void **state)
{
    static const struct {
        const char *text;
        size_t partial;
    } cases[] = {
        {"", 0},
        {"a", 0},
        {"\xc3", 1},
        {"\xc3\xa9", 0},
        {"a\xe2", 1},
        {"a\xe2\x82", 2},
        {"a\xe2\x82\xac", 0},
        {"\xf0", 1},
        {"\xf0\x9f", 2},
        {"\xf0\x9f\x98", 3},
        {"\xf0\x9f\x98\x80", 0},
        {"\x80", 0},
        {"\x80\x80\x80\x80", 0},
        {"\xc0", 0},
        {"\xc1", 0},
        {"\xf5", 0},
        {"\xff", 0},
        {"\xc3\xa9\xa9", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t got = cut_partial_character(cases[i].text, strlen(cases[i].text));
        if (got != cases[i].partial) {
            fail_msg("case %zu: %zu instead of %zu", i, got, cases[i].partial);
        }
    }
}

static void test_cut_many_short_lines_fit_the_pieces(void **state)
{
    char lines[4000];
    struct reader reader;
    (void)state;
    /* Every line is cut, so that none can be joined to the one before. */
    for (size_t i = 0; i < sizeof lines; i++) {
        lines[i] = i % 4 == 3 ? '\n' : 'x';
    }
    read_at_once(&reader, lines, sizeof lines, 2, 65536);
    assert_int_equal(reader.dropped, sizeof lines / 4);
    assert_int_equal(reader.out_len, sizeof lines / 4 * 6);
}

static void test_cut_nothing(void **state)
{
    struct cut_plan plan;
    (void)state;
    cut_nothing("a\0b\xff", 4, 3, &plan);
    assert_int_equal(plan.count, 1);
    assert_int_equal(plan.data_len, 3);
    assert_int_equal(plan.consumed, 3);
    assert_int_equal(plan.dropped, 0);
    cut_nothing("", 0, 3, &plan);
    assert_int_equal(plan.count, 0);
    assert_int_equal(plan.consumed, 0);
}

/* A line that does not fit waits for more room, unless it is asked for in parts. */
static void test_cut_splits_only_when_asked(void **state)
{
    static const char text[] = "0123456789012345678901234567890123456789\n";
    const struct cut_state fresh = {0};
    struct cut_plan plan;
    (void)state;
    cut_lines(&fresh, text, sizeof text - 1, 100, 30, CUT_LAST, &plan);
    assert_int_equal(plan.consumed, 0);
    cut_lines(&fresh, text, sizeof text - 1, 100, 30, CUT_LAST | CUT_SPLIT, &plan);
    assert_in_range(plan.consumed, 1, 30);
    assert_int_equal(plan.next.line_sent, plan.consumed);
    cut_lines(&fresh, text, sizeof text - 1, 100, 60, 0, &plan);
    assert_int_equal(plan.consumed, sizeof text - 1);
}

/* ---- against a model ---- */

/* What must come out of a whole stream, said in the simplest way. */
static size_t model(const char *in, size_t len, size_t max_line, char *out)
{
    size_t used = 0;
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(in + at, '\n', len - at);
        size_t line = newline ? (size_t)(newline - in) - at : len - at;
        size_t keep = line <= max_line ? line : max_line - cut_partial_character(in + at, max_line);
        memcpy(out + used, in + at, keep);
        used += keep;
        if (keep < line) {
            memcpy(out + used, CUT_MARKER, CUT_MARKER_LEN);
            used += CUT_MARKER_LEN;
        }
        if (newline) {
            out[used++] = '\n';
        }
        at += line + (newline != NULL);
    }
    return used;
}

static uint32_t seed;

static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* Text with short and long lines, whole characters and (not if valid) broken ones. */
static size_t make_stream(char *in, size_t cap, bool valid)
{
    static const char *const bits[] = {"a",
                                       "b",
                                       "\n",
                                       "\n\n",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "word",
                                       "123456789012",
                                       "\xff",
                                       "\x80",
                                       "\xe2"};
    size_t len = 0, wanted = next_random((uint32_t)cap - 16);
    uint32_t kinds = valid ? COUNT_OF(bits) - 3 : COUNT_OF(bits);
    while (len < wanted) {
        const char *bit = bits[next_random(kinds)];
        len += (size_t)sprintf(in + len, "%s", bit);
    }
    return len;
}

static void read_in_bits(struct reader *reader, const char *in, size_t len, size_t max_line)
{
    size_t seen = 0; /* how much of the stream there is by now */
    while (reader->consumed < len) {
        struct cut_plan plan;
        size_t max_data = 16 + next_random(200);
        seen += next_random((uint32_t)(len - seen) + 1);
        size_t left = seen - reader->consumed;
        unsigned how = (next_random(3) == 0 ? CUT_FLUSH : 0) |
                       (next_random(2) == 0 ? CUT_SPLIT : 0) | (seen == len ? CUT_LAST : 0);
        cut_lines(&reader->state, in + reader->consumed, left, max_line, max_data, how, &plan);
        assert_true(plan.consumed > 0 || seen < len || !(how & CUT_SPLIT));
        take(reader, &plan, left, max_data);
    }
}

static void test_cut_any_splitting_gives_the_same(void **state)
{
    char in[600], wanted[4096];
    (void)state;
    seed = 4711;
    for (int round = 0; round < 5000; round++) {
        uint32_t start = seed;
        struct reader reader = {.whole = round % 2};
        size_t len = make_stream(in, sizeof in, reader.whole), max_line = 4 + next_random(60);
        size_t wanted_len = model(in, len, max_line, wanted);
        read_in_bits(&reader, in, len, max_line);
        if (reader.out_len != wanted_len || memcmp(reader.out, wanted, wanted_len) != 0) {
            fail_msg("seed %u, max_line %zu:\n%.*s\nbecame\n%.*s\ninstead of\n%.*s", start,
                     max_line, (int)len, in, (int)reader.out_len, reader.out, (int)wanted_len,
                     wanted);
        }
        assert_int_equal(reader.consumed, len);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_cut_lines_at_the_limit),
    cmocka_unit_test(test_cut_waits_for_the_line),
    cmocka_unit_test(test_cut_goes_on_where_it_was),
    cmocka_unit_test(test_cut_partial_character),
    cmocka_unit_test(test_cut_many_short_lines_fit_the_pieces),
    cmocka_unit_test(test_cut_nothing),
    cmocka_unit_test(test_cut_splits_only_when_asked),
    cmocka_unit_test(test_cut_any_splitting_gives_the_same),
};

UNIT_MAIN(tests)
