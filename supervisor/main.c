/*
 * bulkheadd, the supervisor: starts first, makes what needs privilege, gives
 * the privilege up, starts the frontend, and then only reacts.
 *
 *   client ==ws==> bulkhead-frontend ==socketpair==> bulkheadd ==socketpair==> cell init -> command
 *
 * It trusts its configuration and its own program files. It does not trust the
 * frontend, the commands, or a path that either can reach.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/verdict.h"
#include "policy/environment.h"
#include "policy/filter.h"
#include "policy/landlock.h"
#include "policy/rlimits.h"
#include "supervisor/auth.h"
#include "supervisor/cell.h"
#include "supervisor/command.h"
#include "supervisor/dispatch.h"
#include "supervisor/identity.h"
#include "supervisor/link.h"
#include "supervisor/listen.h"
#include "supervisor/loop.h"
#include "supervisor/notify.h"
#include "supervisor/program.h"
#include "supervisor/protections.h"
#include "supervisor/reexec.h"
#include "supervisor/ring.h"
#include "supervisor/runtime.h"
#include "supervisor/session.h"
#include "supervisor/settings.h"
#include "supervisor/sweep.h"
#include "supervisor/title.h"
#include "supervisor/view.h"

#define SHELL "/bin/sh"
#define DIRECTORY "/tmp"

/* From connection to the end of the handshake. */
#define HANDSHAKE_MS 10000

/* After SIGTERM: grace for the commands, and this for the clients to read their verdicts. */
#define FAREWELL_MS 3000

/* Cells that still end while their successors are made count too. */
#define CELLS_PER_SESSION 2

/* Answers that may wait for a slow frontend: a few for each session. */
#define QUEUE_BASE (256 * 1024)
#define QUEUE_PER_SESSION 4096

static struct {
    struct settings settings;
    struct identity identity;
    struct loop loop;
    struct listeners listeners;
    struct filter filter;
    struct rlimit_entry limits[RLIMITS_MAX];
    size_t limit_count;
    char frontend_path[4096];
    int frontend_fd;
    char error[512];
    bool stopping;
    bool announced; /* the address file is there */
    struct timer farewell;
    /* LISTs for HELLO: strings with their NULs */
    char kinds[LISTEN_MAX * 5], origins[4096], hosts[4096];
    size_t kinds_len, origins_len, hosts_len;
    char protections[256];
} self = {.frontend_fd = -1};

/* ---- start ---- */

static bool with_namespaces(void)
{
    return self.settings.level == LEVEL_FULL;
}

static unsigned given_protections(void)
{
    struct landlock_plan plan;
    bool landlock;

    landlock_plan_for(landlock_abi(), with_namespaces(), &plan);
    landlock = plan.handled_fs != 0 || plan.handled_net != 0 || plan.scoped != 0;
    return protections_given(self.identity.system, landlock, with_namespaces());
}

static size_t cells_max(void)
{
    return CELLS_PER_SESSION * (self.settings.max_sessions + self.settings.pool);
}

static void read_settings(int argc, char **argv)
{
    struct option_error error;

    if (settings_read(&self.settings, argc, argv, &error) < 0) {
        die_usage("%s", error.text);
    }
    if (self.settings.help) {
        exit(option_print_help(&settings_table) < 0 ? EXIT_SYSTEM : 0);
    }
    if (self.settings.version) {
        exit(printf("bulkheadd %s\n", BULKHEAD_VERSION) < 0 ? EXIT_SYSTEM : 0);
    }
    log_set_level((enum log_level)self.settings.log_level);
    log_set_format((enum log_format)self.settings.log_format);
    log_set_trace(self.settings.trace);
}

/* Nothing is left to a default that differs from host to host. */
static void prepare_process(void)
{
    struct rlimit files;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    /* 0, 1 and 2 are open in every process we start, so nothing else can come to lie there. */
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(null, STDERR_FILENO) < 0)) {
        die_system("/dev/null: %s", strerror(errno));
    }
    if (null > STDERR_FILENO) {
        close(null);
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || chdir("/") < 0) {
        die_system("chdir /: %s", strerror(errno));
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* what we have must do, then */
    }
    (void)umask(022);
    if (prctl(PR_SET_NAME, "bulkheadd") < 0) {
        die_system("prctl: %s", strerror(errno));
    }
}

static void read_token(void)
{
    if (auth_init() < 0) {
        die_system("no memory for the token");
    }
    if (self.settings.token_file != NULL &&
        auth_read_token(self.settings.token_file, self.error, sizeof(self.error)) < 0) {
        die_usage("%s", self.error);
    }
}

