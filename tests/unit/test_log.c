/* Log lines: what leaves, escaped and bounded (common/log.c). */
#include "tests/unit/unit.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

static char captured[16384];
static int memory, saved;

/* From here until capture_end, stderr is a piece of memory. */
static void capture_begin(void)
{
    memory = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(memory >= 0);
    fflush(stderr);
    saved = dup(STDERR_FILENO);
    dup2(memory, STDERR_FILENO);
}

static const char *capture_end(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t len = pread(memory, captured, sizeof captured - 1, 0);
    close(memory);
    captured[len < 0 ? 0 : len] = '\0';
    return captured;
}

static int fresh(void **state)
{
    (void)state;
    log_init("prog", NULL);
    log_set_level(LOG_INFO);
    log_set_format(LOG_TEXT);
    log_set_trace(0);
    return 0;
}

static void test_log_text_line(void **state)
{
    (void)state;
    capture_begin();
    log_warn("%d of %s", 3, "them");
    const char *line = capture_end();
    unsigned year, rest;
    char end[40];
    assert_int_equal(sscanf(line, "%4u-%2u-%*2uT%*2u:%*2u:%*2u.%*3uZ%39[^\n]", &year, &rest, end),
                     3);
    assert_string_equal(end, " prog warn: 3 of them");
    assert_int_equal(line[strlen(line) - 1], '\n');
}

static void test_log_threshold(void **state)
{
    static const struct {
        enum log_level level;
        int lines;
    } cases[] = {{LOG_ERROR, 2}, {LOG_WARN, 3}, {LOG_INFO, 4}, {LOG_DEBUG, 5}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        log_set_level(cases[i].level);
        assert_int_equal(log_level_now(), cases[i].level);
        capture_begin();
        log_error("e");
        log_warn("w");
        log_info("i");
        log_debug("d");
        log_session(LOG_ERROR, 7, "s");
        const char *lines = capture_end();
        int count = 0;
        for (const char *at = lines; (at = strchr(at, '\n')); at++) {
            count++;
        }
        assert_int_equal(count, cases[i].lines);
        assert_non_null(strstr(lines, "error: session 7: s\n"));
    }
}

static void test_log_trace_needs_its_area(void **state)
{
    (void)state;
    capture_begin();
    log_trace(TRACE_MSG, "unseen");
    log_set_trace(TRACE_MSG | TRACE_IO);
    assert_true(log_traces(TRACE_IO));
    assert_false(log_traces(TRACE_COMMAND));
    log_trace(TRACE_COMMAND, "unseen");
    log_trace(TRACE_MSG, "a <- b");
    const char *lines = capture_end();
    assert_null(strstr(lines, "unseen"));
    assert_non_null(strstr(lines, " prog msg: a <- b\n"));
}

static void test_log_trace_as_json(void **state)
{
    (void)state;
    log_set_format(LOG_JSON);
    log_set_trace(TRACE_COMMAND);
    capture_begin();
    log_trace(TRACE_COMMAND, "1: RUNNING -> DRAINING");
    json_t *object = json_loads(capture_end(), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(object, "level")), "command");
    json_decref(object);
}

/* What a hostile peer would like in a log, and what stands there instead. */
static const struct {
    const char *text, *as_text;
} hostile[] = {
    {"plain \\ \"quoted\"", "plain \\ \"quoted\""},
    {"a\nFeb 30 root: b", "a\\nFeb 30 root: b"},
    {"a\r\tb", "a\\x0d\\tb"},
    {"\x1b[2J\x7f", "\\x1b[2J\\x7f"},
    {"\x9b\xff\xc3\xa9", "\\x9b\\xff\\xc3\\xa9"},
    {"\xe2\x80\xae", "\\xe2\\x80\\xae"},
};

static void test_log_escapes_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(hostile); i++) {
        char end[128];
        snprintf(end, sizeof end, " prog error: <%s>\n", hostile[i].as_text);
        capture_begin();
        log_error("<%s>", hostile[i].text);
        assert_non_null(strstr(capture_end(), end));
    }
}

