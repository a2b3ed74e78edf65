#include "client/map_ways.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/region_probe.h"
#include "client/regions.h"
#include "common/base/err.h"

enum { FETCH_MS = 15000, AUTHORITY_LEN = 300, RELAY_LEN = 400 };

struct node_way { /* what a struct way points to */
	char authority[AUTHORITY_LEN], relay[RELAY_LEN];
};

struct map_ways {
	struct loop *loop;
	const struct map_ways_conf *conf;
	map_ways_done *done;
	void *arg;
	struct derp_map map;
	struct regions regions;
	struct fetch *fetch;
	struct region_probe *probe;
	struct tls_ctx *usual; /* of all nodes without a certificate name of their own */
	struct way ways[MAP_WAYS_MAX];
	struct node_way nodes[MAP_WAYS_MAX];
	unsigned n;
	char words[MAP_WAYS_ERROR_LEN];
};

/* ---- ends ---- */

static void fail(struct map_ways *m, bool is_bad, const char *words)
{
	const struct map_ways_result r = { .words = words, .is_bad = is_bad };

	m->done(m->arg, &r);
}

static void succeed(struct map_ways *m)
{
	const struct map_ways_result r = { m->ways, m->n, m->words, false };

	m->done(m->arg, &r);
}

/* ---- one way for each node ---- */

static int tls_of(struct map_ways *m, const struct derp_node *node, struct tls_ctx **ctx_out)
{
	bool is_usual = derp_node_is_usual(node);

	if (is_usual && m->usual) {
		*ctx_out = tls_ctx_ref(m->usual);
		return 0;
	}
	int rc = derp_node_tls(node, m->conf->ca_file, ctx_out, m->words);
	if (rc == 0 && is_usual)
		m->usual = tls_ctx_ref(*ctx_out);
	return rc;
}

static void name(struct node_way *nw, const struct derp_region *region,
                 const struct derp_node *node)
{
	bool v6 = strchr(node->host, ':') != NULL;
	char port[8] = "", at[AUTHORITY_LEN];

	if (node->port != DERP_PORT)
		snprintf(port, sizeof port, ":%u", node->port);
	snprintf(at, sizeof at, "%s%s%s%s", v6 ? "[" : "", node->host, v6 ? "]" : "", port);
	memcpy(nw->authority, at, sizeof at);
	snprintf(nw->relay, sizeof nw->relay, "%s (region %lld%s%s)", at, (long long)region->id,
	         region->code[0] ? ", " : "", region->code);
}

static int add(struct map_ways *m, const struct derp_region *region, const struct derp_node *node)
{
	char warning[PROXY_ERROR_LEN];
	struct node_way *nw = &m->nodes[m->n];
	struct way *w = &m->ways[m->n];

	name(nw, region, node);
	*w = (struct way){
		.dial = { .host = node->host,
		          .port = node->port,
		          .fwmark = m->conf->fwmark,
		          .bind_device = m->conf->bind_device,
		          .ipv4 = node->ipv4,
		          .ipv6 = node->ipv6 },
		.ops = transport_named(STR("derp")),
		.transport = m->conf->transport,
		.relay = nw->relay,
	};
	w->transport.authority = nw->authority;
	if (node != &region->nodes[0])
		w->transport.derp.ideal_node = region->nodes[0].name;
	if (proxy_choose(m->conf->proxy, node->host, node->port, &w->dial.proxy, warning,
	                 m->words) < 0)
		return ERR_CONFIG;
	int rc = tls_of(m, node, &w->tls);
	if (rc == 0)
		m->n++;
	return rc;
}

static void list(struct map_ways *m)
{
	const struct derp_region *region;

	do {
		const struct derp_node *node = regions_node(&m->regions, &region);
		if (add(m, region, node) < 0) {
			fail(m, true, m->words);
			return;
		}
	} while (regions_next(&m->regions) && m->n < MAP_WAYS_MAX);
	succeed(m);
}

