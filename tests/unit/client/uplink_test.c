/*
 * The uplink against a loop, a dialler, a link and a kernel of our own, with a
 * clock that stands still until it is told to go on.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "client/path.h"
#include "client/retry.h"
#include "client/uplink.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/net/udp.h"

/* -- loop */

enum { TIMERS_MAX = 16 };
struct timer {
	void (*cb)(void *arg);
	void *arg;
	bool set;
	uint64_t due_ms;
};
static struct timer *timers[TIMERS_MAX];
static uint64_t now_ms;

uint64_t loop_now_ms(const struct loop *l) { return (void)l, now_ms; }

struct timer *timer_new(struct loop *l, void (*cb)(void *arg), void *arg)
{
	struct timer *t = calloc(1, sizeof *t);

	(void)l;
	if (!t)
		return NULL;
	t->cb = cb;
	t->arg = arg;
	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		if (!timers[i]) {
			timers[i] = t;
			break;
		}
	}
	return t;
}

void timer_set(struct timer *t, uint64_t delay_ms)
{
	t->set = true;
	t->due_ms = now_ms + delay_ms;
}

void timer_clear(struct timer *t) { t->set = false; }
bool timer_is_set(const struct timer *t) { return t->set; }

void timer_free(struct timer *t)
{
	for (unsigned i = 0; i < TIMERS_MAX; i++)
		if (timers[i] == t)
			timers[i] = NULL;
	free(t);
}

static struct timer *next_due(uint64_t until_ms)
{
	struct timer *next = NULL;

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		struct timer *t = timers[i];
		if (t && t->set && t->due_ms <= until_ms && (!next || t->due_ms < next->due_ms))
			next = t;
	}
	return next;
}

static void pass(uint64_t ms)
{
	uint64_t until_ms = now_ms + ms;

	for (struct timer *t; (t = next_due(until_ms));) {
		if (t->due_ms > now_ms)
			now_ms = t->due_ms;
		t->set = false;
		t->cb(t->arg);
	}
	now_ms = until_ms;
}

/* -- dialler */

struct dialler {
	const struct dial_events *events;
	void *owner;
	bool running;
	char device[ROUTE_DEVICE_LEN];
};
static struct dialler dialler;
static unsigned n_dials, n_good, n_doubted, dial_ms;

struct dialler *dialler_new(struct loop *l, const struct dial_conf *c, const struct dial_events *e,
                            void *owner)
{
	(void)l, (void)c;
	dialler = (struct dialler){ .events = e, .owner = owner };
	return &dialler;
}
void dialler_start(struct dialler *d, uint32_t timeout_ms)
{
	dial_ms = timeout_ms;
	d->running = true;
	n_dials++;
}
void dialler_stop(struct dialler *d) { d->running = false; }
void dialler_free(struct dialler *d) { (void)d; }
void dialler_judge(struct dialler *d, bool is_good) { (void)d, is_good ? n_good++ : n_doubted++; }
void dialler_set_device(struct dialler *d, const char *device) { strcpy(d->device, device); }

/* -- link */

struct links {
	int unused;
};
struct link {
	bool used, closed;
	enum close_why why;
	unsigned probes, sent;
	struct key last_dst;
	char id[64];
	bool lane_ended;
	uint32_t beat_ms;
};
static struct links links;
static struct link link_of[64];
static unsigned n_links;
static const struct link_events *le;
static void *le_owner;
static struct addr own_address;

struct links *links_new(struct loop *l) { return (void)l, &links; }
void links_free(struct links *l) { (void)l; }
int link_open(struct links *l, const struct link_conf *c, const struct link_events *e, void *owner,
              struct link **link_out)
{
	(void)l;
	assert_int_equal(c->side, SIDE_CLIENT);
	le = e;
	le_owner = owner;
	*link_out = &link_of[n_links];
	link_of[n_links++] = (struct link){ .used = true, .beat_ms = c->transport.beat_ms };
	return 0;
}
void link_close(struct link *k, enum close_why why)
{
	k->closed = true;
	k->why = why;
}
void link_probe(struct link *k, uint32_t within_ms)
{
	assert_int_equal(within_ms, 2000);
	k->probes++;
}
const struct addr *link_peer(const struct link *k) { return (void)k, &own_address; }
const struct addr *link_local(const struct link *k) { return (void)k, &own_address; }
int link_dial(struct link *k, const struct hello *h, struct lane **lane_out)
{
	memcpy(k->id, h->id.p, h->id.len);
	k->id[h->id.len] = 0;
	*lane_out = (struct lane *)(void *)k;
	return 0;
}
void link_send(struct lane *lane, struct pkt *p)
{
	struct link *k = (struct link *)(void *)lane;

	k->sent++;
	k->last_dst = p->dst;
	pkt_free(p);
}
void lane_end(struct lane *lane, enum close_why why, const char *text)
{
	(void)why, (void)text;
	((struct link *)(void *)lane)->lane_ended = true;
}

