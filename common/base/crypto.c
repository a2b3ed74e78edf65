#include "common/base/crypto.h"

#include <errno.h>
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

const char *crypto_version(void) { return sodium_version_string(); }
