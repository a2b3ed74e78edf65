/* An answer with its body, and the text of a URL: however an answer is cut, it is the
 * same. The first byte says where to cut. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/wire/http1_response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_BODY = 200 };

static int feed(const uint8_t *data, size_t len, size_t chunk, struct http1_response *r)
{
	int rc = ERR_AGAIN;

	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk)
		rc = http1_response_feed(r, data + at, len - at < chunk ? len - at : chunk);
	return rc == ERR_AGAIN ? http1_response_end(r) : rc;
}

static void try_url(const uint8_t *data, size_t len)
{
	struct http1_url u;
	const char *why = NULL;
	char *text = calloc(1, len + 1);

	if (!text)
		return;
	memcpy(text, data, len);
	if (http1_url_of(text, &u, &why) == 0)
		assert(u.host.p >= text && u.host.p + u.host.len <= text + len && u.host.len > 0 &&
		       u.target.p >= text && u.target.p + u.target.len <= text + len);
	else
		assert(why);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct http1_response *a = NULL, *b = NULL;

	if (len < 2)
		return 0;
	try_url(data, len);
	if (http1_response_new(MAX_BODY, &a) == 0 && http1_response_new(MAX_BODY, &b) == 0) {
		int rc_a = feed(data + 1, len - 1, len - 1, a);
		int rc_b = feed(data + 1, len - 1, 1 + data[0], b);
		assert(rc_a == rc_b && http1_response_status(a) == http1_response_status(b));
		assert(str_eq(http1_response_body(a), http1_response_body(b)));
		assert(http1_response_body(a).len <= MAX_BODY);
	}
	http1_response_free(a);
	http1_response_free(b);
	return 0;
}
