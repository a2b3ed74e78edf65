/*
 * Tokens: `tunn_<id>_<secret>_<crc>`. The id is the index for looking up, the
 * secret is 32 random bytes, the CRC-32 (over everything before the last
 * underscore) finds typing errors without asking anybody. Any thread.
 */
#ifndef TUNN_BASE_TOKEN_H
#define TUNN_BASE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"

enum {
	TOKEN_ID_LEN = 8,      /* base62 */
	TOKEN_SECRET_LEN = 43, /* base62 of 32 bytes, fixed width */
	TOKEN_CRC_LEN = 8,     /* lower-case hex */
	TOKEN_LEN = 5 + TOKEN_ID_LEN + 1 + TOKEN_SECRET_LEN + 1 + TOKEN_CRC_LEN,
	TOKEN_HASH_LEN = 32,
	TOKEN_PEPPER_LEN = 32,
};

void token_new(char out[static TOKEN_LEN + 1]); /* wipe it after use */
/* The format and the CRC. 0 or ERR_INVALID; says nothing about validity. */
int token_check(struct str token);
/* Parts of a token that passed token_check(); borrowed. */
struct str token_id(struct str token);
struct str token_secret(struct str token);
/* What is stored: BLAKE2b-256 of the secret, keyed with the relay's pepper. */
void token_hash(const uint8_t pepper[static TOKEN_PEPPER_LEN], struct str secret,
                uint8_t hash_out[static TOKEN_HASH_LEN]);

/* Is there something in the text that may be a token? Its id, which is no secret; "": unclear. */
bool token_in(struct str text, char id_out[static TOKEN_ID_LEN + 1]);
/* Takes the secret out of everything in a text that looks like a token or the
 * beginning of one; its id stays. */
void token_redact(char *text);

#endif
