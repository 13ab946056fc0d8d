/* Runs in bulkheadd while it starts. In: --frontend, or the name of our own executable. */
#include "supervisor/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/reexec.h"

#define NAME "bulkhead-frontend"

/* "DIR/bulkhead-frontend" for the DIR of our own executable. */
static int beside_us(char *path, size_t size)
{
    const char *original = reexec_original();
    ssize_t len;
    char *slash;

    if (original != NULL) {
        len = snprintf(path, size, "%s", original);
    } else {
        len = readlink("/proc/self/exe", path, size - 1);
    }
    if (len < 0 || (size_t)len >= size) {
        return -ENAMETOOLONG;
    }
    path[len] = '\0';
    slash = strrchr(path, '/');
    if (slash == NULL || (size_t)(slash - path) + sizeof("/" NAME) > size) {
        return -ENAMETOOLONG;
    }
    strcpy(slash + 1, NAME);
    return 0;
}

int program_open(const char *given, char *path, size_t path_size, int *fd, char *error,
                 size_t error_size)
{
    struct stat info;

    if (given != NULL) {
        (void)snprintf(path, path_size, "%s", given);
    } else if (beside_us(path, path_size) < 0 || access(path, X_OK) < 0) {
        (void)snprintf(path, path_size, "%s/%s", BULKHEAD_LIBEXECDIR, NAME);
    }
    *fd = open(path, O_PATH | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &info) < 0) {
        int result = -errno;

        (void)snprintf(error, error_size, "frontend %s: %s; install it or give --frontend PATH",
                       path, strerror(errno));
        return result;
    }
    if (!S_ISREG(info.st_mode) || !(info.st_mode & S_IXOTH)) {
        (void)snprintf(error, error_size,
                       "frontend %s: not a program that everyone may run; chmod a+rx it", path);
        close(*fd);
        return -EACCES;
    }
    return 0;
}
