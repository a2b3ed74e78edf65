#include "common/base/nodekey.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"

enum {
	BASE64_LEN = 44,
};
static_assert((int)CRYPTO_NODE_KEY_LEN == (int)KEY_LEN, "a node's key is an address");

static const struct json_limits json_limits = { .len = NODEKEY_CONTENT_MAX,
	                                        .depth = 4,
	                                        .parts = 64 };

static const struct {
	const char *name;
	enum nodekey_kind says;
} forms[] = {
	[NODEKEY_PRIVKEY] = { "privkey", NODEKEY_SECRET },
	[NODEKEY_JSON] = { "json", NODEKEY_SECRET },
	[NODEKEY_NODEKEY] = { "nodekey", NODEKEY_PUBLIC },
	[NODEKEY_NP] = { "np", NODEKEY_PUBLIC },
	[NODEKEY_HEX] = { "hex", NODEKEY_EITHER },
	[NODEKEY_WIREGUARD] = { "wireguard", NODEKEY_EITHER },
	[NODEKEY_RAW] = { "raw", NODEKEY_EITHER },
};
static_assert(sizeof forms / sizeof *forms == NODEKEY_FORM_N, "a row for each form");

const char *nodekey_form_name(enum nodekey_form f) { return forms[f].name; }
enum nodekey_kind nodekey_kind_of(enum nodekey_form f) { return forms[f].says; }
bool nodekey_form_is_binary(enum nodekey_form f) { return f == NODEKEY_RAW || f == NODEKEY_NP; }

int nodekey_form_of(const char *name, enum nodekey_form *form_out)
{
	for (int f = 0; f < NODEKEY_FORM_N; f++) {
		if (strcmp(forms[f].name, name) == 0) {
			*form_out = (enum nodekey_form)f;
			return 0;
		}
	}
	return ERR_INVALID;
}

/* ---- reading ---- */

__attribute__((format(printf, 2, 3))) static int refuse(char *error_out, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(error_out, NODEKEY_ERROR_LEN, fmt, args);
	va_end(args);
	return ERR_INVALID;
}

static struct str trimmed(struct str s)
{
	while (s.len && isspace((unsigned char)s.p[s.len - 1]))
		s.len--;
	while (s.len && isspace((unsigned char)*s.p)) {
		s.p++;
		s.len--;
	}
	return s;
}

/* 32 bytes that are all letters are a passphrase or a part of something longer: random
 * ones are that once in 10^14. */
static bool is_text(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!isprint((unsigned char)s.p[i]) && !isspace((unsigned char)s.p[i]))
			return false;
	return true;
}

static bool begins(struct str s, const char *with)
{
	size_t n = strlen(with);
	return s.len >= n && memcmp(s.p, with, n) == 0;
}

static int take_hex(struct str hex, uint8_t *out)
{
	char lower[KEY_TEXT_LEN];

	if (hex.len != sizeof lower)
		return ERR_INVALID;
	for (size_t i = 0; i < sizeof lower; i++)
		lower[i] = (char)tolower((unsigned char)hex.p[i]);
	int rc = hex_decode((struct str){ lower, sizeof lower }, out, KEY_LEN);
	crypto_wipe(lower, sizeof lower);
	return rc;
}

/* `prefix` is there. */
static int take_prefixed(struct str text, const char *prefix, uint8_t *out, char *error_out)
{
	size_t n = strlen(prefix);
	struct str hex = { text.p + n, text.len - n };

	if (take_hex(hex, out) == 0)
		return 0;
	if (hex.len != KEY_TEXT_LEN)
		return refuse(error_out,
		              "%s needs %d hex digits behind it, here are %zu characters", prefix,
		              KEY_TEXT_LEN, hex.len);
	return refuse(error_out, "what is behind %s is not all hex digits", prefix);
}