/* -- kernel */

static struct route_info route, way_past;
static bool is_device_gone, is_address_gone;
static void (*route_changed)(void *owner);
static void *route_owner;

int route_watch_open(struct loop *l, void (*changed)(void *owner), void *owner,
                     struct route_watch **watch_out)
{
	(void)l;
	route_changed = changed;
	route_owner = owner;
	*watch_out = NULL;
	return 0;
}
void route_watch_close(struct route_watch *w) { (void)w; }
int route_lookup(const struct addr *dst, uint32_t fwmark, struct route_info *info_out)
{
	(void)dst;
	*info_out = fwmark ? way_past : route;
	return 0;
}
int route_device(const char *name, struct route_info *info_out)
{
	(void)name, (void)info_out;
	return is_device_gone ? -ENODEV : 0;
}
int udp_open(struct loop *l, const struct addr *local,
             void (*on_packet)(void *owner, const struct addr *from, struct pkt *), void *owner,
             struct udp **udp_out)
{
	(void)l, (void)local, (void)on_packet, (void)owner;
	*udp_out = NULL;
	return is_address_gone ? -EADDRNOTAVAIL : 0;
}
void udp_close(struct udp *u) { (void)u; }

static struct route_info device(const char *name, bool is_tunnel)
{
	struct route_info r = { .if_index = 1, .is_tunnel = is_tunnel };

	strcpy(r.device, name);
	return r;
}

/* -- the owner */

static struct uplink *uplink;
static struct way ways[2];
static struct uplink_conf conf;
static const struct str peer_names[] = { { "a", 1 }, { "b", 1 } };
static const struct key keys[2] = { { { 1 } }, { { 2 } } };
static unsigned n_ready, n_lost, n_over, n_packets, n_peer_events, n_held, last_peer;
static unsigned n_turned;
static const struct way *turned_from;
static enum close_why last_why;
static uint32_t last_delay;
static int exit_code;
static char last_id[64];

static void on_ready(void *owner, unsigned n, const struct welcome *w, struct str id)
{
	(void)owner, (void)w;
	n_ready = n;
	snprintf(last_id, sizeof last_id, "%.*s", (int)id.len, id.p);
}
static void on_packet(void *owner, unsigned peer, struct pkt *p)
{
	(void)owner;
	n_packets++;
	last_peer = peer;
	pkt_free(p);
}
static void on_peer(void *owner, unsigned peer, const struct peer_status *s)
{
	(void)owner, (void)s;
	n_peer_events++;
	last_peer = peer;
}
static void on_notice(void *owner, const struct notice *n) { (void)owner, (void)n; }
static void on_lost(void *owner, enum close_why why, const char *text, uint32_t delay_ms)
{
	(void)owner, (void)text;
	n_lost++;
	last_why = why;
	last_delay = delay_ms;
}
static void on_held(void *owner, const char *dev, const char *tunnel)
{
	(void)owner, (void)dev, (void)tunnel;
	n_held++;
}
static void on_over(void *owner, int code, enum close_why why, const char *text)
{
	(void)owner, (void)text;
	n_over++;
	exit_code = code;
	last_why = why;
}
static void on_turned(void *owner, const struct way *way, enum close_why why, const char *text)
{
	(void)owner, (void)text;
	n_turned++;
	turned_from = way;
	last_why = why;
}
static const struct uplink_events events = {
	.ready = on_ready,
	.packet = on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.lost = on_lost,
	.turned = on_turned,
	.held = on_held,
	.over = on_over,
};

