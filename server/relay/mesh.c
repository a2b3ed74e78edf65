#include "server/relay/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/net/dial.h"
#include "server/relay/mesh_with.h"

enum {
	DIAL_MS = 20000,
	RETRY_FIRST_MS = 250,     /* twice as long each time; ... */
	RETRY_MAX_MS = 5000,      /* ... derp.md 5.5 has this alone */
	RETRY_MORE_MS = 250,      /* at random: relays that lost the same one */
	FORWARDERS_MAX = 1 << 18, /* of one link: what a relay that went mad may cost us */
	WARN_MS = 10000,
	TEXT_LEN = 512,
};

enum mate_state { MATE_WAITING, MATE_DIALLING, MATE_WATCHING, MATE_ENDED };

struct mate { /* another relay */
	struct mesh *mesh;
	struct mesh_with with;
	struct dial_conf dial;
	struct dialler *dialler;
	struct timer *retry;
	enum mate_state state;
	struct link *link;     /* the living one; events of others are late and ignored */
	struct lane *lane;     /* of it, once it was dialled; there are forwarders only with it */
	struct map forwarders; /* struct forwarder by key */
	uint32_t retry_ms;
	uint64_t since_ms;   /* WATCHING */
	char said[TEXT_LEN]; /* why it was last lost: said once, not at every attempt */
	struct log_limit unkept;
};

struct forwarder {            /* a native end of another relay */
	struct member member; /* its owner is the mate */
};

struct mesh {
	const struct mesh_conf *conf;
	struct mesh_place at;
	bool draining;
	unsigned n_links; /* also those that are closed, until they are swept */
	unsigned n_mates;
	struct mate mates[];
};

static uint64_t now_ms(const struct mate *m) { return loop_now_ms(m->mesh->at.loop); }

/* ---- forwarders ---- */

void mesh_relay(void *owner, struct pkt *p)
{
	const struct mate *m = owner;

	link_send(m->lane, p);
}

static void forwarder_free(struct forwarder *f)
{
	presence_unref(f->member.who);
	free(f);
}

static struct forwarder *forwarder_new(struct mate *m, const struct peer_status *p)
{
	struct forwarder *f = calloc(1, sizeof *f);
	struct presence *who = presence_new(0);

	if (!f || !who) {
		presence_unref(who);
		free(f);
		return NULL;
	}
	who->native = who->forwarder = true;
	who->bidirectional = true;
	who->key = p->key;
	who->native_flags = p->native_flags;
	who->port = p->port;
	memcpy(who->ip, p->ip, sizeof who->ip);
	snprintf(who->id, sizeof who->id, "nodekey:%s", key_brief(&p->key).s);
	f->member.who = who;
	f->member.owner = m;
	return f;
}

static int put(struct mate *m, const struct peer_status *p)
{
	struct forwarder *f = m->forwarders.n < FORWARDERS_MAX ? forwarder_new(m, p) : NULL;

	if (!f)
		return -ENOMEM;
	int rc = map_put(&m->forwarders, &f->member.who->key, f);
	if (rc == 0 && router_join(m->mesh->at.router, &f->member, now_ms(m)) != CLOSE_NONE) {
		map_del(&m->forwarders, &f->member.who->key);
		rc = -ENOMEM;
	}
	if (rc < 0)
		forwarder_free(f);
	return rc;
}

/* What has our own key there is this link: nobody is behind it. Bit 255 is of the keys
 * of named tunnels, which no other relay has (product.md 4). Else all are taken, relays
 * too, as the original does: one that we do not reach ourselves may answer through
 * another. */
static bool is_of_interest(const struct mate *m, const struct key *key)
{
	static const struct key none;

	return !(key->b[KEY_LEN - 1] & 0x80) && !key_eq(key, &none) &&
	       !key_eq(key, &m->mesh->conf->derp.public);
}

static void add(struct mate *m, const struct peer_status *p)
{
	unsigned unsaid;

	if (!is_of_interest(m, &p->key) || map_get(&m->forwarders, &p->key))
		return; /* told for each connection */
	if (put(m, p) < 0 && log_limit_pass(&m->unkept, now_ms(m), 1, WARN_MS, &unsaid))
		log_error("mesh: no memory or place for all DERP clients of %s: some are not reached "
		          "from here",
		          m->with.authority);
}

static void drop(struct mate *m, struct forwarder *f)
{
	map_del(&m->forwarders, &f->member.who->key);
	router_leave(m->mesh->at.router, &f->member, now_ms(m));
	forwarder_free(f);
}

