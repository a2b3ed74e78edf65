#include "server/admin/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/json.h"

/* ---- reading ---- */

static void read_text(const struct json *text, char *out, size_t cap)
{
	struct str s = STR("");

	json_as_text(text, &s);
	snprintf(out, cap, "%.*s", (int)s.len, s.p);
	make_printable(out, strlen(out));
}
#define READ_TEXT(of, name, field) read_text(json_get(of, name), field, sizeof field)

static int64_t read_int(const struct json *of, const char *name, int64_t or_else)
{
	int64_t n;

	return json_as_int(json_get(of, name), &n) == JSON_READ && n >= 0 ? n : or_else;
}

static struct status_series read_series(const struct json *array)
{
	struct status_series s = { .n = 0 };

	for (struct json_walk w = json_walk(array); json_next(&w) && s.n < STATUS_SECONDS; s.n++)
		if (json_as_int(w.value, &s.v[s.n]) != JSON_READ || s.v[s.n] < 0)
			s.v[s.n] = -1;
	return s;
}

static void read_node(struct status *s, const struct json *node)
{
	struct json_walk first = json_walk(json_get(node, "listening"));

	READ_TEXT(node, "name", s->node);
	READ_TEXT(node, "version", s->version);
	READ_TEXT(node, "state", s->state);
	s->uptime_s = read_int(node, "uptime_s", 0);
	if (json_next(&first))
		read_text(first.value, s->listening, sizeof s->listening);
	for (struct json_walk w = json_walk(json_get(node, "workers")); json_next(&w);) {
		bool answers = true;
		json_as_bool(json_get(w.value, "answers"), &answers);
		s->n_workers++;
		s->n_silent += !answers;
	}
}

static void read_all_series(struct status *s, const struct json *doc)
{
	const struct {
		const char *name;
		struct status_series *to;
	} columns[] = {
		{ "bytes_in", &s->bytes_in },
		{ "bytes_out", &s->bytes_out },
		{ "packets_in", &s->packets_in },
		{ "packets_out", &s->packets_out },
		{ "tunnels", &s->open },
		{ "queue_delay_us_p50", &s->delay_p50 },
		{ "queue_delay_us_p99", &s->delay_p99 },
		{ "rtt_us_p50", &s->rtt_p50 },
		{ "rtt_us_p99", &s->rtt_p99 },
	};

	for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
		*columns[i].to = read_series(json_get(doc, columns[i].name));
	for (struct json_walk w = json_walk(json_get(doc, "drops")); json_next(&w);) {
		struct status_series count = read_series(w.value);
		size_t n = w.name.len;
		if (status_sum(&count) == 0 || s->n_drops == STATUS_REASONS ||
		    n >= sizeof s->drops[0].name)
			continue;
		memcpy(s->drops[s->n_drops].name, w.name.p, n);
		make_printable(s->drops[s->n_drops].name, n);
		s->drops[s->n_drops++].count = count;
	}
}

static struct status_tunnel read_tunnel(const struct json *t)
{
	struct status_tunnel v = { .rate_in = -1, .rate_out = -1 };
	struct json_walk peer = json_walk(json_get(t, "peers"));

	READ_TEXT(t, "account", v.account);
	READ_TEXT(t, "id", v.id);
	READ_TEXT(t, "address", v.address);
	READ_TEXT(t, "transport", v.transport);
	READ_TEXT(t, "role", v.role);
	v.since_unix_s = read_int(t, "since_unix_s", 0);
	v.rtt_us = read_int(t, "rtt_us", -1);
	v.bytes_in = read_int(json_get(t, "in"), "bytes", 0);
	v.bytes_out = read_int(json_get(t, "out"), "bytes", 0);
	v.queue_bytes = read_int(json_get(t, "queue"), "bytes", 0);
	for (struct json_walk w = json_walk(json_get(t, "drops")); json_next(&w);) {
		int64_t n;
		if (json_as_int(w.value, &n) == JSON_READ && n > 0)
			v.drops += n;
	}
	if (!json_next(&peer))
		return v;
	READ_TEXT(peer.value, "id", v.peer);
	if (!v.peer[0])
		READ_TEXT(peer.value, "key", v.peer);
	READ_TEXT(peer.value, "state", v.peer_state);
	return v;
}

