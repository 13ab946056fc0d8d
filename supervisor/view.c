/*
 * The mount view. In: the host's /usr, a few files of its /etc and /dev, by
 * paths that no command can reach yet. Every mount is nosuid; nodev but for
 * the device files themselves; read-only but for /tmp, /dev/shm and the
 * workspace, whose sizes are bounded.
 */
#include "supervisor/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

/* Where the new root is put together: the first of these that there is. /proc is none of
 * them, as the cell's own can be mounted only while the host's is in sight: user_namespaces(7). */
static const char *const places[] = {"/tmp", "/run", "/mnt", "/var"};

/* At the top of the host; links into /usr, or folders. */
static const char *const tops[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* Of the host's /etc: what the dynamic linker, the shells and the compilers look up. */
static const char *const etc_files[] = {
    "etc/ld.so.cache", "etc/ld.so.conf",     "etc/ld.so.conf.d",  "etc/alternatives",
    "etc/localtime",   "etc/timezone",       "etc/nsswitch.conf", "etc/services",
    "etc/protocols",   "etc/mime.types",     "etc/ssl/certs",     "etc/ca-certificates",
    "etc/os-release",  "etc/debian_version", "etc/profile",       "etc/bash.bashrc",
    "etc/inputrc",     "etc/magic",          "etc/shells",        "etc/perl",
    "etc/python3",     "etc/java",           "etc/gitconfig",
};

static const char *const devices[] = {"dev/null",   "dev/zero",    "dev/full",
                                      "dev/random", "dev/urandom", "dev/tty"};

struct link {
    const char *at, *to;
};

static const struct link links[] = {
    {"dev/fd", "/proc/self/fd"},       {"dev/stdin", "/proc/self/fd/0"},
    {"dev/stdout", "/proc/self/fd/1"}, {"dev/stderr", "/proc/self/fd/2"},
    {"dev/ptmx", "pts/ptmx"},          {"var/tmp", "/tmp"},
    {"etc/mtab", "/proc/self/mounts"},
};

struct text_file {
    const char *path, *text;
};

/* Made up: who is who in the cell, and nobody of the host. */
static const struct text_file text_files[] = {
    {"etc/passwd", "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
                   "tenant:x:1000:1000:tenant:" VIEW_WORKSPACE ":/bin/sh\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
    {"etc/group", "root:x:0:\ntenant:x:1000:\nnogroup:x:65534:\n"},
    {"etc/hosts", "127.0.0.1 localhost cell\n::1 localhost cell\n"},
    {"etc/hostname", "cell\n"},
};

/* Adds attributes to a mount: mount_setattr(2), which the C library of Debian 12 lacks. */
static int set_attributes(const char *path, uint64_t attributes, bool recursive)
{
    struct mount_attr attr = {.attr_set = attributes};

    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, recursive ? AT_RECURSIVE : 0, &attr,
                        sizeof(attr));
}

/* Makes the folders above a relative path. */
static int make_parents(const char *path)
{
    char dir[128];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        (void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
        if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
            return -1;
        }
    }
    return 0;
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ssize_t written;

    if (fd < 0) {
        return -1;
    }
    written = write(fd, text, strlen(text));
    close(fd);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* Brings one path of the host in: a link as a link, all else as a bind mount. Absent is fine. */
static int bring(const char *path, uint64_t attributes)
{
    char from[128], target[256];
    struct stat info;
    ssize_t len;

    (void)snprintf(from, sizeof(from), "/%s", path);
    if (lstat(from, &info) < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    if (make_parents(path) < 0) {
        return -1;
    }
    if (S_ISLNK(info.st_mode)) {
        len = readlink(from, target, sizeof(target) - 1);
        if (len < 0) {
            return -1;
        }
        target[len] = '\0';
        return symlink(target, path);
    }
    if (S_ISDIR(info.st_mode) ? mkdir(path, 0755) < 0 : write_file(path, "") < 0) {
        return -1;
    }
    if (mount(from, path, NULL, MS_BIND | MS_REC, NULL) < 0) {
        return -1;
    }
    return set_attributes(path, attributes, true);
}

static int bring_all(const char *const *paths, size_t count, uint64_t attributes)
{
    for (size_t i = 0; i < count; i++) {
        if (bring(paths[i], attributes) < 0) {
            return -1;
        }
    }
    return 0;
}

static int make_tmpfs(const char *path, const char *options, unsigned long flags)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        return -1;
    }
    return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | flags, options);
}

