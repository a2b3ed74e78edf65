/* The reflection services, asked by a foreign client in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/descriptor.h"
#include "reflection.pb-c.h"
#include "tests/unit/transport/caller.h"

#define V1    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define ALPHA "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

/* numbers of the oneof in the request */
enum { HOST = 1, BY_FILE = 3, BY_SYMBOL = 4, BY_EXTENSION = 5, NUMBERS_OF = 6, SERVICES = 7 };

typedef Grpc__Reflection__V1__ServerReflectionResponse Answer;

static size_t field(uint8_t *to, unsigned number, const void *value, size_t len)
{
	size_t n = 0, left = len;

	to[n++] = (uint8_t)(number << 3 | 2);
	for (; left > 127; left >>= 7)
		to[n++] = (uint8_t)(left | 128);
	to[n++] = (uint8_t)left;
	memcpy(to + n, value, len);
	return n + len;
}

static void ask(struct caller *c, struct rpc *r, unsigned what, const char *name)
{
	uint8_t m[300];

	rpc_say(c, r, m, field(m, what, name, strlen(name)));
}

static Answer *heard(struct rpc *r)
{
	size_t len = 0;
	const uint8_t *p = rpc_heard(r, &len);

	assert_non_null(p);
	Answer *a = grpc__reflection__v1__server_reflection_response__unpack(NULL, len, p);
	assert_non_null(a);
	return a;
}

static void forget(Answer *a)
{
	grpc__reflection__v1__server_reflection_response__free_unpacked(a, NULL);
}

static void assert_error(struct rpc *r, int status)
{
	Answer *a = heard(r);

	assert_non_null(a->error_response);
	assert_int_equal(a->error_response->error_code, status);
	forget(a);
}

/* The answer is the file of that name. */
static void assert_file(struct rpc *r, const char *name)
{
	int i = descriptor_file_named(str_of(name));
	Answer *a = heard(r);

	assert_true(i >= 0);
	assert_non_null(a->file_descriptor_response);
	assert_int_equal(a->file_descriptor_response->n_file_descriptor_proto, 1);
	ProtobufCBinaryData *f = &a->file_descriptor_response->file_descriptor_proto[0];
	assert_int_equal(f->len, descriptor_files[i].len);
	assert_memory_equal(f->data, descriptor_files[i].data, f->len);
	forget(a);
}

static void without_being_asked_for_it_is_unimplemented(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_unary(&c, &r, V1, "", 0);
	assert_string_equal(r.status, "12");
	rpc_unary(&c, &r, ALPHA, "", 0);
	assert_string_equal(r.status, "12");
	caller_close(&c);
}

static bool names(const Answer *a, const char *service)
{
	for (size_t i = 0; i < a->list_services_response->n_service; i++) {
		ProtobufCBinaryData n = a->list_services_response->service[i]->name;
		if (n.len == strlen(service) && memcmp(n.data, service, n.len) == 0)
			return true;
	}
	return false;
}

static void both_versions_list_what_is_served(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	for (int i = 0; i < 2; i++) {
		rpc_start(&c, &r, i ? V1 : ALPHA);
		ask(&c, &r, SERVICES, "*");
		caller_run(&c);
		Answer *a = heard(&r);
		assert_non_null(a->list_services_response);
		assert_int_equal(a->list_services_response->n_service, 4);
		assert_true(names(a, "tunn.v1.TunnelService"));
		assert_true(names(a, "grpc.health.v1.Health"));
		assert_true(names(a, "grpc.reflection.v1.ServerReflection"));
		assert_true(names(a, "grpc.reflection.v1alpha.ServerReflection"));
		forget(a);
		rpc_half_close(&c, &r);
		caller_run(&c);
		assert_string_equal(r.status, "0");
		rpc_done(&r);
	}
	caller_close(&c);
}

static void names_of_every_kind_lead_to_their_file(void **state)
{
	static const char *const in_tunn[] = {
		"tunn.v1.TunnelService",     "tunn.v1.TunnelService.EstablishTunnel",
		"tunn.v1.TunnelMessage",     "tunn.v1.TunnelMessage.register_client",
		"tunn.v1.PeerStatus.State",  "tunn.v1.RelayConfig.has_bidirectional",
		"tunn.v1.UdpPacket.peer_id",
	};
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	for (size_t i = 0; i < sizeof in_tunn / sizeof *in_tunn; i++) {
		ask(&c, &r, BY_SYMBOL, in_tunn[i]);
		caller_run(&c);
		assert_file(&r, "tunn.proto");
	}
	ask(&c, &r, BY_SYMBOL, "grpc.health.v1.Health.Watch");
	ask(&c, &r, BY_FILE, "tunn.proto");
	ask(&c, &r, BY_SYMBOL, "grpc.reflection.v1alpha.ErrorResponse");
	caller_run(&c);
	assert_file(&r, "health.proto");
	assert_file(&r, "tunn.proto");
	assert_file(&r, "reflection_v1alpha.proto");
	rpc_done(&r);
	caller_close(&c);
}

