#include "server/admin/admin_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

/* A page on its way: workers are asked one after the other until it is full. */
struct page {
	struct admin_wait wait; /* first */
	unsigned worker;
	uint64_t after; /* sessions of that worker behind this place */
	unsigned left;  /* rows */
	char search[SURVEY_QUERY_MAX + 1];
	struct json *rows, *unanswered;
};

/* ---- rows ---- */

static const char *state_name(enum peer_state state)
{
	static const char *const names[] = {
		[PEER_UNSPECIFIED] = "unknown",   [PEER_UP] = "up",
		[PEER_ABSENT] = "absent",         [PEER_NOT_MUTUAL] = "not_mutual",
		[PEER_OVER_LIMIT] = "over_limit", [PEER_GONE] = "gone",
	};
	_Static_assert(sizeof names / sizeof *names == PEER_STATE_N, "a name for every state");

	return names[state];
}

static const char *role_name(const struct survey_row *row)
{
	return row->native               ? "native" :
	       row->role == ROLE_LISTEN  ? "listen" :
	       row->role == ROLE_FORWARD ? "forward" :
	                                   "unknown";
}

static struct json *text_or_null(const char *s)
{
	return s[0] ? json_new_text(str_of(s)) : json_new_null();
}

static struct json *peer_json(const struct survey_peer *p)
{
	struct json *o = json_new_object();

	if (json_put(o, "key", json_new_text(str_of(key_brief(&p->key).s))) == 0 &&
	    json_put(o, "state", json_new_text(str_of(state_name(p->state)))) == 0 &&
	    json_put(o, "account", text_or_null(p->account)) == 0 &&
	    json_put(o, "id", text_or_null(p->id)) == 0)
		return o;
	json_free(o);
	return NULL;
}

static struct json *peers_json(const struct survey_row *row)
{
	struct json *all = json_new_array();

	for (unsigned i = 0; i < row->n_peers && i < SURVEY_PEERS_MAX; i++) {
		if (json_add(all, peer_json(&row->peers[i])) == 0)
			continue;
		json_free(all);
		return NULL;
	}
	return all;
}

static struct json *pair_json(uint64_t packets, uint64_t bytes)
{
	struct json *o = json_new_object();

	if (json_put(o, "packets", json_new_int((int64_t)packets)) == 0 &&
	    json_put(o, "bytes", json_new_int((int64_t)bytes)) == 0)
		return o;
	json_free(o);
	return NULL;
}

/* Only those that there are. */
static struct json *drops_json(const struct survey_row *row)
{
	struct json *o = json_new_object();
	int rc = row->n_ignored ? json_put(o, "ignored", json_new_int((int64_t)row->n_ignored)) : 0;

	for (unsigned i = 0; i < DROP_N && rc == 0; i++)
		if (row->drops[i])
			rc = json_put(o, drop_label((enum drop_why)i),
			              json_new_int((int64_t)row->drops[i]));
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}

static struct json *row_json(const struct survey_row *row, unsigned worker)
{
	struct json *o = json_new_object();
	int64_t since_s = (clock_unix_ms() - (int64_t)row->for_ms) / 1000;

	if (json_put(o, "account", json_new_text(str_of(row->account))) == 0 &&
	    json_put(o, "id", json_new_text(str_of(row->id))) == 0 &&
	    json_put(o, "address", json_new_text(str_of(row->address))) == 0 &&
	    json_put(o, "transport", json_new_text(str_of(row->transport))) == 0 &&
	    json_put(o, "role", json_new_text(str_of(role_name(row)))) == 0 &&
	    json_put(o, "worker", json_new_int(worker)) == 0 &&
	    json_put(o, "since_unix_s", json_new_int(since_s)) == 0 &&
	    json_put(o, "rtt_us", row->rtt_us < 0 ? json_new_null() : json_new_int(row->rtt_us)) ==
	                    0 &&
	    json_put(o, "in", pair_json(row->packets_in, row->bytes_in)) == 0 &&
	    json_put(o, "out", pair_json(row->packets_out, row->bytes_out)) == 0 &&
	    json_put(o, "queue", pair_json(row->queue_packets, row->queue_bytes)) == 0 &&
	    json_put(o, "drops", drops_json(row)) == 0 &&
	    json_put(o, "n_peers", json_new_int(row->n_peers)) == 0 &&
	    json_put(o, "peers", peers_json(row)) == 0)
		return o;
	json_free(o);
	return NULL;
}

/* ---- a page ---- */

static void page_free(struct admin_wait *w)
{
	struct page *p = (struct page *)(void *)w;

	json_free(p->rows);
	json_free(p->unanswered);
}

