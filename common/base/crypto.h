/*
 * The one door to libsodium: hashes, randomness, comparing secrets.
 * crypto_start() first, once; then any thread.
 */
#ifndef TUNN_BASE_CRYPTO_H
#define TUNN_BASE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

int crypto_start(void); /* 0, or -EIO without a source of randomness */

/* BLAKE2b over the parts one after the other, out_len 16 to 64 bytes. */
void crypto_digest(const struct str *parts, size_t n_parts, uint8_t *out, size_t out_len);
/* The same with a key of 16 to 64 bytes. */
void crypto_keyed_digest(const uint8_t *key, size_t key_len, struct str data, uint8_t *out,
                         size_t out_len);

void crypto_random(void *out, size_t n);
uint32_t crypto_random_below(uint32_t bound); /* uniform in [0, bound) */

bool crypto_same(const void *a, const void *b, size_t n); /* constant time */
void crypto_wipe(void *p, size_t n);
/* Zeroed memory that is in no core dump and, as far as the limit for locked memory
 * goes, not in swap; wiped when freed. Pages for each: for few and long-lived ones. */
void *crypto_secret_new(size_t n); /* NULL: out of memory */
void crypto_secret_free(void *p);  /* NULL allowed */

/* RFC 4648 with padding; cap at least 4 * ((n + 2) / 3) + 1. */
void crypto_base64(const uint8_t *p, size_t n, char *out, size_t cap);
/* Padded or not. Length, or ERR_INVALID (also beyond cap). */
int crypto_base64_decode(struct str text, uint8_t *out, size_t cap);

/* SipHash-2-4 with a key drawn at start: hash tables cannot be flooded. */
uint64_t crypto_short_hash(const void *p, size_t n);

const char *crypto_version(void); /* of libsodium */

#endif