static int setup(void **state)
{
	(void)state;
	now_ms = 1000000;
	n_dials = n_links = n_ready = n_lost = n_over = n_packets = n_peer_events = n_held =
	                n_turned = 0;
	is_device_gone = is_address_gone = false;
	route = device("eth0", false);
	way_past = device("wg0", true);
	own_address.len = sizeof(struct sockaddr_in);
	own_address.ss.ss_family = AF_INET;
	ways[0] = (struct way){ .dial = { .host = "relay.example", .port = 443 } };
	conf = (struct uplink_conf){
		.ways = ways,
		.n_ways = 1,
		.hello = { .id = STR("me"), .n_peers = 2, .peers = peer_names }
	};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	uplink_free(uplink);
	uplink = NULL;
	return 0;
}

static void start(void)
{
	uplink = uplink_new((struct loop *)(void *)&now_ms, &conf, &events, NULL);
	assert_non_null(uplink);
	uplink_start(uplink);
	assert_int_equal(uplink_state(uplink), UPLINK_DIALING);
}

static struct link *current(void) { return &link_of[n_links - 1]; }
static struct lane *lane(void) { return (struct lane *)(void *)current(); }

static void dial_fails(void)
{
	assert_true(dialler.running);
	dialler.running = false;
	dialler.events->failed(dialler.owner, CLOSE_NETWORK, "refused");
}

static void tcp_works(void)
{
	assert_true(dialler.running);
	dialler.running = false;
	dialler.events->connected(dialler.owner, -1, &own_address, NULL, 0);
	assert_int_equal(uplink_state(uplink), UPLINK_SECURING);
}

static void tcp_and_tls_work(void)
{
	tcp_works();
	le->up(le_owner, current());
	assert_int_equal(uplink_state(uplink), UPLINK_GREETING);
}

static void relay_accepts(void)
{
	struct welcome w = { .n_peers = 2, .peer_keys = keys };

	le->ready(le_owner, lane(), &w);
}

static void connect_all(void)
{
	tcp_and_tls_work();
	relay_accepts();
	assert_int_equal(uplink_state(uplink), UPLINK_READY);
}

static struct pkt *packet(void)
{
	struct pkt *p = pkt_new(4);

	assert_non_null(p);
	p->born_ms = now_ms;
	memset(&p->src, 0, sizeof p->src);
	return p;
}

/* -- tests */

static void datagrams_travel_when_ready(void **state)
{
	(void)state;
	start();
	connect_all();
	assert_int_equal(n_ready, 1);
	assert_string_equal(last_id, "me");
	uplink_send(uplink, 1, packet());
	assert_int_equal(current()->sent, 1);
	assert_true(key_eq(&current()->last_dst, &keys[1]));
	struct pkt *p = packet();
	p->src = keys[1];
	le->packet(le_owner, lane(), p);
	assert_int_equal(n_packets, 1);
	assert_int_equal(last_peer, 1);
	le->packet(le_owner, lane(), packet()); /* from nobody we named */
	assert_int_equal(n_packets, 1);
	struct peer_status s = { .key = keys[1], .state = PEER_UP };
	le->peer(le_owner, lane(), &s);
	assert_int_equal(n_peer_events, 1);
}

static void young_datagrams_wait_for_the_link_and_old_ones_do_not(void **state)
{
	(void)state;
	start();
	uplink_send(uplink, 0, packet());
	pass(200);
	uplink_send(uplink, 1, packet());
	tcp_and_tls_work();
	pass(100);
	relay_accepts();
	assert_int_equal(current()->sent, 1);
	assert_true(key_eq(&current()->last_dst, &keys[1]));
}

static void failures_back_off_and_readiness_resets(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 12; i++) {
		dial_fails();
		assert_int_equal(uplink_state(uplink), UPLINK_WAITING);
		pass(last_delay);
		assert_int_equal(n_dials, i + 2);
	}
	assert_in_range(last_delay, 8000, 12000);
	connect_all();
	pass(RETRY_STEADY_MS);
	le->closed(le_owner, current(), CLOSE_RESET, "");
	assert_int_equal(last_why, CLOSE_RESET);
	assert_in_range(last_delay, 160, 240);
}

static void a_relay_that_ends_us_at_once_is_asked_less_and_less(void **state)
{
	static const enum close_why whys[] = { CLOSE_DRAINING, CLOSE_RESET, CLOSE_DONE };

	(void)state;
	start();
	for (unsigned i = 0; i < 12; i++) {
		connect_all();
		pass(RETRY_STEADY_MS - 1);
		le->ended(le_owner, lane(), whys[i % 3], "");
		pass(last_delay);
	}
	assert_in_range(last_delay, 8000, 12000);
}

