/*
 * Hundreds of ends in one process, for the soak and the thundering herd. Each is a
 * real uplink (dialling, TLS, gRPC, backing off) without a local port: datagrams
 * are made here and checked here.
 *
 *   ends PORT CERT TOKENS TOTAL FIRST N SEED [one]
 *
 * TOKENS has lines `account token`; end i of TOTAL is e<i> of account i modulo their
 * number. FIRST and N say which of them this process plays. Every connection comes
 * from a network of its own in 127.0.0.0/8, or all from one address.
 *
 * Commands are lines on standard input:
 *   start          all ends connect
 *   talk PPS       datagrams from now on; 0: none
 *   wild N         N faults a second from now on; 0: none
 *   report         one line of JSON, and the counters
 *   leave          all ends say goodbye and stay away; `left` when they have
 * End of file ends the program. Each connection that ends says what went over it:
 *   session id=ID account=A from=ADDR handed=N got=N ignored=N
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/uplink.h"
#include "common/base/crypto.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/token.h"
#include "common/net/addr.h"
#include "common/net/cert.h"

enum {
	PEERS = 4,
	ACCOUNTS_MAX = 64,
	TALK_MS = 10,
	WILD_MS = 50,
	HEAD = 32,
	BURST_MAX = 32,
	FLOOD = 2000,      /* datagrams of one burst that no queue holds */
	AGAIN_MS = 3000,   /* an end that left comes back within this */
	ONE_WAY_EACH = 16, /* every so many ends take nothing */
	LINE_LEN = 200,
};

struct head { /* in front of every datagram */
	uint32_t magic, from, to, len;
	uint32_t uplink, seq; /* two uplinks of one id take turns as the relay will */
	uint64_t seed;
};
_Static_assert(sizeof(struct head) == HEAD, "no holes");
enum { MAGIC = 0x74756e6e };

struct player { /* one of our ids; usually one uplink plays it, two in a takeover */
	unsigned index, n_uplinks;
	char id[NAME_MAX_LEN + 1];
	const char *account;
	unsigned peer_index[PEERS];
	char peer_text[PEERS][PEER_MAX_LEN + 1];
	struct str peers[PEERS];
	struct timer *again;
	bool is_refused; /* for good, and nobody took its id over */
};

struct end {
	struct list node;
	struct player *player;
	struct uplink *uplink;
	uint32_t number, seq[PEERS];
	bool is_over;
};

struct seen {
	uint32_t uplink, seq; /* of the last datagram */
};

struct session {                     /* one connection of one end: what the tap counts */
	struct transport *transport; /* key of `sessions` */
	struct link *link;
	char id[NAME_MAX_LEN + 1];
	const char *account;
	char from[ADDR_TEXT_LEN];
	struct chan *chan; /* NULL: not dialled yet, or over */
	uint64_t handed, got, ignored;
	struct seen *seen; /* of each player of all */
};

static struct {
	uint16_t port;
	unsigned total, first, n, n_accounts;
	char account[ACCOUNTS_MAX][NAME_MAX_LEN + 1], token[ACCOUNTS_MAX][TOKEN_LEN + 1];
	uint8_t pin[TLS_PIN_LEN];
	struct tls_ctx *tls;
	uint64_t seed;
	unsigned connects;
	bool is_one_source;
} conf;

static struct {
	uint64_t sent, handed, got, delivered, corrupt, reordered, foreign, unwanted, sessions,
	                refused, faults;
} st;

static struct loop *loop;
static struct player *players;
static struct list ends;
static struct map sessions;
static struct timer *talk, *wild;
static unsigned talk_pps, wild_per_s;
static bool leaving;
static const struct transport_events *above; /* the link's; the same for all */
static const struct transport_ops *real;

static uint64_t random64(void) /* splitmix64 */
{
	uint64_t z = conf.seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static unsigned below(unsigned n) { return (unsigned)(random64() % n); }

/* In front of libc's: each connection comes from a /24 of its own, as ends do. */
int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	if (to->sa_family == AF_INET && !conf.is_one_source) {
		char text[32];
		struct addr from;
		unsigned n = conf.connects++;
		snprintf(text, sizeof text, "127.%u.%u.%u", 1 + (unsigned)getpid() % 250, n % 250,
		         1 + n / 250 % 250);
		if (addr_of_ip(text, 0, &from) == 0)
			bind(fd, (struct sockaddr *)&from.ss, from.len);
	}
	return (int)syscall(SYS_connect, fd, to, len);
}

