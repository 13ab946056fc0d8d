/* The kernel shows a process's argument strings from where they lie: proc_pid_cmdline(5). */
#include "supervisor/title.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static char *area;
static size_t area_size;

void title_init(int argc, char **argv)
{
    char *end = argc > 0 ? argv[0] : NULL;

    for (int i = 0; i < argc && argv[i] == end; i++) {
        end = argv[i] + strlen(argv[i]) + 1; /* they follow each other without a gap */
    }
    area = argc > 0 ? argv[0] : NULL;
    area_size = (size_t)(end - area);
}

void title_set(const char *format, ...)
{
    va_list args;

    if (area == NULL) {
        return;
    }
    memset(area, 0, area_size);
    va_start(args, format);
    (void)vsnprintf(area, area_size, format, args);
    va_end(args);
}
