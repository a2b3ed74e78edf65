#include <stdlib.h>

#include "server/commands/commands_impl.h"

static struct json *row_json(const struct job *j, const void *v, unsigned i)
{
	const struct audit_record *r = (const struct audit_record *)v + i;
	struct json *o = json_new_object();

	(void)j;
	if (json_put(o, "number", json_new_int(r->id)) == 0 &&
	    json_put(o, "at_unix_s", json_new_int(r->at_unix_s)) == 0 &&
	    json_put(o, "who", json_new_text(str_of(r->who))) == 0 &&
	    json_put(o, "what", json_new_text(str_of(r->what))) == 0)
		return o;
	json_free(o);
	return NULL;
}

/* Newest first; "after" is the last number of the page before. */
int command_account_log(struct job *j)
{
	int64_t after = 0;
	unsigned n;
	int rc = job_page(j, &n);

	if (rc < 0)
		return rc;
	if (json_as_int(json_get(j->request, "after"), &after) == JSON_WRONG_TYPE || after < 0)
		return job_fail(j, ERR_INVALID, "after must be the number of a line");
	struct audit_record *v = calloc((size_t)n + 1, sizeof *v);
	if (!v)
		return job_starve(j);
	rc = accounts_audited(j->c->accounts, after, v, n + 1, j->error);
	rc = job_answer_page(j, "log", rc, n, v, row_json);
	free(v);
	return rc;
}
