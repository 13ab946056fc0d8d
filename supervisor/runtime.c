/*
 * The directory is opened once, while we may still make it, and used through
 * its descriptor from then on: what happens to its name later does not matter.
 */
#include "supervisor/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/identity.h"

#define LOCK "lock"
#define FILES_MAX 4

static struct {
    char path[4096];
    int fd, lock_fd;
    bool made;
    const char *files[FILES_MAX];
    size_t file_count;
} runtime = {.fd = -1, .lock_fd = -1};

const char *runtime_path(void)
{
    return runtime.path;
}

static int choose_path(const char *path, const struct identity *identity, char *error, size_t size)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    int len;

    if (path != NULL) {
        len = snprintf(runtime.path, sizeof(runtime.path), "%s", path);
    } else if (identity->system) {
        len = snprintf(runtime.path, sizeof(runtime.path), "/run/bulkhead");
    } else if (base != NULL && base[0] == '/') {
        len = snprintf(runtime.path, sizeof(runtime.path), "%s/bulkhead", base);
    } else {
        (void)snprintf(error, size,
                       "XDG_RUNTIME_DIR is not set, so there is no place for address "
                       "and token; give --runtime-dir DIR");
        return -EINVAL;
    }
    if (len >= (int)sizeof(runtime.path)) {
        (void)snprintf(error, size, "runtime-dir: the path is too long");
        return -EINVAL;
    }
    return 0;
}

static int refuse(const char *what, char *error, size_t size)
{
    int result = -errno;

    (void)snprintf(error, size, "runtime-dir %s: %s: %s", runtime.path, what, strerror(errno));
    return result;
}

static int check_owner(const struct identity *identity, char *error, size_t size)
{
    struct stat info;

    if (fstat(runtime.fd, &info) < 0) {
        return refuse("stat", error, size);
    }
    /* Root takes it over from whoever had it, an earlier supervisor's uid most likely. */
    if ((geteuid() != 0 && info.st_uid != identity->uid && info.st_uid != 0) ||
        (info.st_mode & (S_IWGRP | S_IWOTH))) {
        (void)snprintf(error, size,
                       "runtime-dir %s: others may write there (owner %u, mode %04o); give a "
                       "directory of your own",
                       runtime.path, info.st_uid, info.st_mode & 07777);
        return -EINVAL;
    }
    return 0;
}

/* One try. 1: the file was removed by its last owner just before we had the lock. */
static int try_lock(char *error, size_t size)
{
    struct stat info;

    runtime.lock_fd =
        openat(runtime.fd, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (runtime.lock_fd < 0) {
        return refuse("lock", error, size);
    }
    if (flock(runtime.lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            return refuse("lock", error, size);
        }
        (void)snprintf(error, size,
                       "runtime-dir %s: another bulkheadd uses it; stop that one or give another "
                       "--runtime-dir",
                       runtime.path);
        return -EINVAL;
    }
    if (fstat(runtime.lock_fd, &info) < 0) {
        return refuse("lock", error, size);
    }
    return info.st_nlink == 0;
}

static int take_lock(char *error, size_t size)
{
    int result = 1;

    for (int i = 0; i < 10 && result > 0; i++) {
        if (runtime.lock_fd >= 0) {
            close(runtime.lock_fd);
        }
        result = try_lock(error, size);
    }
    if (result > 0) {
        (void)snprintf(error, size, "runtime-dir %s: its lock file is removed again and again",
                       runtime.path);
        result = -EBUSY;
    }
    return result;
}

int runtime_open(const char *path, const struct identity *identity, char *error, size_t error_size)
{
    int result = choose_path(path, identity, error, error_size);

    if (result < 0) {
        return result;
    }
    runtime.made = mkdir(runtime.path, identity->system ? 0755 : 0700) == 0;
    if (!runtime.made && errno != EEXIST) {
        return refuse("cannot be made", error, error_size);
    }
    runtime.fd = open(runtime.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (runtime.fd < 0) {
        return refuse("cannot be opened", error, error_size);
    }
    result = check_owner(identity, error, error_size);
    if (result == 0) {
        result = take_lock(error, error_size);
    }
    /* Ours to write in after root is given up. */
    if (result == 0 && identity->system && geteuid() == 0 &&
        fchown(runtime.fd, identity->uid, identity->gid) < 0) {
        result = refuse("cannot be given to our user", error, error_size);
    }
    return result;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, text, len);

        if (written < 0) {
            return -errno;
        }
        text += written;
        len -= (size_t)written;
    }
    return 0;
}

int runtime_put(const char *name, const char *text, mode_t mode)
{
    char temporary[64];
    int result, fd;

    (void)snprintf(temporary, sizeof(temporary), ".%s.new", name);
    (void)unlinkat(runtime.fd, temporary, 0); /* of one that died while it wrote */
    fd = openat(runtime.fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return -errno;
    }
    result = fchmod(fd, mode) < 0 ? -errno : write_all(fd, text, strlen(text));
    close(fd);
    if (result == 0 && renameat(runtime.fd, temporary, runtime.fd, name) < 0) {
        result = -errno;
    }
    if (result < 0) {
        (void)unlinkat(runtime.fd, temporary, 0);
        return result;
    }
    if (runtime.file_count < FILES_MAX) {
        runtime.files[runtime.file_count++] = name;
    }
    return 0;
}

void runtime_close(void)
{
    if (runtime.fd < 0) {
        return;
    }
    for (size_t i = 0; i < runtime.file_count; i++) {
        (void)unlinkat(runtime.fd, runtime.files[i], 0);
    }
    if (runtime.lock_fd >= 0) {
        (void)unlinkat(runtime.fd, LOCK, 0);
        close(runtime.lock_fd);
        runtime.lock_fd = -1;
    }
    close(runtime.fd);
    runtime.fd = -1;
    if (runtime.made) {
        (void)rmdir(runtime.path); /* not if its parent is no longer ours to change */
    }
}
