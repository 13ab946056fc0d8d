#include "client/conversation.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client/connection.h"
#include "client/feed.h"
#include "client/interrupt.h"
#include "client/locate.h"
#include "client/message.h"
#include "client/outlet.h"
#include "client/request.h"
#include "client/say.h"
#include "client/verdict.h"
#include "common/log.h"

enum phase {
    PHASE_OPENING, /* nothing was asked for yet */
    PHASE_ASKED,   /* the command was asked for */
    PHASE_RUNNING, /* it was started */
    PHASE_ENDED,   /* exit_code is final */
};

/* Output that its reader was too slow for; the connection is paused meanwhile.
 */
struct held {
    char *data; /* NULL until first needed; MESSAGE_MAX bytes */
    size_t at, len;
    struct outlet *outlet; /* NULL: nothing is held */
};

struct conversation {
    const struct location *location;
    const struct request *request;
    void (*connected)(void *arg);
    void *connected_arg;
    struct connection *connection;
    struct message_reader reader;
    struct message_writer writer;
    enum phase phase;
    int exit_code;
    int forced_code; /* instead of the verdict's: our output failed; 0: none */
    bool execute_due, cancel_due, cancel_wanted;
    bool interrupted;
    struct outlet out, err;
    struct held held;
    struct feed feed;
    int interrupt_fd;
    int verdict_fd; /* -1: none */
};

/* ---- the end, and the way to it ---- */

static void finish(struct conversation *talk, int exit_code)
{
    talk->phase = PHASE_ENDED;
    talk->exit_code = exit_code;
    connection_close(talk->connection);
}

/* Stops the command, as soon as there is one; its verdict ends the
 * conversation. */
static void cancel(struct conversation *talk)
{
    if (talk->cancel_wanted || talk->phase == PHASE_ENDED) {
        return;
    }
    talk->cancel_wanted = true;
    talk->cancel_due = talk->phase == PHASE_RUNNING;
    connection_want_write(talk->connection);
}

static void on_interrupt(struct conversation *talk)
{
    int number = interrupt_take();
    if (number == 0) {
        return;
    }
    if (talk->phase == PHASE_OPENING || talk->interrupted) {
        talk->exit_code = EXIT_SIGNAL + number;
        talk->phase = PHASE_ENDED;
    }
    talk->interrupted = true;
    if (talk->phase == PHASE_ENDED) {
        connection_leave(talk->connection);
    } else {
        cancel(talk);
    }
}

/* ---- output ---- */

static void output_failed(struct conversation *talk, const struct outlet *outlet)
{
    if (talk->forced_code == 0) {
        talk->forced_code = outlet->error == EPIPE ? EXIT_SIGNAL + SIGPIPE : EXIT_OURS;
    }
    if (outlet->error != EPIPE) {
        log_error("cannot write to standard %s: %s; the command is canceled",
                  outlet == &talk->out ? "output" : "error", strerror(outlet->error));
    }
    cancel(talk);
}

/* Keeps the rest of a message until its reader is ready again. */
static int hold(struct conversation *talk, struct outlet *outlet, const char *data, size_t len)
{
    struct held *held = &talk->held;
    if (!held->data && !(held->data = malloc(MESSAGE_MAX))) {
        return -ENOMEM;
    }
    if (held->outlet || len > MESSAGE_MAX) {
        return -EPROTO;
    }
    int code = connection_watch(talk->connection, outlet->fd, EPOLLOUT);
    if (code != 0) {
        return code;
    }
    memcpy(held->data, data, len);
    held->at = 0;
    held->len = len;
    held->outlet = outlet;
    connection_pause(talk->connection);
    return 0;
}

static void on_writable_again(struct conversation *talk)
{
    struct held *held = &talk->held;
    struct outlet *outlet = held->outlet;
    ssize_t n = outlet_write(outlet, held->data + held->at, held->len - held->at);
    if (n >= 0) {
        held->at += (size_t)n;
        if (held->at < held->len) {
            return;
        }
    }
    held->outlet = NULL;
    connection_watch(talk->connection, outlet->fd, 0);
    connection_resume(talk->connection);
    if (n < 0) {
        output_failed(talk, outlet);
    }
}

static void on_output(struct conversation *talk, const struct message *message)
{
    struct outlet *outlet = message->output.is_stderr ? &talk->err : &talk->out;
    struct span data = message->output.data;
    if (outlet->error) {
        return;
    }
    ssize_t n = outlet_write(outlet, data.data, data.len);
    if (n >= 0 && (size_t)n < data.len) {
        outlet->error = -hold(talk, outlet, data.data + n, data.len - (size_t)n);
    }
    if (outlet->error) {
        output_failed(talk, outlet);
    }
}

/* ---- stdin ---- */

/* What came of reading or granting; nothing is to be done if it went well. */
static void feed_result(struct conversation *talk, int code)
{
    if (code == -EPROTO) {
        log_error("%s granted stdin in a way that we do not understand",
                  talk->location->address.url);
        finish(talk, EXIT_OURS);
    } else if (code != 0) {
        log_error("cannot read standard input: %s; the command is canceled", strerror(-code));
        talk->forced_code = EXIT_OURS;
        cancel(talk);
    }
}