/* ---- datagrams ---- */

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed >> (i & 7) * 8) ^ (uint8_t)i;
}

static bool is_filled(const uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != ((uint8_t)(seed >> (i & 7) * 8) ^ (uint8_t)i))
			return false;
	return true;
}

static unsigned some_size(void)
{
	unsigned r = below(1000);

	if (r < 2)
		return HEAD + below(PAYLOAD_MAX - HEAD + 1);
	return HEAD + below(r < 30 ? 16384 : 1400);
}

static void say(struct end *e, unsigned peer)
{
	struct player *me = e->player;
	unsigned size = some_size();
	struct pkt *p = pkt_new(size);
	struct head h = { MAGIC,          me->index, me->peer_index[peer], size, e->number,
		          ++e->seq[peer], random64() };

	if (!p)
		abort();
	memcpy(p->data, &h, HEAD);
	fill(p->data + HEAD, size - HEAD, h.seed);
	p->born_ms = loop_now_ms(loop);
	st.sent++;
	uplink_send(e->uplink, peer, p);
}

static struct end *some_end(void)
{
	unsigned n = 0;

	list_each(it, tmp, &ends)
		n++;
	if (n == 0)
		return NULL;
	n = below(n);
	list_each(it, tmp, &ends)
		if (n-- == 0)
			return container_of(it, struct end, node);
	return NULL;
}

static void on_talk(void *arg)
{
	static unsigned owed; /* in thousandths */

	(void)arg;
	timer_set(talk, TALK_MS);
	owed += talk_pps * TALK_MS;
	while (owed >= 1000) {
		struct end *e = some_end();
		unsigned n = 1 + below(BURST_MAX), peer = below(10);
		if (!e)
			break;
		peer = peer < 5 ? 0 : peer < 8 ? 1 : peer - 6;
		for (unsigned i = 0; i < n && owed >= 1000; i++, owed -= 1000)
			say(e, peer);
	}
}

/* ---- the tap: counts between link and transport ---- */

static struct transport_ops tap_ops;

static void take_leave(struct session *s)
{
	if (s->chan)
		s->ignored = s->chan->n_ignored;
	s->chan = NULL;
}

static void tap_ended(void *owner, struct chan *chan, enum close_why why, const char *text)
{
	take_leave(map_get(&sessions, &chan->transport));
	above->ended(owner, chan, why, text);
}

static void tap_packet(void *owner, struct chan *chan, struct pkt *p)
{
	struct session *s = map_get(&sessions, &chan->transport);
	struct head h = { 0 };

	st.got++;
	s->got++;
	if (p->len >= HEAD)
		memcpy(&h, p->data, HEAD);
	if (h.magic != MAGIC || h.len != p->len || h.from >= conf.total ||
	    !is_filled(p->data + HEAD, p->len - HEAD, h.seed)) {
		st.corrupt++;
	} else if (h.uplink == s->seen[h.from].uplink && h.seq <= s->seen[h.from].seq) {
		st.reordered++; /* or doubled */
	} else {
		s->seen[h.from] = (struct seen){ h.uplink, h.seq };
	}
	above->packet(owner, chan, p);
}

static int tap_open(const struct transport_conf *c, enum side side, uint64_t now_ms,
                    const struct transport_events *events, void *owner, struct transport **t_out)
{
	static struct transport_events tapped;
	struct session *s = calloc(1, sizeof *s);

	above = events;
	tapped = *events;
	tapped.packet = tap_packet;
	tapped.ended = tap_ended;
	s->seen = calloc(conf.total, sizeof *s->seen);
	int rc = real->open(c, side, now_ms, &tapped, owner, &s->transport);
	if (rc == 0) {
		s->link = owner;
		map_put(&sessions, &s->transport, s);
		*t_out = s->transport;
	} else {
		free(s->seen);
		free(s);
	}
	return rc;
}

