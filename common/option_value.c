/* The values of an option table: one function for each type. Every text is checked in full. */
#include "common/option_value.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int option_refuse(struct option_error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return code;
}

const struct option_spec *option_find(const struct option_table *table, const char *name,
                                      size_t len)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strlen(table->specs[i].name) == len && memcmp(table->specs[i].name, name, len) == 0) {
            return &table->specs[i];
        }
    }
    return NULL;
}

static void *place(const struct option_spec *spec, void *options)
{
    return (char *)options + spec->offset;
}

/* ---- one function a type ---- */

typedef int set_fn(const struct option_spec *spec, void *at, const char *text, bool replace,
                   struct option_error *error);

static int set_flag(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    static const char *const words[] = {"no", "false", "off", "0", "yes", "true", "on", "1"};
    (void)spec, (void)replace;
    for (size_t i = 0; i < 8; i++) {
        if (strcmp(text, words[i]) == 0) {
            *(bool *)at = i >= 4;
            return 0;
        }
    }
    return option_refuse(error, -EINVAL, "\"%s\" is neither yes nor no", text);
}

/* A bound as a person would type it, in the unit the value was given in. */
static const char *bound_text(enum option_type type, uint64_t bound, char text[32])
{
    const char *unit = "";
    if (type == OPTION_DURATION) {
        unit = bound % 1000 == 0 ? "s" : "ms";
        bound = bound % 1000 == 0 ? bound / 1000 : bound;
    } else if (type == OPTION_SIZE && bound) {
        const char *const units[] = {"", "K", "M", "G"};
        size_t i = 0;
        while (i < 3 && bound % 1024 == 0) {
            bound /= 1024;
            i++;
        }
        unit = units[i];
    }
    snprintf(text, 32, "%llu%s", (unsigned long long)bound, unit);
    return text;
}

typedef int parse_fn(const char *text, uint64_t *value);

static int set_number(const struct option_spec *spec, void *at, const char *text, parse_fn *parse,
                      const char *what, struct option_error *error)
{
    uint64_t value = 0;
    int code = parse(text, &value);
    if (code == -EINVAL) {
        return option_refuse(error, code, "\"%s\" is not %s", text, what);
    }
    char low[32], high[32];
    if (code == -ERANGE || value < spec->min || value > spec->max) {
        return option_refuse(error, -EINVAL, "\"%s\" is not between %s and %s", text,
                             bound_text(spec->type, spec->min, low),
                             bound_text(spec->type, spec->max, high));
    }
    *(uint64_t *)at = value;
    return 0;
}

static int set_uint(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    (void)replace;
    return set_number(spec, at, text, option_parse_uint, "a whole number", error);
}

static int set_size(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    (void)replace;
    return set_number(spec, at, text, option_parse_size, "a size in bytes (8192, 8K, 1M, 2G)",
                      error);
}

static int set_duration(const struct option_spec *spec, void *at, const char *text, bool replace,
                        struct option_error *error)
{
    (void)replace;
    return set_number(spec, at, text, option_parse_duration, "a time (300, 2s, 500ms, 5m, 1h)",
                      error);
}

static int set_text(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    (void)spec, (void)replace;
    if (!*text) {
        return option_refuse(error, -EINVAL, "the value is empty");
    }
    char *copy = strdup(text);
    if (!copy) {
        return option_refuse(error, -ENOMEM, "out of memory");
    }
    free(*(char **)at);
    *(char **)at = copy;
    return 0;
}

/* The index of the word in text[0..len), -1 when it is none. */
static int word_index(const char *const *words, const char *text, size_t len)
{
    for (int i = 0; words[i]; i++) {
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0) {
            return i;
        }
    }
    return -1;
}

static int refuse_word(struct option_error *error, const char *const *words, const char *text,
                       size_t len)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; words[i] && used < sizeof known; i++) {
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", words[i]);
    }
    return option_refuse(error, -EINVAL, "\"%.*s\" is none of: %s", (int)len, text, known);
}

static int set_enum(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    (void)replace;
    int i = word_index(spec->words, text, strlen(text));
    if (i < 0) {
        return refuse_word(error, spec->words, text, strlen(text));
    }
    *(int *)at = i;
    return 0;
}

static int set_set(const struct option_spec *spec, void *at, const char *text, bool replace,
                   struct option_error *error)
{
    (void)replace;
    unsigned bits = 0;
    for (const char *word = text;; word++) {
        size_t len = strcspn(word, ",");
        int i = word_index(spec->words, word, len);
        if (i < 0) {
            return refuse_word(error, spec->words, word, len);
        }
        bits |= 1u << i;
        word += len;
        if (!*word) {
            break;
        }
    }
    *(unsigned *)at = bits;
    return 0;
}

static void list_clear(struct option_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free((char *)list->items[i]);
    }
    free(list->items);
    *list = (struct option_list){NULL, 0};
}

static int set_list(const struct option_spec *spec, void *at, const char *text, bool replace,
                    struct option_error *error)
{
    struct option_list *list = at;
    (void)spec;
    if (!*text) {
        return option_refuse(error, -EINVAL, "the value is empty");
    }
    if (replace) {
        list_clear(list);
    }
    if (list->count == OPTION_LIST_MAX) {
        return option_refuse(error, -EINVAL, "given more than %d times", OPTION_LIST_MAX);
    }
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items) {
        return option_refuse(error, -ENOMEM, "out of memory");
    }
    list->items = items;
    items[list->count] = strdup(text);
    if (!items[list->count]) {
        return option_refuse(error, -ENOMEM, "out of memory");
    }
    list->count++;
    return 0;
}

static const struct {
    set_fn *set;
    size_t size;
} types[] = {
    [OPTION_FLAG] = {set_flag, sizeof(bool)},
    [OPTION_UINT] = {set_uint, sizeof(uint64_t)},
    [OPTION_SIZE] = {set_size, sizeof(uint64_t)},
    [OPTION_DURATION] = {set_duration, sizeof(uint64_t)},
    [OPTION_TEXT] = {set_text, sizeof(char *)},
    [OPTION_ENUM] = {set_enum, sizeof(int)},
    [OPTION_SET] = {set_set, sizeof(unsigned)},
    [OPTION_LIST] = {set_list, sizeof(struct option_list)},
};

int option_value_set(const struct option_spec *spec, void *options, const char *text, bool replace,
                     struct option_error *error)
{
    return types[spec->type].set(spec, place(spec, options), text, replace, error);
}

void option_value_zero(const struct option_spec *spec, void *options)
{
    memset(place(spec, options), 0, types[spec->type].size);
}

void option_value_clear(const struct option_spec *spec, void *options)
{
    if (spec->type == OPTION_TEXT) {
        free(*(char **)place(spec, options));
    } else if (spec->type == OPTION_LIST) {
        list_clear(place(spec, options));
    }
    option_value_zero(spec, options);
}
