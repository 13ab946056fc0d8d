/* Finds the frontend's executable and opens it while every folder on the way may be entered. */
#ifndef BULKHEAD_PROGRAM_H
#define BULKHEAD_PROGRAM_H

#include <stddef.h>

/*
 * given: --frontend, or NULL: beside our own executable, else where it is
 * installed. path receives its name, *fd a descriptor for execveat(2).
 * Returns 0, or -errno with the reason in error.
 */
int program_open(const char *given, char *path, size_t path_size, int *fd, char *error,
                 size_t error_size);

#endif