static int tap_dial(struct transport *t, const struct hello *hello, struct chan **c_out)
{
	struct session *s = map_get(&sessions, &t);

	snprintf(s->id, sizeof s->id, "%.*s", (int)hello->id.len, hello->id.p);
	s->account = conf.account[(unsigned)atoi(s->id + 1) % conf.n_accounts];
	addr_text(link_local(s->link), s->from);
	int rc = real->dial(t, hello, c_out);
	if (rc == 0)
		s->chan = *c_out;
	return rc;
}

static int tap_send(struct chan *chan, struct pkt *p)
{
	struct session *s = map_get(&sessions, &chan->transport);

	st.handed++;
	s->handed++;
	return real->send(chan, p);
}

static void tap_end(struct chan *chan, enum close_why why, const char *text)
{
	take_leave(map_get(&sessions, &chan->transport));
	real->end(chan, why, text);
}

static void say_session(const struct session *s)
{
	st.sessions++;
	if (s->id[0])
		printf("session id=%s account=%s from=%s handed=%llu got=%llu ignored=%llu\n",
		       s->id, s->account, s->from, (unsigned long long)s->handed,
		       (unsigned long long)s->got, (unsigned long long)s->ignored);
}

static void tap_free(struct transport *t)
{
	struct session *s = map_del(&sessions, &t);

	take_leave(s);
	say_session(s);
	free(s->seen);
	free(s);
	real->free(t);
}

static void make_tap(void)
{
	real = transport_named(STR("grpc"));
	tap_ops = *real;
	tap_ops.open = tap_open;
	tap_ops.dial = tap_dial;
	tap_ops.send = tap_send;
	tap_ops.end = tap_end;
	tap_ops.free = tap_free;
	map_init(&sessions, sizeof(struct transport *));
}

/* ---- ends ---- */

static void start(struct player *);

static void on_packet(void *owner, unsigned peer, struct pkt *p)
{
	struct end *e = owner;
	struct head h = { 0 };

	if (p->len >= HEAD)
		memcpy(&h, p->data, HEAD);
	st.delivered++;
	st.foreign += h.from != e->player->peer_index[peer] || h.to != e->player->index;
	st.unwanted += peer == 2 || e->player->index % ONE_WAY_EACH == ONE_WAY_EACH - 1;
	pkt_free(p);
}

static void on_over(void *owner, int exit_code, enum close_why why, const char *text)
{
	struct end *e = owner;

	e->is_over = true;
	if (exit_code && why != CLOSE_SUPERSEDED) {
		printf("refused id=%s: %s\n", e->player->id, text);
		e->player->is_refused = true;
		st.refused++;
	}
	timer_set(e->player->again, 1 + below(AGAIN_MS));
}

static void on_ready(void *owner, unsigned n, const struct welcome *w, struct str id)
{
	(void)owner, (void)n, (void)w, (void)id;
}
static void on_peer(void *owner, unsigned peer, const struct peer_status *status)
{
	(void)owner, (void)peer, (void)status;
}
static void on_notice(void *owner, const struct notice *n) { (void)owner, (void)n; }
static void on_lost(void *owner, enum close_why why, const char *text, uint32_t delay_ms)
{
	(void)owner, (void)why, (void)text, (void)delay_ms;
}
static void on_held(void *owner, const char *device, const char *tunnel)
{
	(void)owner, (void)device, (void)tunnel;
}

static const struct uplink_events uplink_events = {
	.ready = on_ready,
	.packet = on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.lost = on_lost,
	.held = on_held,
	.over = on_over,
};

static void free_end(struct end *e)
{
	e->player->n_uplinks--;
	list_del(&e->node);
	uplink_free(e->uplink);
	free(e);
}

/* Some time after an uplink of this id was over: frees it, and comes back. */
static void on_again(void *arg)
{
	struct player *me = arg;

	list_each(it, tmp, &ends) {
		struct end *e = container_of(it, struct end, node);
		if (e->player == me && e->is_over)
			free_end(e);
	}
	if (!leaving && me->n_uplinks == 0)
		start(me);
}

