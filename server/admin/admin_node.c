#include "server/admin/admin_impl.h"

#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/clock.h"

/* True: it has none, as it must; else it was answered. */
static bool has_no_query(struct httpd_request *r)
{
	struct query_value none[] = { { .name = NULL } };
	char error[QUERY_ERROR_LEN];

	if (query_read(r->query, none, error) == 0)
		return true;
	admin_fail(r, 400, "%s", error);
	return false;
}

void admin_healthz(struct admin *a, struct httpd_request *r)
{
	(void)a;
	if (has_no_query(r))
		admin_answer_text(r, 200, NULL, STR("ok\n"));
}

void admin_readyz(struct admin *a, struct httpd_request *r)
{
	const char *why_not = admin_why_not_ready(a);
	char body[80];

	if (!has_no_query(r))
		return;
	snprintf(body, sizeof body, "%s\n", why_not ? why_not : "ready");
	admin_answer_text(r, why_not ? 503 : 200, NULL, str_of(body));
}

void admin_metrics(struct admin *a, struct httpd_request *r)
{
	const struct admin_metrics m = { .workers = a->state,
		                         .n_workers = admin_n_workers(a),
		                         .ready = !admin_why_not_ready(a),
		                         .started_unix_s = a->started_unix_s };
	struct buf out = { 0 };

	if (!has_no_query(r))
		return;
	if (admin_metrics_put(&m, &out) < 0)
		admin_fail(r, 503, "out of memory");
	else
		admin_answer_text(r, 200, ADMIN_METRICS_TYPE,
		                  (struct str){ (const char *)buf_data(&out), buf_len(&out) });
	buf_done(&out);
}

void admin_series(struct admin *a, struct httpd_request *r)
{
	struct query_value values[] = { { .name = "last" }, { .name = NULL } };
	char error[QUERY_ERROR_LEN];
	uint64_t last = SERIES_SECONDS;

	if (query_read(r->query, values, error) < 0 ||
	    query_number(&values[0], 1, SERIES_SECONDS, &last, error) < 0)
		admin_fail(r, 400, "%s", error);
	else
		admin_answer_json(r, 200, series_json(&a->series, (unsigned)last));
}

/* ---- this node ---- */

static struct json *workers_json(const struct admin *a)
{
	struct json *all = json_new_array();

	for (unsigned i = 0; i < admin_n_workers(a); i++) {
		const struct admin_worker_state *s = &a->state[i];
		struct json *one = json_new_object();
		if (json_put(one, "worker", json_new_int(i)) < 0 ||
		    json_put(one, "connections", json_new_int(s->n_links)) < 0 ||
		    json_put(one, "tunnels", json_new_int(s->n_tunnels)) < 0 ||
		    json_put(one, "answers", json_new_bool(s->answers)) < 0) {
			json_free(one);
			one = NULL;
		}
		if (json_add(all, one) < 0) {
			json_free(all);
			return NULL;
		}
	}
	return all;
}

static struct json *listening_json(const struct admin *a)
{
	struct json *all = json_new_array();
	char text[ADDR_TEXT_LEN];

	for (unsigned i = 0; i < a->conf.n_listening; i++) {
		if (json_add(all, json_new_text(str_of(addr_text(&a->listening[i], text)))) == 0)
			continue;
		json_free(all);
		return NULL;
	}
	return all;
}

static struct json *limits_json(const struct limits *l)
{
	struct json *o = json_new_object();
	int rc = 0;

#define LIMITS_PUT(field, kind, key, value, least, most, words)                                    \
	rc = rc ? rc : json_put(o, key, json_new_int(l->field));
	LIMITS(LIMITS_PUT)
#undef LIMITS_PUT
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}

static struct json *node_json(const struct admin *a)
{
	const char *why_not = admin_why_not_ready(a);
	uint64_t up_ms = loop_now_ms(a->loop) - a->started_ms;
	struct json *o = json_new_object();
	char text[ADDR_TEXT_LEN];

	if (json_put(o, "name", json_new_text(str_of(a->conf.node))) == 0 &&
	    json_put(o, "version", json_new_text(str_of(TUNN_VERSION))) == 0 &&
	    json_put(o, "state", json_new_text(str_of(why_not ? why_not : "ready"))) == 0 &&
	    json_put(o, "started_unix_s", json_new_int(a->started_unix_s)) == 0 &&
	    json_put(o, "uptime_s", json_new_int((int64_t)(up_ms / 1000))) == 0 &&
	    json_put(o, "listening", listening_json(a)) == 0 &&
	    json_put(o, "admin", json_new_text(str_of(addr_text(&a->bound, text)))) == 0 &&
	    json_put(o, "workers", workers_json(a)) == 0 &&
	    json_put(o, "limits", limits_json(&a->limits)) == 0)
		return o;
	json_free(o);
	return NULL;
}

void admin_nodes(struct admin *a, struct httpd_request *r)
{
	struct json *doc, *all;

	if (!has_no_query(r))
		return;
	doc = json_new_object();
	all = json_new_array();
	if (json_add(all, node_json(a)) < 0) {
		json_free(all);
		all = NULL;
	}
	if (json_put(doc, "nodes", all) < 0) {
		json_free(doc);
		doc = NULL;
	}
	admin_answer_json(r, 200, doc);
}
