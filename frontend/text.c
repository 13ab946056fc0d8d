/*
 * A message under construction, in the frontend. A failure is remembered, so
 * that a row of additions needs one check at its end.
 */
#include "frontend/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontend/utf8.h"

#define FIRST_SIZE 256

void text_init(struct text *t, size_t max)
{
    *t = (struct text){.max = max};
}

void text_init_fixed(struct text *t, char *buf, size_t size)
{
    size_t room = size - TEXT_HEADROOM;

    *t = (struct text){.data = buf + TEXT_HEADROOM, .cap = room, .max = room, .fixed = true};
}

void text_free(char *data)
{
    if (data != NULL) {
        free(data - TEXT_HEADROOM);
    }
}

void text_finish(struct text *t)
{
    if (!t->fixed) {
        text_free(t->data);
    }
    *t = (struct text){.max = t->max};
}

char *text_take(struct text *t, size_t *len)
{
    char *data = t->data;

    *len = t->len;
    *t = (struct text){.max = t->max};
    return data;
}

/* Makes room for more bytes behind what is there. */
static bool text_reserve(struct text *t, size_t more)
{
    size_t cap = t->cap > 0 ? t->cap : FIRST_SIZE;
    char *base;

    if (t->failed || more > t->max - t->len) {
        t->failed = true;
        return false;
    }
    if (t->len + more <= t->cap) {
        return true;
    }
    while (cap < t->len + more) {
        cap *= 2;
    }
    base = realloc(t->data != NULL ? t->data - TEXT_HEADROOM : NULL, TEXT_HEADROOM + cap);
    if (base == NULL) {
        t->failed = true;
        return false;
    }
    t->data = base + TEXT_HEADROOM;
    t->cap = cap;
    return true;
}

void text_add(struct text *t, const char *bytes, size_t len)
{
    if (len > 0 && text_reserve(t, len)) {
        memcpy(t->data + t->len, bytes, len);
        t->len += len;
    }
}

void text_add_char(struct text *t, char c)
{
    text_add(t, &c, 1);
}

void text_add_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_addf(struct text *t, const char *format, ...)
{
    char line[256];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(line)) {
        t->failed = true;
        return;
    }
    text_add(t, line, (size_t)n);
}

void text_add_json(struct text *t, struct span s)
{
    while (s.len > 0 && text_reserve(t, UTF8_ESCAPED_MAX)) {
        size_t used;

        t->len += utf8_escape_json(t->data + t->len, t->cap - t->len, s, &used);
        s.data += used;
        s.len -= used;
    }
}
