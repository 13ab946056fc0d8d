#include "client/message.h"

#include <errno.h>
#include <string.h>

#include "client/request.h"

/* ---- reading ---- */

void message_reader_init(struct message_reader *reader)
{
    msgpack_unpacked_init(&reader->unpacked);
}

void message_reader_finish(struct message_reader *reader)
{
    msgpack_unpacked_destroy(&reader->unpacked);
}

static bool is_text(const msgpack_object *object, const char *text)
{
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

const msgpack_object *message_field(const msgpack_object *map, const char *key)
{
    if (!map || map->type != MSGPACK_OBJECT_MAP) {
        return NULL;
    }
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (is_text(&map->via.map.ptr[i].key, key)) {
            return &map->via.map.ptr[i].val;
        }
    }
    return NULL;
}

static bool take_bytes(const msgpack_object *map, const char *key, struct span *bytes)
{
    const msgpack_object *value = message_field(map, key);
    if (value && value->type == MSGPACK_OBJECT_STR) {
        *bytes = (struct span){value->via.str.ptr, value->via.str.size};
    } else if (value && value->type == MSGPACK_OBJECT_BIN) {
        *bytes = (struct span){value->via.bin.ptr, value->via.bin.size};
    } else {
        return false;
    }
    return true;
}

static bool take_int(const msgpack_object *map, const char *key, int64_t *number)
{
    const msgpack_object *value = message_field(map, key);
    if (value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= INT64_MAX) {
        *number = (int64_t)value->via.u64;
    } else if (value && value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        *number = value->via.i64;
    } else {
        return false;
    }
    return true;
}

static int read_output(struct message *message)
{
    struct span stream;
    if (!take_bytes(message->params, "type", &stream) ||
        !take_bytes(message->params, "data", &message->output.data)) {
        return -EPROTO;
    }
    message->output.is_stderr = stream.len == 6 && memcmp(stream.data, "stderr", 6) == 0;
    if (!message->output.is_stderr && (stream.len != 6 || memcmp(stream.data, "stdout", 6) != 0)) {
        return -EPROTO;
    }
    return 0;
}

static int read_credit(struct message *message)
{
    int64_t bytes;
    const msgpack_object *closed = message_field(message->params, "closed");
    if (!take_int(message->params, "bytes", &bytes) || bytes < 0 || bytes > UINT32_MAX || !closed ||
        closed->type != MSGPACK_OBJECT_BOOLEAN) {
        return -EPROTO;
    }
    message->credit.bytes = (uint32_t)bytes;
    message->credit.closed = closed->via.boolean;
    return 0;
}

static int read_notification(const msgpack_object_array *parts, struct message *message)
{
    static const struct {
        const char *method;
        enum message_kind kind;
        int (*read)(struct message *message);
    } known[] = {
        {"process.output", MESSAGE_OUTPUT, read_output},
        {"stdin.credit", MESSAGE_STDIN_CREDIT, read_credit},
        {"connected", MESSAGE_CONNECTED, NULL},
        {"process.started", MESSAGE_STARTED, NULL},
        {"process.completed", MESSAGE_COMPLETED, NULL},
    };
    if (parts->size != 3 || parts->ptr[1].type != MSGPACK_OBJECT_STR ||
        parts->ptr[2].type != MSGPACK_OBJECT_MAP) {
        return -EPROTO;
    }
    message->params = &parts->ptr[2];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (is_text(&parts->ptr[1], known[i].method)) {
            message->kind = known[i].kind;
            return known[i].read ? known[i].read(message) : 0;
        }
    }
    return 0;
}

static int read_response(const msgpack_object_array *parts, struct message *message)
{
    if (parts->size != 4) {
        return -EPROTO;
    }
    const msgpack_object *error = &parts->ptr[2];
    if (parts->ptr[1].type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        message->id = parts->ptr[1].via.u64;
    }
    message->kind = MESSAGE_RESPONSE;
    if (error->type == MSGPACK_OBJECT_NIL) {
        return 0;
    }
    message->kind = MESSAGE_ERROR;
    const msgpack_object *data = message_field(error, "data");
    take_bytes(error, "message", &message->error.text);
    take_bytes(data, "stage", &message->error.stage);
    take_int(data, "errno", &message->error.number);
    return take_int(error, "code", &message->error.code) ? 0 : -EPROTO;
}

int message_decode(struct message_reader *reader, const char *data, size_t len,
                   struct message *message)
{
    size_t used = 0;
    memset(message, 0, sizeof *message);
    if (msgpack_unpack_next(&reader->unpacked, data, len, &used) != MSGPACK_UNPACK_SUCCESS ||
        used != len) {
        return -EPROTO;
    }
    const msgpack_object *top = &reader->unpacked.data;
    if (top->type != MSGPACK_OBJECT_ARRAY || top->via.array.size < 3 ||
        top->via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        return -EPROTO;
    }
    switch (top->via.array.ptr[0].via.u64) {
    case 1:
        return read_response(&top->via.array, message);
    case 2:
        return read_notification(&top->via.array, message);
    default:
        return -EPROTO;
    }
}

/* ---- writing ---- */

void message_writer_init(struct message_writer *writer)
{
    msgpack_sbuffer_init(&writer->bytes);
    writer->failed = false;
}

void message_writer_finish(struct message_writer *writer)
{
    msgpack_sbuffer_destroy(&writer->bytes);
}

/* The packer's many small steps need no check of their own: a failed one is remembered. */
static int write_bytes(void *arg, const char *data, size_t len)
{
    struct message_writer *writer = arg;
    if (!writer->failed && msgpack_sbuffer_write(&writer->bytes, data, len) != 0) {
        writer->failed = true;
    }
    return writer->failed ? -1 : 0;
}

