/* The command line, defaults and --help out of an option table. Trusts the table, not the words. */
#include "common/option.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/option_value.h"

int option_defaults(const struct option_table *table, void *options, struct option_error *error)
{
    for (size_t i = 0; i < table->count; i++) {
        option_value_zero(&table->specs[i], options);
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct option_spec *spec = &table->specs[i];
        struct option_error why;
        if (spec->fallback && option_value_set(spec, options, spec->fallback, true, &why) != 0) {
            return option_refuse(error, -EINVAL, "default of %s: %.400s", spec->name, why.text);
        }
    }
    return 0;
}

void option_finish(const struct option_table *table, void *options)
{
    for (size_t i = 0; i < table->count; i++) {
        option_value_clear(&table->specs[i], options);
    }
}

/* ---- the command line ---- */

struct getopt_view {
    struct option longs[OPTION_SPECS_MAX + 1];
    char shorts[2 + OPTION_SPECS_MAX * 3 + 1];
    int letter_index[256]; /* of the spec with that short name */
};

static int view_init(struct getopt_view *view, const struct option_table *table)
{
    if (table->count > OPTION_SPECS_MAX) {
        return -EINVAL;
    }
    memset(view, 0, sizeof *view);
    char *s = view->shorts;
    *s++ = '+'; /* stop at the first word that is no option */
    *s++ = ':'; /* a missing argument is told apart */
    for (size_t i = 0; i < table->count; i++) {
        const struct option_spec *spec = &table->specs[i];
        bool flag = spec->type == OPTION_FLAG;
        view->longs[i].name = spec->name;
        view->longs[i].has_arg = flag ? optional_argument : required_argument;
        view->longs[i].val = 0;
        if (!spec->letter) {
            continue;
        }
        view->letter_index[(unsigned char)spec->letter] = (int)i;
        *s++ = spec->letter;
        if (!flag) {
            *s++ = ':';
        }
    }
    return 0;
}

/* getopt_long(3) takes any beginning of a name; scripts that lean on it break with the next option.
 */
static bool word_known(const struct option_table *table, const char *word)
{
    if (!word || strncmp(word, "--", 2) != 0 || word[2] == '\0') {
        return true;
    }
    return option_find(table, word + 2, strcspn(word + 2, "=")) != NULL;
}

int option_read_argv(const struct option_table *table, void *options, int argc, char **argv,
                     int *rest, struct option_error *error)
{
    struct getopt_view view;
    if (view_init(&view, table) != 0) {
        return option_refuse(error, -EINVAL, "the option table is too long");
    }
    bool seen[OPTION_SPECS_MAX] = {false};
    opterr = 0;
    optind = 0; /* glibc: start anew */
    for (int next = 1;; next = optind) {
        if (next < argc && !word_known(table, argv[next])) {
            return option_refuse(error, -EINVAL, "unknown option %.200s", argv[next]);
        }
        int index = -1;
        int c = getopt_long(argc, argv, view.shorts, view.longs, &index);
        if (c == -1) {
            break;
        }
        if (c == '?') {
            return option_refuse(error, -EINVAL, "unknown option -%c", optopt);
        }
        if (c == ':') {
            return option_refuse(error, -EINVAL, "%.200s needs a value", argv[optind - 1]);
        }
        if (c != 0) {
            index = view.letter_index[(unsigned char)c];
        }
        const struct option_spec *spec = &table->specs[index];
        struct option_error why;
        if (option_value_set(spec, options, optarg ? optarg : "yes", !seen[index], &why) != 0) {
            return option_refuse(error, -EINVAL, "--%s: %.400s", spec->name, why.text);
        }
        seen[index] = true;
    }
    *rest = optind;
    return 0;
}

/* ---- help ---- */

#define HELP_COLUMN 30

static void print_option(const struct option_spec *spec)
{
    char left[96];
    int len = snprintf(left, sizeof left, "  %c%c%c --%s%s%s", spec->letter ? '-' : ' ',
                       spec->letter ? spec->letter : ' ', spec->letter ? ',' : ' ', spec->name,
                       spec->argument ? " " : "", spec->argument ? spec->argument : "");
    if (len >= HELP_COLUMN) {
        printf("%s\n%*s", left, HELP_COLUMN, "");
    } else {
        printf("%-*s", HELP_COLUMN, left);
    }
    printf("%s", spec->help);
    if (spec->fallback && spec->type != OPTION_FLAG) {
        printf(" (%s)", spec->fallback);
    }
    putchar('\n');
}

int option_print_help(const struct option_table *table)
{
    printf("Usage: %s %s\n%s\n\n", table->program, table->synopsis, table->summary);
    for (size_t i = 0; i < table->count; i++) {
        print_option(&table->specs[i]);
    }
    if (table->footer) {
        printf("\n%s\n", table->footer);
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -EIO;
}