static int by_name(const void *a, const void *b)
{
	const struct status_tunnel *x = a, *y = b;
	int rc = strcmp(x->account, y->account);

	rc = rc ? rc : strcmp(x->id, y->id);
	return rc ? rc : strcmp(x->address, y->address);
}

static int read_tunnels(struct status *s, const struct json *doc)
{
	struct str next;

	s->tunnels = calloc(STATUS_TUNNELS, sizeof *s->tunnels);
	if (!s->tunnels)
		return -ENOMEM;
	for (struct json_walk w = json_walk(json_get(doc, "tunnels"));
	     s->n_tunnels < STATUS_TUNNELS && json_next(&w);)
		s->tunnels[s->n_tunnels++] = read_tunnel(w.value);
	s->more = json_as_text(json_get(doc, "next"), &next) == JSON_READ;
	qsort(s->tunnels, s->n_tunnels, sizeof *s->tunnels, by_name);
	return 0;
}

static const struct json_limits limits = { 16 << 20, 8, 1 << 19 };

/* Takes nothing; the document has a member of that name. */
static int parse(struct str text, const char *member, struct json **doc_out)
{
	int rc = json_parse(text, &limits, doc_out, NULL);

	if (rc == 0 && !json_get(*doc_out, member)) {
		json_free(*doc_out);
		*doc_out = NULL;
		rc = ERR_INVALID;
	}
	return rc;
}

int status_new(struct str nodes, struct str series, struct str tunnels, uint64_t now_ms,
               struct status **status_out)
{
	struct json *n = NULL, *l = NULL, *t = NULL;
	struct status *s = calloc(1, sizeof *s);
	int rc = s ? parse(nodes, "nodes", &n) : -ENOMEM;
	struct json_walk node = json_walk(json_get(n, "nodes"));

	if (rc == 0 && !json_next(&node))
		rc = ERR_INVALID;
	if (rc == 0)
		rc = parse(series, "bytes_in", &l);
	if (rc == 0)
		rc = parse(tunnels, "tunnels", &t);
	if (rc == 0) {
		s->taken_ms = now_ms;
		read_node(s, node.value);
		read_all_series(s, l);
		rc = read_tunnels(s, t);
	}
	json_free(n);
	json_free(l);
	json_free(t);
	if (rc == 0)
		*status_out = s;
	else
		status_free(s);
	return rc;
}

void status_free(struct status *s)
{
	if (s)
		free(s->tunnels);
	free(s);
}

/* ---- rates, sums ---- */

void status_compare(struct status *s, const struct status *before)
{
	int64_t ms = (int64_t)(s->taken_ms - before->taken_ms);

	for (unsigned i = 0; i < s->n_tunnels && ms > 0; i++) {
		struct status_tunnel *t = &s->tunnels[i];
		const struct status_tunnel *b = bsearch(t, before->tunnels, before->n_tunnels,
		                                        sizeof *b, by_name);
		/* One that is back counts from zero. */
		if (!b || t->bytes_in < b->bytes_in || t->bytes_out < b->bytes_out)
			continue;
		t->rate_in = (int64_t)((double)(t->bytes_in - b->bytes_in) * 1000 / (double)ms);
		t->rate_out = (int64_t)((double)(t->bytes_out - b->bytes_out) * 1000 / (double)ms);
	}
}

int64_t status_last(const struct status_series *s) { return s->n ? s->v[s->n - 1] : -1; }

int64_t status_newest(const struct status_series *s)
{
	for (unsigned i = s->n; i > 0; i--)
		if (s->v[i - 1] >= 0)
			return s->v[i - 1];
	return -1;
}

int64_t status_peak(const struct status_series *s)
{
	int64_t most = 0;

	for (unsigned i = 0; i < s->n; i++)
		most = s->v[i] > most ? s->v[i] : most;
	return most;
}

int64_t status_sum(const struct status_series *s)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < s->n; i++)
		sum += s->v[i] > 0 ? s->v[i] : 0;
	return sum;
}
