#include "tests/unit/net/certs.h"
#include "tests/unit/net/names.h"
#include "tests/unit/until.h"

#include "tests/unit/net/httpd.h"

#include "client/region_probe.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/net/udp.h"
#include "common/wire/stun.h"

enum { SERVERS = 2, LATE_MS = 60 };

static struct stun_server { /* answers after late_ms */
	struct udp *udp;
	struct timer *timer;
	unsigned late_ms, n_asked;
	struct addr from;
	uint8_t txid[STUN_TXID_LEN];
} servers[SERVERS];

static struct derp_map map;
static struct regions regions;
static struct region_probe *probe;
static struct region_probe_conf conf;
static enum region_probe_way way;
static unsigned n_done;
static bool frees;
static char words[DERP_MAP_ERROR_LEN], pin[2 * TLS_PIN_LEN + 1];

static void reply(void *arg)
{
	const struct stun_addr seen = { .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
	uint8_t answer[STUN_ANSWER_MAX];
	struct stun_server *s = arg;
	size_t len = stun_write_answer(s->txid, &seen, answer);
	struct pkt *p = pkt_new(len);

	if (!p)
		return;
	memcpy(p->data, answer, len);
	udp_queue(s->udp, &s->from, p);
}

static void on_asked(void *owner, const struct addr *from, struct pkt *p)
{
	struct stun_server *s = owner;

	if (s->n_asked++ == 0) {
		assert_int_equal(stun_read_request(p->data, p->len, s->txid), 0);
		s->from = *from;
		timer_set(s->timer, s->late_ms);
	}
	pkt_free(p);
}

static uint16_t stun_port(unsigned i) { return addr_port(udp_local(servers[i].udp)); }

static void on_done(void *arg, enum region_probe_way w)
{
	assert_ptr_equal(arg, &n_done);
	n_done++;
	way = w;
	if (frees) {
		region_probe_free(probe);
		probe = NULL;
	}
}

static bool done(void) { return n_done > 0; }
static bool both_asked(void) { return servers[0].n_asked && servers[1].n_asked; }
static bool https_asked(void) { return httpd.n_requests > 0; }

static int set_up(void **state)
{
	struct addr local;

	(void)state;
	loop_set_up();
	httpd_start("127.0.0.1");
	names_set_up();
	addr_of_ip("127.0.0.1", 0, &local);
	for (unsigned i = 0; i < SERVERS; i++) {
		servers[i] = (struct stun_server){ .timer = timer_new(loop, reply, &servers[i]) };
		if (udp_open(loop, &local, on_asked, &servers[i], &servers[i].udp) < 0)
			return -1;
	}
	conf = (struct region_probe_conf){ .ca_file = certs_cert, .proxy = "none" };
	n_done = 0;
	frees = false;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	region_probe_free(probe);
	probe = NULL;
	regions_done(&regions);
	derp_map_done(&map);
	for (unsigned i = 0; i < SERVERS; i++) {
		udp_close(servers[i].udp);
		timer_free(servers[i].timer);
	}
	tls_ctx_unref(httpd.tls);
	httpd_stop();
	loop_tear_down();
	conn_thread_done();
	return 0;
}

/* Members of the one node of each region: 1 to n. */
static void choose(const char *const *nodes, unsigned n)
{
	char text[4000];
	size_t len = (size_t)snprintf(text, sizeof text, "{\"Regions\":{");

	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof text - len,
		                        "%s\"%u\":{\"RegionCode\":\"r%u\",\"Nodes\":[{%s}]}",
		                        i ? "," : "", i + 1, i + 1, nodes[i]);
	snprintf(text + len, sizeof text - len, "}}");
	if (derp_map_parse(str_of(text), &map, words) < 0 ||
	    regions_init(&regions, &map, NULL, words) < 0)
		fail_msg("%s", words);
}

static void start(void)
{
	assert_int_equal(region_probe_start(loop, &conf, &regions, on_done, &n_done, &probe), 0);
	assert_int_equal(n_done, 0);
}

static const char *stun_node(unsigned server, const char *more)
{
	static char text[SERVERS][300];

	snprintf(text[server], sizeof text[server], "\"STUNPort\":%u,%s", stun_port(server), more);
	return text[server];
}

static const char *https_node(unsigned i, const char *more)
{
	static char text[3][300];

	snprintf(text[i], sizeof text[i],
	         "\"STUNPort\":-1,\"DERPPort\":%u,\"IPv4\":\"127.0.0.1\",\"IPv6\":\"none\",%s",
	         httpd.port, more);
	return text[i];
}

static int64_t best(void) { return regions.v[0].region->id; }
static uint32_t latency(unsigned i) { return regions.v[i].latency_ms; }

#define FIXED "\"HostName\":\"near.test\",\"IPv4\":\"127.0.0.1\",\"IPv6\":\"none\""
#define NAMED "\"HostName\":\"near.test\",\"IPv6\":\"none\""

static void the_region_that_answers_stun_first_is_first(void **state)
{
	const char *const nodes[] = { stun_node(0, FIXED), stun_node(1, FIXED) };

	(void)state;
	choose(nodes, 2);
	servers[0].late_ms = LATE_MS;
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_STUN);
	assert_int_equal(best(), 2);
	assert_in_range(latency(1), LATE_MS - 5, LATE_MS + 2000);
	assert_true(latency(0) < latency(1));
	assert_int_equal(httpd.n_accepted, 0); /* nobody is asked by HTTPS then */
}