static void an_address_that_was_no_relay_is_doubted(void **state)
{
	(void)state;
	n_good = n_doubted = 0;
	start();
	dial_fails();
	assert_int_equal(n_doubted, 0); /* the dialler knows that itself */
	pass(last_delay);
	tcp_and_tls_work();
	le->closed(le_owner, current(), CLOSE_SLOW_START, "no answer");
	assert_int_equal(n_doubted, 1);
	pass(last_delay);
	connect_all();
	assert_int_equal(n_good, 1);
	le->closed(le_owner, current(), CLOSE_RESET, "");
	assert_int_equal(n_doubted, 1);
}

static void G27_signs_of_life_are_rarer_on_the_connections_to_come(void **state)
{
	struct notice n = { .kind = NOTICE_TOO_MANY_PINGS, .beat_ms = 30000 };

	(void)state;
	start();
	connect_all();
	assert_int_equal(current()->beat_ms, 0);
	le->notice(le_owner, lane(), &n);
	le->closed(le_owner, current(), CLOSE_EOF, "");
	pass(last_delay);
	connect_all();
	assert_int_equal(current()->beat_ms, 30000);
}

static void tls_success_alone_does_not_reset_the_backoff(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 12; i++) {
		tcp_and_tls_work();
		le->ended(le_owner, lane(), CLOSE_UNAVAILABLE, "");
		assert_true(current()->closed);
		pass(last_delay);
	}
	assert_in_range(last_delay, 8000, 12000);
}

static void a_refusal_for_good_ends_it(void **state)
{
	(void)state;
	start();
	tcp_and_tls_work();
	le->ended(le_owner, lane(), CLOSE_UNAUTHENTICATED, "no such token");
	assert_int_equal(n_over, 1);
	assert_int_equal(exit_code, EXIT_REFUSED);
	assert_int_equal(n_lost, 0);
	pass(100000);
	assert_int_equal(n_dials, 1);
}

static void once_gives_up_after_the_first_failure(void **state)
{
	(void)state;
	conf.once = true;
	start();
	dial_fails();
	assert_int_equal(exit_code, EXIT_UNREACHABLE);
}

static void once_keeps_a_connection_that_had_worked(void **state)
{
	(void)state;
	conf.once = true;
	start();
	connect_all();
	le->closed(le_owner, current(), CLOSE_EOF, "");
	assert_int_equal(n_over, 0);
	pass(300);
	assert_int_equal(n_dials, 2);
}

static void the_host_names_itself_when_the_token_does_not(void **state)
{
	(void)state;
	conf.hello.id = STR("");
	conf.fallback_id = STR("laptop");
	start();
	tcp_and_tls_work();
	assert_string_equal(current()->id, "");
	le->ended(le_owner, lane(), CLOSE_INVALID, "id needed: the token is bound to none");
	assert_int_equal(n_lost, 0);
	pass(0);
	connect_all();
	assert_string_equal(current()->id, "laptop");
	assert_string_equal(last_id, "laptop");
}

static void another_invalid_field_is_final(void **state)
{
	(void)state;
	conf.hello.id = STR("");
	conf.fallback_id = STR("laptop");
	start();
	tcp_and_tls_work();
	le->ended(le_owner, lane(), CLOSE_INVALID, "peer");
	assert_int_equal(exit_code, EXIT_REFUSED);
}

static void quota_waits_until_its_reset_whatever_the_network_does(void **state)
{
	struct notice n = { .kind = NOTICE_QUOTA, .percent = 100 };

	(void)state;
	start();
	connect_all();
	n.resets_unix_s = clock_unix_ms() / 1000 + 600;
	le->notice(le_owner, lane(), &n);
	le->ended(le_owner, lane(), CLOSE_QUOTA, "");
	assert_in_range(last_delay, 598000, 661000);
	pass(5000);
	route_changed(route_owner);
	pass(590000);
	assert_int_equal(n_dials, 1);
	pass(70000);
	assert_int_equal(n_dials, 2);
}

