/*
 * The frontend's log: it goes over the channel, and no client can flood it.
 */
#ifndef BULKHEAD_FRONTEND_REPORT_H
#define BULKHEAD_FRONTEND_REPORT_H

#include <stdbool.h>

#include "common/log.h"

/* A log_sink. Lines of one session beyond some in a second are counted instead of sent. */
void report_line(enum log_level level, uint32_t sid, const char *line);

/* Tells what was suppressed in seconds that are over. Returns whether there is more to tell. */
bool report_flush(void);

#endif
