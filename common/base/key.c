#include "common/base/key.h"

#include <ctype.h>
#include <stdio.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

static bool is_name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool name_is_valid(struct str name)
{
	if (name.len == 0 || name.len > NAME_MAX_LEN || !is_name_char(name.p[0]))
		return false;
	for (size_t i = 1; i < name.len; i++)
		if (!is_name_char(name.p[i]) && name.p[i] != '-')
			return false;
	return true;
}

void key_of_tunnel(struct str account, struct str id, struct key *key_out)
{
	static const char prefix[] = "tunn/v1/tunnel-id"; /* its NUL is part of the prefix */
	const struct str parts[] = { { prefix, sizeof prefix }, account, STR("/"), id };

	crypto_digest(parts, sizeof parts / sizeof *parts, key_out->b, KEY_LEN);
	key_out->b[KEY_LEN - 1] |= 0x80;
}

static struct str node_key_hex(struct str peer)
{
	static const char prefix[] = "nodekey:";
	size_t n = sizeof prefix - 1;

	if (peer.len > n && memcmp(peer.p, prefix, n) == 0)
		return (struct str){ peer.p + n, peer.len - n };
	return (struct str){ NULL, 0 };
}

bool key_peer_name(struct str own_account, struct str peer, struct str *account_out,
                   struct str *id_out)
{
	const char *slash = peer.len ? memchr(peer.p, '/', peer.len) : NULL;
	struct str account = own_account, id = peer;

	if (slash) {
		account = (struct str){ peer.p, (size_t)(slash - peer.p) };
		id = (struct str){ slash + 1, peer.len - account.len - 1 };
		if (!name_is_valid(account))
			return false;
	}
	if (!name_is_valid(id))
		return false;
	*account_out = account;
	*id_out = id;
	return true;
}

int key_of_peer(struct str own_account, struct str peer, struct key *key_out)
{
	struct str hex = node_key_hex(peer), account, id;

	if (hex.p) {
		struct key k;
		if (hex_decode(hex, k.b, KEY_LEN) < 0 || k.b[KEY_LEN - 1] & 0x80)
			return ERR_INVALID;
		*key_out = k;
		return 0;
	}
	if (!key_peer_name(own_account, peer, &account, &id))
		return ERR_INVALID;
	key_of_tunnel(account, id, key_out);
	return 0;
}

bool peer_is_valid(struct str peer)
{
	struct key unused;
	return key_of_peer(STR("x"), peer, &unused) == 0;
}

struct key_text key_brief(const struct key *k)
{
	struct key_text t;

	hex_encode(k->b, 4, t.s);
	t.s[8] = '.';
	t.s[9] = 0;
	return t;
}

int name_of_host(const char *host, char *out)
{
	size_t n = 0;

	for (; *host && *host != '.' && n < NAME_MAX_LEN; host++) {
		char c = (char)tolower((unsigned char)*host);
		if (is_name_char(c))
			out[n++] = c;
		else if (n && out[n - 1] != '-')
			out[n++] = '-';
	}
	while (n && out[n - 1] == '-')
		n--;
	out[n] = 0;
	return n ? 0 : ERR_INVALID;
}