static void on_measured(void *arg, enum region_probe_way way)
{
	static const char *const how[] = {
		[REGION_PROBE_NONE] = "no region answered, so they are tried in order",
		[REGION_PROBE_STUN] = "nearest by STUN",
		[REGION_PROBE_HTTPS] = "nearest by HTTPS, since UDP does not get through",
	};
	struct map_ways *m = arg;

	region_probe_free(m->probe); /* with its sockets, which would stay as long as we do */
	m->probe = NULL;
	snprintf(m->words, sizeof m->words, "%s", how[way]);
	list(m);
}

/* ---- the map ---- */

static void choose(struct map_ways *m)
{
	const struct region_probe_conf probe = { m->conf->ca_file, m->conf->proxy, m->conf->fwmark,
		                                 m->conf->bind_device };

	if (regions_init(&m->regions, &m->map, m->conf->region, m->words) < 0) {
		fail(m, true, m->words);
	} else if (!regions_have_choice(&m->regions)) {
		snprintf(m->words, sizeof m->words, "%s",
		         m->conf->region ? "as asked for" : "the only one");
		list(m);
	} else if (region_probe_start(m->loop, &probe, &m->regions, on_measured, m, &m->probe) <
	           0) {
		fail(m, false, "out of memory");
	}
}

static void on_fetched(void *arg, const struct fetch_answer *answer, const char *error)
{
	struct map_ways *m = arg;

	m->fetch = NULL;
	if (!answer) {
		fail(m, false, error);
	} else if (answer->status != 200) {
		snprintf(m->words, sizeof m->words, "HTTP %d instead of a DERP map",
		         answer->status);
		fail(m, answer->status < 500, m->words);
	} else if (derp_map_parse(answer->body, &m->map, m->words) < 0) {
		fail(m, true, m->words);
	} else {
		choose(m);
	}
}

static bool is_url(const char *s)
{
	return strncmp(s, "https://", 8) == 0 || strncmp(s, "http://", 7) == 0;
}

static void fetch_map(struct map_ways *m)
{
	const struct tls_client_conf trust = { .ca_file = m->conf->ca_file };
	struct proxy_conf proxy;
	char host[256], warning[PROXY_ERROR_LEN];
	bool https;
	struct fetch_conf conf = { .url = m->conf->source,
		                   .proxy = &proxy,
		                   .fwmark = m->conf->fwmark,
		                   .bind_device = m->conf->bind_device,
		                   .timeout_ms = FETCH_MS,
		                   .max_body = DERP_MAP_BYTES };

	if (fetch_check_url(conf.url, &https, host, m->words) < 0 ||
	    proxy_choose(m->conf->proxy, host, 443, &proxy, warning, m->words) < 0 ||
	    (https && tls_client_ctx_new(&trust, &conf.tls, m->words) < 0)) {
		fail(m, true, m->words);
		return;
	}
	int rc = fetch_start(m->loop, &conf, on_fetched, m, &m->fetch, m->words);
	tls_ctx_unref(conf.tls);
	if (rc < 0)
		fail(m, rc != -ENOMEM, m->words);
}

/* ---- life ---- */

struct map_ways *map_ways_start(struct loop *loop, const struct map_ways_conf *conf,
                                map_ways_done *done, void *arg)
{
	struct map_ways *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->loop = loop;
	m->conf = conf;
	m->done = done;
	m->arg = arg;
	if (is_url(conf->source))
		fetch_map(m);
	else if (derp_map_read(conf->source, &m->map, m->words) < 0)
		fail(m, true, m->words);
	else
		choose(m);
	return m;
}

void map_ways_free(struct map_ways *m)
{
	if (!m)
		return;
	fetch_cancel(m->fetch);
	region_probe_free(m->probe);
	regions_done(&m->regions);
	derp_map_done(&m->map);
	for (unsigned i = 0; i < m->n; i++)
		tls_ctx_unref(m->ways[i].tls);
	tls_ctx_unref(m->usual);
	free(m);
}
