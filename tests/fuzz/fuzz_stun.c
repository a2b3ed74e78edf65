/* STUN, both readers. The first byte, bit 0: what follows gets a right FINGERPRINT, which
 * no mutation finds; bit 1: it gets a right header too. A request that is taken is none any
 * more with any bit turned; what is read from an answer is read from ours for it. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/base/err.h"
#include "common/wire/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { HEADER_LEN = 20, FINGERPRINT_LEN = 8, LEN_MAX = 4096 };

static void need(int truth)
{
	if (!truth)
		abort();
}

/* The rules once more, without a cursor: whole attributes, "tailnode" among them, the
 * right fingerprint last. */
static int is_request(const uint8_t *p, size_t len)
{
	static const uint8_t cookie[] = { 0x21, 0x12, 0xa4, 0x42 };
	size_t at = HEADER_LEN, last = 0;
	int is_known = 0;

	if (len < HEADER_LEN || p[0] != 0 || p[1] != 1 || memcmp(p + 4, cookie, 4) != 0)
		return 0;
	while (at < len) {
		if (len - at < 4)
			return 0;
		size_t n = (size_t)p[at + 2] << 8 | p[at + 3];
		if (len - at - 4 < (n + 3) / 4 * 4)
			return 0;
		if (p[at] == 0x80 && p[at + 1] == 0x22 && n == 8)
			is_known |= memcmp(p + at + 4, "tailnode", 8) == 0;
		last = at;
		at += 4 + (n + 3) / 4 * 4;
	}
	if (!is_known || len - last != FINGERPRINT_LEN || memcmp(p + last, "\x80\x28\0\4", 4) != 0)
		return 0;
	uint32_t v = (uint32_t)crc32(0, p, (uInt)last) ^ 0x5354554e;
	const uint8_t right[] = { v >> 24, v >> 16 & 0xff, v >> 8 & 0xff, v & 0xff };
	return memcmp(p + last + 4, right, 4) == 0;
}

static size_t add_fingerprint(uint8_t *p, size_t len)
{
	uint32_t v = (uint32_t)crc32(0, p, (uInt)len) ^ 0x5354554e;
	const uint8_t attr[] = {
		0x80, 0x28, 0, 4, v >> 24, v >> 16 & 0xff, v >> 8 & 0xff, v & 0xff
	};

	memcpy(p + len, attr, sizeof attr);
	return len + sizeof attr;
}

static void no_bit_is_idle(uint8_t *p, size_t len)
{
	uint8_t txid[STUN_TXID_LEN];

	for (size_t i = 0; i < 8 * len; i += 1 + len / 16) { /* some, all over it */
		p[i / 8] ^= (uint8_t)(1u << i % 8);
		need(stun_read_request(p, len, txid) == ERR_PROTOCOL);
		p[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

static void try_request(uint8_t *p, size_t len)
{
	uint8_t txid[STUN_TXID_LEN], out[STUN_REQUEST_LEN];
	int rc = stun_read_request(p, len, txid);

	need(rc == (is_request(p, len) ? 0 : ERR_PROTOCOL));
	if (rc < 0)
		return;
	need(memcmp(txid, p + 8, sizeof txid) == 0);
	no_bit_is_idle(p, len);
	stun_write_request(txid, out);
	need(is_request(out, sizeof out));
}

static void try_answer(const uint8_t *p, size_t len)
{
	uint8_t txid[STUN_TXID_LEN], again[STUN_TXID_LEN], out[STUN_ANSWER_MAX];
	struct stun_addr seen, same;

	if (stun_read_answer(p, len, txid, &seen) < 0)
		return;
	size_t n = stun_write_answer(txid, &seen, out);
	need(n == 32 || n == STUN_ANSWER_MAX);
	need(stun_read_answer(out, n, again, &same) == 0);
	need(memcmp(txid, again, sizeof txid) == 0 && memcmp(seen.ip, same.ip, 16) == 0);
	need(seen.port == same.port);
	for (size_t cut = 0; cut < n; cut++)
		need(stun_read_answer(out, cut, again, &same) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t request[] = { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 };

	if (len < 1 || len > LEN_MAX)
		return 0;
	size_t n = len - 1;
	uint8_t *copy = malloc(n + FINGERPRINT_LEN); /* of its length, for the sanitizer */
	if (!copy)
		return 0;
	memcpy(copy, data + 1, n);
	if (data[0] & 2 && n >= sizeof request)
		memcpy(copy, request, sizeof request);
	if (data[0] & 1)
		n = add_fingerprint(copy, n);
	uint8_t *exact = realloc(copy, n ? n : 1);
	copy = exact ? exact : copy;
	try_request(copy, n);
	try_answer(copy, n);
	free(copy);
	return 0;
}