static void open_listeners(void)
{
    int result = listen_open(&self.listeners, &self.settings.listen, self.identity.gid,
                             self.settings.check, self.error, sizeof(self.error));

    if (result == -EINVAL) {
        die_usage("%s", self.error);
    } else if (result < 0) {
        die_system("%s", self.error);
    }
    for (size_t i = 0; i < self.listeners.count; i++) {
        if (self.settings.auth == AUTH_NONE && !self.listeners.is_unix[i] &&
            !self.listeners.is_loopback[i]) {
            die_usage("auth none with listen %s: everyone who reaches this address could run "
                      "commands; use auth token, a loopback address or a Unix socket",
                      self.listeners.hosts[i]);
        }
    }
}

static void write_pid_file(void)
{
    FILE *file;

    if (self.settings.pid_file == NULL) {
        return;
    }
    file = fopen(self.settings.pid_file, "we");
    if (file == NULL || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file) == EOF) {
        die_system("pid-file %s: %s", self.settings.pid_file, strerror(errno));
    }
}

/* All that needs root, in the order in which it can be undone. */
static void prepare_privileged(void)
{
    const char *step = "";
    int result;

    if (program_open(self.settings.frontend, self.frontend_path, sizeof(self.frontend_path),
                     &self.frontend_fd, self.error, sizeof(self.error)) < 0) {
        die_system("%s", self.error);
    }
    read_token();
    open_listeners();
    if (self.settings.check) {
        exit(printf("configuration OK\n") < 0 ? EXIT_SYSTEM : 0);
    }
    result =
        runtime_open(self.settings.runtime_dir, &self.identity, self.error, sizeof(self.error));
    if (result == -EINVAL) {
        die_usage("%s", self.error);
    } else if (result < 0) {
        die_system("%s", self.error);
    }
    write_pid_file();
    result = identity_assume(&self.identity, &step);
    if (result < 0) {
        die_system("giving up privilege: %s: %s", step, strerror(-result));
    }
}

/* On a Unix socket the kernel says who a client is. */
static bool token_is_needed(void)
{
    bool tcp = false;

    for (size_t i = 0; i < self.listeners.count; i++) {
        tcp |= !self.listeners.is_unix[i];
    }
    return tcp && self.settings.auth == AUTH_TOKEN;
}

static void make_token(void)
{
    char text[AUTH_TOKEN_TEXT + 1];
    int result;

    if (!token_is_needed() || self.settings.token_file != NULL) {
        return;
    }
    result = auth_make_token(text);
    if (result == 0) {
        memcpy(text + AUTH_TOKEN_TEXT - 1, "\n", 2);
        result = runtime_put("token", text, 0600);
        explicit_bzero(text, sizeof(text));
    }
    if (result < 0) {
        die_system("%s/token: %s", runtime_path(), strerror(-result));
    }
}

/* ---- the frontend's doings ---- */

static void on_frontend_ready(void)
{
    char text[LISTEN_MAX * sizeof(self.listeners.urls[0])] = "";
    int result;

    if (self.announced) {
        return;
    }
    for (size_t i = 0; i < self.listeners.count; i++) {
        strcat(strcat(text, self.listeners.urls[i]), "\n");
        log_info("serving %s", self.listeners.urls[i]);
    }
    result = runtime_put("address", text, 0644);
    if (result < 0) {
        die_system("%s/address: %s", runtime_path(), strerror(-result));
    }
    self.announced = true;
    notify("READY=1");
}

static void on_frontend_gone(void)
{
    sessions_abandon();
    if (self.stopping) {
        loop_stop(&self.loop);
    }
}

/* Joins strings with their NULs into a LIST. Returns its length. */
static size_t join(char *list, size_t size, const struct option_list *items, const char *option)
{
    size_t len = 0;

    for (size_t i = 0; i < items->count; i++) {
        size_t item = strlen(items->items[i]) + 1;

        if (item > size - len) {
            die_usage("%s: all of them together are longer than %zu bytes", option, size);
        }
        memcpy(list + len, items->items[i], item);
        len += item;
    }
    return len;
}

