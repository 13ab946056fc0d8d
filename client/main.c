/*
 * bulkhead: the command for users of bulkheadd. Trusts the bulkheadd it speaks
 * to with its command and its stdin, but not with its terminal or its memory:
 * what comes in is checked, and only the command's own output is passed on as
 * it is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/doctor.h"
#include "client/exec.h"
#include "client/run.h"
#include "client/say.h"
#include "client/status.h"
#include "common/log.h"

static const struct subcommand {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *help;
} subcommands[] = {
    {"exec", exec_main, "run a command on a running bulkheadd"},
    {"run", run_main, "run a command with a bulkheadd of its own"},
    {"status", status_main, "list what a running bulkheadd holds"},
    {"doctor", doctor_main, "say what this host gives, and what to do about the rest"},
};

#define SUBCOMMANDS (sizeof subcommands / sizeof subcommands[0])

static int print_help(void)
{
    printf("Usage: bulkhead SUBCOMMAND [OPTION...] [-- COMMAND [ARG...]]\n"
           "Runs commands in sandboxes.\n\n");
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        printf("  %-10s%s\n", subcommands[i].name, subcommands[i].help);
    }
    printf("\n`bulkhead SUBCOMMAND --help` lists the options. See bulkhead(1).\n");
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : EXIT_SYSTEM;
}

/*
 * Where a standard descriptor is closed, what we open next would take its
 * place and the command's output would go there. One that fails on use stands
 * in for it.
 */
static void open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            _exit(EXIT_SYSTEM);
        }
    }
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    say_init();
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0) {
        return printf("bulkhead %s\n", BULKHEAD_VERSION) > 0 && fflush(stdout) == 0 ? 0
                                                                                    : EXIT_SYSTEM;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        int code = print_help();
        return argc > 1 ? code : EXIT_USAGE;
    }
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        if (strcmp(word, subcommands[i].name) == 0) {
            return subcommands[i].main(argc - 1, argv + 1);
        }
    }
    log_error("\"%.200s\" is no subcommand; `bulkhead --help` lists them", word);
    return EXIT_USAGE;
}
