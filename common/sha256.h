/*
 * SHA-256 (FIPS 180-4), for the supervisor, which links no cryptographic
 * library: it keeps tokens as digests only.
 */
#ifndef BULKHEAD_SHA256_H
#define BULKHEAD_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

/* Digests len bytes in one go. */
void sha256(const void *data, size_t len, uint8_t digest[SHA256_SIZE]);

#endif
