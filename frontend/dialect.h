/*
 * What a dialect is: how one kind of client frames and encodes the messages
 * that all of them share. The contents are in message.c (outbound) and call.c
 * (inbound); a dialect only knows its encoding.
 */
#ifndef BULKHEAD_FRONTEND_DIALECT_H
#define BULKHEAD_FRONTEND_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/span.h"
#include "frontend/text.h"

/* ---- reading ---- */

enum value_kind {
    VALUE_NULL,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_REAL,
    VALUE_STR,
    VALUE_BIN,
    VALUE_LIST,
    VALUE_MAP,
};

struct value {
    enum value_kind kind;
    bool boolean;
    int64_t integer;
    double real;
    struct span bytes; /* STR, BIN */
    const void *node;  /* LIST, MAP: the dialect's own */
    size_t count;      /* LIST, MAP: elements or pairs */
};

/* Walks the elements of a list or the pairs of a map. */
struct walk {
    const struct value *in;
    const void *at; /* the dialect's own */
    size_t next;
};

struct reader {
    /* The next element (key untouched) or pair; false at the end. */
    bool (*next)(struct walk *walk, struct value *key, struct value *value);
};

/* ---- errors ---- */

struct fault {
    int code; /* 0: none */
    const char *kind;
    const char *text;
    const char *stage; /* of a start that failed, or NULL */
    uint32_t errnum;
    uint32_t retry_after_ms; /* 0: not told */
};

/* ---- a decoded request ---- */

enum envelope_result {
    ENVELOPE_OK,
    ENVELOPE_FAULT,  /* fault says why; id is filled in as far as it could be read */
    ENVELOPE_IGNORE, /* the client's answer to something */
};

struct envelope {
    struct span id; /* as it is to be sent back, encoded; empty: the client gave none */
    struct span method;
    struct value params; /* a map, or VALUE_NULL */
    struct fault fault;
};

/* ---- writing ---- */

/*
 * Each function appends to a text. A message is notify or result, then as
 * many members as it announced, then end; or error alone.
 */
struct writer {
    void (*notify)(struct text *t, const char *method, unsigned members);
    void (*result)(struct text *t, struct span id, unsigned members);
    void (*error)(struct text *t, struct span id, const struct fault *fault);
    void (*end)(struct text *t);

    void (*null)(struct text *t, const char *key);
    void (*boolean)(struct text *t, const char *key, bool value);
    void (*integer)(struct text *t, const char *key, int64_t value);
    void (*real)(struct text *t, const char *key, double value);
    void (*str)(struct text *t, const char *key, struct span value);
    void (*list)(struct text *t, const char *key, struct span list); /* proto_list_next */

    /*
     * The member "data" of process.output, the last one: data_begin, then
     * data_copy until all of the bytes are used, then data_end, then end.
     * data_copy returns the bytes written to out.
     */
    void (*data_begin)(struct text *t, size_t len);
    size_t (*data_copy)(char *out, size_t room, struct span in, size_t *used);
    void (*data_end)(struct text *t);
};

struct dialect {
    const char *path;
    const char *subprotocol; /* NULL: the client must offer none */
    bool binary;             /* its frames; the other kind is not spoken */
    bool wrong_kind_closes;  /* the wrong kind of frame closes (1003), else it is answered */
    bool lines;              /* output is cut into lines */
    bool answers_need_id;    /* what came without an id is never answered */
    struct span no_id;       /* the id of an answer to what had no readable id */

    /*
     * Decodes a whole message. What the envelope holds lives until release
     * is called, and no longer than data does.
     */
    enum envelope_result (*decode)(struct span message, struct envelope *envelope);
    void (*release)(void);

    const struct reader *reader;
    const struct writer *writer;
};

extern const struct dialect dialect_plain, dialect_plain_mcp, dialect_msgpack;

/* Whether any dialect is spoken at the path. */
bool dialect_path_exists(const char *path);

/*
 * The dialect for a path and the value of Sec-WebSocket-Protocol, empty when
 * the client sent none. NULL: none that both know.
 */
const struct dialect *dialect_choose(const char *path, const char *offered);

#endif
