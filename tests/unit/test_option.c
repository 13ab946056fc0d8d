/* The option table: command line, file, help (common/option*.c). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/option.h"

struct options {
    bool help, quiet;
    uint64_t count, size, time;
    const char *path;
    int mode;
    unsigned areas;
    struct option_list listen;
};

static const char *const modes[] = {"token", "none", NULL};
static const char *const areas[] = {"msg", "command", "io", NULL};

#define AT(member) offsetof(struct options, member)

static const struct option_spec specs[] = {
    {"help", 'h', OPTION_FLAG, true, AT(help), NULL, NULL, 0, 0, NULL, "say this"},
    {"quiet", 'q', OPTION_FLAG, false, AT(quiet), NULL, NULL, 0, 0, NULL, "say less"},
    {"count", 'n', OPTION_UINT, false, AT(count), "N", NULL, 1, 100, "7", "how many"},
    {"size", 0, OPTION_SIZE, false, AT(size), "SIZE", NULL, 64, 1 << 20, "8K", "how large"},
    {"time", 't', OPTION_DURATION, false, AT(time), "TIME", NULL, 1, 3600000, "2s", "how long"},
    {"path", 'p', OPTION_TEXT, false, AT(path), "PATH", NULL, 0, 0, NULL, "where"},
    {"mode", 0, OPTION_ENUM, false, AT(mode), "token|none", modes, 0, 0, "token", "who may"},
    {"areas", 0, OPTION_SET, false, AT(areas), "AREA,...", areas, 0, 0, NULL, "what to trace"},
    {"listen", 'l', OPTION_LIST, false, AT(listen), "ADDR", NULL, 0, 0, "a:1", "the door"},
};

static const struct option_table table = {
    .program = "prog",
    .synopsis = "[OPTION...]",
    .summary = "Does things.",
    .specs = specs,
    .count = COUNT_OF(specs),
};

/* ---- the command line ---- */

#define ARGS_MAX 8

/* Reads "prog" and the words. */
static int read_words(struct options *options, const char *const *words, int *rest,
                      struct option_error *error)
{
    char *argv[ARGS_MAX + 2] = {(char *)"prog"};
    int argc = 1;
    for (; words[argc - 1]; argc++) {
        argv[argc] = (char *)words[argc - 1];
    }
    assert_int_equal(option_defaults(&table, options, error), 0);
    return option_read_argv(&table, options, argc, argv, rest, error);
}

static void test_option_defaults(void **state)
{
    struct options options;
    struct option_error error;
    (void)state;
    memset(&options, 0xff, sizeof options);
    assert_int_equal(option_defaults(&table, &options, &error), 0);
    assert_false(options.help);
    assert_false(options.quiet);
    assert_int_equal(options.count, 7);
    assert_int_equal(options.size, 8192);
    assert_int_equal(options.time, 2000);
    assert_null(options.path);
    assert_int_equal(options.mode, 0);
    assert_int_equal(options.areas, 0);
    assert_int_equal(options.listen.count, 1);
    assert_string_equal(options.listen.items[0], "a:1");
    option_finish(&table, &options);
    assert_int_equal(options.listen.count, 0);
    assert_null(options.listen.items);
}

static void test_option_bad_default_is_named(void **state)
{
    static const struct option_spec wrong = {"count", 0, OPTION_UINT, false, 0,     "N",
                                             NULL,    1, 100,         "0",   "help"};
    const struct option_table bad = {.program = "prog", .specs = &wrong, .count = 1};
    uint64_t value;
    struct option_error error;
    (void)state;
    assert_int_equal(option_defaults(&bad, &value, &error), -EINVAL);
    assert_non_null(strstr(error.text, "count"));
}

static void test_option_argv_takes_every_type(void **state)
{
    static const char *const words[] = {"-qn",   "9",         "--size=1M", "--time",
                                        "500ms", "--path=/x", NULL};
    static const char *const more[] = {
        "--mode", "none", "--areas=msg,io", "-lb:2", "--listen", "c:3", "rest", "-q", NULL};
    struct options options;
    struct option_error error;
    int rest;
    (void)state;
    assert_int_equal(read_words(&options, words, &rest, &error), 0);
    assert_int_equal(rest, 7);
    assert_true(options.quiet);
    assert_int_equal(options.count, 9);
    assert_int_equal(options.size, 1 << 20);
    assert_int_equal(options.time, 500);
    assert_string_equal(options.path, "/x");
    option_finish(&table, &options);

    assert_int_equal(read_words(&options, more, &rest, &error), 0);
    assert_int_equal(rest, 7);
    assert_false(options.quiet);
    assert_int_equal(options.mode, 1);
    assert_int_equal(options.areas, 5);
    assert_int_equal(options.listen.count, 2);
    assert_string_equal(options.listen.items[0], "b:2");
    assert_string_equal(options.listen.items[1], "c:3");
    option_finish(&table, &options);
}

