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
	struct derp_map fetched;
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

/* Of what is here already only memory may be better later. */
static void fail_with(struct map_ways *m, int rc) { fail(m, rc != -ENOMEM, m->words); }

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
	int rc = proxy_choose(m->conf->proxy, node->host, node->port, &w->dial.proxy, warning,
	                      m->words);
	if (rc == 0)
		rc = tls_of(m, node, &w->tls);
	if (rc == 0)
		m->n++;
	return rc;
}

static void list(struct map_ways *m)
{
	const struct derp_region *region;

	do {
		const struct derp_node *node = regions_node(&m->regions, &region);
		int rc = add(m, region, node);
		if (rc < 0) {
			fail_with(m, rc);
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

static void choose(struct map_ways *m, const struct derp_map *map)
{
	const struct region_probe_conf probe = { m->conf->ca_file, m->conf->proxy, m->conf->fwmark,
		                                 m->conf->bind_device };
	int rc = regions_init(&m->regions, map, m->conf->region, m->words);

	if (rc < 0) {
		fail_with(m, rc);
	} else if (!regions_have_choice(&m->regions)) {
		snprintf(m->words, sizeof m->words, "%s",
		         m->conf->region ? "as asked for" : "the only one");
		list(m);
	} else if (region_probe_start(m->loop, &probe, &m->regions, on_measured, m, &m->probe) <
	           0) {
		fail(m, false, "out of memory");
	}
}

/* RFC 9110 15.5.9, RFC 6585 4, and what is the server's own fault: later all may be well. */
static bool is_for_now(int status) { return status == 408 || status == 429 || status >= 500; }

static void refuse_status(struct map_ways *m, int status)
{
	snprintf(m->words, sizeof m->words, "HTTP %d instead of a DERP map%s", status,
	         status / 100 == 3 ? ", redirects are not followed" : "");
	fail(m, !is_for_now(status), m->words);
}

static void on_fetched(void *arg, const struct fetch_answer *answer, const char *error)
{
	struct map_ways *m = arg;

	m->fetch = NULL;
	if (!answer) {
		fail(m, false, error);
		return;
	}
	if (answer->status != 200) {
		refuse_status(m, answer->status);
		return;
	}
	int rc = derp_map_parse(answer->body, &m->fetched, m->words);
	if (rc < 0)
		fail_with(m, rc);
	else
		choose(m, &m->fetched);
}

bool map_ways_is_url(const char *s)
{
	return strncmp(s, "https://", 8) == 0 || strncmp(s, "http://", 7) == 0;
}

static void fetch_map(struct map_ways *m)
{
	const struct tls_client_conf trust = { .ca_file = m->conf->ca_file, .ca_option = "--ca" };
	struct proxy_conf proxy;
	char host[256], warning[PROXY_ERROR_LEN];
	bool https;
	struct fetch_conf conf = { .url = m->conf->source,
		                   .proxy = &proxy,
		                   .fwmark = m->conf->fwmark,
		                   .bind_device = m->conf->bind_device,
		                   .timeout_ms = FETCH_MS,
		                   .max_body = DERP_MAP_BYTES };

	int rc = fetch_check_url(conf.url, &https, host, m->words);
	if (rc == 0)
		rc = proxy_choose(m->conf->proxy, host, 443, &proxy, warning, m->words);
	if (rc == 0 && https)
		rc = tls_client_ctx_new(&trust, &conf.tls, m->words);
	if (rc == 0)
		rc = fetch_start(m->loop, &conf, on_fetched, m, &m->fetch, m->words);
	tls_ctx_unref(conf.tls);
	if (rc < 0)
		fail_with(m, rc);
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
	if (conf->map)
		choose(m, conf->map);
	else
		fetch_map(m);
	return m;
}

void map_ways_free(struct map_ways *m)
{
	if (!m)
		return;
	fetch_cancel(m->fetch);
	region_probe_free(m->probe);
	regions_done(&m->regions);
	derp_map_done(&m->fetched);
	for (unsigned i = 0; i < m->n; i++)
		tls_ctx_unref(m->ways[i].tls);
	tls_ctx_unref(m->usual);
	free(m);
}
