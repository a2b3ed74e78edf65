/*
 * The relay's way of a packet in memory, for counting instructions: what an end
 * said (HTTP/2 or DERP, without TLS) -> decode -> route -> lane -> encode -> the same
 * for the other end. Links, sessions and router are the program's own; only the conn
 * below them is made here, of two buffers.
 *
 *   relay_path TRANSPORT ROUNDS PACKETS BYTES [limits]
 *
 * TRANSPORT is grpc, between named tunnels, or derp, between native ends. With `limits` each
 * end is of an account of its own that has a rate and a volume, else of none.
 * Each round, one end says PACKETS datagrams and the relay gets them record by
 * record. relay_turn() is all that is the relay's: callgrind's --toggle-collect.
 * Prints how many datagrams went through and what they took from the heap.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/link.h"
#include "common/net/conn.h"
#include "server/relay/mates.h"
#include "server/relay/native_policy.h"
#include "server/relay/session_impl.h"

static struct mates mates; /* none: one worker */
static _Atomic uint64_t seq;
static const struct router_conf router_conf = { &session_router_events, &mates, &seq };

enum { RECORD = 16375, BATCH = 65536, WARM = 4, ENDS = 2, NOW_MS = 1000000 };

/* ---- the heap: counts while the relay works ---- */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static bool counting;
static unsigned long n_allocs;

void *malloc(size_t n)
{
	n_allocs += counting;
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	n_allocs += counting;
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	n_allocs += counting;
	return __libc_realloc(p, n);
}

/* ---- a clock that stands still: nothing grows old while a profiler is at work ---- */

uint64_t clock_now_ms(void) { return NOW_MS; }
uint64_t clock_thread_ms(void) { return NOW_MS; }
int64_t clock_unix_ms(void) { return NOW_MS; }

/* ---- a conn of two buffers, in the place of common/net/conn.c ---- */

struct conn {
	const struct conn_events *events;
	void *owner;
	struct addr addr;
	struct buf out;
	bool no_room; /* its link was told so */
};

static struct conn *opened; /* the last one */

int conn_open(struct loop *loop, const struct conn_conf *conf, const struct conn_events *events,
              void *owner, struct conn **conn_out)
{
	struct conn *c = calloc(1, sizeof *c);

	(void)loop, (void)conf;
	if (!c)
		return ERR_CLOSED;
	c->events = events;
	c->owner = owner;
	*conn_out = opened = c;
	return 0;
}

size_t conn_room(struct conn *c, size_t want)
{
	(void)want;
	c->no_room |= buf_len(&c->out) >= BATCH;
	return buf_len(&c->out) < BATCH ? BATCH - buf_len(&c->out) : 0;
}

int conn_write(struct conn *c, const uint8_t *data, size_t len)
{
	return buf_add(&c->out, data, len);
}

void conn_flush(struct conn *c) { (void)c; }
size_t conn_unsent(const struct conn *c) { return buf_len(&c->out); }
uint64_t conn_progress_ms(const struct conn *c) { return (void)c, UINT64_MAX / 2; }
void conn_nap(struct conn *c) { (void)c; }
void conn_tune(int fd) { (void)fd; }
bool conn_lacks(char lacks[static CONN_LACKS_LEN]) { return (void)lacks, false; }
bool conn_peer_derp_key(const struct conn *c, uint8_t key[static 32])
{
	return (void)c, (void)key, false;
}
void conn_rest(struct conn *c, uint32_t ms) { (void)c, (void)ms; }
void conn_narrow(struct conn *c, uint64_t bytes_per_s) { (void)c, (void)bytes_per_s; }
size_t conn_unread(const struct conn *c) { return (void)c, 0; }
void conn_reset(struct conn *c) { (void)c; }
void conn_thread_done(void) {}
const struct addr *conn_peer(const struct conn *c) { return &c->addr; }
const struct addr *conn_local(const struct conn *c) { return &c->addr; }
const char *conn_cipher(const struct conn *c) { return (void)c, ""; }

void conn_close(struct conn *c)
{
	buf_done(&c->out);
	free(c);
}

/* ---- the two ends: client transports ---- */

