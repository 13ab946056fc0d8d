#include "client/private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/interrupt.h"
#include "client/verdict.h"
#include "common/log.h"

#define START_MS 20000
#define STOP_S 10
#define ARGUMENTS_MAX 32

/* ---- the folder ---- */

/* A short name in a short place: the path of a socket has no more than 107 bytes. */
static int make_dir(struct private_server *server)
{
    const char *places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (!places[i] || places[i][0] != '/' || strlen(places[i]) > 70) {
            continue;
        }
        snprintf(server->dir, sizeof server->dir, "%s/bulkhead-run-XXXXXX", places[i]);
        if (mkdtemp(server->dir)) {
            return 0;
        }
    }
    log_error("cannot make a private folder in %s: %s", "/tmp", strerror(errno));
    server->dir[0] = '\0';
    return EXIT_OURS;
}

void private_server_hide(struct private_server *server)
{
    static const char *const names[] = {"socket", "address", "lock", "token"};
    char path[PATH_MAX + 16];
    if (!server->dir[0]) {
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", server->dir, names[i]);
        unlink(path);
    }
    if (rmdir(server->dir) != 0 && errno != ENOENT) {
        log_warn("cannot remove %.400s: %s", server->dir, strerror(errno));
    }
    server->dir[0] = '\0';
}

void private_server_url(const struct private_server *server, char *url, size_t cap)
{
    snprintf(url, cap, "ws+unix://%s/socket", server->dir);
}

/* ---- the process ---- */

/* Beside our own program, as in a build folder, or else where it is installed. */
static void find_program(char *path, size_t cap)
{
    char own[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    if (len > 0) {
        own[len] = '\0';
        char *slash = strrchr(own, '/');
        int written = snprintf(path, cap, "%.*s/bulkheadd", (int)(slash - own), own);
        if (written > 0 && (size_t)written < cap && access(path, X_OK) == 0) {
            return;
        }
    }
    snprintf(path, cap, "%s", BULKHEAD_SBINDIR "/bulkheadd");
}

static void name_arguments(const struct private_server *server, const char *const *more,
                           char *listen_on, size_t cap, const char **argv)
{
    /* not the host's configuration: its pid file, token and listeners are not ours */
    const char *first[] = {"bulkheadd", "--config",      "/dev/null", "--listen",
                           listen_on,   "--auth",        "none",      "--log-level",
                           "warn",      "--runtime-dir", server->dir};
    size_t count = sizeof first / sizeof first[0];
    snprintf(listen_on, cap, "unix:%s/socket", server->dir);
    memcpy(argv, first, sizeof first);
    for (size_t i = 0; i < ARGUMENTS_MAX && more[i]; i++) {
        argv[count++] = more[i];
    }
    argv[count] = NULL;
}

__attribute__((noreturn)) static void become_server(const char *program, const char *const *more,
                                                    const struct private_server *server)
{
    char listen_on[PATH_MAX + 16];
    const char *argv[ARGUMENTS_MAX + 16];
    name_arguments(server, more, listen_on, sizeof listen_on, argv);
    interrupt_restore();
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* holds for a bulkheadd that stays the same user */
    execv(program, (char **)(uintptr_t)argv);
    log_error("cannot start %.400s: %s", program, strerror(errno));
    _exit(EXIT_OURS);
}

/*
 * Waits for the child's end, passing SIGTERM and SIGINT on: the first stops it
 * in order, both together stop it at once. Returns its wait status.
 */
static int keep(pid_t child, const sigset_t *signals)
{
    const struct timespec limit = {.tv_sec = STOP_S};
    bool asked = false;
    for (;;) {
        int status, number = sigtimedwait(signals, NULL, asked ? &limit : NULL);
        if (waitpid(child, &status, WNOHANG) == child) {
            return status;
        }
        /* not reaped yet, so the number is still its own */
        if (number == SIGTERM || number == SIGINT) {
            kill(child, number);
        } else if (number < 0 && asked) {
            kill(child, SIGKILL);
        }
        asked = asked || number == SIGTERM || number == SIGINT;
    }
}

/*
 * The keeper: the process between us and bulkheadd. The kernel tells it when
 * we die; bulkheadd itself could not be told, for that wish does not outlive
 * its change of user. A session of its own keeps the terminal's Ctrl-C from
 * both: that one is ours, to cancel the command with.
 */
__attribute__((noreturn)) static void become_keeper(struct private_server *server,
                                                    const char *program, const char *const *more,
                                                    pid_t parent, int null_fd)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}, NULL);
    setsid();
    prctl(PR_SET_NAME, "bulkhead-keeper");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(null_fd, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    pid_t child = getppid() == parent ? fork() : -1;
    if (child == 0) {
        become_server(program, more, server);
    }
    int status = child > 0 ? keep(child, &signals) : W_EXITCODE(EXIT_OURS, 0);
    private_server_hide(server);
    _exit(WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status));
}

