/*
 * What the messages to clients say, in every dialect alike. Each function
 * appends one whole message to t.
 */
#ifndef BULKHEAD_FRONTEND_MESSAGE_H
#define BULKHEAD_FRONTEND_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/proto.h"
#include "frontend/backlog.h"
#include "frontend/dialect.h"

void message_connected(const struct dialect *d, struct text *t, struct span session_id);
void message_hook_status(const struct dialect *d, struct text *t, struct span id);
void message_stdin_taken(const struct dialect *d, struct text *t, struct span id, size_t bytes);
void message_start_result(const struct dialect *d, struct text *t, struct span id,
                          const struct msg_STARTED *started);
void message_started(const struct dialect *d, struct text *t, const struct msg_STARTED *started);
void message_control_result(const struct dialect *d, struct text *t, struct span id,
                            const struct msg_CONTROLLED *controlled);

/* Only for actions that have a notification (message_is_state). */
bool message_is_state(uint32_t action);
void message_state(const struct dialect *d, struct text *t,
                   const struct msg_CONTROLLED *controlled);

void message_stdin_credit(const struct dialect *d, struct text *t, uint32_t exec, uint64_t bytes,
                          bool closed);
void message_ping(const struct dialect *d, struct text *t);
void message_completed(const struct dialect *d, struct text *t, const struct msg_VERDICT *verdict);

/* process.output in three parts; between them the data goes through writer->data_copy. */
void message_output_begin(const struct dialect *d, struct text *t, uint32_t exec,
                          const struct chunk *chunk);
void message_output_end(const struct dialect *d, struct text *t);

#endif