static void start_frontend(void)
{
    struct link_config config = {
        .loop = &self.loop,
        .identity = &self.identity,
        .program_fd = self.frontend_fd,
        .program_path = self.frontend_path,
        .listeners = self.listeners.fds,
        .listener_count = self.listeners.count,
        .queue_max = QUEUE_BASE + self.settings.max_sessions * QUEUE_PER_SESSION,
        .ready = on_frontend_ready,
        .gone = on_frontend_gone,
    };
    int result;

    for (size_t i = 0; i < self.listeners.count; i++) {
        const char *kind = self.listeners.is_unix[i] ? "unix" : "tcp";

        memcpy(self.kinds + self.kinds_len, kind, strlen(kind) + 1);
        self.kinds_len += strlen(kind) + 1;
    }
    self.origins_len =
        join(self.origins, sizeof(self.origins), &self.settings.allow_origin, "allow-origin");
    self.hosts_len = join(self.hosts, sizeof(self.hosts), &self.settings.allow_host, "allow-host");
    config.hello = (struct msg_HELLO){
        .version = PROTO_VERSION,
        .listeners = {self.kinds, self.kinds_len},
        .need_token = token_is_needed(),
        .max_sessions = (uint32_t)self.settings.max_sessions,
        .handshake_ms = HANDSHAKE_MS,
        .send_timeout_ms = (uint32_t)self.settings.send_timeout_ms,
        .log_level = (uint32_t)self.settings.log_level,
        .origins = {self.origins, self.origins_len},
        .hosts = {self.hosts, self.hosts_len},
        .basic = self.settings.level == LEVEL_BASIC,
    };
    result = link_start(&config);
    if (result < 0) {
        die_system("frontend %s: %s", self.frontend_path, strerror(-result));
    }
}

/* ---- signals ---- */

static void on_farewell(struct timer *timer)
{
    (void)timer;
    log_warn("%zu sessions did not end in time", sessions_count());
    loop_stop(&self.loop);
}

static void on_sessions_emptied(void)
{
    if (self.stopping) {
        loop_stop(&self.loop);
    }
}

static void begin_to_stop(void)
{
    struct msg_SHUTDOWN msg = {
        .grace_ms = (uint32_t)self.settings.grace_ms + FAREWELL_MS / 2,
    };

    if (self.stopping) {
        loop_stop(&self.loop); /* asked twice: at once, then */
        return;
    }
    self.stopping = true;
    notify("STOPPING=1");
    log_info("stopping: %zu sessions", sessions_count());
    dispatch_shutdown();
    link_tell(MSG_SHUTDOWN, &msg);
    sessions_shutdown();
    if (sessions_count() == 0 ||
        loop_timer_set(&self.loop, &self.farewell, (self.settings.grace_ms + FAREWELL_MS) * 1000) <
            0) {
        loop_stop(&self.loop);
    }
}

static bool is_known_child(pid_t pid)
{
    return pid == link_frontend_pid() || cells_is_init(pid);
}

static void reap_children(void)
{
    bool strangers = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (link_reaped(pid, status)) {
            continue;
        }
        /* What a cell left when its init was killed comes to us, and must not live on. */
        strangers |= !cells_reaped(pid, status) || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    if (strangers) {
        (void)sweep_children(is_known_child);
    }
    if (!self.stopping) {
        cells_refill();
    }
}

static void on_signal(const struct signalfd_siginfo *info)
{
    switch (info->ssi_signo) {
    case SIGCHLD:
        reap_children();
        break;
    case SIGTERM:
    case SIGINT:
        begin_to_stop();
        break;
    case SIGUSR1:
        sessions_log();
        break;
    default:
        log_info("signal %u is ignored", info->ssi_signo);
        break;
    }
}

static void take_signals(void)
{
    static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    sigset_t set;
    int result;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        sigaddset(&set, numbers[i]);
    }
    result = loop_init(&self.loop);
    if (result == 0) {
        result = loop_signals(&self.loop, &set, on_signal);
    }
    if (result < 0) {
        die_system("event loop: %s", strerror(-result));
    }
}

/* ---- the rooms behind the message table ---- */

static const char *remedy_for(size_t protection)
{
    switch (protection) {
    case PROTECTION_UID:
        return "start bulkheadd as root, or with CAP_SETUID and CAP_SETGID";
    case PROTECTION_LANDLOCK:
        return "boot a kernel that has it switched on (lsm=landlock,...)";
    default:
        return "choose --level full";
    }
}

/* What is asked for by name and is not there stops the start. */
static void check_required(unsigned given)
{
    unsigned missing = self.settings.require & ~given;

    for (size_t i = 0; i < PROTECTION_COUNT; i++) {
        if (missing & 1U << i) {
            die_usage("require %s: commands would run without it; %s", protection_names[i],
                      remedy_for(i));
        }
    }
}

