/*
 * Preloaded into bulkheadd by a test: reading a pipe fails with EIO once the
 * data carries a word that the test's command writes. So an error of one
 * stream can be had at will; on a healthy kernel there is none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char word[] = "BULKHEAD-TEST-EIO";

static int is_pipe(int fd)
{
    struct stat about;
    int saved = errno;
    int yes = fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode);
    errno = saved;
    return yes;
}

static ssize_t judge(int fd, const void *data, size_t room, ssize_t got)
{
    size_t len = got < 0 ? 0 : (size_t)got;
    if (len > room)
        len = room;
    if (len > 0 && is_pipe(fd) && memmem(data, len, word, sizeof word - 1) != NULL) {
        errno = EIO;
        return -1;
    }
    return got;
}

ssize_t read(int fd, void *buf, size_t count)
{
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL)
        real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return judge(fd, buf, count, real(fd, buf, count));
}

ssize_t readv(int fd, const struct iovec *iov, int count)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    if (real == NULL)
        real = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "readv");
    ssize_t got = real(fd, iov, count);
    return count > 0 ? judge(fd, iov[0].iov_base, iov[0].iov_len, got) : got;
}

ssize_t __read_chk(int fd, void *buf, size_t count, size_t size);
ssize_t __read_chk(int fd, void *buf, size_t count, size_t size)
{
    (void)size;
    return read(fd, buf, count);
}
