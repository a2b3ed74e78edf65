/*
 * The one door to libsodium: hashes, randomness, comparing secrets, sealed boxes;
 * SHA-1, which libsodium has not, by OpenSSL.
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

/* SHA-1 over the parts, for protocols that ask for it (RFC 6455): it protects nothing.
 * 0 or -ENOMEM. */
int crypto_sha1(const struct str *parts, size_t n_parts, uint8_t out[20]);

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

/* NaCl's box (X25519, XSalsa20-Poly1305) between two node keys: 24 bytes of random
 * nonce, 16 of tag, the ciphertext. Keys are CRYPTO_NODE_KEY_LEN bytes, box_out holds len +
 * CRYPTO_SEAL_EXTRA, msg_out len - CRYPTO_SEAL_EXTRA. 0, or ERR_INVALID: a key is zero or of low
 * order, the box is shorter than that, not from that sender, or was changed. */
enum { CRYPTO_NODE_KEY_LEN = 32, CRYPTO_SEAL_EXTRA = 24 + 16 };
int crypto_seal(const uint8_t *msg, size_t len, const uint8_t *to_public,
                const uint8_t *from_secret, uint8_t *box_out);
int crypto_unseal(const uint8_t *box, size_t len, const uint8_t *from_public, const uint8_t *secret,
                  uint8_t *msg_out);

/* Node keys (X25519, RFC 7748): a secret is random and clamped; both are the caller's
 * to wipe. The public key of a secret; clamped or not gives the same. */
void crypto_node_key_new(uint8_t *secret_out);
void crypto_node_clamp(uint8_t *secret);
void crypto_node_public(const uint8_t *secret, uint8_t *public_out);

/* SipHash-2-4 with a key drawn at start: hash tables cannot be flooded. */
uint64_t crypto_short_hash(const void *p, size_t n);

const char *crypto_version(void); /* of libsodium */

#endif
