/*
 * Two transports joined by moving bytes between two buffers, with a fake clock:
 * no socket, no thread. What each side was told is kept for the test to read.
 */
#ifndef TUNN_TESTS_BACK_TO_BACK_H
#define TUNN_TESTS_BACK_TO_BACK_H

#include <stdio.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/transport/transport.h"

struct told { /* by one side's transport */
	struct chan *chan;
	struct pktq packets;
	unsigned n_hello, n_ready, n_ended, n_peer, n_notice, n_wish, n_forward;
	enum close_why why;
	char text[512], account[64], id[64], token[300], peer_name[200];
	struct hello hello;
	struct peer_status peer;
	struct notice notice;
	struct wish wish;
	struct key peer_keys[8], node_key;
};

struct pair {
	struct transport_conf server_conf, client_conf;
	struct transport *server, *client;
	struct told at_server, at_client;
	uint64_t now_ms;
	size_t chunk; /* bytes handed over at once; 0: all */
	bool (*admit)(struct pair *, struct chan *, const struct hello *); /* NULL: admits all */
	int rc_server, rc_client;
	struct list webs; /* that the server's owner was asked and has not answered */
	unsigned n_request, n_unasked;
	char asked[512]; /* the last of them, its parts between bars */
	size_t asked_body;
	int refuse_requests; /* an error code, instead of an answer that follows */
	struct buf *heard_by_server, *heard_by_client; /* all that was sent, if not NULL */
	uint8_t server_secret[KEY_LEN], client_secret[KEY_LEN];
};

static inline void welcome_all(struct chan *c, const struct hello *h, const char *account)
{
	struct key keys[PEERS_MAX];
	struct welcome w = { .account = str_of(account),
		             .id = h->id,
		             .node = STR("n1"),
		             .max_payload = PAYLOAD_MAX,
		             .version = 1,
		             .n_peers = h->n_peers,
		             .peer_keys = keys };

	for (unsigned i = 0; i < h->n_peers; i++)
		key_of_peer(w.account, h->peers[i], &keys[i]);
	c->ops->admit(c, &w);
}

static inline int pair_hello(void *owner, struct chan *c, const struct hello *h)
{
	struct pair *p = owner;
	struct told *t = &p->at_server;

	c->up = t;
	t->chan = c;
	t->n_hello++;
	t->hello = *h;
	snprintf(t->id, sizeof t->id, "%.*s", (int)h->id.len, h->id.p ? h->id.p : "");
	snprintf(t->token, sizeof t->token, "%.*s", (int)h->token.len,
	         h->token.p ? h->token.p : "");
	if (h->n_peers)
		snprintf(t->peer_name, sizeof t->peer_name, "%.*s", (int)h->peers[0].len,
		         h->peers[0].p);
	if (h->node_key)
		t->node_key = *h->node_key;
	if (p->admit)
		return p->admit(p, c, h) ? 0 : ERR_AGAIN;
	welcome_all(c, h, "acme");
	return 0;
}

#define PAIR_TOLD(owner, c)                                                                        \
	struct pair *p = owner;                                                                    \
	struct told *t = (c)->transport == p->server ? &p->at_server : &p->at_client

static inline void pair_ready(void *owner, struct chan *c, const struct welcome *w)
{
	PAIR_TOLD(owner, c);
	t->n_ready++;
	snprintf(t->account, sizeof t->account, "%.*s", (int)w->account.len, w->account.p);
	snprintf(t->id, sizeof t->id, "%.*s", (int)w->id.len, w->id.p);
	for (unsigned i = 0; i < w->n_peers && i < 8; i++)
		t->peer_keys[i] = w->peer_keys[i];
}
static inline void pair_packet(void *owner, struct chan *c, struct pkt *pkt)
{
	PAIR_TOLD(owner, c);
	pktq_push(&t->packets, pkt);
}
static inline void pair_peer(void *owner, struct chan *c, const struct peer_status *s)
{
	PAIR_TOLD(owner, c);
	t->n_peer++;
	t->peer = *s;
	snprintf(t->text, sizeof t->text, "%.*s", (int)s->text.len, s->text.p ? s->text.p : "");
}
static inline void pair_notice(void *owner, struct chan *c, const struct notice *n)
{
	PAIR_TOLD(owner, c);
	t->n_notice++;
	t->notice = *n;
}
static inline void pair_ended(void *owner, struct chan *c, enum close_why why, const char *text)
{
	PAIR_TOLD(owner, c);
	t->n_ended++;
	t->why = why;
	snprintf(t->text, sizeof t->text, "%s", text);
	t->chan = NULL;
}

static inline void pair_wish(void *owner, struct chan *c, const struct wish *w)
{
	PAIR_TOLD(owner, c);
	t->n_wish++;
	t->wish = *w;
}
static inline void pair_forward(void *owner, struct chan *c, struct pkt *pkt)
{
	PAIR_TOLD(owner, c);
	t->n_forward++;
	pktq_push(&t->packets, pkt);
}

