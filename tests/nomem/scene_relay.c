/*
 * A relay's links, sessions and router, and ends that come and go, all in one
 * loop, TLS and all. Two ends are there from the beginning. While memory is short
 * a third comes; whatever becomes of it, the two go on undisturbed, it is gone
 * without a trace afterwards, and when it comes again with a friend, all is well.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/link.h"
#include "common/net/cert.h"
#include "server/relay/mates.h"
#include "server/relay/session.h"
#include "tests/nomem/scene.h"

enum {
	SHORT_MS = 2000,
	SOON_MS = 2000,
	DEADLINES_MS = 40000,
	QUIET_MS = 10000, /* after which a heartbeat may fall into the shortage */
};

struct end {
	struct link *link;
	struct lane *lane;
	const char *id;
	struct str peer;
	struct key peer_key;
	unsigned n_ready, n_closed, n_packets;
	enum close_why why;
};

static struct loop *loop;
static struct links *relay, *ends;
static struct sessions sessions;
static struct mates mates; /* none */
static _Atomic uint64_t seq;
static const struct router_conf router_conf = { &session_router_events, &mates, &seq };
static struct tls_ctx *server_tls, *client_tls;
static struct end anna, bert; /* there before the third comes */
static uint64_t since_ms;     /* they came */

/* ---- the ends' side ---- */

static void on_up(void *owner, struct link *l)
{
	struct end *e = owner;
	struct hello h = { .id = str_of(e->id),
		           .has_instance = true,
		           .version = 1,
		           .bidirectional = true,
		           .n_peers = 1,
		           .peers = &e->peer };

	if (link_dial(l, &h, &e->lane) < 0)
		link_close(l, CLOSE_NOMEM);
}

static void on_ready(void *owner, struct lane *lane, const struct welcome *w)
{
	struct end *e = owner;

	(void)lane;
	e->n_ready++;
	e->peer_key = w->peer_keys[0];
}

static void on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	struct end *e = owner;

	(void)lane;
	e->n_packets++;
	pkt_free(p);
}

static void on_peer(void *owner, struct lane *lane, const struct peer_status *p)
{
	(void)owner, (void)lane, (void)p;
}

static void on_notice(void *owner, struct lane *lane, const struct notice *n)
{
	(void)owner, (void)lane, (void)n;
}

static void on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct end *e = owner;

	(void)lane, (void)text;
	e->lane = NULL;
	e->why = why;
}

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	struct end *e = owner;

	(void)l, (void)text;
	e->link = NULL;
	e->n_closed++;
	if (e->why == CLOSE_NONE)
		e->why = why;
}

static const struct link_events end_events = { .up = on_up,
	                                       .ready = on_ready,
	                                       .packet = on_packet,
	                                       .peer = on_peer,
	                                       .notice = on_notice,
	                                       .ended = on_ended,
	                                       .closed = on_closed };

/* ---- the relay's side ---- */

static void on_relay_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	(void)owner, (void)l, (void)why, (void)text;
}

static const struct link_events relay_events = { .hello = session_on_hello,
	                                         .packet = session_on_packet,
	                                         .ended = session_on_ended,
	                                         .closed = on_relay_closed };

static void come(struct end *e, const char *id, const char *peer)
{
	int fds[2];
	struct link *l;
	struct link_conf server = { .side = SIDE_SERVER,
		                    .tls = server_tls,
		                    .transport = { .node = "n1", .serving = true } };
	struct link_conf client = { .side = SIDE_CLIENT,
		                    .tls = client_tls,
		                    .server_name = "localhost",
		                    .ops = transport_named(STR("grpc")),
		                    .transport = { .authority = "localhost",
		                                   .user_agent = "test" } };

	*e = (struct end){ .id = id, .peer = str_of(peer) };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	client.fd = fds[0];
	server.fd = fds[1];
	if (link_open(ends, &client, &end_events, e, &e->link) < 0)
		e->link = NULL;
	link_open(relay, &server, &relay_events, &sessions, &l);
}

static void leave(struct end *e)
{
	if (e->link)
		link_close(e->link, CLOSE_LOCAL);
}

/* ---- time ---- */

static void on_over(void *arg)
{
	(void)arg;
	loop_stop(loop, 0);
}

static struct timer *over;

static void pass(uint64_t ms)
{
	timer_set(over, ms);
	loop_run(loop);
	timer_clear(over);
}

static bool is_settled(const struct end *e) { return e->n_ready || !e->link; }