struct end {
	struct transport *transport;
	struct transport_conf conf;
	struct chan *chan;
	struct conn *conn; /* the relay's side of it */
	uint8_t secret[KEY_LEN];
	struct key peer;
	bool ready;
	unsigned long n_received;
	struct buf said;
};

static struct end ends[ENDS];
static const struct transport_ops *ops;
static struct loop *loop;
static struct sessions sessions;
static const uint64_t now_ms = NOW_MS;

static void on_ready(void *owner, struct chan *chan, const struct welcome *w)
{
	struct end *e = owner;

	(void)chan;
	e->ready = true;
	e->peer = w->peer_keys[0];
}

static void on_packet(void *owner, struct chan *chan, struct pkt *p)
{
	struct end *e = owner;

	(void)chan;
	e->n_received++;
	pkt_free(p);
}

static void on_peer(void *owner, struct chan *chan, const struct peer_status *p)
{
	(void)owner, (void)chan, (void)p;
}

static void on_notice(void *owner, struct chan *chan, const struct notice *n)
{
	(void)owner, (void)chan, (void)n;
}

static void on_ended(void *owner, struct chan *chan, enum close_why why, const char *text)
{
	(void)owner, (void)chan;
	fprintf(stderr, "relay_path: ended: %s: %s\n", close_text(why), text);
	exit(1);
}

static const struct transport_events end_events = { .ready = on_ready,
	                                            .packet = on_packet,
	                                            .peer = on_peer,
	                                            .notice = on_notice,
	                                            .ended = on_ended };

/* ---- the relay ---- */

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	(void)owner, (void)l;
	fprintf(stderr, "relay_path: link closed: %s: %s\n", close_text(why), text);
	exit(1);
}

static const struct link_events link_events = { .hello = session_on_hello,
	                                        .packet = session_on_packet,
	                                        .ended = session_on_ended,
	                                        .wish = session_on_wish,
	                                        .forward = session_on_forward,
	                                        .closed = on_closed };

static void stop(struct task *t)
{
	(void)t;
	loop_stop(loop, 0);
}

/* What one end said comes in, record by record, and what was sent to it is gone; then the
 * turn ends. */
__attribute__((noinline)) static void relay_turn(struct end *from)
{
	static struct task last = { .cb = stop };

	counting = true;
	if (from->conn->no_room) {
		from->conn->no_room = false;
		from->conn->events->room(from->conn->owner);
	}
	while (buf_len(&from->said)) {
		size_t n = buf_len(&from->said);
		n = n < TLS_RECORD_MAX ? n : TLS_RECORD_MAX;
		from->conn->events->bytes(from->conn->owner, buf_data(&from->said), n);
		buf_eat(&from->said, n);
	}
	loop_defer(loop, LOOP_SWEEP, &last);
	loop_run(loop);
	counting = false;
}

/* An end says what it has, and is given what the relay has for it. */
static bool exchange(struct end *e)
{
	struct buf *in = &e->conn->out;
	bool some = buf_len(in) > 0;

	if (some && ops->input(e->transport, buf_data(in), buf_len(in), now_ms) < 0)
		exit(1);
	in->off = in->len = 0; /* the kernel's memory, not counted */
	size_t before = 1;
	while (buf_len(&e->said) != before) {
		before = buf_len(&e->said);
		if (ops->flush(e->transport, &e->said, RECORD) < 0)
			exit(1);
	}
	if (buf_len(&e->said) == 0 && !e->conn->no_room)
		return some;
	relay_turn(e);
	return true;
}

static void settle(void)
{
	while (exchange(&ends[0]) | exchange(&ends[1]))
		;
}

/* Native ends have their keys as names. */
static void make_keys(struct transport_conf *conf, uint8_t secret[KEY_LEN])
{
	crypto_node_key_new(secret);
	crypto_node_public(secret, conf->derp.public.b);
	conf->derp.secret = secret;
}

static const char *native_name(const struct end *e, char out[static 80])
{
	strcpy(out, "nodekey:");
	hex_encode(e->conf.derp.public.b, KEY_LEN, out + strlen(out));
	return out;
}

