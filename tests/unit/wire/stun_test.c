#include "tests/unit/said.h"

#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/wire/stun.h"

enum { ROOM = 600 };

static uint8_t in[ROOM], txid[STUN_TXID_LEN];
static struct stun_addr seen;

static const char request_hex[] = "000100142112a4420102030405060708090a0b0c"
                                  "802200087461696c6e6f646580280004b32c370f";
static const char header_hex[] = "0101%04x2112a4420102030405060708090a0b0c%s";

static const uint8_t txid_of_vectors[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
static const struct stun_addr seen_v4 = { .ip = { [10] = 0xff, 0xff, 192, 0, 2, 1 },
	                                  .port = 32853 };
static const struct stun_addr seen_v6 = { .ip = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
	                                  .port = 32853 };

static size_t bytes_of(const char *hex)
{
	size_t n = strlen(hex) / 2;

	assert_true(n <= sizeof in);
	assert_int_equal(hex_decode(str_of(hex), in, n), 0);
	return n;
}

static void assert_hex(const uint8_t *p, size_t n, const char *hex)
{
	char text[2 * STUN_ANSWER_MAX + 1];

	hex_encode(p, n, text);
	assert_string_equal(text, hex);
}

/* From a block of just this length, so that a sanitizer sees one byte too many. */
static int read_copy(int (*read)(const void *, size_t), const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	for (size_t i = 0; i < n; i++)
		copy[i] = p[i];
	int rc = read(copy, n);
	free(copy);
	return rc;
}

static int as_request(const void *p, size_t n) { return stun_read_request(p, n, txid); }
static int as_answer(const void *p, size_t n) { return stun_read_answer(p, n, txid, &seen); }

static int request(const char *hex) { return read_copy(as_request, in, bytes_of(hex)); }

/* An answer with these attributes, and something behind the length that it tells. */
static int answer(const char *attrs, size_t n_behind)
{
	char hex[2 * ROOM];

	snprintf(hex, sizeof hex, header_hex, (unsigned)(strlen(attrs) / 2 - n_behind), attrs);
	memset(&seen, 0, sizeof seen);
	return read_copy(as_answer, in, bytes_of(hex));
}

static void assert_seen(const char *ip_hex, unsigned port)
{
	assert_hex(seen.ip, sizeof seen.ip, ip_hex);
	assert_int_equal(seen.port, port);
}

/* ---- requests ---- */

/* The request with other attributes between header and a right FINGERPRINT: that of
 * the codec's own request, whose CRC-32 is undone by those 4 bytes, would not fit. */
static uint32_t crc_bit_by_bit(const uint8_t *p, size_t n)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static int request_with(const char *attrs)
{
	char hex[2 * ROOM];

	snprintf(hex, sizeof hex, "000100002112a4420102030405060708090a0b0c%s", attrs);
	size_t n = bytes_of(hex);
	uint32_t v = crc_bit_by_bit(in, n) ^ 0x5354554e;
	const uint8_t fingerprint[] = { 0x80,           0x28,          0,       4, v >> 24,
		                        v >> 16 & 0xff, v >> 8 & 0xff, v & 0xff };
	memcpy(in + n, fingerprint, sizeof fingerprint);
	return read_copy(as_request, in, n + sizeof fingerprint);
}

#define TAILNODE "802200087461696c6e6f6465"

static void the_request_is_the_one_every_client_sends(void **state)
{
	uint8_t out[STUN_REQUEST_LEN];
	(void)state;

	stun_write_request(txid_of_vectors, out);
	assert_hex(out, sizeof out, request_hex);
	assert_int_equal(request(request_hex), 0);
	assert_memory_equal(txid, txid_of_vectors, sizeof txid);
}

static void a_request_that_is_cut_or_longer_is_none(void **state)
{
	size_t n = bytes_of(request_hex);
	(void)state;

	for (size_t len = 0; len < n; len++)
		assert_int_equal(read_copy(as_request, in, len), ERR_PROTOCOL);
	for (size_t more = 1; more < 20; more++)
		assert_int_equal(read_copy(as_request, in, n + more), ERR_PROTOCOL);
}

/* Bytes 2 and 3, the length, are only under the fingerprint. */
static void a_request_with_any_bit_turned_is_none(void **state)
{
	size_t n = bytes_of(request_hex);
	(void)state;

	for (size_t i = 0; i < 8 * n; i++) {
		in[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(read_copy(as_request, in, n), ERR_PROTOCOL);
		in[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_int_equal(read_copy(as_request, in, n), 0);
}

static void the_length_in_the_header_does_not_count(void **state)
{
	(void)state;
	assert_int_equal(request_with(TAILNODE), 0); /* it says 0 */
}

static void attributes_may_stand_around_the_software(void **state)
{
	(void)state;
	assert_int_equal(request_with("0006000161000000" TAILNODE), 0);
	assert_int_equal(request_with(TAILNODE "00060003616263ff"), 0);
	assert_int_equal(request_with("00060000" TAILNODE), 0);
	assert_int_equal(request_with("80220004616263ff" TAILNODE), 0);
	assert_int_equal(request_with(TAILNODE "80280004b32c370f"), 0); /* one more, any */
}

static void another_software_is_left_unanswered(void **state)
{
	(void)state;
	assert_int_equal(request_with(""), ERR_PROTOCOL);
	assert_int_equal(request_with("802200077461696c6e6f6400"), ERR_PROTOCOL);
	assert_int_equal(request_with("802200097461696c6e6f646573000000"), ERR_PROTOCOL);
	assert_int_equal(request_with("802200087461696c6e6f6445"), ERR_PROTOCOL);
	assert_int_equal(request_with("802300087461696c6e6f6465"), ERR_PROTOCOL);
}

static void attributes_that_do_not_fit_are_none(void **state)
{
	(void)state;
	assert_int_equal(request_with(TAILNODE "00"), ERR_PROTOCOL);
	assert_int_equal(request_with(TAILNODE "0006"), ERR_PROTOCOL);
	assert_int_equal(request_with(TAILNODE "000600"), ERR_PROTOCOL);
	assert_int_equal(request_with(TAILNODE "0006000961"), ERR_PROTOCOL);
	assert_int_equal(request_with(TAILNODE "0006ffff"), ERR_PROTOCOL);
	/* 9 bytes fit and their padding does not: the fingerprint is 8 */
	assert_int_equal(request_with(TAILNODE "0006000561"), ERR_PROTOCOL);
}

static void without_a_fingerprint_at_the_end_it_is_none(void **state)
{
	(void)state;
	assert_int_equal(request("000100142112a4420102030405060708090a0b0c" TAILNODE),
	                 ERR_PROTOCOL);
	/* a right one, and something behind it */
	char hex[sizeof request_hex + 8];
	snprintf(hex, sizeof hex, "%s00060000", request_hex);
	assert_int_equal(request(hex), ERR_PROTOCOL);
	/* of 3 bytes and one of padding that together would be right */
	size_t n = bytes_of(request_hex);
	in[n - 5] = 3;
	assert_int_equal(read_copy(as_request, in, n), ERR_PROTOCOL);
}

static void other_messages_of_stun_are_no_requests(void **state)
{
	static const char *const types[] = {
		"0002", "0011", "0101", "0111", "4001", "8001", "c001"
	};
	char hex[sizeof request_hex];
	(void)state;

	for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
		snprintf(hex, sizeof hex, "%s%s", types[i], request_hex + 4);
		size_t n = bytes_of(hex);
		uint32_t v = crc_bit_by_bit(in, n - 8) ^ 0x5354554e;
		for (unsigned k = 0; k < 4; k++)
			in[n - 1 - k] = (uint8_t)(v >> 8 * k);
		assert_int_equal(read_copy(as_request, in, n), ERR_PROTOCOL);
	}
}

/* ---- answers ---- */

static void the_answer_is_short_and_exact(void **state)
{
	uint8_t out[STUN_ANSWER_MAX];
	(void)state;

	assert_int_equal(stun_write_answer(txid_of_vectors, &seen_v4, out), 32);
	assert_hex(out, 32, "0101000c2112a4420102030405060708090a0b0c002000080001a147e112a643");
	assert_int_equal(stun_write_answer(txid_of_vectors, &seen_v6, out), 44);
	assert_hex(out, 44,
	           "010100182112a4420102030405060708090a0b0c002000140002a147"
	           "0113a9fa0102030405060708090a0b0d");
}

static void an_answer_is_read_back(void **state)
{
	const struct stun_addr *const both[] = { &seen_v4, &seen_v6 };
	uint8_t out[STUN_ANSWER_MAX];
	(void)state;

	for (unsigned i = 0; i < 2; i++) {
		size_t n = stun_write_answer(txid_of_vectors, both[i], out);
		memset(txid, 0, sizeof txid);
		assert_int_equal(read_copy(as_answer, out, n), 0);
		assert_memory_equal(txid, txid_of_vectors, sizeof txid);
		assert_memory_equal(seen.ip, both[i]->ip, sizeof seen.ip);
		assert_int_equal(seen.port, both[i]->port);
		for (size_t len = 0; len < n; len++)
			assert_int_equal(read_copy(as_answer, out, len), ERR_PROTOCOL);
	}
}

static void a_mapped_ipv4_in_an_ipv6_answer_is_ipv4(void **state)
{
	(void)state;
	size_t n = bytes_of("010100182112a4424fd5d202dcb37d31fc77330600200014"
	                    "0002cd3d2112a4424fd5d202dcb382ce2dc3fcc7");
	assert_int_equal(read_copy(as_answer, in, n), 0);
	assert_seen("00000000000000000000ffffd1b4cfc1", 60463);
}

static void other_attributes_are_skipped_with_their_padding(void **state)
{
	static const char *const before[] = { "",
		                              "8022000161ffffff",
		                              "80220002616200ff",
		                              "80220003616263ff",
		                              "8022000461626364",
		                              "80220000",
		                              "8022000561626364650000ff" };
	char attrs[200];
	(void)state;

	for (unsigned i = 0; i < sizeof before / sizeof *before; i++) {
		snprintf(attrs, sizeof attrs, "%s002000080001a147e112a643", before[i]);
		assert_int_equal(answer(attrs, 0), 0);
		assert_seen("00000000000000000000ffffc0000201", 32853);
		snprintf(attrs, sizeof attrs, "002000080001a147e112a643%s", before[i]);
		assert_int_equal(answer(attrs, 0), 0);
		assert_seen("00000000000000000000ffffc0000201", 32853);
	}
}

static void the_masked_address_counts_before_the_plain_one(void **state)
{
	static const char plain[] = "0001000800011234c6336401";
	char attrs[200];
	(void)state;

	assert_int_equal(answer(plain, 0), 0);
	assert_seen("00000000000000000000ffffc6336401", 0x1234);
	snprintf(attrs, sizeof attrs, "%s802000080001a147e112a643", plain);
	assert_int_equal(answer(attrs, 0), 0);
	assert_seen("00000000000000000000ffffc0000201", 32853);
	snprintf(attrs, sizeof attrs, "002000080001a147e112a643%s", plain);
	assert_int_equal(answer(attrs, 0), 0);
	assert_seen("00000000000000000000ffffc0000201", 32853);
}

static void the_last_masked_address_counts(void **state)
{
	(void)state;
	assert_int_equal(answer("002000080001a147e112a643802000080001a146e112a642", 0), 0);
	assert_seen("00000000000000000000ffffc0000200", 32852);
}

/* Of coturn 4.6.1, asked as we ask from 127.0.0.1:32853: five attributes more. */
static void the_answer_of_a_foreign_server_is_read(void **state)
{
	(void)state;
	size_t n = bytes_of("010100442112a4420102030405060708090a0b0c"
	                    "002000080001a1475e12a4430001000800018055"
	                    "7f000001"
	                    "802b000800019a367f000001"
	                    "80220014436f7475726e2d342e362e312027476f72737427"
	                    "8028000415abda39");
	assert_int_equal(read_copy(as_answer, in, n), 0);
	assert_memory_equal(txid, txid_of_vectors, sizeof txid);
	assert_seen("00000000000000000000ffff7f000001", 32853);
}

static void what_follows_the_told_length_is_cut_off(void **state)
{
	(void)state;
	assert_int_equal(answer("002000080001a147e112a643ff", 1), 0);
	assert_int_equal(answer("002000080001a147e112a643802000080001a146e112a642", 12), 0);
	assert_seen("00000000000000000000ffffc0000201", 32853);
	assert_int_equal(answer("002000080001a147e112a643ff", 0), ERR_PROTOCOL);
}

static void an_answer_without_an_address_is_none(void **state)
{
	static const char *const bad[] = {
		"",                                                 /* nothing */
		"80220004616263ff",                                 /* something else */
		"002000080003a147e112a643",                         /* of no family that we know */
		"000100080000a147e112a643",                         /* nor this */
		"002000070001a147e112a643",                         /* too short */
		"002000080002a147e112a643",                         /* for IPv6 */
		"00200003000100ff",                                 /* not even a port */
		"002000080001a147e112a6430020",                     /* cut */
		"002000080001a147e112a64300010008000912341234abcd", /* one that is wrong */
	};
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(answer(bad[i], 0), ERR_PROTOCOL);
	assert_int_equal(answer("002000080001a147e112a643", 0), 0);
}

static void what_is_no_answer_is_not_read_as_one(void **state)
{
	static const char good[] = "0101000c2112a4420102030405060708090a0b0c"
	                           "002000080001a147e112a643";
	static const char *const bad[] = { "0001000c2112a442", "0111000c2112a442",
		                           "4101000c2112a442", "0101000c2112a443",
		                           "0101000d2112a442", "0101ffff2112a442" };
	char hex[sizeof good];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(hex, sizeof hex, "%s%s", bad[i], good + 16);
		assert_int_equal(read_copy(as_answer, in, bytes_of(hex)), ERR_PROTOCOL);
	}
	assert_int_equal(read_copy(as_answer, in, bytes_of(good)), 0);
	assert_int_equal(read_copy(as_answer, in, bytes_of(request_hex)), ERR_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_request_is_the_one_every_client_sends),
		cmocka_unit_test(a_request_that_is_cut_or_longer_is_none),
		cmocka_unit_test(a_request_with_any_bit_turned_is_none),
		cmocka_unit_test(the_length_in_the_header_does_not_count),
		cmocka_unit_test(attributes_may_stand_around_the_software),
		cmocka_unit_test(another_software_is_left_unanswered),
		cmocka_unit_test(attributes_that_do_not_fit_are_none),
		cmocka_unit_test(without_a_fingerprint_at_the_end_it_is_none),
		cmocka_unit_test(other_messages_of_stun_are_no_requests),
		cmocka_unit_test(the_answer_is_short_and_exact),
		cmocka_unit_test(an_answer_is_read_back),
		cmocka_unit_test(a_mapped_ipv4_in_an_ipv6_answer_is_ipv4),
		cmocka_unit_test(other_attributes_are_skipped_with_their_padding),
		cmocka_unit_test(the_masked_address_counts_before_the_plain_one),
		cmocka_unit_test(the_last_masked_address_counts),
		cmocka_unit_test(the_answer_of_a_foreign_server_is_read),
		cmocka_unit_test(what_follows_the_told_length_is_cut_off),
		cmocka_unit_test(an_answer_without_an_address_is_none),
		cmocka_unit_test(what_is_no_answer_is_not_read_as_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
