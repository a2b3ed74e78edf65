#include "common/transport/web.h"

#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/token.h"

static const struct str *part_of(const struct web_request *q, unsigned i)
{
	const struct str *const parts[WEB_HEAD_PARTS] = { &q->method,      &q->path,   &q->query,
		                                          &q->host,        &q->origin, &q->cookie,
		                                          &q->content_type };

	return parts[i];
}

/* ---- which ---- */

static bool begins_with(struct str s, struct str with)
{
	return s.len >= with.len && memcmp(s.p, with.p, with.len) == 0;
}

bool web_is_asked(const struct transport_events *events, struct str path, struct str query)
{
	char id[TOKEN_ID_LEN + 1];

	if (!events->request)
		return false;
	return str_eq(path, STR("/login")) || begins_with(path, STR("/login/")) ||
	       token_in(path, id) || token_in(query, id);
}

/* ---- what is wrong with it ---- */

/* Parameters behind the type do not change what the letters mean. */
static bool is_form(struct str type)
{
	struct str form = STR("application/x-www-form-urlencoded");

	if (type.len > form.len && type.p[form.len] != ';' && type.p[form.len] != ' ')
		return false;
	if (type.len > form.len)
		type.len = form.len;
	return http1_is_like(type, form);
}

int web_check(const struct web_request *head, uint64_t body_len)
{
	if (body_len > WEB_BODY_MAX)
		return 413;
	return body_len && !is_form(head->content_type) ? 415 : 0;
}

/* ---- in memory ---- */

size_t web_head_len(const struct web_request *head)
{
	size_t len = 0;

	for (unsigned i = 0; i < WEB_HEAD_PARTS; i++)
		len += part_of(head, i)->len;
	return len;
}

int web_begin(struct web_call *w, struct transport *t, const struct transport_ops *ops,
              const struct web_request *head)
{
	w->web.ops = ops;
	w->web.transport = t;
	list_init(&w->web.node);
	w->head_len = web_head_len(head);
	if (w->head_len > HTTP1_HEAD_MAX)
		return 431;
	char *p = w->head = malloc(w->head_len + 1);
	if (!p)
		return 503;
	for (unsigned i = 0; i < WEB_HEAD_PARTS; i++) {
		const struct str *s = part_of(head, i);
		if (s->len)
			memcpy(p, s->p, s->len);
		w->len[i] = (uint16_t)s->len;
		p += s->len;
	}
	return 0;
}

static void read_back(const struct web_call *w, struct web_request *q)
{
	const char *p = w->head;

	*q = (struct web_request){ 0 };
	for (unsigned i = 0; i < WEB_HEAD_PARTS; i++) {
		*(struct str *)(uintptr_t)part_of(q, i) = (struct str){ p, w->len[i] };
		p += w->len[i];
	}
	q->body = (struct str){ w->body, w->body_len };
}

int web_take(struct web_call *w, const uint8_t *data, size_t len)
{
	struct web_request q;

	if (len == 0)
		return 0;
	read_back(w, &q);
	int status = web_check(&q, w->body_len + len);
	if (!status && !w->body && (w->body = malloc(WEB_BODY_MAX)) == NULL)
		status = 503;
	if (status)
		return status;
	memcpy(w->body + w->body_len, data, len);
	w->body_len += len;
	return 0;
}

int web_ask(struct web_call *w, const struct transport_events *events, void *owner)
{
	struct web_request q;

	read_back(w, &q);
	int rc = events->request(owner, &w->web, &q);
	return rc == 0 ? 0 : rc == ERR_NOT_FOUND ? 404 : 503;
}

/* ---- answering ---- */

bool web_is_head(const struct web_call *w)
{
	return w->head && str_eq((struct str){ w->head, w->len[0] }, STR("HEAD"));
}

void web_page(const struct web_call *w, const struct web_answer *a, struct page *page_out)
{
	struct page *p = page_out;
	size_t n = a->n_fields < WEB_FIELDS_MAX ? a->n_fields : WEB_FIELDS_MAX;

	_Static_assert((int)WEB_FIELDS_MAX <= (int)PAGE_FIELDS_MAX, "all have room in a page");
	p->answer = (struct http1_answer){ .status = a->status,
		                           .fields = p->fields,
		                           .n_fields = n };
	p->answer.body = a->body;
	p->answer.to_head = web_is_head(w);
	for (size_t i = 0; i < n; i++)
		p->fields[i] = (struct http1_field){ a->fields[i].name, a->fields[i].value };
}

void web_done(struct web_call *w, const struct transport_events *events, void *owner)
{
	if (!w)
		return;
	if (w->web.up)
		events->unasked(owner, &w->web);
	w->web.up = NULL;
	if (w->head) /* a cookie; a token in the wrong place */
		crypto_wipe(w->head, w->head_len);
	if (w->body) /* a token to sign in with */
		crypto_wipe(w->body, w->body_len);
	free(w->head);
	free(w->body);
	w->head = w->body = NULL;
}
