#include <errno.h>
#include <string.h>

#include "common/base/clock.h"
#include "server/commands/commands_impl.h"
#include "server/login/login.h"

/* Codes are in the memory of a running server. */
static int no_server(struct job *j)
{
	return job_fail(j, ERR_NOT_FOUND,
	                "no server runs on this state directory: logins wait in a running one");
}

static struct json *entry_json(const struct login_entry *e)
{
	struct json *o = json_new_object();

	if (json_put(o, "code", json_new_text(str_of(e->user_code))) == 0 &&
	    json_put(o, "address", json_new_text(str_of(e->address))) == 0 &&
	    json_put(o, "host", json_new_text(str_of(e->host))) == 0 &&
	    json_put(o, "id", json_new_text(str_of(e->id))) == 0 &&
	    json_put(o, "age_s", json_new_int(e->age_s)) == 0)
		return o;
	json_free(o);
	return NULL;
}

/* ---- requests ---- */

static struct json *list_json(const struct login_entry *v, unsigned n)
{
	struct json *list = json_new_array();

	for (unsigned i = 0; i < n; i++)
		if (json_add(list, entry_json(&v[i])) < 0) {
			json_free(list);
			return NULL;
		}
	return list;
}

int command_account_requests(struct job *j)
{
	enum { SHOWN = 100 }; /* the oldest; more is a flood, and its end is in `waiting` */
	struct login_entry v[SHOWN];

	if (!j->c->login)
		return no_server(j);
	unsigned n = login_list(j->c->login, clock_now_ms(), v, SHOWN);
	if (json_put(j->answer, "requests", list_json(v, n < SHOWN ? n : SHOWN)) == 0 &&
	    json_put(j->answer, "waiting", json_new_int(n)) == 0)
		return 0;
	return job_starve(j);
}

/* ---- approve, deny ---- */

/* The account that is named, or the only one there is. */
static int choose_account(struct job *j, char out[static NAME_MAX_LEN + 1])
{
	struct account_record r[2];

	if (json_get(j->request, "name")) {
		int rc = job_account(j, &r[0]);
		if (rc < 0)
			return rc;
	} else {
		int n = accounts_list(j->c->accounts, "", "", j->now_unix_s, r, 2, j->error);
		if (n < 0)
			return n;
		if (n != 1)
			return job_fail(j, ERR_INVALID,
			                "the token is for which account? --account NAME (tunn "
			                "account list shows them)");
	}
	memcpy(out, r[0].name, NAME_MAX_LEN + 1);
	return 0;
}

static int read_code(struct job *j, char out[static COMMAND_WORD_LEN])
{
	int rc = job_word(j, json_get(j->request, "code"), "code", out);

	return rc == ERR_NOT_FOUND ? job_fail(j, ERR_INVALID, "no code is given") : rc;
}

static int say(struct job *j, const struct login_entry *e, const char *account)
{
	if (json_put(j->answer, "request", entry_json(e)) == 0 &&
	    (!account || json_put(j->answer, "account", json_new_text(str_of(account))) == 0))
		return 0;
	return job_starve(j);
}

int command_account_approve(struct job *j)
{
	char code[COMMAND_WORD_LEN], account[NAME_MAX_LEN + 1];
	struct login_entry e;

	if (!j->c->login)
		return no_server(j);
	int rc = read_code(j, code);
	if (rc == 0)
		rc = choose_account(j, account);
	if (rc == 0)
		rc = login_approve(j->c->login, code, account, j->who, clock_now_ms(), &e,
		                   j->error);
	return rc < 0 ? rc : say(j, &e, account);
}

int command_account_deny(struct job *j)
{
	char code[COMMAND_WORD_LEN];
	struct login_entry e;

	if (!j->c->login)
		return no_server(j);
	int rc = read_code(j, code);
	if (rc == 0)
		rc = login_deny(j->c->login, code, j->who, clock_now_ms(), &e, j->error);
	return rc < 0 ? rc : say(j, &e, NULL);
}