static void the_question_is_said_again_in_the_answer(void **state)
{
	struct caller c;
	struct rpc r;
	uint8_t m[100], inner[50];
	size_t n = field(m, HOST, "h", 1), k = field(inner, 1, "tunn.v1.UdpPacket", 17);

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	inner[k++] = 2 << 3;
	inner[k++] = 7;
	n += field(m + n, BY_EXTENSION, inner, k);
	rpc_say(&c, &r, m, n);
	caller_run(&c);
	Answer *a = heard(&r);
	assert_int_equal(a->error_response->error_code, GRPC_NOT_FOUND);
	assert_memory_equal(a->valid_host.data, "h", 1);
	Grpc__Reflection__V1__ExtensionRequest *e = a->original_request->file_containing_extension;
	assert_non_null(e);
	assert_int_equal(e->extension_number, 7);
	assert_memory_equal(e->containing_type.data, "tunn.v1.UdpPacket", 17);
	forget(a);
	rpc_done(&r);
	caller_close(&c);
}

static void G21_what_is_unknown_is_an_entry_and_the_stream_goes_on(void **state)
{
	static const char *const unknown[] = { "tunn.v1.Nothing",
		                               "tunn.v1",
		                               "",
		                               ".tunn.v1.UdpPacket",
		                               "tunn.v1.TunnelService.",
		                               "zzz",
		                               "TUNN.v1.UdpPacket" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		ask(&c, &r, BY_SYMBOL, unknown[i]);
		ask(&c, &r, BY_FILE, unknown[i]);
		ask(&c, &r, NUMBERS_OF, unknown[i]);
		caller_run(&c);
		for (int k = 0; k < 3; k++)
			assert_error(&r, GRPC_NOT_FOUND);
	}
	rpc_say(&c, &r, "", 0); /* asks for nothing */
	caller_run(&c);
	assert_error(&r, GRPC_INVALID_ARGUMENT);
	ask(&c, &r, NUMBERS_OF, "tunn.v1.UdpPacket");
	caller_run(&c);
	Answer *a = heard(&r);
	assert_non_null(a->all_extension_numbers_response);
	assert_int_equal(a->all_extension_numbers_response->n_extension_number, 0);
	forget(a);
	assert_non_null(r.stream);
	rpc_done(&r);
	caller_close(&c);
}

static void G21_a_symbol_of_64_KiB_or_no_utf8_is_invalid_argument(void **state)
{
	static uint8_t m[65536 + 8], name[65536];
	struct caller c;
	struct rpc r;

	(void)state;
	memset(name, 'a', sizeof name);
	caller_open(&c, true);
	rpc_unary(&c, &r, V1, m, field(m, BY_SYMBOL, name, sizeof name));
	assert_string_equal(r.status, "3");
	assert_int_equal(buf_len(&r.body), 0);
	rpc_unary(&c, &r, V1, m, field(m, HOST, name, 1025));
	assert_string_equal(r.status, "3");
	rpc_unary(&c, &r, V1, m, field(m, BY_FILE, "\xc3\x28", 2));
	assert_string_equal(r.status, "3");
	rpc_unary(&c, &r, V1, m, field(m, BY_FILE, name, 1024));
	assert_string_equal(r.status, "0");
	rpc_done(&r);
	caller_close(&c);
}

/* How many of n requests in one go were answered. */
static unsigned answered(struct caller *c, struct rpc *r, unsigned n)
{
	unsigned got = 0;
	size_t len;

	for (unsigned i = 0; i < n && r->stream; i++) {
		ask(c, r, BY_SYMBOL, "no.such.symbol");
		caller_run(c);
		while (rpc_heard(r, &len))
			got++;
	}
	return got;
}

static void G21_requests_are_rate_limited_on_the_whole_connection(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	assert_int_equal(answered(&c, &r, 100000), 500);
	assert_string_equal(r.status, "8");
	rpc_done(&r);
	rpc_start(&c, &r, ALPHA); /* another stream has no other budget */
	assert_int_equal(answered(&c, &r, 10), 0);
	assert_string_equal(r.status, "8");
	c.now_ms += 1000;
	rpc_start(&c, &r, ALPHA);
	assert_int_equal(answered(&c, &r, 1000), 50);
	assert_int_equal(c.rc, 0);
	rpc_done(&r);
	caller_close(&c);
}