static void on_credit(struct conversation *talk, const struct message *message)
{
    feed_result(talk, feed_grant(&talk->feed, message));
}

/* ---- what the server says ---- */

static void on_connected(struct conversation *talk, const struct message *message)
{
    (void)message;
    if (talk->phase != PHASE_OPENING) {
        return;
    }
    if (talk->connected) {
        talk->connected(talk->connected_arg);
    }
    talk->phase = PHASE_ASKED;
    talk->execute_due = true;
    connection_want_write(talk->connection);
}

static void on_started(struct conversation *talk, const struct message *message)
{
    (void)message;
    if (talk->phase != PHASE_ASKED) {
        return;
    }
    talk->phase = PHASE_RUNNING;
    talk->cancel_due = talk->cancel_wanted;
    if (talk->cancel_due) {
        connection_want_write(talk->connection);
    }
}

/* The exit code for a command that could not be started, as shells have it. */
static int start_failed_code(const struct message *message)
{
    struct span stage = message->error.stage;
    if (message->error.code != ERROR_START_FAILED || stage.len != 4 ||
        memcmp(stage.data, "exec", 4) != 0) {
        return EXIT_OURS;
    }
    switch (message->error.number) {
    case ENOENT:
    case ENOTDIR:
        return EXIT_NOT_FOUND;
    case EACCES:
    case ENOEXEC:
    case EPERM:
    case EISDIR:
        return EXIT_NOT_EXECUTABLE;
    default:
        return EXIT_OURS;
    }
}

static void say_error(const struct conversation *talk, const struct message *message, int exit_code)
{
    const struct location *location = talk->location;
    int len = message->error.text.len < 400 ? (int)message->error.text.len : 400;
    const char *text = len ? message->error.text.data : "";
    if (exit_code == EXIT_NOT_FOUND || exit_code == EXIT_NOT_EXECUTABLE) {
        log_error("%.400s: %s", talk->request->argv[0], strerror((int)message->error.number));
    } else if (message->error.code == ERROR_UNAUTHORIZED && location->token[0]) {
        log_error("%s does not accept the token in %.400s; name the file of the "
                  "right one with "
                  "--token-file",
                  location->address.url, location->token_path);
    } else if (message->error.code == ERROR_UNAUTHORIZED) {
        log_error("%s does not let us in: %.*s", location->address.url, len, text);
    } else if (message->error.code == ERROR_SESSION_LIMIT) {
        log_error("%s has as many sessions as it takes: %.*s; try again later, or see "
                  "--max-sessions of bulkheadd(8)",
                  location->address.url, len, text);
    } else {
        log_error("%s did not run the command: %.*s (error %lld)", location->address.url, len, text,
                  (long long)message->error.code);
    }
}

static void on_error(struct conversation *talk, const struct message *message)
{
    /* what we sent crossed with the end of the command or of its stdin */
    if (message->id == REQUEST_CANCEL ||
        (talk->phase == PHASE_RUNNING &&
         (message->error.code == ERROR_NO_PROCESS || message->error.code == ERROR_STDIN_CLOSED))) {
        return;
    }
    int exit_code = start_failed_code(message);
    say_error(talk, message, exit_code);
    finish(talk, exit_code);
}