static void a_draining_relay_is_left_in_time(void **state)
{
	struct notice n = { .kind = NOTICE_DRAINING, .within_ms = 5000 };

	(void)state;
	start();
	connect_all();
	pass(RETRY_STEADY_MS);
	le->notice(le_owner, lane(), &n);
	pass(1000);
	n.within_ms = 60000;
	le->notice(le_owner, lane(), &n);
	pass(1499);
	uplink_send(uplink, 0, packet());
	assert_int_equal(current()->sent, 1);
	pass(1);
	assert_true(current()->closed);
	assert_in_range(last_delay, 0, 200);
	pass(200);
	assert_int_equal(n_dials, 2);
	connect_all();
	pass(10000);
	assert_false(current()->closed);
}

static void a_new_network_is_tried_at_once_but_not_too_often(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 12; i++) {
		dial_fails();
		pass(last_delay);
	}
	dial_fails();
	assert_true(last_delay > 7000);
	unsigned n = n_dials;
	pass(2000);
	route_changed(route_owner);
	pass(0);
	assert_int_equal(n_dials, n + 1);
	dial_fails();
	assert_in_range(last_delay, 160, 240); /* the backoff began anew */
	pass(last_delay);
	dial_fails();
	n = n_dials;
	for (int i = 0; i < 30; i++) {
		route_changed(route_owner);
		pass(100);
		if (dialler.running)
			dial_fails();
	}
	assert_in_range(n_dials - n, 3, 16);
}

static void a_living_connection_is_probed_on_change(void **state)
{
	(void)state;
	start();
	connect_all();
	pass(5000);
	route_changed(route_owner);
	assert_int_equal(current()->probes, 1);
	route_changed(route_owner);
	assert_int_equal(current()->probes, 1);
	pass(2000);
	assert_int_equal(current()->probes, 2); /* the second change was not forgotten */
	assert_int_equal(n_links, 1);
	assert_false(current()->closed);
}

static void a_lost_own_address_reconnects_at_once(void **state)
{
	(void)state;
	start();
	connect_all();
	is_address_gone = true;
	route_changed(route_owner);
	assert_true(link_of[0].closed);
	assert_int_equal(last_delay, 0);
	pass(0);
	assert_int_equal(n_dials, 2);
}

static void late_events_of_an_old_link_are_nothing(void **state)
{
	(void)state;
	start();
	connect_all();
	is_address_gone = true;
	route_changed(route_owner);
	is_address_gone = false;
	pass(0);
	le->closed(le_owner, &link_of[0], CLOSE_LOCAL, "");
	assert_int_equal(uplink_state(uplink), UPLINK_DIALING);
	connect_all();
	assert_int_equal(n_links, 2);
	le->packet(le_owner, (struct lane *)(void *)&link_of[0], packet());
	le->ended(le_owner, (struct lane *)(void *)&link_of[0], CLOSE_SUPERSEDED, "");
	assert_int_equal(uplink_state(uplink), UPLINK_READY);
	assert_int_equal(n_packets, 0);
}

static void after_a_sleep_the_connection_is_probed(void **state)
{
	(void)state;
	start();
	connect_all();
	pass(10000);
	assert_int_equal(current()->probes, 0);
	now_ms += 3600000; /* the timers slept too */
	pass(1000);
	assert_int_equal(current()->probes, 1);
}

static void after_a_sleep_an_attempt_begins_anew(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 12; i++) {
		dial_fails();
		pass(last_delay);
	}
	unsigned n = n_dials;
	now_ms += 3600000;
	pass(0);
	pass(0);
	assert_int_equal(n_dials, n + 1);
	dial_fails();
	assert_in_range(last_delay, 160, 240);
}

static void a_tunnel_that_takes_the_route_is_passed_by(void **state)
{
	(void)state;
	start();
	connect_all();
	pass(2000);
	route = device("wg0", true);
	route_changed(route_owner);
	assert_int_equal(n_held, 1);
	assert_string_equal(dialler.device, "eth0");
	assert_true(link_of[0].closed);
	pass(0);
	connect_all();
	route_changed(route_owner);
	pass(3000);
	assert_int_equal(n_held, 1);
	assert_int_equal(n_links, 2);

	route = device("eth0", false); /* wg-quick down */
	route_changed(route_owner);
	assert_string_equal(dialler.device, "");
	assert_false(current()->closed);
}

static void a_rule_that_comes_late_is_noticed(void **state)
{
	(void)state;
	start();
	connect_all();
	pass(2000);
	route_changed(route_owner);
	route = device("wg0", true);
	pass(2000);
	assert_int_equal(n_held, 1);
}