static void drop_all(struct mate *m)
{
	struct forwarder *f;
	size_t pos = 0;

	while ((f = map_next(&m->forwarders, &pos)) != NULL) {
		router_leave(m->mesh->at.router, &f->member, now_ms(m));
		forwarder_free(f);
	}
	map_done(&m->forwarders);
}

/* ---- attempts and their ends ---- */

static void dial(void *arg)
{
	struct mate *m = arg;

	m->state = MATE_DIALLING;
	dialler_start(m->dialler, DIAL_MS);
}

static void wait_a_while(struct mate *m)
{
	m->state = MATE_WAITING;
	timer_set(m->retry, m->retry_ms + crypto_random_below(RETRY_MORE_MS));
	m->retry_ms = 2 * m->retry_ms < RETRY_MAX_MS ? 2 * m->retry_ms : RETRY_MAX_MS;
}

static void say_lost(struct mate *m, enum close_why why, const char *text)
{
	char words[TEXT_LEN];

	snprintf(words, sizeof words, "reason=%s: %s", close_label(why), text);
	if (m->state == MATE_WATCHING)
		log_warn("mesh: link lost to %s after %llu s, with %zu clients there %s",
		         m->with.authority, (unsigned long long)(now_ms(m) - m->since_ms) / 1000,
		         m->forwarders.n, words);
	else if (strcmp(words, m->said) != 0)
		log_warn("mesh: no link to %s %s", m->with.authority, words);
	else
		log_debug("mesh: again no link to %s", m->with.authority);
	snprintf(m->said, sizeof m->said, "%s", words);
}

/* Gives up what is there, attempt or link. */
static void let_go(struct mate *m, enum mate_state next)
{
	struct link *link = m->link;

	if (m->state == MATE_WATCHING)
		metric_add(METRIC_MESH_LINKS, -1);
	drop_all(m);
	m->state = next;
	m->link = NULL;
	m->lane = NULL;
	if (link)
		link_close(link, CLOSE_LOCAL);
}

static void lost(struct mate *m, enum close_why why, const char *text)
{
	if (!m->mesh->draining)
		say_lost(m, why, text); /* the text may go with the link */
	if (m->state == MATE_WATCHING && now_ms(m) - m->since_ms >= RETRY_MAX_MS)
		m->retry_ms = RETRY_FIRST_MS;
	if (m->state == MATE_DIALLING && m->link)
		dialler_judge(m->dialler, false);
	let_go(m, m->mesh->draining ? MATE_ENDED : MATE_WAITING);
	if (!m->mesh->draining)
		wait_a_while(m);
}

/* ---- the link ---- */

/* Lanes and links outlive our interest in them until the sweep. */
static bool is_current(const struct mate *m, const struct lane *lane) { return lane == m->lane; }

static void on_up(void *owner, struct link *l)
{
	static const struct hello watcher = { .version = 1, .bidirectional = true, .watch = true };
	struct mate *m = owner;

	if (l != m->link)
		return;
	int rc = link_dial(l, &watcher, &m->lane);
	if (rc < 0)
		lost(m, close_of_err(rc), err_text(rc));
}

static void on_ready(void *owner, struct lane *lane, const struct welcome *w)
{
	struct mate *m = owner;

	if (!is_current(m, lane) || !w->node_key ||
	    !key_eq(w->node_key, &m->mesh->conf->derp.public))
		return;
	log_info("mesh: %s is this relay itself: no link", m->with.authority);
	let_go(m, MATE_ENDED);
}

/* Who may watch is told of somebody at once, since it is there itself. */
static void begin_watching(struct mate *m)
{
	m->state = MATE_WATCHING;
	m->since_ms = now_ms(m);
	m->said[0] = 0;
	dialler_judge(m->dialler, true);
	metric_add(METRIC_MESH_LINKS, 1);
	log_info("mesh: link up to %s", m->with.authority);
}

static void on_peer(void *owner, struct lane *lane, const struct peer_status *p)
{
	struct mate *m = owner;
	struct forwarder *f;

	if (!is_current(m, lane))
		return;
	if (p->state == PEER_UP && m->state == MATE_DIALLING)
		begin_watching(m);
	if (p->state == PEER_UP)
		add(m, p);
	else if ((f = map_get(&m->forwarders, &p->key)) != NULL)
		drop(m, f); /* gone, or not there although we forwarded to it */
}