static msgpack_packer writer_begin(struct message_writer *writer, size_t headroom)
{
    static const char nothing[64];
    msgpack_sbuffer_clear(&writer->bytes);
    writer->failed = headroom > sizeof nothing;
    if (!writer->failed) {
        write_bytes(writer, nothing, headroom);
    }
    return (msgpack_packer){.data = writer, .callback = write_bytes};
}

static int writer_end(const struct message_writer *writer)
{
    return writer->failed ? -ENOMEM : 0;
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    size_t len = strlen(text);
    msgpack_pack_str(packer, len);
    msgpack_pack_str_body(packer, text, len);
}

/* Words of the command line may be any bytes. */
static void pack_bytes(msgpack_packer *packer, const char *data, size_t len)
{
    msgpack_pack_bin(packer, len);
    msgpack_pack_bin_body(packer, data, len);
}

static void pack_request(msgpack_packer *packer, uint32_t id, const char *method)
{
    msgpack_pack_array(packer, 4);
    msgpack_pack_int(packer, 0);
    msgpack_pack_uint32(packer, id);
    pack_text(packer, method);
}

static void pack_command(msgpack_packer *packer, const struct request *request)
{
    if (request->shell) {
        pack_text(packer, "command");
        pack_text(packer, request->argv[0]);
        return;
    }
    size_t count = 0;
    while (request->argv[count]) {
        count++;
    }
    pack_text(packer, "argv");
    msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count; i++) {
        pack_bytes(packer, request->argv[i], strlen(request->argv[i]));
    }
}

/* Of a name that was given twice only the last value counts: a map has a key once. */
static bool given_again(const struct option_list *env, size_t index)
{
    size_t name = strcspn(env->items[index], "=") + 1;
    for (size_t i = index + 1; i < env->count; i++) {
        if (strncmp(env->items[i], env->items[index], name) == 0) {
            return true;
        }
    }
    return false;
}

static void pack_env(msgpack_packer *packer, const struct option_list *env)
{
    size_t count = 0;
    for (size_t i = 0; i < env->count; i++) {
        count += !given_again(env, i);
    }
    pack_text(packer, "env");
    msgpack_pack_map(packer, count);
    for (size_t i = 0; i < env->count; i++) {
        if (given_again(env, i)) {
            continue;
        }
        const char *name = env->items[i];
        size_t len = strcspn(name, "=");
        msgpack_pack_str(packer, len);
        msgpack_pack_str_body(packer, name, len);
        pack_bytes(packer, name + len + 1, strlen(name + len + 1));
    }
}

static void pack_timeout(msgpack_packer *packer, uint64_t timeout_ms)
{
    pack_text(packer, "timeout");
    if (timeout_ms % 1000 == 0) {
        msgpack_pack_uint64(packer, timeout_ms / 1000);
    } else {
        msgpack_pack_double(packer, (double)timeout_ms / 1000);
    }
}

int message_execute(struct message_writer *writer, size_t headroom, const struct request *request)
{
    msgpack_packer packer = writer_begin(writer, headroom);
    pack_request(&packer, REQUEST_EXECUTE, "execute");
    msgpack_pack_map(&packer, 1 + (request->cwd != NULL) + (request->env.count > 0) +
                                  (request->timeout_ms > 0) + request->want_stdin);
    pack_command(&packer, request);
    if (request->cwd) {
        pack_text(&packer, "cwd");
        pack_bytes(&packer, request->cwd, strlen(request->cwd));
    }
    if (request->env.count > 0) {
        pack_env(&packer, &request->env);
    }
    if (request->timeout_ms > 0) {
        pack_timeout(&packer, request->timeout_ms);
    }
    if (request->want_stdin) {
        pack_text(&packer, "stdin");
        pack_text(&packer, "pipe");
    }
    return writer_end(writer);
}

int message_cancel(struct message_writer *writer, size_t headroom)
{
    msgpack_packer packer = writer_begin(writer, headroom);
    pack_request(&packer, REQUEST_CANCEL, "control");
    msgpack_pack_map(&packer, 1);
    pack_text(&packer, "type");
    pack_text(&packer, "CANCEL");
    return writer_end(writer);
}

int message_stdin(struct message_writer *writer, size_t headroom, struct span exec_id,
                  struct span data, bool eof)
{
    msgpack_packer packer = writer_begin(writer, headroom);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 2);
    pack_text(&packer, "stdin");
    msgpack_pack_map(&packer, 3);
    pack_text(&packer, "exec_id");
    write_bytes(writer, exec_id.data, exec_id.len);
    pack_text(&packer, "eof");
    if (eof) {
        msgpack_pack_true(&packer);
    } else {
        msgpack_pack_false(&packer);
    }
    pack_text(&packer, "data");
    pack_bytes(&packer, data.data, data.len);
    return writer_end(writer);
}

long message_pack_field(const msgpack_object *map, const char *key, char *room, size_t cap)
{
    const msgpack_object *value = message_field(map, key);
    if (!value) {
        return -EPROTO;
    }
    msgpack_sbuffer packed;
    msgpack_sbuffer_init(&packed);
    msgpack_packer packer = {.data = &packed, .callback = msgpack_sbuffer_write};
    long len = -EPROTO;
    if (msgpack_pack_object(&packer, *value) == 0 && packed.size <= cap) {
        memcpy(room, packed.data, packed.size);
        len = (long)packed.size;
    }
    msgpack_sbuffer_destroy(&packed);
    return len;
}
