#include "server/relay/derp_verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/json.h"
#include "common/base/list.h"

struct derp_verify {
	struct loop *loop;
	const char *url;
	struct tls_ctx *tls;
	struct list questions;
	unsigned n;
};

struct derp_question {
	struct list node;
	struct derp_verify *verify;
	struct fetch *fetch;
	derp_verify_done *done;
	void *owner;
};

static void forget(struct derp_question *q)
{
	list_del(&q->node);
	q->verify->n--;
	free(q);
}

/* As Go decodes it: the name in any case, of several the last. Words behind the value
 * would pass there; here they refuse. */
static bool allows(struct str body)
{
	static const struct json_limits limits = { DERP_VERIFY_BODY, 16, 512 };
	struct json *doc;
	bool allow = false;

	if (json_parse(body, &limits, &doc, NULL) < 0)
		return false;
	json_as_bool(json_get(doc, "Allow"), &allow);
	json_free(doc);
	return allow;
}

static void on_answer(void *owner, const struct fetch_answer *a, const char *error)
{
	struct derp_question *q = owner;
	derp_verify_done *done = q->done;
	void *asker = q->owner;
	char text[FETCH_ERROR_LEN + 64];

	forget(q);
	if (!a) {
		snprintf(text, sizeof text, "the verify URL: %s", error);
		done(asker, CLOSE_UNAVAILABLE, text);
	} else if (a->status != 200) {
		snprintf(text, sizeof text, "the verify URL answered with status %d", a->status);
		done(asker, CLOSE_UNAVAILABLE, text);
	} else if (!allows(a->body)) {
		done(asker, CLOSE_DENIED, "the verify URL does not say {\"Allow\":true}");
	} else {
		done(asker, CLOSE_NONE, "");
	}
}

struct derp_verify *derp_verify_new(struct loop *loop, const char *url, struct tls_ctx *tls)
{
	struct derp_verify *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	*v = (struct derp_verify){ .loop = loop, .url = url };
	v->tls = tls ? tls_ctx_ref(tls) : NULL;
	list_init(&v->questions);
	return v;
}

void derp_verify_cancel(struct derp_question *q)
{
	if (!q)
		return;
	fetch_cancel(q->fetch);
	forget(q);
}

void derp_verify_free(struct derp_verify *v)
{
	if (!v)
		return;
	list_each(it, tmp, &v->questions)
		derp_verify_cancel(container_of(it, struct derp_question, node));
	tls_ctx_unref(v->tls);
	free(v);
}

static int ask(struct derp_question *q, const struct key *key, const struct addr *source)
{
	char hex[KEY_TEXT_LEN + 1], ip[ADDR_TEXT_LEN], body[256], error[FETCH_ERROR_LEN];

	hex_encode(key->b, KEY_LEN, hex);
	int n = snprintf(body, sizeof body, "{\"NodePublic\":\"nodekey:%s\",\"Source\":\"%s\"}",
	                 hex, addr_ip_text(source, ip));
	const struct fetch_conf conf = { .url = q->verify->url,
		                         .method = "POST",
		                         .body = { body, (size_t)n },
		                         .tls = q->verify->tls,
		                         .timeout_ms = DERP_VERIFY_MS,
		                         .max_body = DERP_VERIFY_BODY,
		                         .cut = true };

	return fetch_start(q->verify->loop, &conf, on_answer, q, &q->fetch, error);
}

int derp_verify_ask(struct derp_verify *v, const struct key *key, const struct addr *source,
                    derp_verify_done *done, void *owner, struct derp_question **question_out)
{
	if (v->n >= DERP_VERIFY_MAX)
		return ERR_AGAIN;
	struct derp_question *q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	*q = (struct derp_question){ .verify = v, .done = done, .owner = owner };
	list_add_tail(&v->questions, &q->node);
	v->n++;
	int rc = ask(q, key, source);
	if (rc < 0)
		forget(q);
	else
		*question_out = q;
	return rc;
}
