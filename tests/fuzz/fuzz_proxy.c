/* What a proxy answers to CONNECT, and what we make of it: however the answer is
 * cut, the words are the same, and the login is not among them. The first byte:
 * bit 0 whether there is a login, the rest where to cut. */
#include <assert.h>
#include <string.h>

#include "common/net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char password[] = "sesame-\x01\x02"; /* no header value can hold it */

struct outcome {
	int rc;
	size_t used;
	enum close_why why;
	char text[2048];
};

static void converse(bool login, const uint8_t *data, size_t len, size_t chunk,
                     struct outcome *o_out)
{
	struct proxy_conf conf = { .used = true, .host = "proxy", .port = 3128 };
	struct proxy *p;

	*o_out = (struct outcome){ .rc = ERR_AGAIN };
	if (login) {
		strcpy(conf.user, "user");
		strcpy(conf.password, password);
	}
	if (proxy_new(&conf, "relay", 443, &p) < 0)
		return;
	for (size_t at = 0; at < len && o_out->rc == ERR_AGAIN; at += chunk) {
		size_t n = len - at < chunk ? len - at : chunk, used = 0;
		o_out->rc = proxy_reply(p, data + at, n, &used);
		o_out->used = o_out->rc == 0 ? at + used : 0;
	}
	o_out->why = proxy_why(p);
	size_t text_len = strlen(proxy_text(p));
	assert(text_len < sizeof o_out->text);
	memcpy(o_out->text, proxy_text(p), text_len);
	proxy_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct outcome whole, cut;

	if (len < 2)
		return 0;
	bool login = data[0] & 1;
	converse(login, data + 1, len - 1, len - 1, &whole);
	converse(login, data + 1, len - 1, 1 + (data[0] >> 1), &cut);
	assert(whole.rc == cut.rc && whole.used == cut.used && whole.why == cut.why);
	assert(strcmp(whole.text, cut.text) == 0);
	assert(whole.rc == 0 || whole.rc == ERR_AGAIN || whole.text[0]);
	assert(whole.used < len && !strstr(whole.text, password));
	return 0;
}
