#include "client/verdict.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/message.h"
#include "common/verdict.h"

/* Deeper than any verdict; an answer may not use up our stack. */
#define DEPTH_MAX 8

/* ---- MessagePack to JSON ---- */

/* JSON has no bytes: what is not UTF-8 keeps its ASCII part. */
static json_t *text_json(const char *text, size_t len)
{
    json_t *json = json_stringn(text, len);
    if (json) {
        return json;
    }
    char *plain = malloc(len + 1);
    if (!plain) {
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    }
    json = json_stringn(plain, len);
    free(plain);
    return json;
}

static json_t *to_json(const msgpack_object *object, int depth);

static json_t *array_json(const msgpack_object_array *array, int depth)
{
    json_t *json = json_array();
    for (uint32_t i = 0; json && i < array->size; i++) {
        if (json_array_append_new(json, to_json(&array->ptr[i], depth + 1)) != 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *map_json(const msgpack_object_map *map, int depth)
{
    json_t *json = json_object();
    for (uint32_t i = 0; json && i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        char name[128];
        bool ok = key->type == MSGPACK_OBJECT_STR && key->via.str.size < sizeof name;
        if (ok) {
            memcpy(name, key->via.str.ptr, key->via.str.size);
            name[key->via.str.size] = '\0';
            ok = json_object_set_new(json, name, to_json(&map->ptr[i].val, depth + 1)) == 0;
        }
        if (!ok) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

static json_t *to_json(const msgpack_object *object, int depth)
{
    if (depth > DEPTH_MAX) {
        return NULL;
    }
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        return json_null();
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(object->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return json_integer((json_int_t)object->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(object->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(object->via.f64);
    case MSGPACK_OBJECT_STR:
        return text_json(object->via.str.ptr, object->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return text_json(object->via.bin.ptr, object->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        return array_json(&object->via.array, depth);
    case MSGPACK_OBJECT_MAP:
        return map_json(&object->via.map, depth);
    default:
        return NULL;
    }
}

/* ---- what it means ---- */

static bool reason_is(const struct verdict *verdict, enum verdict_reason reason)
{
    const char *text = json_string_value(json_object_get(verdict->fields, "reason"));
    return text && strcmp(text, verdict_reason_name(reason)) == 0;
}

/* Whether the command itself came to an end that its exit code describes. */
static bool is_commands_own(const struct verdict *verdict)
{
    static const enum verdict_reason own[] = {
        REASON_EXITED,       REASON_SIGNALED,     REASON_CANCELED, REASON_CPU_LIMIT,
        REASON_MEMORY_LIMIT, REASON_OUTPUT_LIMIT, REASON_SECCOMP,
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (reason_is(verdict, own[i])) {
            return true;
        }
    }
    return false;
}

/* -1 for a verdict from which no code follows. */
static int exit_code_of(const struct verdict *verdict)
{
    json_t *field = json_object_get(verdict->fields, "exit_code");
    json_int_t code = json_integer_value(field);
    if (reason_is(verdict, REASON_TIMEOUT)) {
        return EXIT_TIMEOUT;
    }
    if (!json_is_integer(field) || !is_commands_own(verdict) || code < -64 || code > 255) {
        return -1;
    }
    if (code == 0 && !reason_is(verdict, REASON_EXITED)) {
        return -1;
    }
    return code < 0 ? EXIT_SIGNAL + (int)-code : (int)code;
}

int verdict_read(const msgpack_object *params, struct verdict *verdict)
{
    verdict->fields = to_json(params, 0);
    if (!verdict->fields) {
        return -EPROTO;
    }
    if (!json_is_string(json_object_get(verdict->fields, "reason"))) {
        verdict_finish(verdict);
        return -EPROTO;
    }
    int code = exit_code_of(verdict);
    verdict->conclusive = code >= 0;
    verdict->exit_code = verdict->conclusive ? code : EXIT_OURS;
    return 0;
}

void verdict_finish(struct verdict *verdict)
{
    json_decref(verdict->fields);
    verdict->fields = NULL;
}

/* ---- what is said about it ---- */

__attribute__((format(printf, 1, 2))) static char *text_of(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) {
        text = NULL;
    }
    va_end(args);
    return text;
}

char *verdict_explain(const struct verdict *verdict)
{
    static const struct {
        enum verdict_reason reason;
        const char *text;
    } stories[] = {
        {REASON_CPU_LIMIT, "the command used up its processor time and was stopped"},
        {REASON_MEMORY_LIMIT, "the command used up its memory and was stopped"},
        {REASON_OUTPUT_LIMIT, "the command wrote more than its policy allows and was stopped"},
        {REASON_SECCOMP, "the command made a system call that its policy does not allow"},
        {REASON_DISCONNECTED, "bulkheadd lost sight of us and stopped the command"},
        {REASON_SHUTDOWN, "bulkheadd is shutting down and stopped the command"},
        {REASON_START_FAILED, "the command was not started"},
        {REASON_CELL_LOST, "the sandbox was lost; how the command ended is not known"},
    };
    const char *more = json_string_value(json_object_get(verdict->fields, "error"));
    bool has_more = more && more[0];
    if (reason_is(verdict, REASON_TIMEOUT)) {
        return text_of("the command was stopped at its timeout, after %.1f s",
                       json_number_value(json_object_get(verdict->fields, "wall_ms")) / 1000);
    }
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        if (reason_is(verdict, stories[i].reason)) {
            return text_of("%s%s%s", stories[i].text, has_more ? ": " : "", has_more ? more : "");
        }
    }
    if (verdict->conclusive) {
        return NULL;
    }
    return text_of("bulkheadd gave a verdict that we do not understand: reason %s, exit code %lld",
                   json_string_value(json_object_get(verdict->fields, "reason")),
                   (long long)json_integer_value(json_object_get(verdict->fields, "exit_code")));
}

char *verdict_line(const struct verdict *verdict)
{
    char *json = json_dumps(verdict->fields, JSON_COMPACT | JSON_REAL_PRECISION(15));
    char *line = json ? text_of("%s\n", json) : NULL;
    free(json);
    return line;
}
