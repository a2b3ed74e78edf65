#include "client/local.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/claim.h"
#include "client/flow.h"
#include "common/base/metric.h"
#include "common/net/udp.h"

enum { EXPIRE_EVERY_MS = 10000 };

struct socket { /* one UDP socket of ours */
	struct local *local;
	unsigned peer;
	uint32_t flow; /* forwarding */
	struct udp *udp;
};

struct local {
	struct loop *loop;
	local_packet *packet;
	void *owner;
	enum role role;
	bool chosen, first_taken;
	unsigned n_peers;
	struct addr target; /* forwarding */
	struct flow_table *flows;
	struct timer *expire;
	struct socket first_v6; /* listening, ::1 for the first peer */
	int claims[2];          /* listening: of the first peer's addresses, -1: none */
	struct socket peer[];   /* listening */
};

static void on_expire(void *arg)
{
	struct local *l = arg;

	flow_expire(l->flows, loop_now_ms(l->loop));
	timer_set(l->expire, EXPIRE_EVERY_MS);
}

/* Listening: from a local program. */
static void on_heard(void *owner, const struct addr *from, struct pkt *p)
{
	struct socket *s = owner;
	struct local *l = s->local;

	if (flow_from_addr(l->flows, s->peer, from, loop_now_ms(l->loop), &p->flow)) {
		pkt_drop(p, DROP_NOMEM);
		return;
	}
	l->packet(l->owner, s->peer, p);
}

/* Forwarding: a local program answers. */
static void on_answered(void *owner, const struct addr *from, struct pkt *p)
{
	struct socket *s = owner;
	struct local *l = s->local;

	(void)from; /* the socket is connected: only the target is heard */
	flow_to_socket(l->flows, s->peer, s->flow, loop_now_ms(l->loop)); /* stays in use */
	p->flow = s->flow;
	l->packet(l->owner, s->peer, p);
}

static void close_socket(void *owner, void *socket)
{
	struct socket *s = socket;

	(void)owner;
	udp_close(s->udp);
	free(s);
}

/* -- forwarding */

static void local_any(const struct addr *target, struct addr *any_out)
{
	bool v6 = target->ss.ss_family == AF_INET6;

	if (addr_is_loopback(target))
		addr_of_ip(v6 ? "::1" : "127.0.0.1", 0, any_out);
	else
		addr_of_ip(v6 ? "::" : "0.0.0.0", 0, any_out);
}

static int open_socket(struct local *l, struct socket *s)
{
	struct addr any;

	local_any(&l->target, &any);
	int rc = udp_open(l->loop, &any, on_answered, s, &s->udp);
	if (rc)
		return rc;
	rc = udp_connect(s->udp, &l->target);
	if (rc) {
		udp_close(s->udp);
		s->udp = NULL;
	}
	return rc;
}

static struct socket *new_socket(struct local *l, unsigned peer, uint32_t flow)
{
	struct socket *s = flow_make_room(l->flows, peer) ? calloc(1, sizeof *s) : NULL;

	if (!s)
		return NULL;
	*s = (struct socket){ .local = l, .peer = peer, .flow = flow };
	if (open_socket(l, s)) {
		free(s);
		return NULL;
	}
	if (flow_set_socket(l->flows, peer, flow, s, loop_now_ms(l->loop))) {
		close_socket(l, s);
		return NULL;
	}
	return s;
}

/* The kernel knows more broadcast addresses than their writing tells. */
static bool is_broadcast(struct local *l)
{
	struct socket s = { .local = l };
	bool is = open_socket(l, &s) == -EACCES;

	udp_close(s.udp);
	return is;
}

static int check_target(struct local *l, const char *host, char error_out[LOCAL_ERROR_LEN])
{
	char text[ADDR_TEXT_LEN];

	if (addr_is_special(&l->target) || is_broadcast(l)) {
		snprintf(error_out, LOCAL_ERROR_LEN,
		         "--forward %s: not one machine's address (multicast, broadcast or "
		         "unspecified)",
		         host);
		return ERR_CONFIG;
	}
	if (claim_is_held(&l->target)) {
		snprintf(error_out, LOCAL_ERROR_LEN,
		         "another tunn listens on %s, so datagrams would go in a circle: take "
		         "another port, or name all peers in one command",
		         addr_text(&l->target, text));
		return ERR_CONFIG;
	}
	return 0;
}

