#include "client/region_probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/stun_probe.h"
#include "common/net/fetch.h"
#include "common/net/resolve.h"

enum {
	QUESTIONS = REGION_PROBE_REGIONS * REGION_PROBE_NODES,
	TARGETS = 2 * QUESTIONS, /* both families */
	BODY = 8192,
};

struct question { /* a name for STUN, or a request */
	struct region_probe *probe;
	const struct derp_region *region;
	const struct derp_node *node;
	struct resolve *resolve;
	struct fetch *fetch;
};

struct region_probe {
	struct loop *loop;
	const struct region_probe_conf *conf;
	struct regions *regions;
	void (*done)(void *arg, enum region_probe_way way);
	void *arg;
	struct question questions[QUESTIONS];
	unsigned n_questions, n_open;
	struct addr targets[TARGETS];
	const void *region_of[TARGETS]; /* struct derp_region */
	unsigned n_targets;
	struct stun_probe *stun;
	struct tls_ctx *tls; /* of the nodes that have nothing special; NULL: not needed yet */
	struct timer *names, *end;
	enum region_probe_way way;
};

/* ---- the end ---- */

/* The last thing that is done with it: the owner may free it. */
static void on_end(void *arg)
{
	struct region_probe *p = arg;

	timer_clear(p->names);
	regions_settle(p->regions);
	p->done(p->arg, regions_heard_any(p->regions) ? p->way : REGION_PROBE_NONE);
}

static void end(struct region_probe *p) { timer_set(p->end, 0); }

/* ---- HTTPS ---- */

static void on_fetched(void *owner, const struct fetch_answer *a, const char *error)
{
	struct question *q = owner;

	(void)error;
	q->fetch = NULL;
	if (a && a->status >= 200 && a->status < 300)
		regions_note(q->probe->regions, q->region, a->wait_ms);
	if (--q->probe->n_open == 0)
		end(q->probe);
}

/* Gives a reference. */
static struct tls_ctx *tls_for(struct region_probe *p, const struct derp_node *n)
{
	struct tls_ctx *tls = NULL;
	char error[TLS_ERROR_LEN];

	if (derp_node_is_usual(n) && p->tls)
		return tls_ctx_ref(p->tls);
	if (derp_node_tls(n, p->conf->ca_file, &tls, error) < 0)
		return NULL;
	if (derp_node_is_usual(n))
		p->tls = tls_ctx_ref(tls);
	return tls;
}

static int fetch(struct region_probe *p, struct question *q, struct tls_ctx *tls)
{
	const struct derp_node *n = q->node;
	bool v6 = strchr(n->host, ':') != NULL;
	char url[sizeof n->host + 64], warning[PROXY_ERROR_LEN], error[FETCH_ERROR_LEN];
	struct proxy_conf proxy;

	snprintf(url, sizeof url, "https://%s%s%s:%u/derp/latency-check", v6 ? "[" : "", n->host,
	         v6 ? "]" : "", n->port);
	if (proxy_choose(p->conf->proxy, n->host, n->port, &proxy, warning, error) < 0)
		return -EINVAL;
	const struct fetch_conf conf = { .url = url,
		                         .tls = tls,
		                         .proxy = &proxy,
		                         .fwmark = p->conf->fwmark,
		                         .bind_device = p->conf->bind_device,
		                         .ipv4 = &n->ipv4,
		                         .ipv6 = &n->ipv6,
		                         .timeout_ms = REGION_PROBE_HTTPS_MS,
		                         .max_body = BODY,
		                         .cut = true };
	return fetch_start(p->loop, &conf, on_fetched, q, &q->fetch, error);
}

static const struct derp_node *derp_node_of(const struct derp_region *r)
{
	for (size_t i = 0; i < r->n_nodes; i++)
		if (!r->nodes[i].stun_only)
			return &r->nodes[i];
	return NULL;
}

static void ask_https(struct region_probe *p, const struct derp_region *r)
{
	const struct derp_node *n = derp_node_of(r);
	struct tls_ctx *tls = n ? tls_for(p, n) : NULL;

	if (!tls)
		return;
	struct question *q = &p->questions[p->n_questions++];
	*q = (struct question){ .probe = p, .region = r, .node = n };
	if (fetch(p, q, tls) == 0)
		p->n_open++;
	tls_ctx_unref(tls);
}

static unsigned n_regions(const struct region_probe *p)
{
	return p->regions->n < REGION_PROBE_REGIONS ? (unsigned)p->regions->n :
	                                              REGION_PROBE_REGIONS;
}

static void start_https(struct region_probe *p)
{
	p->way = REGION_PROBE_HTTPS;
	p->n_questions = 0;
	for (unsigned i = 0; i < n_regions(p); i++)
		if (regions_may_measure(p->regions->v[i].region))
			ask_https(p, p->regions->v[i].region);
	if (p->n_open == 0)
		end(p);
}