static int spawn(struct private_server *server, const char *program, const char *const *more)
{
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t parent = getpid();
    pid_t pid = null_fd >= 0 ? fork() : -1;
    if (pid == 0) {
        become_keeper(server, program, more, parent, null_fd);
    }
    if (null_fd >= 0) {
        close(null_fd);
    }
    server->pid = pid > 0 ? pid : 0;
    server->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (server->pidfd >= 0) {
        return 0;
    }
    log_error("cannot start %.400s: %s", program, strerror(errno));
    return EXIT_OURS;
}

/* Its file "address" appears when it serves. */
static int wait_until_serving(struct private_server *server, const char *program, int notify_fd)
{
    char path[PATH_MAX + 16], drain[4096];
    struct pollfd p[] = {{.fd = notify_fd, .events = POLLIN},
                         {.fd = server->pidfd, .events = POLLIN},
                         {.fd = interrupt_open(), .events = POLLIN}};
    snprintf(path, sizeof path, "%s/address", server->dir);
    while (access(path, F_OK) != 0) {
        int ready = poll(p, 3, START_MS);
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0) {
            log_error("%.400s did not serve within %d s", program, START_MS / 1000);
            return EXIT_OURS;
        }
        int number = p[2].revents ? interrupt_take() : 0;
        if (number != 0) {
            return EXIT_SIGNAL + number;
        }
        if (p[1].revents) {
            log_error("%.400s ended before it served; what it said stands above", program);
            return EXIT_OURS;
        }
        if (p[0].revents && read(notify_fd, drain, sizeof drain) < 0 && errno != EAGAIN) {
            return EXIT_OURS;
        }
    }
    return 0;
}

int private_server_start(struct private_server *server, const char *const *arguments)
{
    char program[PATH_MAX];
    *server = (struct private_server){.pidfd = -1};
    if (interrupt_open() < 0) {
        log_error("cannot prepare for signals: %s", strerror(errno));
        return EXIT_OURS;
    }
    find_program(program, sizeof program);
    int code = make_dir(server);
    if (code != 0) {
        return code;
    }
    int notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (notify_fd < 0 || inotify_add_watch(notify_fd, server->dir, IN_CREATE | IN_MOVED_TO) < 0) {
        log_error("cannot watch %.400s: %s", server->dir, strerror(errno));
        code = EXIT_OURS;
    }
    if (code == 0) {
        code = spawn(server, program, arguments);
    }
    if (code == 0) {
        code = wait_until_serving(server, program, notify_fd);
    }
    if (notify_fd >= 0) {
        close(notify_fd);
    }
    return code;
}

/* Who interrupts us twice does not want to wait for a grace time. */
static void wait_for_keeper(const struct private_server *server)
{
    struct pollfd p[] = {{.fd = server->pidfd, .events = POLLIN},
                         {.fd = interrupt_open(), .events = POLLIN}};
    bool hurry = interrupt_times() > 1;
    kill(server->pid, SIGTERM); /* it is not reaped yet */
    do {
        if (hurry) {
            kill(server->pid, SIGINT);
        }
        if (poll(p, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        hurry = p[1].revents && interrupt_take() != 0;
    } while (!p[0].revents);
}

void private_server_stop(struct private_server *server)
{
    if (server->pid > 0) {
        if (server->pidfd >= 0) {
            wait_for_keeper(server);
        } else {
            kill(server->pid, SIGTERM);
        }
        waitpid(server->pid, NULL, 0);
    }
    server->pid = 0;
    if (server->pidfd >= 0) {
        close(server->pidfd);
    }
    server->pidfd = -1;
    private_server_hide(server);
}
