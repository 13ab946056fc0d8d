/*
 * Holds the digest of the one token in a page of its own, which the kernel
 * wipes in every child we fork. In: a file the administrator named, and what
 * clients claim.
 */
#include "supervisor/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sha256.h"

#define PAGE 4096
#define TOKEN_MAX 512

struct secret {
    bool set;
    uint8_t digest[SHA256_SIZE];
};

static struct secret *secret;

int auth_init(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        return -errno;
    }
    if (madvise(page, PAGE, MADV_WIPEONFORK) < 0 || madvise(page, PAGE, MADV_DONTDUMP) < 0) {
        int error = errno;

        (void)munmap(page, PAGE);
        return -error;
    }
    secret = page;
    return 0;
}

void auth_finish(void)
{
    if (secret != NULL) {
        explicit_bzero(secret, sizeof(*secret));
        (void)munmap(secret, PAGE);
        secret = NULL;
    }
}

static void keep(const char *token, size_t len)
{
    sha256(token, len, secret->digest);
    secret->set = true;
}

/* base64url without padding: RFC 4648, section 5. */
static void encode(const uint8_t bytes[32], char text[AUTH_TOKEN_TEXT])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i < AUTH_TOKEN_TEXT - 1; i++) {
        size_t bit = i * 6;
        unsigned pair = (unsigned)bytes[bit / 8] << 8 | (bit / 8 + 1 < 32 ? bytes[bit / 8 + 1] : 0);

        text[i] = digits[pair >> (10 - bit % 8) & 0x3F];
    }
    text[AUTH_TOKEN_TEXT - 1] = '\0';
}

int auth_make_token(char text[AUTH_TOKEN_TEXT])
{
    uint8_t bytes[32];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return -errno;
    }
    encode(bytes, text);
    keep(text, AUTH_TOKEN_TEXT - 1);
    explicit_bzero(bytes, sizeof(bytes));
    return 0;
}

static int check_file(int fd, const char *path, char *error, size_t size)
{
    struct stat info;

    if (fstat(fd, &info) < 0) {
        (void)snprintf(error, size, "token-file %s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        (void)snprintf(error, size, "token-file %s: not a regular file", path);
    } else if (info.st_mode & (S_IRWXG | S_IRWXO)) {
        (void)snprintf(error, size, "token-file %s: mode %04o lets others at it; chmod 600 it",
                       path, info.st_mode & 07777);
    } else {
        return 0;
    }
    return -EINVAL;
}

/* Tokens are what RFC 6750 lets an Authorization header carry: section 2.1, b64token. */
static bool is_token_character(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~+/=", c) != NULL);
}

static int take_line(const char *path, const char *text, size_t len, char *error, size_t size)
{
    size_t line = 0;

    while (line < len && text[line] != '\n') {
        if (!is_token_character(text[line])) {
            (void)snprintf(error, size,
                           "token-file %s: byte %zu is none a token may have (A-Z a-z 0-9 -._~+/=)",
                           path, line + 1);
            return -EINVAL;
        }
        line++;
    }
    if (line < AUTH_TOKEN_MIN || line > TOKEN_MAX) {
        (void)snprintf(error, size,
                       "token-file %s: its first line has %zu characters, not %d to %d", path, line,
                       AUTH_TOKEN_MIN, TOKEN_MAX);
        return -EINVAL;
    }
    keep(text, line);
    return 0;
}

int auth_read_token(const char *path, char *error, size_t error_size)
{
    char text[TOKEN_MAX + 2];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t len;
    int result;

    if (fd < 0) {
        (void)snprintf(error, error_size, "token-file %s: %s", path,
                       errno == ELOOP ? "is a symbolic link" : strerror(errno));
        return -EINVAL;
    }
    result = check_file(fd, path, error, error_size);
    if (result == 0) {
        len = read(fd, text, sizeof(text));
        if (len < 0) {
            (void)snprintf(error, error_size, "token-file %s: %s", path, strerror(errno));
            result = -EINVAL;
        } else {
            result = take_line(path, text, (size_t)len, error, error_size);
        }
        explicit_bzero(text, sizeof(text));
    }
    close(fd);
    return result;
}

bool auth_token_matches(struct span token)
{
    uint8_t digest[SHA256_SIZE];
    unsigned difference = 0;

    if (!secret->set) {
        return false;
    }
    sha256(token.data, token.len, digest);
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        difference |= (unsigned)(digest[i] ^ secret->digest[i]);
    }
    return difference == 0;
}
