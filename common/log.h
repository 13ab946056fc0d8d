/*
 * Log lines, for any of our processes. Where a line goes is a sink: stderr in
 * bulkheadd and the client, the channel in the locked-in frontend.
 *
 * Control characters and bytes that are not ASCII are escaped before a line
 * leaves, so a peer's text cannot forge a line. Never pass a token, a
 * command's stdin or the value of an environment variable.
 */
#ifndef BULKHEAD_LOG_H
#define BULKHEAD_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_format { LOG_TEXT, LOG_JSON };
enum log_area { TRACE_MSG = 1, TRACE_COMMAND = 2, TRACE_IO = 4, TRACE_POLICY = 8 };

/* Receives one finished line without its newline. sid is 0 where no session is meant. */
typedef void log_sink(enum log_level level, uint32_t sid, const char *line);

/* program: "bulkheadd", ...; not copied. sink NULL: stderr. */
void log_init(const char *program, log_sink *sink);
void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
void log_set_trace(unsigned areas);

enum log_level log_level_now(void);

__attribute__((format(printf, 1, 2))) void log_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_warn(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_info(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_debug(const char *format, ...);

/* A line on behalf of a session. */
__attribute__((format(printf, 3, 4))) void log_session(enum log_level level, uint32_t sid,
                                                       const char *format, ...);

/* Whether an area is traced; ask before making the arguments. */
bool log_traces(enum log_area area);
__attribute__((format(printf, 2, 3))) void log_trace(enum log_area area, const char *format, ...);

/* A line that another process made (the frontend's), at its level. */
void log_relay(const char *program, enum log_level level, uint32_t sid, const char *text,
               unsigned len);

/* Says why and leaves: 100 wrong use, 111 the system's fault, 101 cannot happen. */
#define EXIT_USAGE 100
#define EXIT_BUG 101
#define EXIT_SYSTEM 111
__attribute__((noreturn, format(printf, 1, 2))) void die_usage(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void die_system(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void die_bug(const char *format, ...);

/* "error", "warn", ...; and back: -1 when it is none. */
const char *log_level_name(enum log_level level);
int log_level_parse(const char *name);

#endif
