#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/opts.h"
#include "server/commands/commands_impl.h"

enum { EXPIRES_MAX_S = 366 * 86400 };

static struct json *time_json(int64_t unix_s)
{
	return unix_s ? json_new_int(unix_s) : json_new_null();
}

static struct json *id_json(const char *id)
{
	return *id ? json_new_text(str_of(id)) : json_new_null();
}

/* 0: never. */
static int read_expires(struct job *j, int64_t *expires_out)
{
	int64_t s = 0;
	enum json_read r = json_as_int(json_get(j->request, "expires_s"), &s);

	*expires_out = 0;
	if (r == JSON_ABSENT || r == JSON_IS_NULL)
		return 0;
	if (r != JSON_READ || s < 1 || s > EXPIRES_MAX_S)
		return job_fail(j, ERR_INVALID, "expires_s must be 1 to %d seconds", EXPIRES_MAX_S);
	*expires_out = j->now_unix_s + s;
	return 0;
}

/* The answer has the token: json.h wipes it. */
static int answer_new(struct job *j, const char *account, const char *id, int64_t expires,
                      const char *token)
{
	struct str kid = token_id(str_of(token));

	job_say(j, " %s token=%.*s", account, (int)kid.len, kid.p);
	if (*id)
		job_say(j, " id=%s", id);
	if (expires)
		job_say(j, " expires=%lld", (long long)expires);
	if (json_put(j->answer, "account", json_new_text(str_of(account))) == 0 &&
	    json_put(j->answer, "token", json_new_text(str_of(token))) == 0 &&
	    json_put(j->answer, "token_id", json_new_text(kid)) == 0 &&
	    json_put(j->answer, "id", id_json(id)) == 0 &&
	    json_put(j->answer, "expires_unix_s", time_json(expires)) == 0)
		return 0;
	return job_starve(j);
}

int command_token_new(struct job *j)
{
	char id[COMMAND_WORD_LEN] = "", token[TOKEN_LEN + 1];
	struct account_record r;
	int64_t expires = 0;
	int rc = job_account(j, &r);

	if (rc < 0)
		return rc;
	rc = job_word(j, json_get(j->request, "id"), "id", id);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		return rc;
	rc = read_expires(j, &expires);
	if (rc == 0)
		rc = accounts_token_new(j->c->accounts, r.name, *id ? id : NULL, expires, token,
		                        j->error);
	if (rc < 0)
		return rc;
	rc = answer_new(j, r.name, id, expires, token);
	crypto_wipe(token, sizeof token);
	return rc;
}

static struct json *row_json(const struct job *j, const void *v, unsigned i)
{
	const struct token_record *t = (const struct token_record *)v + i;
	bool valid = !t->revoked_unix_s && !token_has_expired(t->expires_unix_s, j->now_unix_s);
	struct json *o = json_new_object();

	if (json_put(o, "token_id", json_new_text(str_of(t->kid))) == 0 &&
	    json_put(o, "id", id_json(t->bound_id)) == 0 &&
	    json_put(o, "created_unix_s", json_new_int(t->created_unix_s)) == 0 &&
	    json_put(o, "expires_unix_s", time_json(t->expires_unix_s)) == 0 &&
	    json_put(o, "revoked_unix_s", time_json(t->revoked_unix_s)) == 0 &&
	    json_put(o, "valid", json_new_bool(valid)) == 0)
		return o;
	json_free(o);
	return NULL;
}

int command_token_list(struct job *j)
{
	char after[COMMAND_WORD_LEN] = "";
	struct account_record r;
	unsigned n;
	int rc = job_account(j, &r);

	if (rc < 0)
		return rc;
	rc = job_word(j, json_get(j->request, "after"), "after", after);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = job_page(j, &n);
	if (rc < 0)
		return rc;
	struct token_record *v = calloc((size_t)n + 1, sizeof *v);
	if (!v)
		return job_starve(j);
	rc = accounts_tokens(j->c->accounts, r.row, after, v, n + 1, j->error);
	rc = job_answer_page(j, "tokens", rc, n, v, row_json);
	free(v);
	if (rc == 0 && json_put(j->answer, "account", json_new_text(str_of(r.name))) < 0)
		rc = job_starve(j);
	return rc;
}

static bool is_token_id(const char *word)
{
	size_t n = strspn(word, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	return n == TOKEN_ID_LEN && !word[n];
}

int command_token_revoke(struct job *j)
{
	char kid[COMMAND_WORD_LEN], account[NAME_MAX_LEN + 1];
	int64_t row;
	int rc = job_word(j, json_get(j->request, "token_id"), "token_id", kid);

	if (rc == ERR_NOT_FOUND || (rc == 0 && !is_token_id(kid)))
		return job_fail(j, ERR_INVALID,
		                "a token is named by its id, the %d letters and digits behind "
		                "tunn_: tunn token list ACCOUNT shows them",
		                TOKEN_ID_LEN);
	if (rc == 0)
		rc = accounts_token_revoke(j->c->accounts, kid, j->now_unix_s, &row, account,
		                           j->error);
	if (rc < 0)
		return rc;
	job_say(j, " %s of %s", kid, account);
	j->changed_row = row;
	memcpy(j->changed_token, kid, sizeof j->changed_token);
	if (json_put(j->answer, "account", json_new_text(str_of(account))) == 0 &&
	    json_put(j->answer, "token_id", json_new_text(str_of(kid))) == 0)
		return 0;
	return job_starve(j);
}
