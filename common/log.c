/*
 * Builds log lines, in any of our processes. What it is given may hold text
 * from a client or from the other process; what leaves is printable ASCII.
 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Room for a line; what is longer ends in "...". */
#define LINE_MAX_BYTES 1024
/* The same once every byte of it may have become \uXXXX, plus what is around it. */
#define OUT_MAX_BYTES (LINE_MAX_BYTES * 6 + 256)

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn",   [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug", [LOG_TRACE] = "trace",
};

#define LEVELS (sizeof level_names / sizeof level_names[0])

static const char *program = "bulkhead";
static log_sink *sink;
static enum log_level threshold = LOG_INFO;
static enum log_format style = LOG_TEXT;
static unsigned traced;

void log_init(const char *name, log_sink *to)
{
    program = name;
    sink = to;
}

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_set_format(enum log_format format)
{
    style = format;
}

void log_set_trace(unsigned areas)
{
    traced = areas;
}

enum log_level log_level_now(void)
{
    return threshold;
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < LEVELS ? level_names[level] : "?";
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool log_traces(enum log_area area)
{
    return (traced & area) != 0;
}

static const char *area_name(enum log_area area)
{
    switch (area) {
    case TRACE_MSG:
        return "msg";
    case TRACE_COMMAND:
        return "command";
    case TRACE_IO:
        return "io";
    case TRACE_POLICY:
        return "policy";
    }
    return "trace";
}

/* ---- one line on its way out ---- */

struct line {
    char bytes[OUT_MAX_BYTES];
    size_t len;
};

static void line_add(struct line *line, const char *bytes, size_t len)
{
    size_t room = sizeof line->bytes - line->len;
    if (len > room) {
        len = room;
    }
    memcpy(line->bytes + line->len, bytes, len);
    line->len += len;
}

static void line_text(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void line_format(struct line *line, const char *format,
                                                              ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0) {
        line_add(line, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
    }
}

/*
 * Adds bytes that may come from a peer: only printable ASCII leaves as it is.
 * As text, escaping twice is the same as once, so a relayed line stays readable.
 */
static void line_escaped(struct line *line, enum log_format format, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (format == LOG_JSON && (c == '\\' || c == '"')) {
            line_format(line, "\\%c", c);
        } else if (c >= 0x20 && c < 0x7f) {
            line_add(line, bytes + i, 1);
        } else if (c == '\n' || c == '\t') {
            line_text(line, c == '\n' ? "\\n" : "\\t");
        } else {
            line_format(line, format == LOG_JSON ? "\\u%04x" : "\\x%02x", c);
        }
    }
}

static void add_time(struct line *line, const struct timespec *now)
{
    struct tm utc;
    gmtime_r(&now->tv_sec, &utc);
    char date[32];
    size_t len = strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    line_add(line, date, len);
    line_format(line, ".%03ldZ", now->tv_nsec / 1000000);
}

static void write_whole(const struct line *line)
{
    size_t done = 0;
    while (done < line->len) {
        ssize_t n = write(STDERR_FILENO, line->bytes + done, line->len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return; /* there is nobody left to tell */
        }
        done += (size_t)n;
    }
}

/* label: the level, or the area of a trace. */
static void write_stderr(const char *name, const char *label, uint32_t sid, const char *text,
                         size_t len)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct line line;
    line.len = 0;
    if (style == LOG_JSON) {
        line_text(&line, "{\"time\":\"");
        add_time(&line, &now);
        line_format(&line, "\",\"level\":\"%s\",\"program\":\"%s\"", label, name);
        if (sid) {
            line_format(&line, ",\"session\":%u", sid);
        }
        line_text(&line, ",\"message\":\"");
        line_escaped(&line, style, text, len);
        line_text(&line, "\"}\n");
    } else {
        add_time(&line, &now);
        line_format(&line, " %s %s: ", name, label);
        if (sid) {
            line_format(&line, "session %u: ", sid);
        }
        line_escaped(&line, style, text, len);
        line_text(&line, "\n");
    }
    int saved = errno;
    write_whole(&line);
    errno = saved;
}

static void give_to_sink(enum log_level level, uint32_t sid, const char *text, size_t len)
{
    struct line line;
    line.len = 0;
    line_escaped(&line, LOG_TEXT, text, len);
    line_add(&line, "", 1);
    sink(level, sid, line.bytes);
}

/* A sink gets what passed the threshold; whoever prints it does not ask again. */
__attribute__((format(printf, 4, 0))) static void
emit(enum log_level level, const char *label, uint32_t sid, const char *format, va_list args)
{
    char text[LINE_MAX_BYTES];
    int wanted = vsnprintf(text, sizeof text, format, args);
    if (wanted < 0) {
        return;
    }
    size_t len = (size_t)wanted;
    if (len >= sizeof text) {
        len = sizeof text - 1;
        memcpy(text + len - 3, "...", 3);
    }
    if (sink) {
        give_to_sink(level, sid, text, len);
    } else {
        write_stderr(program, label, sid, text, len);
    }
}

#define EMIT(level, label, sid)                \
    do {                                       \
        va_list args;                          \
        va_start(args, format);                \
        emit(level, label, sid, format, args); \
        va_end(args);                          \
    } while (0)

void log_error(const char *format, ...)
{
    EMIT(LOG_ERROR, level_names[LOG_ERROR], 0);
}

void log_warn(const char *format, ...)
{
    if (threshold >= LOG_WARN) {
        EMIT(LOG_WARN, level_names[LOG_WARN], 0);
    }
}

void log_info(const char *format, ...)
{
    if (threshold >= LOG_INFO) {
        EMIT(LOG_INFO, level_names[LOG_INFO], 0);
    }
}

void log_debug(const char *format, ...)
{
    if (threshold >= LOG_DEBUG) {
        EMIT(LOG_DEBUG, level_names[LOG_DEBUG], 0);
    }
}

void log_session(enum log_level level, uint32_t sid, const char *format, ...)
{
    if (threshold >= level) {
        EMIT(level, log_level_name(level), sid);
    }
}

void log_trace(enum log_area area, const char *format, ...)
{
    if (log_traces(area)) {
        EMIT(LOG_TRACE, area_name(area), 0);
    }
}

void log_relay(const char *name, enum log_level level, uint32_t sid, const char *text, unsigned len)
{
    if (threshold >= level) {
        write_stderr(name, log_level_name(level), sid, text,
                     len < LINE_MAX_BYTES ? len : LINE_MAX_BYTES);
    }
}

/* Wrong use is seen by whoever typed it: no time, no level. */
void die_usage(const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct line line;
    line.len = 0;
    line_text(&line, program);
    line_text(&line, ": ");
    line_escaped(&line, LOG_TEXT, text, strlen(text));
    line_text(&line, "\n");
    write_whole(&line);
    exit(EXIT_USAGE);
}

void die_system(const char *format, ...)
{
    EMIT(LOG_ERROR, level_names[LOG_ERROR], 0);
    exit(EXIT_SYSTEM);
}

void die_bug(const char *format, ...)
{
    EMIT(LOG_ERROR, level_names[LOG_ERROR], 0);
    exit(EXIT_BUG);
}