static int begin_root(void)
{
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct stat info;

        if (stat(places[i], &info) == 0 && S_ISDIR(info.st_mode)) {
            if (mount("tmpfs", places[i], "tmpfs", MS_NOSUID | MS_NODEV,
                      "size=1m,nr_inodes=256,mode=0755") < 0) {
                return -1;
            }
            return chdir(places[i]);
        }
    }
    errno = ENOENT;
    return -1;
}

static int make_devices(void)
{
    if (make_tmpfs("dev", "size=64k,nr_inodes=64,mode=0755", MS_NOEXEC) < 0) {
        return -1;
    }
    return bring_all(devices, sizeof(devices) / sizeof(devices[0]),
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
}

static int make_terminals(void)
{
    if (mkdir("dev/pts", 0755) < 0) {
        return -1;
    }
    return mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                 "newinstance,ptmxmode=0666,mode=0620,max=64");
}

static int make_workspace(const struct view_plan *plan)
{
    char options[96];

    (void)snprintf(options, sizeof(options), "size=256m,nr_inodes=65536,mode=0700,uid=%u,gid=%u",
                   plan->uid, plan->gid);
    return make_tmpfs(&VIEW_WORKSPACE[1], options, 0);
}

static int make_texts(void)
{
    for (size_t i = 0; i < sizeof(text_files) / sizeof(text_files[0]); i++) {
        if (make_parents(text_files[i].path) < 0 ||
            write_file(text_files[i].path, text_files[i].text) < 0) {
            return -1;
        }
    }
    return 0;
}

static int make_links(void)
{
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if (make_parents(links[i].at) < 0 || symlink(links[i].to, links[i].at) < 0) {
            return -1;
        }
    }
    return 0;
}

static int make_proc(void)
{
    if (mkdir("proc", 0555) < 0) {
        return -1;
    }
    return mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible");
}

/* The new root over the old one, and the old one away from under it: pivot_root(2). */
static int change_root(void)
{
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0) {
        return -1;
    }
    return chdir("/");
}

#define STEP(name, expression)  \
    do {                        \
        *step = (name);         \
        if ((expression) < 0) { \
            return -errno;      \
        }                       \
    } while (0)

int view_enter(const struct view_plan *plan, const char **step)
{
    static const char *const usr[] = {"usr"};

    STEP("private mounts", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    STEP("new root", begin_root());
    STEP("/usr", bring_all(usr, 1, READ_ONLY));
    STEP("/bin, /lib", bring_all(tops, sizeof(tops) / sizeof(tops[0]), READ_ONLY));
    STEP("/etc", bring_all(etc_files, sizeof(etc_files) / sizeof(etc_files[0]), READ_ONLY));
    STEP("made-up files", make_texts());
    STEP("/proc", make_proc());
    STEP("/dev", make_devices());
    STEP("/dev/pts", make_terminals());
    STEP("/dev/shm", make_tmpfs("dev/shm", "size=64m,nr_inodes=4096,mode=1777", MS_NOEXEC));
    STEP("/tmp", make_tmpfs("tmp", "size=256m,nr_inodes=65536,mode=1777", 0));
    STEP("/workspace", make_workspace(plan));
    STEP("/run", mkdir("run", 0755));
    STEP("links", make_links());
    STEP("read-only /dev", set_attributes("dev", MOUNT_ATTR_RDONLY, false));
    STEP("pivot_root", change_root());
    STEP("read-only root", set_attributes("/", READ_ONLY | MOUNT_ATTR_NOEXEC, false));
    return 0;
}
