/* Where bulkheadd is, and the token it wants. */
#ifndef BULKHEAD_LOCATE_H
#define BULKHEAD_LOCATE_H

#include <limits.h>
#include <stdbool.h>

#define ADDRESS_HOST_MAX 100
#define ADDRESS_PATH_MAX 256
#define TOKEN_MAX 512

/* A URL taken apart: ws://HOST[:PORT][/PATH] or ws+unix:///PATH/OF/SOCKET. */
struct address {
    char url[ADDRESS_PATH_MAX + ADDRESS_HOST_MAX]; /* as it was given, for messages */
    bool local_socket;
    char host[ADDRESS_PATH_MAX]; /* without brackets; the socket's path if local_socket */
    unsigned port;
    char path[ADDRESS_PATH_MAX]; /* of the request, "/ws" unless given */
};

/* What the user said about it; NULL where nothing. */
struct locate_options {
    const char *url;
    const char *token_file;
    const char *runtime_dir;
};

struct location {
    struct address address;
    char token[TOKEN_MAX + 1]; /* empty: none */
    char token_path[PATH_MAX]; /* where it came from, for messages */
};

struct locate_error {
    char text[1024];
};

/* Takes a URL apart. 0, or -EINVAL with a line for the user. */
int address_parse(const char *url, struct address *address, struct locate_error *error);

/*
 * Finds address and token: the options, then BULKHEAD_URL and
 * BULKHEAD_TOKEN_FILE, then the files that a running bulkheadd leaves in its
 * runtime directory. The token found in such a directory is only ever given to
 * the address that is written beside it.
 * Returns 0, or a negative code with a line for the user.
 */
int locate(const struct locate_options *options, struct location *location,
           struct locate_error *error);

#endif