/* What derper reads: other members do not matter. */
static int take_json(struct str text, uint8_t *out, char *error_out)
{
	struct json *doc = NULL;
	unsigned line = 1;
	struct str value;
	int rc = json_parse(text, &json_limits, &doc, &line);

	if (rc == ERR_INVALID)
		return refuse(error_out, "it begins like JSON and is none: line %u", line);
	if (rc == ERR_TOO_BIG)
		return refuse(error_out, "there is too much in this JSON for a key");
	if (rc < 0)
		refuse(error_out, "out of memory");
	else if (json_as_text(json_get(doc, "PrivateKey"), &value) != JSON_READ)
		rc = refuse(error_out, "JSON without the text \"PrivateKey\"");
	else if (!begins(value, "privkey:"))
		rc = refuse(error_out, "\"PrivateKey\" must be privkey: and %d hex digits",
		            KEY_TEXT_LEN);
	else
		rc = take_prefixed(value, "privkey:", out, error_out);
	json_free(doc);
	return rc;
}

/* What people give by mistake. */
static const struct {
	const char *begins, *is;
} strangers[] = {
	{ "discokey:", "a disco key, which is no node key" },
	{ "mkey:", "the key of a machine, which is no node key" },
	{ "tunn_", "a token, which is no key" },
	{ "-----BEGIN", "a PEM file, which is for TLS; tunn key new makes a node key" },
	{ "[", "a WireGuard config; only the text behind PrivateKey = is the key" },
};

static int refuse_text(struct str text, char *error_out)
{
	if (text.len == 0)
		return refuse(error_out, "it is empty");
	for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
		if (begins(text, strangers[i].begins))
			return refuse(error_out, "this is %s", strangers[i].is);
	if (memchr(text.p, '\n', text.len))
		return refuse(error_out, "it has more than one line");
	return refuse(error_out,
	              "%zu characters that are no key: known are privkey:HEX, nodekey:HEX, %d hex "
	              "digits, %d characters of base64 (WireGuard), derper's JSON",
	              text.len, KEY_TEXT_LEN, BASE64_LEN);
}

static int take_text(struct str text, struct nodekey *k, char *error_out)
{
	if (begins(text, "privkey:")) {
		k->form = NODEKEY_PRIVKEY;
		return take_prefixed(text, "privkey:", k->key.b, error_out);
	}
	if (begins(text, "nodekey:")) {
		k->form = NODEKEY_NODEKEY;
		return take_prefixed(text, "nodekey:", k->key.b, error_out);
	}
	if (begins(text, "{")) {
		k->form = NODEKEY_JSON;
		return take_json(text, k->key.b, error_out);
	}
	k->form = NODEKEY_HEX;
	if (take_hex(text, k->key.b) == 0)
		return 0;
	k->form = NODEKEY_WIREGUARD;
	if (text.len == BASE64_LEN && crypto_base64_decode(text, k->key.b, KEY_LEN) == KEY_LEN)
		return 0;
	return refuse_text(text, error_out);
}

static int take_bytes(struct str bytes, struct nodekey *k, char *error_out)
{
	size_t head = bytes.len == KEY_LEN + 2 && begins(bytes, "np") ? 2 : 0;

	if (bytes.len != KEY_LEN + head)
		return refuse(error_out, "%zu bytes that are neither text nor a key of %d bytes",
		              bytes.len, KEY_LEN);
	k->form = head ? NODEKEY_NP : NODEKEY_RAW;
	memcpy(k->key.b, bytes.p + head, KEY_LEN);
	return 0;
}