static inline int pair_request(void *owner, struct web *web, const struct web_request *q)
{
	struct pair *p = owner;
	const struct str parts[] = { q->method, q->path,   q->query,        q->host,
		                     q->origin, q->cookie, q->content_type, q->body };
	size_t n = 0;

	p->n_request++;
	p->asked_body = q->body.len;
	for (unsigned i = 0; i < 8 && n < sizeof p->asked; i++)
		n += (size_t)snprintf(p->asked + n, sizeof p->asked - n, "%.*s|", (int)parts[i].len,
		                      parts[i].len ? parts[i].p : "");
	if (p->refuse_requests)
		return p->refuse_requests;
	web->up = p;
	list_add_tail(&p->webs, &web->node);
	return 0;
}
static inline void pair_unasked(void *owner, struct web *web)
{
	struct pair *p = owner;

	p->n_unasked++;
	list_del(&web->node);
}

/* The request that came first. False: there is none. */
static inline bool pair_answer(struct pair *p, int status, const char *body)
{
	const struct web_field fields[] = { { STR("Content-Type"), STR("text/x") },
		                            { STR("Set-Cookie"), STR("a=b") } };
	const struct web_answer a = {
		.status = status, .fields = fields, .n_fields = 2, .body = str_of(body)
	};

	if (list_empty(&p->webs))
		return false;
	struct web *web = container_of(p->webs.next, struct web, node);
	list_del(&web->node);
	web->up = NULL;
	web->ops->answer(web, &a);
	return true;
}

static const struct transport_events pair_events = {
	.hello = pair_hello,
	.ready = pair_ready,
	.packet = pair_packet,
	.peer = pair_peer,
	.notice = pair_notice,
	.ended = pair_ended,
	.wish = pair_wish,
	.forward = pair_forward,
	.request = pair_request,
	.unasked = pair_unasked,
};

/* Those of derp.md 2.9. */
static inline void pair_keys(struct pair *p)
{
	for (uint8_t i = 0; i < KEY_LEN; i++) {
		p->server_secret[i] = (uint8_t)(0x20 + i);
		p->client_secret[i] = (uint8_t)(0x60 + i);
	}
	p->server_secret[KEY_LEN - 1] = 0x7f;
	p->server_conf.derp.secret = p->server_secret;
	p->client_conf.derp.secret = p->client_secret;
	crypto_node_public(p->server_secret, p->server_conf.derp.public.b);
	crypto_node_public(p->client_secret, p->client_conf.derp.public.b);
}

/* False: out of memory; pair_close() is due all the same. */
static inline bool pair_open(struct pair *p, const struct transport_ops *ops)
{
	*p = (struct pair){ .now_ms = 1000000 };
	list_init(&p->webs);
	p->server_conf = (struct transport_conf){ .node = "n1",
		                                  .host_address = "192.0.2.1:5",
		                                  .serving = true,
		                                  .limits = &limits_default };
	p->client_conf = (struct transport_conf){ .authority = "relay.test",
		                                  .user_agent = "test",
		                                  .limits = &limits_default };
	pair_keys(p);
	return ops->open(&p->server_conf, SIDE_SERVER, p->now_ms, &pair_events, p, &p->server) ==
	                       0 &&
	       ops->open(&p->client_conf, SIDE_CLIENT, p->now_ms, &pair_events, p, &p->client) == 0;
}

static inline void pair_close(struct pair *p, const struct transport_ops *ops)
{
	struct pkt *pkt;

	while ((pkt = pktq_pop(&p->at_server.packets)) != NULL)
		pkt_free(pkt);
	while ((pkt = pktq_pop(&p->at_client.packets)) != NULL)
		pkt_free(pkt);
	list_each(it, tmp, &p->webs) {
		list_del(it);
		container_of(it, struct web, node)->up = NULL;
	}
	ops->free(p->server);
	ops->free(p->client);
	pkt_pool_drain();
}

/* Moves what one side has to say; true if there was something. */
static inline bool pair_move(struct pair *p, const struct transport_ops *ops,
                             struct transport *from, struct transport *to, int *rc)
{
	struct buf out = { 0 };
	bool some;

	ops->flush(from, &out, 1 << 20);
	some = buf_len(&out) > 0;
	struct buf *heard = to == p->server ? p->heard_by_server : p->heard_by_client;
	if (heard)
		buf_add(heard, buf_data(&out), buf_len(&out));
	while (buf_len(&out)) {
		size_t n = p->chunk && p->chunk < buf_len(&out) ? p->chunk : buf_len(&out);
		int r = ops->input(to, buf_data(&out), n, p->now_ms);
		if (r < 0 && *rc == 0)
			*rc = r;
		buf_eat(&out, n);
	}
	buf_done(&out);
	return some;
}

/* Until both have nothing to say. */
static inline void pair_run(struct pair *p, const struct transport_ops *ops)
{
	for (unsigned i = 0; i < 1000; i++) {
		bool a = pair_move(p, ops, p->client, p->server, &p->rc_server);
		bool b = pair_move(p, ops, p->server, p->client, &p->rc_client);
		if (!a && !b)
			return;
	}
}

static inline int pair_dial(struct pair *p, const struct transport_ops *ops, const char *id,
                            const struct str *peers, unsigned n_peers)
{
	struct hello h = { .id = str_of(id),
		           .token = STR("tok"),
		           .has_instance = true,
		           .instance = { 1, 2, 3 },
		           .version = 1,
		           .role = ROLE_LISTEN,
		           .bidirectional = true,
		           .n_peers = n_peers,
		           .peers = peers };

	int rc = ops->dial(p->client, &h, &p->at_client.chan);
	if (rc == 0)
		p->at_client.chan->up = &p->at_client;
	return rc;
}

#endif
