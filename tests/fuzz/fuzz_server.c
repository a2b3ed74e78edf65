/*
 * The whole server conversation in memory: the bytes of one connection against
 * the grpc transport, admission and reflection included. 0xff 0x00 in the input lets a second pass.
 */
#include <string.h>

#include "tests/fuzz/frames.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_grpc;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	return frames_mutate(FRAMES_OF_CLIENT, data, len, cap, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed)
{
	return frames_cross(a, a_len, b, b_len, out, cap, seed);
}

static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int started;
	struct buf out = { 0 };
	struct pair p;
	int rc = 0;

	if (!started)
		started = crypto_start() == 0;
	if (!pair_open(&p, &transport_grpc)) { /* memory may be short: tests/nomem */
		pair_close(&p, &transport_grpc);
		return 0;
	}
	p.server_conf.reflection = true;
	transport_grpc.input(p.server, preface, sizeof preface - 1, p.now_ms);
	while (len && rc == 0) {
		const uint8_t *mark = memmem(data, len, "\xff\x00", 2);
		size_t n = mark ? (size_t)(mark - data) + 2 : len;
		rc = transport_grpc.input(p.server, data, n, p.now_ms);
		p.now_ms += 1000;
		if (mark && n % 2)
			pair_answer(&p, 200, "<p>words");
		if (rc == 0)
			rc = transport_grpc.tick(p.server, p.now_ms);
		transport_grpc.flush(p.server, &out, 1 << 16);
		buf_clear(&out);
		data += n;
		len -= n;
	}
	transport_grpc.goodbye(p.server, CLOSE_LOCAL);
	transport_grpc.flush(p.server, &out, 1 << 16);
	buf_done(&out);
	pair_close(&p, &transport_grpc);
	return 0;
}
