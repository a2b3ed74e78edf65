/* Framing: however the bytes are cut, the messages are the same; and the small
 * text codecs. The first byte says where to cut. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint32_t digest(const uint8_t *data, size_t len, size_t chunk, int *rc_out)
{
	struct deframer d = deframer_of(0);
	uint32_t h = 1;
	int rc = ERR_AGAIN;

	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		size_t n = len - at < chunk ? len - at : chunk;
		struct cursor in = cursor_of(data + at, n);
		const uint8_t *msg;
		size_t msg_len;
		while ((rc = deframe_next(&d, &in, &msg, &msg_len)) == 0) {
			h = h * 31 + (uint32_t)msg_len;
			for (size_t i = 0; i < msg_len; i++)
				h = h * 31 + msg[i];
		}
	}
	deframer_done(&d);
	*rc_out = rc;
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char text[600], coded[1800];
	uint64_t ms;
	int rc1, rc2;

	if (len < 1)
		return 0;
	struct str s = { (const char *)data + 1, len - 1 };
	assert(digest(data + 1, len - 1, len, &rc1) ==
	       digest(data + 1, len - 1, 1 + data[0], &rc2));
	assert(rc1 == rc2);
	grpc_timeout(s, &ms);
	grpc_is_content_type(s);
	grpc_is_bin(s);
	grpc_status_parse(s);
	grpc_status_of_http(s);
	grpc_message_decode(s, text, sizeof text);
	if (s.len < sizeof text && !memchr(s.p, 0, s.len)) {
		size_t n = grpc_message_encode(s, coded, sizeof coded);
		grpc_message_decode((struct str){ coded, n }, text, sizeof text);
		assert(strlen(text) == s.len && memcmp(text, s.p, s.len) == 0);
	}
	return 0;
}