static void connect_end(struct links *links, const struct link_conf *relay, struct end *e,
                        const char *id, const char *peer)
{
	char name[80];
	bool native = ops != transport_named(STR("grpc"));
	struct link *l;
	struct str to = str_of(native ? native_name(e == ends ? &ends[1] : ends, name) : peer);
	struct hello h = { .id = str_of(native ? "" : id),
		           .version = 1,
		           .bidirectional = true,
		           .native = native,
		           .n_peers = 1,
		           .peers = &to };

	if (link_open(links, relay, &link_events, &sessions, &l) < 0 ||
	    ops->open(&e->conf, SIDE_CLIENT, now_ms, &end_events, e, &e->transport) < 0)
		exit(1);
	e->conn = opened;
	e->conn->events->up(e->conn->owner, ops->alpn);
	buf_room(&e->conn->out, 2 * BATCH);
	buf_room(&e->said, 2 * BATCH);
	if (ops->dial(e->transport, &h, &e->chan) < 0)
		exit(1);
	e->chan->up = e;
}

static void connect_ends(struct links *links)
{
	static uint8_t secret[KEY_LEN];
	static struct link_conf relay = { .side = SIDE_SERVER, .transport = { .node = "n" } };

	make_keys(&relay.transport, secret);
	for (unsigned i = 0; i < ENDS; i++) {
		ends[i].conf = (struct transport_conf){ .authority = "relay",
			                                .user_agent = "bench",
			                                .limits = &limits_default };
		make_keys(&ends[i].conf, ends[i].secret);
	}
	connect_end(links, &relay, &ends[0], "a", "b");
	connect_end(links, &relay, &ends[1], "b", "a");
	settle();
	if (!ends[0].ready || !ends[1].ready)
		exit(1);
}

static void pay(struct list *all)
{
	static const struct account_terms much = { .relay = true,
		                                   .rate = UINT64_C(125000000000),
		                                   .burst_ms = 10000,
		                                   .volume = UINT64_C(1) << 60 };
	static const struct account_usage none = { 0 };

	list_each(it, tmp, all) {
		struct session *s = container_of(it, struct session, node);
		s->member.who->payer = account_new("a", 1, 1, &much, &none);
		if (!s->member.who->payer || !session_enter(s))
			exit(1);
	}
}

static void say(struct end *e, unsigned n, size_t len)
{
	for (unsigned i = 0; i < n; i++) {
		struct pkt *p = pkt_new(len);
		if (!p)
			exit(1);
		memset(p->data, 4, len);
		p->dst = e->peer;
		p->born_ms = now_ms;
		ops->send(e->chan, p);
	}
}

int main(int argc, char **argv)
{
	static const char *const any = "any";
	static const struct native_policy_conf policy = { .allow = &any, .n_allow = 1 };

	if (argc < 5 || argc > 6 || (ops = transport_named(str_of(argv[1]))) == NULL)
		return 2;
	unsigned rounds = (unsigned)atoi(argv[2]), n = (unsigned)atoi(argv[3]);
	size_t len = (size_t)atoi(argv[4]);

	crypto_start();
	loop = loop_new();
	struct links *links = links_new(loop);
	if (sessions_init(&sessions, loop) < 0)
		exit(1);
	sessions.router = router_new(&router_conf);
	sessions.node = "n";
	sessions_take_policy(&sessions, native_policy_new(&policy));
	log_set_level(LOG_ERROR);
	connect_ends(links);
	if (argc == 6) {
		pay(&sessions.named);
		pay(&sessions.natives);
	}
	unsigned long allocs = 0;
	for (unsigned i = 0; i < WARM + rounds; i++) {
		if (i == WARM)
			allocs = n_allocs;
		say(&ends[0], n, len);
		settle();
	}
	if (ends[1].n_received != (unsigned long)n * (WARM + rounds)) {
		fprintf(stderr, "relay_path: %lu of %u went through\n", ends[1].n_received,
		        n * (WARM + rounds));
		return 1;
	}
	printf("{\"datagrams\": %u, \"allocations\": %lu}\n", n * rounds, n_allocs - allocs);
	return 0;
}
