/*
 * In: our own executable. Whether we already run the copy is asked of the
 * kernel (the seals of /proc/self/exe); the environment only carries the
 * original's name over, and is cleaned of it.
 */
#include "supervisor/reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VARIABLE "BULKHEADD_EXECUTABLE"
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Newer than the C library of Debian 12: linux/memfd.h. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static char original[4096];

const char *reexec_original(void)
{
    return original[0] != '\0' ? original : NULL;
}

static int is_sealed(int exe)
{
    int seals = fcntl(exe, F_GET_SEALS); /* EINVAL: an ordinary file, with no seals at all */

    return seals >= 0 && (seals & SEALS) == SEALS;
}

/* A kernel before 6.3 does not know the flag, and needs it not. */
static int make_memfd(void)
{
    int fd = memfd_create("bulkheadd", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create("bulkheadd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    return fd;
}

static int copy_all(int from, int to)
{
    struct stat info;
    off_t at = 0;

    if (fstat(from, &info) < 0) {
        return -1;
    }
    while (at < info.st_size) {
        ssize_t sent = sendfile(to, from, &at, (size_t)(info.st_size - at));

        if (sent <= 0) {
            errno = sent == 0 ? EIO : errno;
            return -1;
        }
    }
    return 0;
}

#define STEP(name, expression)  \
    do {                        \
        *step = (name);         \
        if ((expression) < 0) { \
            return -errno;      \
        }                       \
    } while (0)

int reexec_sealed(char **argv, const char **step)
{
    const char *given = getenv(VARIABLE);
    ssize_t len;
    int exe, copy;

    STEP("/proc/self/exe", exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    if (is_sealed(exe)) {
        if (given != NULL && strlen(given) < sizeof(original)) {
            strcpy(original, given);
        }
        (void)unsetenv(VARIABLE);
        close(exe);
        return 0;
    }
    STEP("/proc/self/exe", len = readlink("/proc/self/exe", original, sizeof(original) - 1));
    original[len] = '\0';
    STEP("memfd_create", copy = make_memfd());
    STEP("copy", copy_all(exe, copy));
    STEP("mode", fchmod(copy, 0555));
    STEP("seal", fcntl(copy, F_ADD_SEALS, SEALS));
    STEP("environment", setenv(VARIABLE, original, 1));
    STEP("exec", syscall(SYS_execveat, copy, "", argv, environ, AT_EMPTY_PATH));
    return 0;
}