static void start(struct player *me)
{
	static uint32_t n_started;
	static struct way way = {
		.dial = { .host = "127.0.0.1" },
		.ops = &tap_ops,
		.transport = { .authority = "localhost", .user_agent = "grpc-c-tunn-ends" },
	};
	struct end *e = calloc(1, sizeof *e);
	struct uplink_conf c = {
		.ways = &way,
		.n_ways = 1,
		.hello = { .id = str_of(me->id),
		           .token = str_of(conf.token[me->index % conf.n_accounts]),
		           .has_instance = true,
		           .version = me->index % 3 != 0,
		           .bidirectional = me->index % ONE_WAY_EACH != ONE_WAY_EACH - 1,
		           .n_peers = PEERS,
		           .peers = me->peers },
	};

	way.dial.port = conf.port;
	way.tls = conf.tls;
	crypto_random(c.hello.instance, INSTANCE_LEN);
	e->player = me;
	e->number = ++n_started;
	e->uplink = uplink_new(loop, &c, &uplink_events, e);
	if (!e->uplink) {
		fprintf(stderr, "out of memory or descriptors\n");
		exit(1);
	}
	me->n_uplinks++;
	list_add_tail(&ends, &e->node);
	uplink_start(e->uplink);
}

static void name_peer(struct player *me, unsigned k, unsigned index)
{
	const char *account = conf.account[index % conf.n_accounts];

	me->peer_index[k] = index;
	snprintf(me->peer_text[k], sizeof me->peer_text[k], "%s%se%u",
	         strcmp(account, me->account) == 0 ? "" : account,
	         strcmp(account, me->account) == 0 ? "" : "/", index);
}

/* Two that declare us too, one that does not, one that is not there. */
static void make_player(struct player *me, unsigned index)
{
	me->index = index;
	me->account = conf.account[index % conf.n_accounts];
	me->again = timer_new(loop, on_again, me);
	snprintf(me->id, sizeof me->id, "e%u", index);
	name_peer(me, 0, index ^ 1);
	name_peer(me, 1, (index + conf.total / 2) % conf.total);
	name_peer(me, 2, (index + 2) % conf.total);
	name_peer(me, 3, conf.total + index);
	for (unsigned k = 0; k < PEERS; k++)
		me->peers[k] = str_of(me->peer_text[k]);
}

/* ---- faults ---- */

/* Some connected TCP socket of ours. */
static int some_socket(void)
{
	for (unsigned i = 0; i < 50; i++) {
		int fd = 3 + (int)below(8 * conf.n);
		struct addr peer = { .len = sizeof peer.ss };
		if (getpeername(fd, (struct sockaddr *)&peer.ss, &peer.len) == 0 &&
		    peer.ss.ss_family == AF_INET && addr_port(&peer) == conf.port)
			return fd;
	}
	return -1;
}

static void break_socket(unsigned how)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	int fd = some_socket();

	if (fd < 0)
		return;
	if (how == 0)
		connect(fd, &nobody, sizeof nobody); /* RST */
	else
		shutdown(fd, how == 1 ? SHUT_RDWR : SHUT_WR);
}

static void on_wild(void *arg)
{
	static unsigned owed;

	(void)arg;
	timer_set(wild, WILD_MS);
	for (owed += wild_per_s * WILD_MS; owed >= 1000; owed -= 1000) {
		struct end *e = some_end();
		unsigned what = below(10);
		if (!e || e->is_over)
			continue;
		st.faults++;
		if (what < 5)
			break_socket(what % 3);
		else if (what < 8)
			uplink_close(e->uplink);
		else if (what == 8 && e->player->n_uplinks == 1)
			start(e->player); /* another instance takes the id */
		else
			for (unsigned i = 0; i < FLOOD; i++)
				say(e, 0);
	}
}

/* ---- commands ---- */

static void report(void)
{
	unsigned n = 0, ready = 0;

	list_each(it, tmp, &ends) {
		struct end *e = container_of(it, struct end, node);
		n++;
		ready += uplink_state(e->uplink) == UPLINK_READY;
	}
	printf("report {\"uplinks\": %u, \"ready\": %u", n, ready);
#define SHOW(field) printf(", \"" #field "\": %llu", (unsigned long long)st.field)
	SHOW(sent), SHOW(handed), SHOW(got), SHOW(delivered), SHOW(corrupt), SHOW(reordered);
	SHOW(foreign), SHOW(unwanted), SHOW(sessions), SHOW(refused), SHOW(faults);
#undef SHOW
	printf("}\n");
	fflush(stdout);
	metric_print(STDOUT_FILENO);
}

