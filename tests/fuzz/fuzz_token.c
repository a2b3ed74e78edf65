/* Tokens: whatever passes the check is made of parts that spell it again. */
#include <stdlib.h>

#include "common/base/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void need(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t pepper[TOKEN_PEPPER_LEN];
	struct str t = { (const char *)data, len };
	uint8_t hash[TOKEN_HASH_LEN];

	if (token_check(t) < 0)
		return 0;
	struct str id = token_id(t), secret = token_secret(t);
	need(len == TOKEN_LEN && memcmp(t.p, "tunn_", 5) == 0);
	need(id.p == t.p + 5 && id.p[id.len] == '_' && !memchr(id.p, '_', id.len));
	need(secret.p == id.p + id.len + 1 && secret.p[secret.len] == '_');
	need(!memchr(secret.p, '_', secret.len) && !memchr(t.p, 0, len));
	token_hash(pepper, secret, hash);
	return 0;
}
