#include "common/base/crypto.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#include "common/base/err.h"

static uint8_t short_hash_key[crypto_shorthash_KEYBYTES];

int crypto_start(void)
{
	if (sodium_init() < 0)
		return -EIO;
	crypto_shorthash_keygen(short_hash_key);
	return 0;
}

void crypto_digest(const struct str *parts, size_t n_parts, uint8_t *out, size_t out_len)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, out_len);
	for (size_t i = 0; i < n_parts; i++)
		crypto_generichash_update(&st, (const uint8_t *)parts[i].p, parts[i].len);
	crypto_generichash_final(&st, out, out_len);
}

void crypto_keyed_digest(const uint8_t *key, size_t key_len, struct str data, uint8_t *out,
                         size_t out_len)
{
	crypto_generichash(out, out_len, (const uint8_t *)data.p, data.len, key, key_len);
}

int crypto_sha1(const struct str *parts, size_t n_parts, uint8_t out[20])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL);

	for (size_t i = 0; i < n_parts; i++)
		ok = ok && EVP_DigestUpdate(ctx, parts[i].p, parts[i].len);
	ok = ok && EVP_DigestFinal_ex(ctx, out, NULL);
	EVP_MD_CTX_free(ctx);
	if (!ok)
		ERR_clear_error(); /* nobody asks, and SSL_get_error() would be misled */
	return ok ? 0 : -ENOMEM;
}

void crypto_random(void *out, size_t n) { randombytes_buf(out, n); }
uint32_t crypto_random_below(uint32_t bound) { return randombytes_uniform(bound); }
bool crypto_same(const void *a, const void *b, size_t n) { return sodium_memcmp(a, b, n) == 0; }
void crypto_wipe(void *p, size_t n) { sodium_memzero(p, n); }

void *crypto_secret_new(size_t n)
{
	void *p = sodium_malloc(n);

	if (p)
		memset(p, 0, n);
	return p;
}

void crypto_secret_free(void *p) { sodium_free(p); }

uint64_t crypto_short_hash(const void *p, size_t n)
{
	uint64_t h;

	crypto_shorthash((uint8_t *)&h, p, n, short_hash_key);
	return h;
}

void crypto_base64(const uint8_t *p, size_t n, char *out, size_t cap)
{
	sodium_bin2base64(out, cap, p, n, sodium_base64_VARIANT_ORIGINAL);
}

int crypto_base64_decode(struct str text, uint8_t *out, size_t cap)
{
	bool is_padded = text.len && text.p[text.len - 1] == '=';
	size_t len;

	if (text.len == 0)
		return 0;
	if (sodium_base642bin(out, cap, text.p, text.len, NULL, &len, NULL,
	                      is_padded ? sodium_base64_VARIANT_ORIGINAL :
	                                  sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0)
		return ERR_INVALID;
	return (int)len;
}

static_assert(CRYPTO_SEAL_EXTRA == crypto_box_NONCEBYTES + crypto_box_MACBYTES, "box's head");
static_assert(CRYPTO_NODE_KEY_LEN == crypto_box_PUBLICKEYBYTES &&
                              CRYPTO_NODE_KEY_LEN == crypto_box_SECRETKEYBYTES,
              "one length for both keys");

/* A zero secret is clamped to a key that all the world knows; a public key of low order
 * is found by libsodium. */
int crypto_seal(const uint8_t *msg, size_t len, const uint8_t *to_public,
                const uint8_t *from_secret, uint8_t *box_out)
{
	if (sodium_is_zero(from_secret, CRYPTO_NODE_KEY_LEN))
		return ERR_INVALID;
	randombytes_buf(box_out, crypto_box_NONCEBYTES);
	if (crypto_box_easy(box_out + crypto_box_NONCEBYTES, msg, len, box_out, to_public,
	                    from_secret) != 0)
		return ERR_INVALID;
	return 0;
}

int crypto_unseal(const uint8_t *box, size_t len, const uint8_t *from_public, const uint8_t *secret,
                  uint8_t *msg_out)
{
	if (len < CRYPTO_SEAL_EXTRA || sodium_is_zero(secret, CRYPTO_NODE_KEY_LEN))
		return ERR_INVALID;
	if (crypto_box_open_easy(msg_out, box + crypto_box_NONCEBYTES, len - crypto_box_NONCEBYTES,
	                         box, from_public, secret) != 0)
		return ERR_INVALID;
	return 0;
}

void crypto_node_key_new(uint8_t *secret_out)
{
	randombytes_buf(secret_out, CRYPTO_NODE_KEY_LEN);
	crypto_node_clamp(secret_out);
}

void crypto_node_clamp(uint8_t *secret)
{
	secret[0] &= 0xf8;
	secret[31] &= 0x7f;
	secret[31] |= 0x40;
}

/* Never fails: the base point has the full order. */
void crypto_node_public(const uint8_t *secret, uint8_t *public_out)
{
	crypto_scalarmult_base(public_out, secret);
}

const char *crypto_version(void) { return sodium_version_string(); }