/* To our own key, by which it knows this link: we are no end. */
static void on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	(void)owner, (void)lane;
	pkt_drop(p, DROP_NO_ROUTE);
}

static void on_notice(void *owner, struct lane *lane, const struct notice *n)
{
	(void)owner, (void)lane, (void)n; /* the link lasts as long as it lasts */
}

static void on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct mate *m = owner;

	if (is_current(m, lane))
		lost(m, why, text);
}

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	struct mate *m = owner;

	m->mesh->n_links--;
	if (l != m->link)
		return;
	lost(m, why, text); /* in its TLS: there was no lane */
}

static const struct link_events link_events = {
	.up = on_up,
	.ready = on_ready,
	.packet = on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.ended = on_ended,
	.closed = on_closed,
};

/* ---- the dialler ---- */

static void on_connected(void *owner, int fd, const struct addr *peer, const uint8_t *early,
                         size_t early_len)
{
	struct mate *m = owner;
	struct mesh *mesh = m->mesh;
	const struct link_conf conf = { .side = SIDE_CLIENT,
		                        .fd = fd,
		                        .tls = mesh->conf->tls,
		                        .server_name = m->with.host,
		                        .early = early,
		                        .early_len = early_len,
		                        .ops = mesh->conf->ops,
		                        .transport = { .authority = m->with.authority,
		                                       .user_agent = "tunn/" TUNN_VERSION,
		                                       .derp = mesh->conf->derp },
		                        .limits = mesh->at.limits };

	(void)peer;
	int rc = link_open(mesh->at.links, &conf, &link_events, m, &m->link);
	if (rc == 0)
		mesh->n_links++;
	else
		lost(m, close_of_err(rc), err_text(rc));
}

static void on_failed(void *owner, enum close_why why, const char *text) { lost(owner, why, text); }

static const struct dial_events dial_events = { on_connected, on_failed };

/* ---- life ---- */

static int set_up(struct mesh *mesh, struct mate *m, const char *text)
{
	m->mesh = mesh;
	m->retry_ms = RETRY_FIRST_MS;
	map_init(&m->forwarders, KEY_LEN);
	if (mesh_with_of(text, &m->with) < 0)
		return ERR_INVALID; /* they have been checked */
	m->dial = (struct dial_conf){ .host = m->with.dial_host, .port = m->with.port };
	m->dialler = dialler_new(mesh->at.loop, &m->dial, &dial_events, m);
	m->retry = timer_new(mesh->at.loop, dial, m);
	return m->dialler && m->retry ? 0 : -ENOMEM;
}

int mesh_new(const struct mesh_conf *conf, const struct mesh_place *at, struct mesh **mesh_out)
{
	struct mesh *mesh = calloc(1, sizeof *mesh + conf->n_with * sizeof mesh->mates[0]);
	int rc = mesh ? 0 : -ENOMEM;

	if (!mesh)
		return rc;
	mesh->conf = conf;
	mesh->at = *at;
	for (; rc == 0 && mesh->n_mates < conf->n_with; mesh->n_mates++)
		rc = set_up(mesh, &mesh->mates[mesh->n_mates], conf->with[mesh->n_mates]);
	if (rc == 0)
		*mesh_out = mesh;
	else
		mesh_free(mesh);
	return rc;
}

void mesh_start(struct mesh *mesh)
{
	for (unsigned i = 0; mesh && i < mesh->n_mates; i++)
		dial(&mesh->mates[i]);
}

void mesh_drain(struct mesh *mesh)
{
	if (!mesh)
		return;
	mesh->draining = true;
	for (unsigned i = 0; i < mesh->n_mates; i++) {
		struct mate *m = &mesh->mates[i];
		timer_clear(m->retry);
		dialler_stop(m->dialler);
		if (m->state != MATE_WATCHING)
			let_go(m, MATE_ENDED);
	}
}

unsigned mesh_n_links(const struct mesh *mesh) { return mesh ? mesh->n_links : 0; }

void mesh_free(struct mesh *mesh)
{
	struct forwarder *f;

	if (!mesh)
		return;
	for (unsigned i = 0; i < mesh->n_mates; i++) {
		struct mate *m = &mesh->mates[i];
		size_t pos = 0;
		dialler_free(m->dialler);
		timer_free(m->retry);
		while ((f = map_next(&m->forwarders, &pos)) != NULL)
			forwarder_free(f);
		map_done(&m->forwarders);
	}
	free(mesh);
}