/* Start may block: nothing else runs yet. */
static int resolve(const char *host, uint16_t port, struct addr *addr_out,
                   char error_out[LOCAL_ERROR_LEN])
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *found;
	int rc = getaddrinfo(host, NULL, &hints, &found);

	if (rc) {
		snprintf(error_out, LOCAL_ERROR_LEN, "--forward %s: %s", host, gai_strerror(rc));
		return -EHOSTUNREACH;
	}
	memset(addr_out, 0, sizeof *addr_out);
	memcpy(&addr_out->ss, found->ai_addr, found->ai_addrlen);
	addr_out->len = found->ai_addrlen;
	addr_set_port(addr_out, port);
	freeaddrinfo(found);
	return 0;
}

static int start_forwarding(struct local *l, const struct local_conf *conf,
                            char error_out[LOCAL_ERROR_LEN])
{
	const char *host = conf->forward_host ? conf->forward_host : "127.0.0.1";
	bool here = strcmp(host, "localhost") == 0; /* IPv4, which every program binds */
	int rc = addr_of_ip(here ? "127.0.0.1" : host, conf->port, &l->target);

	l->role = ROLE_FORWARD;
	if (rc)
		rc = resolve(host, conf->port, &l->target, error_out);
	if (rc)
		return rc;
	return check_target(l, host, error_out);
}

/* -- listening */

/* The n-th address after a loopback IPv4 address. */
static void step_address(struct addr *a, unsigned n)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->ss;

	v4->sin_addr.s_addr = htonl(ntohl(v4->sin_addr.s_addr) + n);
}

static int listen_one(struct local *l, struct socket *s, unsigned peer, const struct addr *at,
                      char error_out[LOCAL_ERROR_LEN])
{
	char text[ADDR_TEXT_LEN];

	s->local = l;
	s->peer = peer;
	int rc = udp_open(l->loop, at, on_heard, s, &s->udp);
	if (rc == -EADDRINUSE)
		snprintf(error_out, LOCAL_ERROR_LEN,
		         "%s is in use by another program; stop it, or say --forward to send to it",
		         addr_text(at, text));
	else if (rc)
		snprintf(error_out, LOCAL_ERROR_LEN, "cannot listen on %s: %s%s",
		         addr_text(at, text), err_text(rc),
		         rc == -EACCES ? "; say --forward, or take a port above 1023" : "");
	return rc;
}

static bool has_no_v6(int rc)
{
	return rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT || rc == -EPROTONOSUPPORT;
}

static int listen_first(struct local *l, const struct local_conf *conf, const struct addr *at,
                        char error_out[LOCAL_ERROR_LEN])
{
	struct addr v6;
	int rc = listen_one(l, &l->peer[0], 0, at, error_out);

	if (rc == 0 && !conf->listen_addr) {
		addr_of_ip("::1", conf->port, &v6);
		rc = listen_one(l, &l->first_v6, 0, &v6, error_out);
	}
	l->first_taken = rc == -EADDRINUSE;
	if (l->peer[0].udp)
		l->claims[0] = claim_listening(udp_local(l->peer[0].udp));
	if (l->first_v6.udp)
		l->claims[1] = claim_listening(udp_local(l->first_v6.udp));
	return has_no_v6(rc) && l->peer[0].udp ? 0 : rc;
}

static int listen_address(const struct local_conf *conf, struct addr *at_out,
                          char error_out[LOCAL_ERROR_LEN])
{
	const char *ip = conf->listen_addr ? conf->listen_addr : "127.0.0.1";

	if (addr_of_ip(ip, conf->port, at_out)) {
		snprintf(error_out, LOCAL_ERROR_LEN, "--listen %s: not a numeric address", ip);
		return ERR_CONFIG;
	}
	if (conf->n_peers > 1 && !(at_out->ss.ss_family == AF_INET && addr_is_loopback(at_out))) {
		snprintf(error_out, LOCAL_ERROR_LEN,
		         "--listen %s: several peers need an address each: leave it out, or take one in "
		         "127.0.0.0/8",
		         ip);
		return ERR_CONFIG;
	}
	return 0;
}

static int listen_all(struct local *l, const struct local_conf *conf,
                      char error_out[LOCAL_ERROR_LEN])
{
	struct addr first;
	int rc = listen_address(conf, &first, error_out);

	l->role = ROLE_LISTEN;
	if (rc == 0)
		rc = listen_first(l, conf, &first, error_out);
	for (unsigned i = 1; rc == 0 && i < conf->n_peers; i++) {
		struct addr at = first;
		step_address(&at, i);
		rc = listen_one(l, &l->peer[i], i, &at, error_out);
	}
	return rc;
}

