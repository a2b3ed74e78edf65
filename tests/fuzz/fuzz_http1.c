/* The reply to CONNECT: however it is cut, the answer is the same. The first
 * byte says where to cut. */
#include <assert.h>
#include <string.h>

#include "common/base/err.h"
#include "common/wire/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int feed(const uint8_t *data, size_t len, size_t chunk, struct http1_head *head_out,
                size_t *used_out)
{
	struct http1 *h;
	int rc = ERR_AGAIN;

	*used_out = 0;
	if (http1_new(&h) < 0)
		return -1;
	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		rc = http1_feed(h, data + at, len - at < chunk ? len - at : chunk, used_out);
		if (rc == 0)
			*used_out += at;
	}
	*head_out = *http1_head(h);
	http1_free(h);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct http1_head a, b;
	size_t used_a, used_b;

	if (len < 2)
		return 0;
	int rc_a = feed(data + 1, len - 1, len - 1, &a, &used_a);
	int rc_b = feed(data + 1, len - 1, 1 + data[0], &b, &used_b);
	assert(rc_a == rc_b);
	if (rc_a == 0)
		assert(used_a == used_b && memcmp(&a, &b, sizeof a) == 0);
	return 0;
}