static int write_verdict_file(int fd, const char *line)
{
    for (size_t len = strlen(line); len > 0;) {
        ssize_t n = write(fd, line, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        line += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Delivers the verdict where it was asked for. Returns the code to exit with.
 */
static int deliver_verdict(struct conversation *talk, const struct verdict *verdict)
{
    say_after_part(talk->err.line_begun);
    int exit_code = talk->forced_code ? talk->forced_code : verdict->exit_code;
    char *line = verdict_line(verdict);
    char *story = verdict_explain(verdict);
    if (talk->request->json && line) {
        say_raw(line);
    } else if (story) {
        log_error("%s", story);
    }
    int code = line ? 0 : -ENOMEM;
    if (talk->verdict_fd >= 0 && code == 0) {
        code = write_verdict_file(talk->verdict_fd, line);
    }
    if (talk->verdict_fd >= 0 && code != 0) {
        log_error("cannot write the verdict to %.400s: %s", talk->request->verdict_file,
                  strerror(-code));
        exit_code = EXIT_OURS;
    }
    free(line);
    free(story);
    return exit_code;
}

static void on_completed(struct conversation *talk, const struct message *message)
{
    struct verdict verdict;
    if (talk->phase != PHASE_RUNNING || verdict_read(message->params, &verdict) != 0) {
        log_error("%s sent a verdict that we do not understand", talk->location->address.url);
        finish(talk, EXIT_OURS);
        return;
    }
    feed_close(&talk->feed);
    finish(talk, deliver_verdict(talk, &verdict));
    verdict_finish(&verdict);
}

static void on_other(struct conversation *talk, const struct message *message)
{
    (void)talk;
    (void)message;
}

static void (*const on_kind[MESSAGE_KINDS])(struct conversation *, const struct message *) = {
    [MESSAGE_OTHER] = on_other,         [MESSAGE_RESPONSE] = on_other,
    [MESSAGE_ERROR] = on_error,         [MESSAGE_CONNECTED] = on_connected,
    [MESSAGE_STARTED] = on_started,     [MESSAGE_OUTPUT] = on_output,
    [MESSAGE_STDIN_CREDIT] = on_credit, [MESSAGE_COMPLETED] = on_completed,
};

/* ---- what the connection tells ---- */

static void on_opened(void *arg)
{
    (void)arg; /* bulkheadd speaks first */
}

static void on_message(void *arg, const char *data, size_t len)
{
    struct conversation *talk = arg;
    struct message message;
    if (talk->phase == PHASE_ENDED) {
        return;
    }
    if (message_decode(&talk->reader, data, len, &message) != 0) {
        log_error("%s sent a message that we do not understand", talk->location->address.url);
        finish(talk, EXIT_OURS);
        return;
    }
    on_kind[message.kind](talk, &message);
}

/* Sends what is due, one message a time. */
static void on_writable(void *arg)
{
    struct conversation *talk = arg;
    int code = 0;
    if (talk->phase == PHASE_ENDED) {
        return;
    }
    if (talk->execute_due) {
        talk->execute_due = false;
        code = message_execute(&talk->writer, CONNECTION_HEADROOM, talk->request);
    } else if (talk->cancel_due) {
        talk->cancel_due = false;
        code = message_cancel(&talk->writer, CONNECTION_HEADROOM);
    } else if (talk->feed.full) {
        code = feed_take(&talk->feed, &talk->writer);
    } else {
        return;
    }
    if (code != 0) {
        log_error("out of memory");
        finish(talk, EXIT_OURS);
        return;
    }
    /* a failure here shows as the end of the connection */
    connection_send(talk->connection, talk->writer.bytes.data,
                    talk->writer.bytes.size - CONNECTION_HEADROOM);
    feed_result(talk, feed_go_on(&talk->feed));
    if (talk->cancel_due || talk->feed.full) {
        connection_want_write(talk->connection);
    }
}

static void on_ready(void *arg, int fd)
{
    struct conversation *talk = arg;
    if (fd == talk->interrupt_fd) {
        on_interrupt(talk);
    } else if (talk->held.outlet && fd == talk->held.outlet->fd) {
        on_writable_again(talk);
    } else if (fd == STDIN_FILENO && talk->feed.watched) {
        feed_result(talk, feed_read(&talk->feed));
    }
}

static const struct connection_events events = {
    .opened = on_opened,
    .message = on_message,
    .writable = on_writable,
    .ready = on_ready,
};

/* ---- from the beginning to the end ---- */

/* What must be there before anything is run. 0, or -1 after having said why
 * not. */
static int prepare(struct conversation *talk)
{
    const struct request *request = talk->request;
    signal(SIGPIPE, SIG_IGN);
    talk->interrupt_fd = interrupt_open();
    if (talk->interrupt_fd < 0) {
        log_error("cannot prepare for signals: %s", strerror(-talk->interrupt_fd));
        return -1;
    }
    if (!request->verdict_file) {
        return 0;
    }
    talk->verdict_fd =
        open(request->verdict_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    if (talk->verdict_fd >= 0) {
        return 0;
    }
    log_error("cannot write the verdict to %.400s: %s", request->verdict_file, strerror(errno));
    return -1;
}

static int converse(struct conversation *talk)
{
    if (prepare(talk) != 0) {
        return EXIT_OURS;
    }
    talk->connection = connection_new(talk->location, &events, talk);
    if (!talk->connection || connection_watch(talk->connection, talk->interrupt_fd, EPOLLIN) != 0 ||
        (talk->request->want_stdin && feed_open(&talk->feed, talk->connection) != 0)) {
        log_error("cannot prepare a connection: out of memory or descriptors");
        return EXIT_OURS;
    }
    int code = connection_run(talk->connection);
    if (talk->phase == PHASE_ENDED) {
        return talk->exit_code;
    }
    say_after_part(talk->err.line_begun);
    if (code != 0) {
        log_error("%s", connection_failure(talk->connection));
    }
    return talk->forced_code ? talk->forced_code : EXIT_OURS;
}

int conversation_run(const struct location *location, const struct request *request,
                     void (*connected)(void *arg), void *arg)
{
    struct conversation talk = {
        .location = location,
        .request = request,
        .connected = connected,
        .connected_arg = arg,
        .verdict_fd = -1,
    };
    outlet_init(&talk.out, STDOUT_FILENO);
    outlet_init(&talk.err, STDERR_FILENO);
    message_reader_init(&talk.reader);
    message_writer_init(&talk.writer);
    int exit_code = converse(&talk);
    feed_close(&talk.feed);
    connection_free(talk.connection);
    message_reader_finish(&talk.reader);
    message_writer_finish(&talk.writer);
    free(talk.held.data);
    if (talk.verdict_fd >= 0) {
        close(talk.verdict_fd);
    }
    return exit_code;
}