static bool cpu_is_limited(void)
{
    for (size_t i = 0; i < self.limit_count; i++) {
        if (self.limits[i].resource == RLIMIT_CPU) {
            return self.limits[i].value.rlim_cur != RLIM_INFINITY;
        }
    }
    return false;
}

static void prepare_policy(void)
{
    int result = filter_build_default(&self.filter, with_namespaces());

    if (result < 0) {
        die_system("the system call filter: %s", strerror(-result));
    }
    result = rlimits_default(self.limits, self.identity.system || with_namespaces());
    if (result < 0) {
        die_system("resource limits: %s", strerror(-result));
    }
    self.limit_count = (size_t)result;
}

static void prepare_rooms(void)
{
    struct cells_config cells = {
        .loop = &self.loop,
        .identity = &self.identity,
        .limits = self.limits,
        .limit_count = self.limit_count,
        .filter = &self.filter.program,
        .namespaces = with_namespaces(),
        .pool = self.settings.pool,
        .cells_max = cells_max(),
    };
    struct command_config commands = {
        .loop = &self.loop,
        .max_line = self.settings.max_line,
        .timeout_ms = self.settings.timeout_ms,
        .max_timeout_ms = self.settings.max_timeout_ms,
        .grace_ms = self.settings.grace_ms,
        .shell = SHELL,
        .directory = with_namespaces() ? VIEW_WORKSPACE : DIRECTORY,
        .environment = with_namespaces() ? environment_cell : environment_default,
        .cpu_limited = cpu_is_limited(),
        .protections = {self.protections, sizeof(self.protections)},
    };
    struct dispatch_config requests = {
        .listener_is_unix = self.listeners.is_unix,
        .listener_count = (uint32_t)self.listeners.count,
        .need_token = token_is_needed(),
        .invoker = self.identity.invoker,
        .uid = self.identity.uid,
        .started_us = loop_now_us(),
    };

    commands.protections.len =
        protections_list(given_protections(), self.protections, sizeof(self.protections));
    commands_init(&commands);
    if (cells_init(&cells) < 0 ||
        sessions_init(self.settings.max_sessions, on_sessions_emptied) < 0) {
        die_system("no memory for %llu sessions", (unsigned long long)self.settings.max_sessions);
    }
    dispatch_init(&requests);
}

static void finish(void)
{
    link_finish();
    sessions_abandon();
    cells_finish();
    sessions_finish();
    ring_release_spares();
    listen_close(&self.listeners);
    runtime_close();
    if (self.settings.pid_file != NULL) {
        (void)unlink(self.settings.pid_file);
    }
    auth_finish();
    filter_finish(&self.filter);
    close(self.frontend_fd);
    if (self.identity.lock_fd >= 0) {
        close(self.identity.lock_fd);
    }
    loop_finish(&self.loop);
    option_finish(&settings_table, &self.settings);
}

/* A sanitizer finds its symbols by the executable's name, so those builds stay what they are. */
static void seal_ourselves(char **argv)
{
#if !defined(__SANITIZE_ADDRESS__)
    const char *step = "";
    int result = reexec_sealed(argv, &step);

    if (result < 0) {
        die_system("running from a sealed copy: %s: %s; allow executable memfds "
                   "(vm.memfd_noexec=0) and mount /proc",
                   step, strerror(-result));
    }
#else
    (void)argv;
#endif
}

int main(int argc, char **argv)
{
    int result;

    log_init("bulkheadd", NULL);
    seal_ourselves(argv);
    title_init(argc, argv);
    read_settings(argc, argv);
    if (identity_plan(&self.identity, self.settings.user, self.settings.uid_range,
                      cells_uids_each(with_namespaces()), cells_max(), self.error,
                      sizeof(self.error)) < 0) {
        die_usage("%s", self.error);
    }
    if (self.identity.system && self.identity.lock_fd < 0) {
        log_info("uids %u and up are not locked; no other bulkheadd may be given the same range",
                 self.identity.frontend_uid);
    }
    check_required(given_protections());
    if (!self.settings.check) {
        prepare_process();
    }
    take_signals();
    prepare_privileged();

    /* ---- nothing is privileged from here on, but for CAP_SETUID and CAP_SETGID ---- */

    self.farewell.fn = on_farewell;
    make_token();
    prepare_policy();
    prepare_rooms();
    start_frontend();
    cells_refill();
    result = loop_run(&self.loop);
    if (result < 0) {
        log_error("event loop: %s", strerror(-result));
    }
    finish();
    return result < 0 ? EXIT_SYSTEM : 0;
}
