/* Control messages: decoding anything, and encoding what was understood. */
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/wire/grpc.h"
#include "common/wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct arena arena = { 0 };
	struct buf out = { 0 };
	struct reflection_request r;
	struct str service;
	struct msg m;

	if (msg_decode(&arena, data, len, &m) == 0 && m.kind != MSG_NONE)
		msg_encode(&m, &out);
	arena_clear(&arena);
	health_request_decode(&arena, data, len < GRPC_MESSAGE_MAX ? len : GRPC_MESSAGE_MAX,
	                      &service);
	arena_clear(&arena);
	if (reflection_request_decode(&arena, data, len < GRPC_MESSAGE_MAX ? len : GRPC_MESSAGE_MAX,
	                              &r) == 0) {
		struct reflection_answer a = { .request = &r, .kind = REFLECTION_ERROR };
		reflection_answer_encode(&a, &out);
	}
	arena_clear(&arena);
	buf_done(&out);
	return 0;
}