static void test_log_json_holds_any_bytes(void **state)
{
    (void)state;
    log_set_format(LOG_JSON);
    for (int c = 1; c < 256; c++) {
        char text[] = {'<', (char)c, '>', '\0'};
        json_error_t error;
        capture_begin();
        log_session(LOG_WARN, 12, "%s", text);
        const char *line = capture_end();
        json_t *object = json_loads(line, 0, &error);
        assert_non_null(object);
        assert_string_equal(json_string_value(json_object_get(object, "program")), "prog");
        assert_string_equal(json_string_value(json_object_get(object, "level")), "warn");
        assert_int_equal(json_integer_value(json_object_get(object, "session")), 12);
        const char *message = json_string_value(json_object_get(object, "message"));
        assert_int_equal(message[0], '<');
        if (c < 0x80) {
            assert_string_equal(message, text);
        }
        json_decref(object);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    }
}

static void test_log_long_line_is_cut(void **state)
{
    char text[5000];
    (void)state;
    memset(text, '\x01', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
        log_set_format((enum log_format)format);
        capture_begin();
        log_error("%s", text);
        const char *line = capture_end();
        assert_in_range(strlen(line), 1000, 8192);
        assert_non_null(strstr(line, "..."));
        assert_int_equal(line[strlen(line) - 1], '\n');
    }
}

static char sunk[8192];
static unsigned sunk_sid;

static void keep(enum log_level level, uint32_t sid, const char *line)
{
    assert_int_equal(level, LOG_WARN);
    sunk_sid = sid;
    assert_true(strlen(line) < sizeof sunk);
    strcpy(sunk, line);
}

static void test_log_sink_and_relay_escape_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(hostile); i++) {
        char end[128];
        log_init("frontend", keep);
        log_session(LOG_WARN, 9, "%s", hostile[i].text);
        assert_string_equal(sunk, hostile[i].as_text);
        assert_int_equal(sunk_sid, 9);

        log_init("prog", NULL);
        capture_begin();
        log_relay("frontend", LOG_WARN, 9, sunk, (unsigned)strlen(sunk));
        snprintf(end, sizeof end, " frontend warn: session 9: %s\n", hostile[i].as_text);
        assert_non_null(strstr(capture_end(), end));
    }
}

static void test_log_relay_is_bounded_and_obeys_the_level(void **state)
{
    static char text[20000];
    (void)state;
    memset(text, '\n', sizeof text);
    capture_begin();
    log_relay("frontend", LOG_DEBUG, 0, "unseen", 6);
    log_relay("frontend", LOG_WARN, 0, text, sizeof text);
    const char *line = capture_end();
    assert_null(strstr(line, "unseen"));
    assert_in_range(strlen(line), 100, 8192);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_log_level_names(void **state)
{
    (void)state;
    for (int level = LOG_ERROR; level <= LOG_TRACE; level++) {
        assert_int_equal(log_level_parse(log_level_name((enum log_level)level)), level);
    }
    assert_int_equal(log_level_parse("loud"), -1);
    assert_int_equal(log_level_parse(""), -1);
    assert_string_equal(log_level_name((enum log_level)99), "?");
}

static void test_log_exit_codes(void **state)
{
    static const struct {
        void (*die)(const char *format, ...);
        int code;
        const char *says;
    } cases[] = {
        {die_usage, 100, "prog: no \\x1bthing\n"},
        {die_system, 111, " prog error: no \\x1bthing\n"},
        {die_bug, 101, " prog error: no \\x1bthing\n"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int status;
        capture_begin();
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            cases[i].die("no %s", "\x1bthing");
        }
        waitpid(pid, &status, 0);
        const char *line = capture_end();
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), cases[i].code);
        assert_non_null(strstr(line, cases[i].says));
    }
}

#define FRESH(test) cmocka_unit_test_setup(test, fresh)

static const struct CMUnitTest tests[] = {
    FRESH(test_log_text_line),
    FRESH(test_log_threshold),
    FRESH(test_log_trace_needs_its_area),
    FRESH(test_log_trace_as_json),
    FRESH(test_log_escapes_text),
    FRESH(test_log_json_holds_any_bytes),
    FRESH(test_log_long_line_is_cut),
    FRESH(test_log_sink_and_relay_escape_once),
    FRESH(test_log_relay_is_bounded_and_obeys_the_level),
    FRESH(test_log_level_names),
    FRESH(test_log_exit_codes),
};

UNIT_MAIN(tests)
