#include "client/say.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static bool in_line;

void say_after_part(bool line_begun)
{
    in_line = line_begun;
}

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return; /* there is nobody left to tell */
        }
        text += n;
        len -= (size_t)n;
    }
}

void say_raw(const char *text)
{
    if (in_line) {
        write_all("\n", 1);
    }
    in_line = false;
    write_all(text, strlen(text));
}

static void print_line(enum log_level level, uint32_t sid, const char *line)
{
    (void)level;
    (void)sid;
    char text[8192];
    snprintf(text, sizeof text, "bulkhead: %s\n", line);
    say_raw(text);
}

void say_init(void)
{
    log_init("bulkhead", print_line);
}