/* `after` NULL: that was all. */
static void finish(struct page *p, const uint64_t *after)
{
	struct json *doc = json_new_object();
	char cursor[40];

	if (after)
		snprintf(cursor, sizeof cursor, "%u.%llu", p->worker, (unsigned long long)*after);
	int rc = json_put(doc, "tunnels", p->rows);
	p->rows = NULL; /* taken, also on failure */
	if (rc == 0)
		rc = json_put(doc, "next", after ? json_new_text(str_of(cursor)) : json_new_null());
	if (rc == 0) {
		rc = json_put(doc, "unanswered", p->unanswered);
		p->unanswered = NULL;
	}
	if (rc < 0) {
		json_free(doc);
		doc = NULL;
	}
	admin_answer_json(p->wait.request, 200, doc);
	admin_wait_end(&p->wait);
}

static void fail(struct page *p)
{
	admin_fail(p->wait.request, 503, "out of memory");
	admin_wait_end(&p->wait);
}

static int ask(struct page *p)
{
	struct admin *a = p->wait.admin;
	struct survey *v = survey_new(a->mailbox, p->left);

	if (!v)
		return -ENOMEM;
	v->query = p->wait.number;
	v->worker = p->worker;
	v->after = p->after;
	snprintf(v->text, sizeof v->text, "%s", p->search);
	survey_send(v, workers_mailboxes(a->conf.workers)[p->worker]);
	timer_set(p->wait.timer, ADMIN_WAIT_MS);
	return 0;
}

/* A worker that is known to hang is not waited for. */
static bool is_hanging(const struct admin *a, unsigned worker)
{
	return a->heard[worker] && !a->state[worker].answers;
}

/* From the worker that is next; the page may be gone afterwards. */
static void go_on(struct page *p)
{
	const struct admin *a = p->wait.admin;
	int rc = 0;

	for (; p->worker < admin_n_workers(a); p->worker++, p->after = 0) {
		if (!is_hanging(a, p->worker)) {
			if (rc == 0 && ask(p) == 0)
				return;
			rc = -ENOMEM;
		} else if (rc == 0) {
			rc = json_add(p->unanswered, json_new_int(p->worker));
		}
	}
	if (rc < 0)
		fail(p);
	else
		finish(p, NULL);
}

static void skip_worker(struct page *p)
{
	if (json_add(p->unanswered, json_new_int(p->worker)) < 0) {
		fail(p);
		return;
	}
	p->worker++;
	p->after = 0;
	go_on(p);
}

static void on_late(struct admin_wait *w) { skip_worker((struct page *)(void *)w); }

void admin_on_survey(struct admin *a, struct survey *v)
{
	struct page *p = (struct page *)(void *)admin_wait_get(a, v->query);
	bool is_late = !p || v->worker != p->worker; /* the page has gone on */
	int rc = 0;

	for (unsigned i = 0; i < v->n && !is_late && rc == 0; i++)
		rc = json_add(p->rows, row_json(&v->rows[i], v->worker));
	unsigned n = v->n;
	bool more = v->more, gone = v->gone;
	uint64_t last = n ? v->rows[n - 1].place : v->after;
	survey_free(v);
	if (is_late)
		return;
	p->left -= n;
	if (rc < 0) {
		fail(p);
	} else if (more) {
		finish(p, &last);
	} else if (gone) {
		skip_worker(p);
	} else if (p->left == 0 && p->worker + 1 < admin_n_workers(a)) {
		p->worker++;
		finish(p, &(uint64_t){ 0 });
	} else {
		p->worker++;
		p->after = 0;
		go_on(p);
	}
}

/* ---- the request ---- */

static int read_cursor(const struct admin *a, const char *text, struct page *p)
{
	unsigned long long after;
	unsigned worker;
	int end = 0;

	if (!text[0])
		return 0;
	if (strspn(text, "0123456789.") != strlen(text) || strlen(text) > 24 ||
	    sscanf(text, "%3u.%llu%n", &worker, &after, &end) != 2 || text[end] ||
	    worker >= admin_n_workers(a))
		return ERR_INVALID;
	p->worker = worker;
	p->after = after;
	return 0;
}

static int read_request(const struct admin *a, struct str query, struct page *p,
                        char error_out[static QUERY_ERROR_LEN])
{
	struct query_page asked = { 0 };
	int rc = query_page(query, &asked, error_out);

	if (rc == 0 && read_cursor(a, asked.cursor, p) < 0) {
		snprintf(error_out, QUERY_ERROR_LEN,
		         "cursor must be the \"next\" of the page before");
		rc = ERR_INVALID;
	}
	p->left = asked.limit;
	snprintf(p->search, sizeof p->search, "%s", asked.search);
	return rc;
}

void admin_tunnels(struct admin *a, struct httpd_request *r)
{
	struct page *p = calloc(1, sizeof *p);
	char error[QUERY_ERROR_LEN];

	if (p && read_request(a, r->query, p, error) < 0) {
		admin_fail(r, 400, "%s", error);
		free(p);
		return;
	}
	if (!p || admin_wait_begin(a, &p->wait, r) < 0) {
		admin_fail(r, 503, "out of memory");
		free(p);
		return;
	}
	p->wait.on_late = on_late;
	p->wait.free = page_free;
	p->rows = json_new_array();
	p->unanswered = json_new_array();
	go_on(p);
}