static void names_of_stun_servers_are_resolved(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };
	const char *const nodes[] = { "\"HostName\":\"far.test\",\"STUNPort\":-1",
		                      stun_node(1, NAMED) };

	(void)state;
	names_are(ips);
	choose(nodes, 2);
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_STUN);
	assert_int_equal(best(), 2);
	assert_int_equal(latency(1), REGION_UNKNOWN);
}

static void a_name_server_that_does_not_answer_does_not_hold_up_the_others(void **state)
{
	const char *const nodes[] = { stun_node(0, NAMED), stun_node(1, FIXED) };

	(void)state;
	names_hold = true;
	choose(nodes, 2);
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_STUN);
	assert_int_equal(best(), 2);
	sem_post(&names_go);
	sem_wait(&names_answered);
}

static void where_no_stun_answers_https_is_asked(void **state)
{
	const char *const nodes[] = { https_node(0, "\"HostName\":\"other.test\""),
		                      https_node(1, "\"HostName\":\"relay.test\"") };

	(void)state;
	choose(nodes, 2);
	httpd.tls = certs_server(NULL);
	httpd.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_HTTPS);
	assert_int_equal(best(), 2); /* the first has no certificate for its name */
	assert_true(latency(0) != REGION_UNKNOWN && latency(1) == REGION_UNKNOWN);
	assert_ptr_equal(strstr(httpd.request, "GET /derp/latency-check HTTP/1.1\r\n"),
	                 httpd.request);
	assert_int_equal(httpd.n_requests, 1);
}

static void a_node_is_who_its_map_says(void **state)
{
	char pinned[200];

	(void)state;
	httpd.tls = certs_server(NULL);
	httpd.answer = "HTTP/1.1 204 No Content\r\n\r\n";
	uint8_t hash[TLS_PIN_LEN];
	assert_int_equal(tls_leaf_raw_sha256(httpd.tls, hash), 0);
	hex_encode(hash, sizeof hash, pin);
	snprintf(pinned, sizeof pinned, "\"HostName\":\"192.0.2.5\",\"CertName\":\"sha256-raw:%s\"",
	         pin);
	const char *const nodes[] = {
		https_node(0, "\"HostName\":\"relay.test\",\"CertName\":\"other.test\""),
		https_node(1, pinned),
		https_node(2, "\"HostName\":\"front.test\",\"CertName\":\"relay.test\""),
	};
	choose(nodes, 3);
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_HTTPS);
	assert_int_equal(httpd.n_requests, 2);
	assert_int_equal(regions.v[2].region->id, 1);
	assert_int_equal(latency(2), REGION_UNKNOWN);
}

static void an_answer_that_is_no_success_does_not_count(void **state)
{
	const char *const nodes[] = { https_node(0, "\"HostName\":\"relay.test\"") };

	(void)state;
	choose(nodes, 1);
	httpd.tls = certs_server(NULL);
	httpd.answer = "HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n";
	start();
	until(done);
	assert_int_equal(httpd.n_requests, 1);
	assert_int_equal(way, REGION_PROBE_NONE);
}

static void when_nobody_answers_the_maps_order_holds(void **state)
{
	const char *const nodes[] = {
		"\"HostName\":\"a.test\",\"IPv4\":\"none\",\"IPv6\":\"none\"",
		"\"HostName\":\"b.test\"", /* does not exist */
	};

	(void)state;
	choose(nodes, 2);
	start();
	until(done);
	assert_int_equal(way, REGION_PROBE_NONE);
	assert_int_equal(best(), 1);
	assert_int_equal(latency(0), REGION_UNKNOWN);
}

static void it_may_be_freed_at_any_time(void **state)
{
	const char *const stun[] = { stun_node(0, FIXED), stun_node(1, FIXED) };
	const char *const https[] = { https_node(0, "\"HostName\":\"relay.test\"") };

	(void)state;
	choose(stun, 2);
	servers[0].late_ms = servers[1].late_ms = UNTIL_LIMIT_MS;
	start();
	until(both_asked);
	region_probe_free(probe);
	regions_done(&regions);
	derp_map_done(&map);
	choose(https, 1);
	httpd.tls = certs_server(NULL);
	start();
	until(https_asked);
	region_probe_free(probe);
	regions_done(&regions);
	derp_map_done(&map);
	const char *const named[] = { stun_node(0, NAMED) };
	choose(named, 1);
	start();
	region_probe_free(probe);
	assert_int_equal(n_done, 0);
	frees = true; /* in done */
	start();
	until(done);
	assert_null(probe);
	region_probe_free(NULL);
}

static int make_certs(void **state)
{
	json_start();
	return crypto_start() < 0 || tls_start() < 0 ? -1 : certs_make(state);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_region_that_answers_stun_first_is_first),
		T(names_of_stun_servers_are_resolved),
		T(a_name_server_that_does_not_answer_does_not_hold_up_the_others),
		T(where_no_stun_answers_https_is_asked),
		T(a_node_is_who_its_map_says),
		T(an_answer_that_is_no_success_does_not_count),
		T(when_nobody_answers_the_maps_order_holds),
		T(it_may_be_freed_at_any_time),
	};
	return cmocka_run_group_tests(tests, make_certs, NULL);
}
