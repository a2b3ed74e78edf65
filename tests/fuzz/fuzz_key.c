/* Node keys and JSON: whatever is read is written and read again as the same. */
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/nodekey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct json_limits limits = { .len = 4096, .depth = 16, .parts = 512 };

static void need(int truth)
{
	if (!truth)
		abort();
}

static void read_again(const struct nodekey *k, enum nodekey_form form)
{
	char out[NODEKEY_WRITTEN_MAX], error[NODEKEY_ERROR_LEN];
	struct nodekey again;
	int n = nodekey_write(k, form, out);

	if (n < 0)
		return;
	/* bytes that happen to be letters are refused, see is_text() */
	if (nodekey_read((struct str){ out, (size_t)n }, k->kind, &again, error) < 0) {
		need(nodekey_form_is_binary(form) || k->kind == NODEKEY_EITHER);
		return;
	}
	need(again.form == form && key_eq(&again.key, &k->key));
}

static void read_key(struct str content, enum nodekey_kind wanted)
{
	char error[NODEKEY_ERROR_LEN] = "";
	struct nodekey k;

	if (nodekey_read(content, wanted, &k, error) < 0) {
		need(error[0] != 0);
		return;
	}
	need(wanted == NODEKEY_EITHER || k.kind == wanted);
	need(k.kind != NODEKEY_PUBLIC || !(k.key.b[KEY_LEN - 1] & 0x80));
	for (int f = 0; f < NODEKEY_FORM_N; f++)
		read_again(&k, (enum nodekey_form)f);
}

static void walk(const struct json *j, unsigned depth)
{
	const struct json *inner;
	struct str text;
	int64_t i;
	double r;
	bool b;

	need(depth <= limits.depth);
	unsigned kinds = (json_as_text(j, &text) == JSON_READ) +
	                 (json_as_real(j, &r) == JSON_READ) + (json_as_bool(j, &b) == JSON_READ) +
	                 (json_as_object(j, &inner) == JSON_READ) +
	                 (json_as_array(j, &inner) == JSON_READ) +
	                 (json_as_int(j, &i) == JSON_IS_NULL);
	need(kinds == 1);
	for (struct json_walk w = json_walk(j); json_next(&w);) {
		char name[64];
		if (w.name.p && w.name.len < sizeof name) {
			memcpy(name, w.name.p, w.name.len);
			name[w.name.len] = 0;
			need(json_get(j, name) != NULL);
		}
		walk(w.value, depth + 1);
	}
}

/* What is printed means the same: printed again it is the same text. */
static void print_again(const struct json *doc, enum json_style style)
{
	static char once[1 << 17], twice[1 << 17];
	struct json *again = NULL;
	struct json_limits wide = limits;
	int n = json_print(doc, style, once, sizeof once);

	if (n < 0)
		return;
	wide.len = sizeof once;
	need(json_parse((struct str){ once, (size_t)n }, &wide, &again, NULL) == 0);
	need(json_print(again, style, twice, sizeof twice) == n && memcmp(once, twice, n) == 0);
	json_free(again);
}

static void read_json(struct str text)
{
	struct json *doc = NULL;
	unsigned line = 0;

	if (json_parse(text, &limits, &doc, &line) < 0)
		return;
	walk(doc, 0);
	print_again(doc, JSON_ONE_LINE);
	print_again(doc, JSON_TABS);
	json_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool started;
	struct str content = { (const char *)data, len };

	if (!started) {
		need(crypto_start() == 0);
		json_start();
		started = true;
	}
	for (int wanted = 0; wanted < 3; wanted++)
		read_key(content, (enum nodekey_kind)wanted);
	read_json(content);
	return 0;
}