static void a_tunnel_that_carried_us_from_the_start_is_kept(void **state)
{
	(void)state;
	route = device("tun0", true);
	start();
	connect_all();
	route_changed(route_owner);
	pass(2000);
	assert_int_equal(n_held, 0);
}

static void when_the_held_device_goes_another_is_found(void **state)
{
	(void)state;
	start();
	connect_all();
	route = device("wg0", true);
	route_changed(route_owner);
	pass(0);
	connect_all();
	is_device_gone = true;
	way_past = device("wlan0", false);
	route_changed(route_owner);
	assert_string_equal(dialler.device, "wlan0");
	assert_int_equal(n_held, 2);
}

static void a_chosen_device_is_the_users_business(void **state)
{
	(void)state;
	ways[0].dial.bind_device = "eth0";
	start();
	connect_all();
	route = device("wg0", true);
	route_changed(route_owner);
	assert_int_equal(n_held, 0);
}

static void closing_says_goodbye_first(void **state)
{
	(void)state;
	start();
	connect_all();
	uplink_close(uplink);
	assert_true(current()->lane_ended);
	assert_true(current()->closed);
	assert_int_equal(n_over, 0);
	le->closed(le_owner, current(), CLOSE_LOCAL, "");
	assert_int_equal(n_over, 1);
	assert_int_equal(exit_code, 0);
	uplink_send(uplink, 0, packet());
	uplink_close(uplink);
	assert_int_equal(n_over, 1);
}

static void closing_while_dialling_is_over_at_once(void **state)
{
	(void)state;
	start();
	uplink_close(uplink);
	assert_int_equal(n_over, 1);
	assert_false(dialler.running);
	pass(60000);
	assert_int_equal(n_dials, 1);
}

static void an_answer_for_other_peers_is_refused(void **state)
{
	struct welcome w = { .n_peers = 1, .peer_keys = keys };

	(void)state;
	start();
	tcp_and_tls_work();
	le->ready(le_owner, lane(), &w);
	assert_int_equal(last_why, CLOSE_PROTOCOL);
	assert_int_equal(uplink_state(uplink), UPLINK_WAITING);
}

