/*
 * Rate limiting of log lines, in the frontend. Sessions share a fixed number
 * of counters, by the remainder of their number.
 */
#include "frontend/report.h"

#include <stdio.h>
#include <time.h>

#include "frontend/upstream.h"

#define LINES_PER_SECOND 10
#define COUNTERS 128

static struct counter {
    uint32_t sid; /* the last one */
    time_t second;
    unsigned lines, suppressed;
} counters[COUNTERS];

static time_t now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Begins a new second, and says what the last one left out. */
static void counter_turn(struct counter *counter, time_t now)
{
    char line[64];

    if (counter->second == now) {
        return;
    }
    counter->second = now;
    counter->lines = 0;
    if (counter->suppressed > 0) {
        snprintf(line, sizeof(line), "%u lines suppressed", counter->suppressed);
        counter->suppressed = 0;
        upstream_log(LOG_WARN, counter->sid, line);
    }
}

void report_line(enum log_level level, uint32_t sid, const char *line)
{
    struct counter *counter = &counters[sid % COUNTERS];

    counter_turn(counter, now_seconds());
    counter->sid = sid;
    if (++counter->lines > LINES_PER_SECOND) {
        counter->suppressed++;
        return;
    }
    upstream_log(level, sid, line);
}

bool report_flush(void)
{
    time_t now = now_seconds();
    bool more = false;

    for (size_t i = 0; i < COUNTERS; i++) {
        if (counters[i].suppressed > 0) {
            counter_turn(&counters[i], now);
            more = more || counters[i].suppressed > 0;
        }
    }
    return more;
}