static void G21_answers_that_nobody_reads_end_the_stream(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	c.withheld = true;
	rpc_start(&c, &r, V1);
	for (int i = 0; i < 200 && r.stream; i++) {
		ask(&c, &r, BY_FILE, "tunn.proto");
		caller_run(&c);
	}
	assert_null(r.stream);
	assert_int_equal(r.code, H2_ENHANCE_YOUR_CALM);
	assert_int_equal(c.rc, 0);
	rpc_done(&r);
	caller_close(&c);
}

static void requests_may_be_cut_anywhere_and_be_anything(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	for (size_t chunk = 1; chunk < 12; chunk++) {
		caller_open(&c, true);
		c.chunk = chunk;
		rpc_start(&c, &r, V1);
		ask(&c, &r, BY_SYMBOL, "tunn.v1.Notice");
		ask(&c, &r, BY_FILE, "health.proto");
		caller_run(&c);
		assert_file(&r, "tunn.proto");
		assert_file(&r, "health.proto");
		rpc_done(&r);
		rpc_unary(&c, &r, V1, "\x22\x7f", 2); /* longer than the message */
		assert_string_equal(r.status, "13");
		caller_close(&c);
	}
}

static void a_stream_that_asks_nothing_does_not_stay(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	caller_run(&c);
	caller_tick(&c, 10001);
	assert_string_equal(r.status, "4");
	caller_close(&c);
}

static void the_table_is_sorted_and_names_each_file(void **state)
{
	unsigned files[DESCRIPTOR_FILES_MAX];

	(void)state;
	for (unsigned i = 1; i < descriptor_n_symbols; i++)
		assert_true(strcmp(descriptor_symbols[i - 1].name, descriptor_symbols[i].name) < 0);
	for (unsigned i = 0; i < descriptor_n_symbols; i++) {
		const struct descriptor_symbol *s = &descriptor_symbols[i];
		assert_ptr_equal(descriptor_symbol_named(str_of(s->name)), s);
		assert_true(s->file < descriptor_n_files);
	}
	for (unsigned i = 0; i < descriptor_n_files; i++) {
		assert_int_equal(descriptor_file_named(str_of(descriptor_files[i].name)), i);
		assert_true(descriptor_closure(i, files) >= 1);
		assert_int_equal(files[0], i);
	}
}

static int start(void **state)
{
	(void)state;
	return crypto_start();
}

/* Every message is whole within a second, but no chunk ends where one does. */
static void a_stream_of_messages_cut_anywhere_is_never_late(void **state)
{
	uint8_t m[GRPC_PREFIX_LEN + 100];
	struct caller c;
	struct rpc r;

	(void)state;
	size_t n = field(m + GRPC_PREFIX_LEN, SERVICES, "*", 1);
	grpc_put_prefix(m, (uint32_t)n);
	n += GRPC_PREFIX_LEN;
	caller_open(&c, true);
	rpc_start(&c, &r, V1);
	rpc_say_bytes(&c, &r, m, 1);
	for (uint32_t ms = 0; ms < 3 * limits_default.message_ms; ms += 1000) {
		caller_tick(&c, 1000);
		rpc_say_bytes(&c, &r, m + 1, n - 1);
		rpc_say_bytes(&c, &r, m, 1);
		caller_run(&c);
	}
	assert_int_equal(c.rc, 0);
	assert_string_equal(r.status, "");
	rpc_cancel(&c, &r);
	caller_run(&c);
	rpc_done(&r);
	caller_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_being_asked_for_it_is_unimplemented),
		cmocka_unit_test(both_versions_list_what_is_served),
		cmocka_unit_test(names_of_every_kind_lead_to_their_file),
		cmocka_unit_test(the_question_is_said_again_in_the_answer),
		cmocka_unit_test(G21_what_is_unknown_is_an_entry_and_the_stream_goes_on),
		cmocka_unit_test(G21_a_symbol_of_64_KiB_or_no_utf8_is_invalid_argument),
		cmocka_unit_test(G21_requests_are_rate_limited_on_the_whole_connection),
		cmocka_unit_test(G21_answers_that_nobody_reads_end_the_stream),
		cmocka_unit_test(requests_may_be_cut_anywhere_and_be_anything),
		cmocka_unit_test(a_stream_that_asks_nothing_does_not_stay),
		cmocka_unit_test(the_table_is_sorted_and_names_each_file),
		cmocka_unit_test(a_stream_of_messages_cut_anywhere_is_never_late),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