static void the_table_of_moves_is_the_picture(void **state)
{
	static const char *const allowed[UPLINK_STATE_N] = {
		/* to: I D S G R W E */
		[UPLINK_IDLE] = "0100001",     [UPLINK_DIALING] = "0010011",
		[UPLINK_SECURING] = "0001011", [UPLINK_GREETING] = "0000111",
		[UPLINK_READY] = "0000011",    [UPLINK_WAITING] = "0100001",
		[UPLINK_ENDED] = "0000000",
	};

	(void)state;
	for (unsigned from = 0; from < UPLINK_STATE_N; from++)
		for (unsigned to = 0; to < UPLINK_STATE_N; to++)
			assert_int_equal(uplink_may_move((enum uplink_state)from,
			                                 (enum uplink_state)to),
			                 allowed[from][to] == '1');
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static void two_ways(bool is_same_place)
{
	ways[1] = (struct way){ .dial = { .host = "other.example", .port = 443 },
		                .is_same_place = is_same_place };
	ways[0].is_same_place = is_same_place;
	conf.n_ways = 2;
}

static void a_way_that_gets_no_answer_is_followed_by_the_next_at_once(void **state)
{
	(void)state;
	two_ways(true);
	start();
	tcp_and_tls_work();
	le->ended(le_owner, lane(), CLOSE_NOT_GRPC, "HTTP/2 was not agreed");
	assert_int_equal(n_turned, 1);
	assert_ptr_equal(turned_from, &ways[0]);
	assert_int_equal(n_lost, 0);
	pass(0);
	connect_all();
	assert_int_equal(n_dials, 2);
	le->ended(le_owner, lane(), CLOSE_RESET, "reset"); /* what worked stays the first choice */
	assert_int_equal(n_lost, 1);
	assert_int_equal(n_turned, 1);
}

static void where_no_connection_comes_about_no_other_way_to_the_same_place_helps(void **state)
{
	(void)state;
	two_ways(true);
	start();
	assert_int_equal(dial_ms, 20000);
	dial_fails();
	assert_int_equal(n_turned, 0);
	assert_int_equal(n_lost, 1);
}

static void who_shows_the_wrong_certificate_is_not_tried_by_another_way_to_the_same_place(
                void **state)
{
	(void)state;
	two_ways(true);
	start();
	tcp_works();
	le->closed(le_owner, current(), CLOSE_UNTRUSTED, "not the pinned one");
	assert_int_equal(n_turned, 0);
	assert_int_equal(n_lost, 1);
}

static void when_all_ways_have_failed_it_waits(void **state)
{
	(void)state;
	two_ways(false);
	start();
	assert_int_equal(dial_ms, 5000); /* the other one is waiting */
	dial_fails();
	assert_int_equal(n_turned, 1);
	pass(0);
	assert_int_equal(dial_ms, 20000);
	dial_fails();
	assert_int_equal(n_turned, 1);
	assert_int_equal(n_lost, 1);
	pass(last_delay);
	assert_int_equal(n_dials, 3);
	assert_int_equal(uplink_state(uplink), UPLINK_DIALING);
}

static void a_connection_to_a_farther_place_is_followed_by_one_to_the_nearest(void **state)
{
	(void)state;
	two_ways(false);
	start();
	dial_fails();
	pass(0);
	connect_all();
	assert_ptr_equal(uplink_way(uplink), &ways[1]);
	le->ended(le_owner, lane(), CLOSE_RESET, "reset");
	pass(last_delay);
	assert_ptr_equal(uplink_way(uplink), &ways[0]);
	dial_fails();
	pass(0);
	connect_all();
	assert_ptr_equal(uplink_way(uplink), &ways[1]);
	is_address_gone = true;
	route_changed(route_owner);
	assert_ptr_equal(uplink_way(uplink), &ways[0]);
}

static void a_refusal_for_good_is_none_of_the_way(void **state)
{
	(void)state;
	two_ways(true);
	start();
	tcp_and_tls_work();
	le->ended(le_owner, lane(), CLOSE_UNAUTHENTICATED, "the token is not valid here");
	assert_int_equal(n_turned, 0);
	assert_int_equal(n_over, 1);
	assert_int_equal(exit_code, EXIT_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(datagrams_travel_when_ready),
		T(young_datagrams_wait_for_the_link_and_old_ones_do_not),
		T(failures_back_off_and_readiness_resets),
		T(tls_success_alone_does_not_reset_the_backoff),
		T(a_relay_that_ends_us_at_once_is_asked_less_and_less),
		T(an_address_that_was_no_relay_is_doubted),
		T(G27_signs_of_life_are_rarer_on_the_connections_to_come),
		T(a_refusal_for_good_ends_it),
		T(once_gives_up_after_the_first_failure),
		T(once_keeps_a_connection_that_had_worked),
		T(the_host_names_itself_when_the_token_does_not),
		T(another_invalid_field_is_final),
		T(quota_waits_until_its_reset_whatever_the_network_does),
		T(a_draining_relay_is_left_in_time),
		T(a_new_network_is_tried_at_once_but_not_too_often),
		T(a_living_connection_is_probed_on_change),
		T(a_lost_own_address_reconnects_at_once),
		T(late_events_of_an_old_link_are_nothing),
		T(after_a_sleep_the_connection_is_probed),
		T(after_a_sleep_an_attempt_begins_anew),
		T(a_tunnel_that_takes_the_route_is_passed_by),
		T(a_rule_that_comes_late_is_noticed),
		T(a_tunnel_that_carried_us_from_the_start_is_kept),
		T(when_the_held_device_goes_another_is_found),
		T(a_chosen_device_is_the_users_business),
		T(closing_says_goodbye_first),
		T(closing_while_dialling_is_over_at_once),
		T(an_answer_for_other_peers_is_refused),
		T(the_table_of_moves_is_the_picture),
		T(a_way_that_gets_no_answer_is_followed_by_the_next_at_once),
		T(who_shows_the_wrong_certificate_is_not_tried_by_another_way_to_the_same_place),
		T(where_no_connection_comes_about_no_other_way_to_the_same_place_helps),
		T(when_all_ways_have_failed_it_waits),
		T(a_connection_to_a_farther_place_is_followed_by_one_to_the_nearest),
		T(a_refusal_for_good_is_none_of_the_way),
	};
	if (crypto_start())
		return 1;
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pkt_pool_drain();
	return rc;
}
