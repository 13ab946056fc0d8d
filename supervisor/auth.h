/*
 * The bearer token: read or made once, kept as a digest, compared in constant
 * time. RFC 6750 says how it travels; the frontend only carries it here.
 */
#ifndef BULKHEAD_AUTH_H
#define BULKHEAD_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/span.h"

/* A made token: 32 random bytes as base64url, and its NUL. */
#define AUTH_TOKEN_TEXT 44

/* What a token may not be shorter than: 128 bits even if written in hex. */
#define AUTH_TOKEN_MIN 32

/* Prepares memory that no forked child inherits. 0 or -errno. */
int auth_init(void);
void auth_finish(void);

/* Makes a token, keeps its digest, and gives it away in text. 0 or -errno. */
int auth_make_token(char text[AUTH_TOKEN_TEXT]);

/*
 * Reads the first line of a file and keeps its digest.
 * Returns 0, or -EINVAL with the reason in error.
 */
int auth_read_token(const char *path, char *error, size_t error_size);

/* Constant time for tokens of one length. False when none was made or read. */
bool auth_token_matches(struct span token);

#endif
