#include "common/base/token.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/crypto.h"
#include "common/base/err.h"

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char prefix[] = "tunn_";

enum {
	PREFIX_LEN = sizeof prefix - 1,
	SECRET_AT = PREFIX_LEN + TOKEN_ID_LEN + 1,
	CRC_AT = SECRET_AT + TOKEN_SECRET_LEN + 1
};

/* Divides the big-endian number by 62, gives the remainder. */
static unsigned divide(uint8_t *number, size_t n)
{
	unsigned rest = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned v = rest << 8 | number[i];
		number[i] = (uint8_t)(v / 62);
		rest = v % 62;
	}
	return rest;
}

static void crc_text(const char *token, char out[static TOKEN_CRC_LEN + 1])
{
	snprintf(out, TOKEN_CRC_LEN + 1, "%08x", crc_32(0, token, CRC_AT - 1));
}

void token_new(char out[static TOKEN_LEN + 1])
{
	uint8_t secret[32];

	memcpy(out, prefix, PREFIX_LEN);
	for (unsigned i = 0; i < TOKEN_ID_LEN; i++)
		out[PREFIX_LEN + i] = digits[crypto_random_below(62)];
	out[SECRET_AT - 1] = '_';
	crypto_random(secret, sizeof secret);
	for (unsigned i = TOKEN_SECRET_LEN; i-- > 0;)
		out[SECRET_AT + i] = digits[divide(secret, sizeof secret)];
	crypto_wipe(secret, sizeof secret);
	out[CRC_AT - 1] = '_';
	crc_text(out, out + CRC_AT);
}

static bool is_base62(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!p[i] || !strchr(digits, p[i]))
			return false;
	return true;
}

int token_check(struct str token)
{
	char crc[TOKEN_CRC_LEN + 1];

	if (token.len != TOKEN_LEN || memcmp(token.p, prefix, PREFIX_LEN) != 0 ||
	    token.p[SECRET_AT - 1] != '_' || token.p[CRC_AT - 1] != '_' ||
	    !is_base62(token.p + PREFIX_LEN, TOKEN_ID_LEN) ||
	    !is_base62(token.p + SECRET_AT, TOKEN_SECRET_LEN))
		return ERR_INVALID;
	crc_text(token.p, crc);
	return memcmp(crc, token.p + CRC_AT, TOKEN_CRC_LEN) == 0 ? 0 : ERR_INVALID;
}

struct str token_id(struct str token) { return (struct str){ token.p + PREFIX_LEN, TOKEN_ID_LEN }; }

struct str token_secret(struct str token)
{
	return (struct str){ token.p + SECRET_AT, TOKEN_SECRET_LEN };
}

void token_hash(const uint8_t pepper[static TOKEN_PEPPER_LEN], struct str secret,
                uint8_t hash_out[static TOKEN_HASH_LEN])
{
	crypto_keyed_digest(pepper, TOKEN_PEPPER_LEN, secret, hash_out, TOKEN_HASH_LEN);
}

bool token_in(struct str text, char id_out[static TOKEN_ID_LEN + 1])
{
	const char *at = text.len ? memmem(text.p, text.len, prefix, PREFIX_LEN) : NULL;

	id_out[0] = 0;
	if (!at)
		return false;
	at += PREFIX_LEN;
	if ((size_t)(text.p + text.len - at) > TOKEN_ID_LEN && at[TOKEN_ID_LEN] == '_' &&
	    is_base62(at, TOKEN_ID_LEN)) {
		memcpy(id_out, at, TOKEN_ID_LEN);
		id_out[TOKEN_ID_LEN] = 0;
	}
	return true;
}

void token_redact(char *text)
{
	for (char *p = text; (p = strstr(p, prefix)) != NULL;) {
		p += PREFIX_LEN;
		size_t len = 0;
		while (is_base62(p + len, 1) || p[len] == '_')
			len++;
		if (len <= TOKEN_ID_LEN + 1) /* nothing secret */
			continue;
		char *secret = p + TOKEN_ID_LEN + 1;
		size_t n = len - (TOKEN_ID_LEN + 1), stars = n < 3 ? n : 3;
		memset(secret, '*', stars);
		memmove(secret + stars, secret + n, strlen(secret + n) + 1);
		p = secret + stars;
	}
}
