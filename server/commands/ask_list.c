#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/commands/ask.h"

enum { PAGE = 1000 };

struct listing { /* of one call */
	const struct ask_options *o;
	const struct ask_list *list;
	struct table table;
	struct json *page;        /* the last */
	const struct json *after; /* in it; NULL: nothing came yet */
	uint64_t n;
	bool more;
};

static void print_json(const struct json *v)
{
	size_t len;
	char *text = json_text(v, JSON_ONE_LINE, &len);

	printf("%s", text ? text : "null");
	free(text);
}

static struct json *copy_of(const struct json *v)
{
	struct str text;
	int64_t n;

	return json_as_text(v, &text) == JSON_READ ? json_new_text(text) :
	       json_as_int(v, &n) == JSON_READ     ? json_new_int(n) :
	                                             NULL;
}

/* NULL: out of memory. */
static struct json *request_of(const struct listing *l)
{
	uint64_t left = l->list->most ? l->list->most - l->n : PAGE;
	struct json *r = l->list->request(l->list->owner);
	int rc = json_put(r, "n", json_new_int((int64_t)(left < PAGE ? left : PAGE)));

	if (rc == 0 && l->after)
		rc = json_put(r, "after", copy_of(l->after));
	if (rc == 0)
		return r;
	json_free(r);
	return NULL;
}

static void take_page(struct listing *l)
{
	const struct json *rows = json_get(l->page, l->list->rows);

	l->more = false;
	json_as_bool(json_get(l->page, "more"), &l->more);
	for (struct json_walk w = json_walk(rows); json_next(&w); l->n++) {
		l->after = json_get(w.value, l->list->key);
		if (!l->o->json) {
			l->list->add(l->list->owner, &l->table, l->page, w.value);
			continue;
		}
		printf("%s", l->n ? "," : "");
		print_json(w.value);
	}
	l->more = l->more && l->after && (!l->list->most || l->n < l->list->most);
	if (!l->o->json)
		table_print(&l->table, stdout);
}

static int next_page(struct listing *l)
{
	struct json *page = NULL;
	int rc = ask(l->o, request_of(l), &page);

	if (rc != ASK_OK)
		return rc;
	if (l->o->json && !l->page)
		printf("{\"ok\":true,\"%s\":[", l->list->rows);
	json_free(l->page);
	l->page = page;
	l->after = NULL;
	take_page(l);
	return ASK_OK;
}

static void end_json(const struct listing *l)
{
	printf("]");
	for (struct json_walk w = json_walk(l->page); json_next(&w);) {
		if (str_eq(w.name, str_of(l->list->rows)) || str_eq(w.name, STR("ok")) ||
		    str_eq(w.name, STR("more")))
			continue;
		printf(",\"%.*s\":", (int)w.name.len, w.name.p);
		print_json(w.value);
	}
	printf("}\n");
}

int ask_list(const struct ask_options *o, const struct ask_list *list)
{
	struct listing l = { .o = o, .list = list, .more = true };
	int rc = ASK_OK;

	table_init(&l.table, list->head);
	while (rc == ASK_OK && l.more)
		rc = next_page(&l);
	if (o->json && rc == ASK_OK)
		end_json(&l);
	table_done(&l.table);
	json_free(l.page);
	return rc;
}