static void stop_listening(struct local *l)
{
	for (unsigned i = 0; i < 2; i++) {
		if (l->claims[i] >= 0)
			close(l->claims[i]);
		l->claims[i] = -1;
	}
	udp_close(l->first_v6.udp);
	l->first_v6.udp = NULL;
	for (unsigned i = 0; i < l->n_peers; i++) {
		udp_close(l->peer[i].udp);
		l->peer[i].udp = NULL;
	}
}

/* In use on the first peer's addresses means that the program owns its port. */
static int choose(struct local *l, const struct local_conf *conf, char error_out[LOCAL_ERROR_LEN])
{
	int rc = listen_all(l, conf, error_out);

	l->chosen = true;
	if (!l->first_taken)
		return rc;
	stop_listening(l);
	return start_forwarding(l, conf, error_out);
}

static int start(struct local *l, const struct local_conf *conf, char error_out[LOCAL_ERROR_LEN])
{
	l->flows = flow_table_new(conf->n_peers, close_socket, l);
	l->expire = timer_new(l->loop, on_expire, l);
	if (!l->flows || !l->expire) {
		snprintf(error_out, LOCAL_ERROR_LEN, "out of memory");
		return -ENOMEM;
	}
	timer_set(l->expire, EXPIRE_EVERY_MS);
	if (conf->sockets_max)
		flow_limit_sockets(l->flows, conf->sockets_max);
	if (conf->listen)
		return listen_all(l, conf, error_out);
	return conf->forward ? start_forwarding(l, conf, error_out) : choose(l, conf, error_out);
}

int local_open(struct loop *loop, const struct local_conf *conf, local_packet *packet, void *owner,
               struct local **local_out, char error_out[static LOCAL_ERROR_LEN])
{
	struct local *l = calloc(1, sizeof *l + conf->n_peers * sizeof l->peer[0]);

	if (!l) {
		snprintf(error_out, LOCAL_ERROR_LEN, "out of memory");
		return -ENOMEM;
	}
	l->loop = loop;
	l->packet = packet;
	l->owner = owner;
	l->n_peers = conf->n_peers;
	l->claims[0] = l->claims[1] = -1;
	int rc = start(l, conf, error_out);
	if (rc)
		local_close(l);
	else
		*local_out = l;
	return rc;
}

void local_close(struct local *l)
{
	if (!l)
		return;
	stop_listening(l);
	flow_table_free(l->flows);
	timer_free(l->expire);
	free(l);
}

enum role local_role(const struct local *l) { return l->role; }
bool local_is_chosen(const struct local *l) { return l->chosen; }

const struct addr *local_where(const struct local *l, unsigned peer)
{
	return l->role == ROLE_FORWARD ? &l->target : udp_local(l->peer[peer].udp);
}

const struct addr *local_where_too(const struct local *l)
{
	return l->first_v6.udp ? udp_local(l->first_v6.udp) : NULL;
}

void local_peer_role(struct local *l, unsigned peer, enum role role)
{
	if (role != ROLE_UNKNOWN)
		flow_peer_echoes(l->flows, peer, role == ROLE_FORWARD);
}

/* -- a datagram of the peer */

static void deliver_listening(struct local *l, unsigned peer, struct pkt *p, uint64_t now_ms)
{
	const struct addr *to = flow_to_addr(l->flows, peer, p->flow, now_ms);
	struct udp *udp = l->peer[peer].udp;

	if (!to) {
		pkt_drop(p, DROP_NO_ROUTE);
		return;
	}
	if (to->ss.ss_family == AF_INET6 && peer == 0 && l->first_v6.udp)
		udp = l->first_v6.udp;
	metric_add(METRIC_PKTS_OUT, 1);
	metric_add(METRIC_BYTES_OUT, p->len);
	udp_queue(udp, to, p);
}

static void deliver_forwarding(struct local *l, unsigned peer, struct pkt *p, uint64_t now_ms)
{
	struct socket *s = flow_to_socket(l->flows, peer, p->flow, now_ms);

	if (!s)
		s = new_socket(l, peer, p->flow);
	if (!s) {
		pkt_drop(p, DROP_FLOW_LIMIT);
		return;
	}
	metric_add(METRIC_PKTS_OUT, 1);
	metric_add(METRIC_BYTES_OUT, p->len);
	udp_queue(s->udp, NULL, p);
}

void local_deliver(struct local *l, unsigned peer, struct pkt *p)
{
	if (l->role == ROLE_FORWARD)
		deliver_forwarding(l, peer, p, loop_now_ms(l->loop));
	else
		deliver_listening(l, peer, p, loop_now_ms(l->loop));
}
