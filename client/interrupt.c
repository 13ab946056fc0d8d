#include "client/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int interrupt_fd = -1;
static sigset_t mask_before;
static unsigned times;

/*
 * A blocked signal is queued even if it is ignored, so only those that would
 * have ended us are taken into the set.
 */
static void add_unless_ignored(sigset_t *set, int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
        sigaddset(set, number);
    }
}

int interrupt_open(void)
{
    if (interrupt_fd >= 0) {
        return interrupt_fd;
    }
    sigset_t set;
    sigemptyset(&set);
    add_unless_ignored(&set, SIGINT);
    add_unless_ignored(&set, SIGTERM);
    add_unless_ignored(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, &mask_before) != 0) {
        return -errno;
    }
    interrupt_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return interrupt_fd >= 0 ? interrupt_fd : -errno;
}

int interrupt_take(void)
{
    struct signalfd_siginfo info;
    if (read(interrupt_fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return 0;
    }
    times++;
    return (int)info.ssi_signo;
}

unsigned interrupt_times(void)
{
    return times;
}

void interrupt_restore(void)
{
    if (interrupt_fd >= 0) {
        sigprocmask(SIG_SETMASK, &mask_before, NULL);
    }
    signal(SIGPIPE, SIG_DFL);
}