static int check_kind(struct nodekey *k, enum nodekey_kind wanted, char *error_out)
{
	static const struct key zero;
	enum nodekey_kind says = forms[k->form].says;

	if (wanted == NODEKEY_SECRET && says == NODEKEY_PUBLIC)
		return refuse(error_out, "a public key, but the secret one is needed");
	if (wanted == NODEKEY_PUBLIC && says == NODEKEY_SECRET)
		return refuse(error_out, "a secret key, but a public one is wanted: tunn key pub "
		                         "makes it");
	if (crypto_same(k->key.b, zero.b, KEY_LEN))
		return refuse(error_out, "all zeros, which is no key");
	k->kind = wanted != NODEKEY_EITHER ? wanted : says;
	if (k->kind == NODEKEY_PUBLIC && k->key.b[KEY_LEN - 1] & 0x80)
		return refuse(error_out, "bit 255 is set, which no public key has");
	return 0;
}

int nodekey_read(struct str content, enum nodekey_kind wanted, struct nodekey *key_out,
                 char error_out[static NODEKEY_ERROR_LEN])
{
	struct nodekey k = { 0 };
	int rc = is_text(content) ? take_text(trimmed(content), &k, error_out) :
	                            take_bytes(content, &k, error_out);

	if (rc == 0)
		rc = check_kind(&k, wanted, error_out);
	if (rc == 0)
		*key_out = k;
	crypto_wipe(&k, sizeof k);
	return rc;
}

/* ---- writing ---- */

static int print_json(const char *privkey, char *out)
{
	struct json *doc = json_new_object();
	int rc = json_put(doc, "PrivateKey", json_new_text(str_of(privkey)));

	if (rc == 0)
		rc = json_print(doc, JSON_TABS, out, NODEKEY_WRITTEN_MAX);
	json_free(doc);
	return rc < 0 ? -ENOMEM : rc;
}

static int print_base64(const struct key *key, char *out)
{
	crypto_base64(key->b, KEY_LEN, out, NODEKEY_WRITTEN_MAX);
	return BASE64_LEN;
}

static int write_text(const struct nodekey *k, enum nodekey_form form, char *out)
{
	static const char *const prefix[NODEKEY_FORM_N] = { [NODEKEY_PRIVKEY] = "privkey:",
		                                            [NODEKEY_JSON] = "privkey:",
		                                            [NODEKEY_NODEKEY] = "nodekey:" };
	char text[KEY_TEXT_LEN + 16] = "";
	int n;

	if (prefix[form])
		strcpy(text, prefix[form]);
	hex_encode(k->key.b, KEY_LEN, text + strlen(text));
	if (form == NODEKEY_JSON)
		n = print_json(text, out);
	else if (form == NODEKEY_WIREGUARD)
		n = print_base64(&k->key, out);
	else
		n = snprintf(out, NODEKEY_WRITTEN_MAX, "%s", text);
	crypto_wipe(text, sizeof text);
	if (n < 0)
		return n;
	out[n++] = '\n';
	out[n] = 0;
	return n;
}

static int write_bytes(const struct nodekey *k, enum nodekey_form form, char *out)
{
	size_t head = form == NODEKEY_NP ? 2 : 0;

	memcpy(out, "np", head);
	memcpy(out + head, k->key.b, KEY_LEN);
	out[head + KEY_LEN] = 0;
	return (int)(head + KEY_LEN);
}

int nodekey_write(const struct nodekey *k, enum nodekey_form form, char *out)
{
	enum nodekey_kind says = forms[form].says;

	if (says != NODEKEY_EITHER && k->kind != NODEKEY_EITHER && says != k->kind)
		return ERR_INVALID;
	return nodekey_form_is_binary(form) ? write_bytes(k, form, out) : write_text(k, form, out);
}

void nodekey_new(struct nodekey *secret_out)
{
	*secret_out = (struct nodekey){ .form = NODEKEY_PRIVKEY, .kind = NODEKEY_SECRET };
	crypto_node_key_new(secret_out->key.b);
}

void nodekey_public(const struct nodekey *secret, struct nodekey *public_out)
{
	*public_out = (struct nodekey){ .form = NODEKEY_NODEKEY, .kind = NODEKEY_PUBLIC };
	crypto_node_public(secret->key.b, public_out->key.b);
}