/* ---- STUN ---- */

static void on_stun(void *arg, const uint32_t *latencies_ms, unsigned n)
{
	struct region_probe *p = arg;

	for (unsigned i = 0; i < n; i++)
		if (latencies_ms[i] != STUN_PROBE_SILENT)
			regions_note(p->regions, p->region_of[i], latencies_ms[i]);
	if (regions_heard_any(p->regions))
		end(p);
	else
		start_https(p);
}

static void start_stun(struct region_probe *p)
{
	const struct stun_probe_conf conf = { .targets = p->targets,
		                              .places = p->region_of,
		                              .n = p->n_targets,
		                              .timeout_ms = REGION_PROBE_STUN_MS,
		                              .fwmark = p->conf->fwmark,
		                              .bind_device = p->conf->bind_device };

	timer_clear(p->names);
	p->way = REGION_PROBE_STUN;
	if (p->n_targets == 0 || stun_probe_start(p->loop, &conf, on_stun, p, &p->stun) < 0)
		start_https(p);
}

static void add_target(struct region_probe *p, const struct question *q, const struct addr *a)
{
	if (p->n_targets == TARGETS)
		return;
	p->targets[p->n_targets] = *a;
	addr_set_port(&p->targets[p->n_targets], q->node->stun_port);
	p->region_of[p->n_targets++] = q->region;
}

/* ---- names ---- */

static bool is_settled(const struct dial_family *f) { return f->off || f->at.len; }

static void add_found(struct question *q, const struct addr *addrs, size_t n, int family)
{
	for (size_t i = 0; i < n; i++) {
		if (addrs[i].ss.ss_family != family)
			continue;
		add_target(q->probe, q, &addrs[i]);
		return;
	}
}

static void on_resolved(void *owner, const struct addr *addrs, size_t n, const char *error)
{
	struct question *q = owner;

	(void)error;
	q->resolve = NULL;
	if (!is_settled(&q->node->ipv4))
		add_found(q, addrs, n, AF_INET);
	if (!is_settled(&q->node->ipv6))
		add_found(q, addrs, n, AF_INET6);
	if (--q->probe->n_open == 0)
		start_stun(q->probe);
}

static void close_questions(struct region_probe *p)
{
	for (unsigned i = 0; i < p->n_questions; i++) {
		resolve_cancel(p->questions[i].resolve);
		fetch_cancel(p->questions[i].fetch);
		p->questions[i].resolve = NULL;
		p->questions[i].fetch = NULL;
	}
	p->n_open = 0;
}

static void on_names_late(void *arg)
{
	struct region_probe *p = arg;

	close_questions(p);
	start_stun(p);
}

/* Where the node's STUN server is, or a question for it. */
static void find_stun(struct region_probe *p, const struct derp_region *r,
                      const struct derp_node *n)
{
	struct question *q = &p->questions[p->n_questions++];

	*q = (struct question){ .probe = p, .region = r, .node = n };
	if (n->stun_at.len) {
		add_target(p, q, &n->stun_at);
		return;
	}
	if (n->ipv4.at.len)
		add_target(p, q, &n->ipv4.at);
	if (n->ipv6.at.len)
		add_target(p, q, &n->ipv6.at);
	if ((!is_settled(&n->ipv4) || !is_settled(&n->ipv6)) &&
	    resolve_start(p->loop, n->host, n->stun_port, on_resolved, q, &q->resolve) == 0)
		p->n_open++;
}

static void find_region(struct region_probe *p, const struct derp_region *r)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->n_nodes && n < REGION_PROBE_NODES; i++) {
		if (!r->nodes[i].stun_port)
			continue;
		find_stun(p, r, &r->nodes[i]);
		n++;
	}
}

/* ---- life ---- */

int region_probe_start(struct loop *loop, const struct region_probe_conf *conf,
                       struct regions *regions, void (*done)(void *arg, enum region_probe_way way),
                       void *arg, struct region_probe **probe_out)
{
	struct region_probe *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	*p = (struct region_probe){ .loop = loop, .conf = conf, .regions = regions };
	p->done = done;
	p->arg = arg;
	p->names = timer_new(loop, on_names_late, p);
	p->end = timer_new(loop, on_end, p);
	if (!p->names || !p->end) {
		region_probe_free(p);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n_regions(p); i++)
		if (regions_may_measure(regions->v[i].region))
			find_region(p, regions->v[i].region);
	if (p->n_open == 0)
		start_stun(p);
	else
		timer_set(p->names, REGION_PROBE_NAMES_MS);
	*probe_out = p;
	return 0;
}

void region_probe_free(struct region_probe *p)
{
	if (!p)
		return;
	close_questions(p);
	stun_probe_free(p->stun);
	tls_ctx_unref(p->tls);
	timer_free(p->names);
	timer_free(p->end);
	free(p);
}