static void on_left(void)
{
	printf("left\n");
	fflush(stdout);
}

static void leave(void)
{
	leaving = true;
	list_each(it, tmp, &ends)
		uplink_close(container_of(it, struct end, node)->uplink);
	on_left();
}

static void set_pace(struct timer *t, unsigned *pace, unsigned value, unsigned ms)
{
	*pace = value;
	if (value)
		timer_set(t, ms);
	else
		timer_clear(t);
}

static void obey(const char *line)
{
	unsigned value;

	if (strcmp(line, "start") == 0)
		for (unsigned i = 0; i < conf.n; i++)
			start(&players[i]);
	else if (sscanf(line, "talk %u", &value) == 1)
		set_pace(talk, &talk_pps, value, TALK_MS);
	else if (sscanf(line, "wild %u", &value) == 1)
		set_pace(wild, &wild_per_s, value, WILD_MS);
	else if (strcmp(line, "report") == 0)
		report();
	else if (strcmp(line, "leave") == 0)
		leave();
	else
		fprintf(stderr, "ends: what is %s?\n", line);
}

static void on_input(void *arg, unsigned what)
{
	static char line[LINE_LEN];
	static size_t len;
	char c;
	ssize_t n = read(STDIN_FILENO, &c, 1);

	(void)arg, (void)what;
	if (n == 0)
		loop_stop(loop, 0);
	if (n != 1)
		return;
	if (c != '\n' && len < sizeof line - 1) {
		line[len++] = c;
		return;
	}
	line[len] = 0;
	len = 0;
	obey(line);
}

/* ---- start ---- */

static void read_tokens(const char *path)
{
	FILE *f = fopen(path, "r");

	if (!f) {
		perror(path);
		exit(1);
	}
	while (conf.n_accounts < ACCOUNTS_MAX &&
	       fscanf(f, "%63s %78s", conf.account[conf.n_accounts], conf.token[conf.n_accounts]) ==
	                       2)
		conf.n_accounts++;
	fclose(f);
}

static void set_up(char **argv)
{
	static const char *alpn[] = { "h2", NULL };
	struct tls_client_conf tls = { .pin = conf.pin, .alpn = alpn };
	char error[TLS_ERROR_LEN] = "";

	conf.port = (uint16_t)atoi(argv[1]);
	conf.total = (unsigned)atoi(argv[4]);
	conf.first = (unsigned)atoi(argv[5]);
	conf.n = (unsigned)atoi(argv[6]);
	conf.seed = strtoull(argv[7], NULL, 10);
	conf.is_one_source = argv[8] != NULL;
	read_tokens(argv[3]);
	if (crypto_start() < 0 || cert_pin_of_file(argv[2], conf.pin, error) < 0 ||
	    tls_client_ctx_new(&tls, &conf.tls, error) < 0) {
		fprintf(stderr, "ends: %s\n", error);
		exit(1);
	}
	make_tap();
	list_init(&ends);
	loop = loop_new();
	talk = timer_new(loop, on_talk, NULL);
	wild = timer_new(loop, on_wild, NULL);
	players = calloc(conf.n, sizeof *players);
	for (unsigned i = 0; i < conf.n; i++)
		make_player(&players[i], conf.first + i);
}

static void take_down(void)
{
	list_each(it, tmp, &ends)
		free_end(container_of(it, struct end, node));
	for (unsigned i = 0; i < conf.n; i++)
		timer_free(players[i].again);
	timer_free(talk);
	timer_free(wild);
	loop_free(loop);
	tls_ctx_unref(conf.tls);
	map_done(&sessions);
	free(players);
	pkt_pool_drain();
}

int main(int argc, char **argv)
{
	if (argc != 8 && argc != 9) {
		fprintf(stderr, "usage: ends PORT CERT TOKENS TOTAL FIRST N SEED [one]\n");
		return 2;
	}
	set_up(argv);
	struct watch *input = watch_new(loop, STDIN_FILENO, on_input, NULL);
	watch_want(input, WATCH_READ);
	loop_run(loop);
	watch_free(input);
	take_down();
	return 0;
}