static void until_settled(const struct end *e, uint64_t at_most_ms)
{
	for (uint64_t i = 0; i < at_most_ms && !is_settled(e); i += 10)
		pass(10);
}

/* ---- packets ---- */

static void say(struct end *e)
{
	struct pkt *p = e->lane ? pkt_new(100) : NULL;

	if (!p)
		return;
	memset(p->data, 'x', p->len);
	memset(&p->src, 0, sizeof p->src);
	p->dst = e->peer_key;
	p->born_ms = loop_now_ms(loop);
	link_send(e->lane, p);
}

static bool converse(struct end *a, struct end *b)
{
	a->n_packets = b->n_packets = 0;
	say(a);
	say(b);
	pass(50);
	return a->n_packets == 1 && b->n_packets == 1;
}

/* ---- the scene ---- */

static void come_while_short(struct end *e)
{
	scene_short_of_memory();
	come(e, "carl", "dora"); /* who is not there: what carl costs is his own */
	until_settled(e, SHORT_MS);
	if (e->n_ready)
		say(e);
	pass(50);
	scene_enough();
}

static void begin(void)
{
	if (anna.link && bert.link && loop_now_ms(loop) - since_ms < QUIET_MS)
		return;
	leave(&anna);
	leave(&bert);
	pass(100);
	since_ms = loop_now_ms(loop);
	come(&anna, "anna", "bert");
	come(&bert, "bert", "anna");
	until_settled(&anna, SOON_MS);
	until_settled(&bert, SOON_MS);
	if (!converse(&anna, &bert))
		abort();
}

static void check_gone(void)
{
	scene_check(links_count(relay) == 2 && links_count(ends) == 2, "no link is left of it");
	scene_check(router_n_members(sessions.router) == 2, "no session is left of it");
	scene_check(router_n_places(sessions.router) == 2, "no place is left of it");
}

static void play(void *arg)
{
	struct end carl, dora;

	(void)arg;
	begin();
	come_while_short(&carl);
	until_settled(&carl, DEADLINES_MS);
	scene_check(is_settled(&carl), "an end is let in or sent away in time");
	if (!carl.n_ready)
		scene_check(close_verdict(carl.why) != VERDICT_FINAL, "no reason to give up");
	scene_check(!anna.n_closed && !bert.n_closed, "the others stay");
	leave(&carl);
	pass(100);
	if (links_count(relay) > 2) /* its other side learns by its deadlines */
		pass(DEADLINES_MS);
	check_gone();
	scene_check(converse(&anna, &bert), "the others' datagrams pass");
	come(&carl, "carl", "dora");
	come(&dora, "dora", "carl");
	until_settled(&carl, SOON_MS);
	until_settled(&dora, SOON_MS);
	scene_check(carl.n_ready && dora.n_ready, "who comes again is let in");
	scene_check(converse(&carl, &dora), "and its datagrams pass");
	leave(&carl);
	leave(&dora);
	pass(100);
	check_gone();
}

static void open_relay(const char *dir)
{
	static const char *const alpn[] = { "h2", NULL };
	char cert[300], key[300], error[TLS_ERROR_LEN] = "";

	snprintf(cert, sizeof cert, "%s/tls-cert.pem", dir);
	snprintf(key, sizeof key, "%s/tls-key.pem", dir);
	struct tls_server_conf server = { .cert_file = cert, .key_file = key, .alpn = alpn };
	struct tls_client_conf client = { .ca_file = cert, .alpn = alpn };
	loop = loop_new();
	if (cert_ensure(dir, NULL, 0, error) < 0 ||
	    tls_server_ctx_new(&server, &server_tls, error) < 0 ||
	    tls_client_ctx_new(&client, &client_tls, error) < 0 || !loop) {
		fprintf(stderr, "cannot begin: %s\n", error);
		exit(1);
	}
	relay = links_new(loop);
	ends = links_new(loop);
	over = timer_new(loop, on_over, NULL);
	if (sessions_init(&sessions, loop) < 0)
		exit(1);
	sessions.node = "n1";
	sessions.router = router_new(&router_conf);
}

int main(void)
{
	const struct scene scenes[] = { { "an_end_comes", play, NULL } };
	char dir[] = "/tmp/tunn-nomem-XXXXXX", command[64];

	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
	if (crypto_start() < 0 || !mkdtemp(dir))
		return 1;
	open_relay(dir);
	snprintf(command, sizeof command, "rm -r %s", dir);
	if (system(command) != 0)
		return 1;
	return scenes_play("relay", scenes, 1, 8000);
}
