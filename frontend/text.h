/*
 * A message under construction: bytes that grow up to a bound. In front of
 * the bytes is room for a WebSocket header, so that the message can be sent
 * from where it lies.
 */
#ifndef BULKHEAD_FRONTEND_TEXT_H
#define BULKHEAD_FRONTEND_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/span.h"

/* Bytes that libwebsockets may write before data. */
#define TEXT_HEADROOM 16

struct text {
    char *data; /* TEXT_HEADROOM bytes behind the start of the allocation */
    size_t len, cap, max;
    bool fixed;  /* over a buffer of the caller's */
    bool failed; /* something did not fit; the content is of no use */
};

/* An empty text that allocates as it grows, to at most max bytes. */
void text_init(struct text *t, size_t max);

/* A text over buf; the first TEXT_HEADROOM bytes of it stay free. */
void text_init_fixed(struct text *t, char *buf, size_t size);

/* Frees what text_init's text allocated. May be called twice. */
void text_finish(struct text *t);

void text_add(struct text *t, const char *bytes, size_t len);
void text_add_char(struct text *t, char c);
void text_add_str(struct text *t, const char *s);
__attribute__((format(printf, 2, 3))) void text_addf(struct text *t, const char *format, ...);

/* Adds s escaped for the inside of a JSON string; bytes that are not UTF-8 become U+FFFD. */
void text_add_json(struct text *t, struct span s);

/* Gives the bytes away: the caller frees them with text_free. */
char *text_take(struct text *t, size_t *len);
void text_free(char *data);

#endif