static void test_option_argv_stops(void **state)
{
    static const struct {
        const char *words[4];
        int rest;
    } cases[] = {
        {{NULL}, 1},
        {{"--", "--nonsense", NULL}, 2},
        {{"word", "--nonsense", NULL}, 1},
        {{"-q", "--", NULL}, 3},
        {{"-", NULL}, 1},
        {{"-p", "--", "-q", NULL}, 4},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct options options;
        struct option_error error;
        int rest;
        assert_int_equal(read_words(&options, cases[i].words, &rest, &error), 0);
        assert_int_equal(rest, cases[i].rest);
        option_finish(&table, &options);
    }
}

static void test_option_argv_last_one_wins(void **state)
{
    static const char *const words[] = {"-n1", "-n2", "-pa", "-pb", "--quiet", "--quiet=no", NULL};
    struct options options;
    struct option_error error;
    int rest;
    (void)state;
    assert_int_equal(read_words(&options, words, &rest, &error), 0);
    assert_int_equal(options.count, 2);
    assert_string_equal(options.path, "b");
    assert_false(options.quiet);
    option_finish(&table, &options);
}

static void test_option_argv_refuses(void **state)
{
    static const struct {
        const char *words[3];
        const char *says;
    } cases[] = {
        {{"--nonsense"}, "unknown option --nonsense"},
        {{"--siz", "9K"}, "unknown option --siz"},
        {{"--nonsense=1"}, "unknown option --nonsense=1"},
        {{"-q", "--nonsense"}, "unknown option --nonsense"},
        {{"-z"}, "unknown option -z"},
        {{"-qz"}, "unknown option -z"},
        {{"-n"}, "-n needs a value"},
        {{"--size"}, "--size needs a value"},
        {{"-n", "0"}, "--count: \"0\" is not between 1 and 100"},
        {{"-n", "101"}, "--count: \"101\" is not between 1 and 100"},
        {{"-n", "-1"}, "--count: \"-1\" is not a whole number"},
        {{"-n", "8K"}, "--count: \"8K\" is not a whole number"},
        {{"-n", ""}, "--count: \"\" is not a whole number"},
        {{"-n", "99999999999999999999"}, "is not between 1 and 100"},
        {{"--size", "8k"}, "--size: \"8k\" is not a size"},
        {{"--size", "2M"}, "is not between 64 and 1M"},
        {{"--size", "18446744073709551615G"}, "is not between 64 and 1M"},
        {{"--time", "0"}, "is not between 1ms and 3600s"},
        {{"--time", "2h"}, "is not between 1ms and 3600s"},
        {{"--time", "soon"}, "--time: \"soon\" is not a time"},
        {{"--path", ""}, "--path: the value is empty"},
        {{"--listen", ""}, "--listen: the value is empty"},
        {{"--mode", "tok"}, "--mode: \"tok\" is none of: token, none"},
        {{"--mode", ""}, "--mode: \"\" is none of: token, none"},
        {{"--areas", "msg,x"}, "--areas: \"x\" is none of: msg, command, io"},
        {{"--areas", "msg,"}, "--areas: \"\" is none of"},
        {{"--areas", ""}, "--areas: \"\" is none of"},
        {{"--quiet=maybe"}, "--quiet: \"maybe\" is neither yes nor no"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct options options;
        struct option_error error = {""};
        int rest;
        assert_int_equal(read_words(&options, cases[i].words, &rest, &error), -EINVAL);
        if (!strstr(error.text, cases[i].says)) {
            fail_msg("%s: got \"%s\"", cases[i].words[0], error.text);
        }
        option_finish(&table, &options);
    }
}

static void test_option_argv_long_words_fit_the_error(void **state)
{
    char word[5000] = "--";
    const char *words[] = {word, NULL};
    struct options options;
    struct option_error error;
    int rest;
    (void)state;
    memset(word + 2, 'x', sizeof word - 3);
    assert_int_equal(read_words(&options, words, &rest, &error), -EINVAL);
    assert_in_range(strlen(error.text), 1, sizeof error.text - 1);
    option_finish(&table, &options);
    memcpy(word, "--areas=", 8);
    assert_int_equal(read_words(&options, words, &rest, &error), -EINVAL);
    assert_in_range(strlen(error.text), 1, sizeof error.text - 1);
    option_finish(&table, &options);
}

static void test_option_list_is_bounded(void **state)
{
    struct options options;
    struct option_error error;
    char *argv[OPTION_LIST_MAX + 3] = {(char *)"prog"};
    int rest;
    (void)state;
    for (int i = 1; i <= OPTION_LIST_MAX + 1; i++) {
        argv[i] = (char *)"-lx";
    }
    option_defaults(&table, &options, &error);
    assert_int_equal(option_read_argv(&table, &options, OPTION_LIST_MAX + 1, argv, &rest, &error),
                     0);
    assert_int_equal(options.listen.count, OPTION_LIST_MAX);
    assert_int_equal(option_read_argv(&table, &options, OPTION_LIST_MAX + 2, argv, &rest, &error),
                     -EINVAL);
    option_finish(&table, &options);
}

/* ---- the file ---- */

static char file_path[32];

static int make_file(void **state)
{
    (void)state;
    strcpy(file_path, "/tmp/bulkhead-unit-XXXXXX");
    int fd = mkstemp(file_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file_path);
}

static int read_bytes(struct options *options, const char *bytes, size_t len,
                      struct option_error *error)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(option_defaults(&table, options, error), 0);
    return option_read_file(&table, options, file_path, error);
}

static int read_text(struct options *options, const char *text, struct option_error *error)
{
    return read_bytes(options, text, strlen(text), error);
}

static void test_option_file_takes_every_type(void **state)
{
    struct options options;
    struct option_error error;
    (void)state;
    assert_int_equal(read_text(&options,
                               "# a comment\n; another\n\n[prog]\n"
                               "quiet = yes\ncount=9\n  size = 1M ; remark\n\ttime = 5m\n"
                               "path = /a b\nmode = none\nareas = io,command\n"
                               "listen = b:2\nlisten = [::1]:3\r\n",
                               &error),
                     0);
    assert_true(options.quiet);
    assert_int_equal(options.count, 9);
    assert_int_equal(options.size, 1 << 20);
    assert_int_equal(options.time, 300000);
    assert_string_equal(options.path, "/a b");
    assert_int_equal(options.mode, 1);
    assert_int_equal(options.areas, 6);
    assert_int_equal(options.listen.count, 2);
    assert_string_equal(options.listen.items[1], "[::1]:3");
    option_finish(&table, &options);
}

static void test_option_file_flag_words(void **state)
{
    static const struct {
        const char *text;
        bool value;
    } cases[] = {
        {"[prog]\nquiet=yes", true}, {"[prog]\nquiet=true", true},   {"[prog]\nquiet=on", true},
        {"[prog]\nquiet=1", true},   {"[prog]\nquiet=no", false},    {"[prog]\nquiet=false", false},
        {"[prog]\nquiet=0", false},  {"[prog]\nquiet=off\n", false}, {"", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct options options;
        struct option_error error;
        assert_int_equal(read_text(&options, cases[i].text, &error), 0);
        assert_int_equal(options.quiet, cases[i].value);
        option_finish(&table, &options);
    }
}

static void test_option_file_refuses_with_line_and_reason(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[prog]\nnonsense = 1\n", ":2: unknown key nonsense"},
        {"[prog]\n\n\n# x\nsiz = 1\n", ":5: unknown key siz"},
        {"count = 1\n", ":1: count stands before [prog]"},
        {"[other]\ncount = 1\n", ":2: unknown section [other]"},
        {"[prog]\ncount\n", ":2: neither [section] nor name = value"},
        {"[prog\ncount = 1\n", ":1: neither"},
        {"[prog]\ncount = 0\n", ":2: count: \"0\" is not between 1 and 100"},
        {"[prog]\ncount = -3\n", ":2: count: \"-3\" is not a whole number"},
        {"[prog]\ncount =\n", ":2: count: \"\" is not a whole number"},
        {"[prog]\ncount = 1 2\n", ":2: count: \"1 2\" is not a whole number"},
        {"[prog]\nquiet =\n", ":2: quiet: \"\" is neither yes nor no"},
        {"[prog]\nsize = 1\n", ":2: size: \"1\" is not between 64 and 1M"},
        {"[prog]\nsize = 18446744073709551616\n", ":2: size: "},
        {"[prog]\nlisten =\n", ":2: listen: the value is empty"},
        {"[prog]\nmode = all\n", ":2: mode: \"all\" is none of: token, none"},
        {"[prog]\nhelp = yes\n", ":2: help can only be given on the command line"},
        {"[prog]\ncount = 1\nsize = 8K\ncount = 2\n", ":4: count was given already in line 2"},
        {"[prog]\ncount = 1\n  size = x\n", ":3: size: \"x\" is not a size"},
        {"[prog]\ncount = x\nsize\n", ":2: count: "},
        {"[prog]\nsize\ncount = x\n", ":2: neither"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct options options;
        struct option_error error = {""};
        char says[160];
        snprintf(says, sizeof says, "%s%s", file_path, cases[i].says);
        assert_int_equal(read_text(&options, cases[i].text, &error), -EINVAL);
        if (!strstr(error.text, says)) {
            fail_msg("wanted \"%s\", got \"%s\"", says, error.text);
        }
        option_finish(&table, &options);
    }
}

static void test_option_file_long_lines(void **state)
{
    char text[100000] = "[prog]\n# ";
    struct options options;
    struct option_error error;
    (void)state;
    memset(text + 9, 'x', sizeof text - 10);
    assert_int_equal(read_text(&options, text, &error), -EINVAL);
    assert_non_null(strstr(error.text, ":2: the line is longer than"));
    option_finish(&table, &options);

    /* Just what fits is taken whole, and not for two lines. */
    snprintf(text, sizeof text, "[prog]\npath = /%0190d\n", 0);
    assert_int_equal(read_text(&options, text, &error), 0);
    assert_int_equal(strlen(options.path), 191);
    option_finish(&table, &options);
}

static void test_option_file_nul_byte(void **state)
{
    static const char text[] = "[prog]\npath = /a\0b\ncount = 3\n";
    struct options options;
    struct option_error error;
    (void)state;
    assert_int_equal(read_bytes(&options, text, sizeof text - 1, &error), -EINVAL);
    assert_non_null(strstr(error.text, ":2: the line holds a NUL byte"));
    option_finish(&table, &options);
}

static void test_option_file_that_cannot_be_read(void **state)
{
    struct options options;
    struct option_error error;
    (void)state;
    option_defaults(&table, &options, &error);
    assert_int_equal(option_read_file(&table, &options, "/nonexistent/file", &error), -ENOENT);
    assert_non_null(strstr(error.text, "/nonexistent/file"));
    assert_true(option_read_file(&table, &options, "/", &error) < 0);
    assert_non_null(strstr(error.text, "/: "));
    option_finish(&table, &options);
}

static void test_option_command_line_beats_file(void **state)
{
    char *argv[] = {(char *)"prog", (char *)"-n5", (char *)"-lz:9", NULL};
    struct options options;
    struct option_error error;
    int rest;
    (void)state;
    assert_int_equal(
        read_text(&options, "[prog]\ncount = 3\nsize = 1M\nlisten = b:2\nlisten = c:3\n", &error),
        0);
    assert_int_equal(option_read_argv(&table, &options, 3, argv, &rest, &error), 0);
    assert_int_equal(options.count, 5);
    assert_int_equal(options.size, 1 << 20);
    assert_int_equal(options.listen.count, 1);
    assert_string_equal(options.listen.items[0], "z:9");
    option_finish(&table, &options);
}

/* ---- help ---- */

static void test_option_help_names_everything(void **state)
{
    char text[8192];
    int saved = dup(STDOUT_FILENO);
    FILE *file = fopen(file_path, "w+");
    (void)state;
    assert_non_null(file);
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    int code = option_print_help(&table);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(code, 0);
    assert_non_null(strstr(text, "Usage: prog [OPTION...]\nDoes things.\n"));
    for (size_t i = 0; i < COUNT_OF(specs); i++) {
        char name[32];
        snprintf(name, sizeof name, " --%s", specs[i].name);
        assert_non_null(strstr(text, name));
        assert_non_null(strstr(text, specs[i].help));
        assert_true(!specs[i].fallback || strstr(text, specs[i].fallback));
    }
    assert_non_null(strstr(text, "  -n, --count N  "));
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_file, remove_file)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_option_defaults),
    cmocka_unit_test(test_option_bad_default_is_named),
    cmocka_unit_test(test_option_argv_takes_every_type),
    cmocka_unit_test(test_option_argv_stops),
    cmocka_unit_test(test_option_argv_last_one_wins),
    cmocka_unit_test(test_option_argv_refuses),
    cmocka_unit_test(test_option_argv_long_words_fit_the_error),
    cmocka_unit_test(test_option_list_is_bounded),
    WITH_FILE(test_option_file_takes_every_type),
    WITH_FILE(test_option_file_flag_words),
    WITH_FILE(test_option_file_refuses_with_line_and_reason),
    WITH_FILE(test_option_file_long_lines),
    WITH_FILE(test_option_file_nul_byte),
    WITH_FILE(test_option_file_that_cannot_be_read),
    WITH_FILE(test_option_command_line_beats_file),
    WITH_FILE(test_option_help_names_everything),
};

UNIT_MAIN(tests)
