#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/opts.h"
#include "server/commands/commands_impl.h"
#include "server/accounts/usage.h"

/* ---- an account in JSON ---- */

static struct json *usage_json(const struct account_usage *u)
{
	struct json *o = json_new_object();

	if (json_put(o, "sent_bytes", json_new_int((int64_t)u->sent)) == 0 &&
	    json_put(o, "received_bytes", json_new_int((int64_t)u->received)) == 0 &&
	    json_put(o, "sent_packets", json_new_int((int64_t)u->packets_sent)) == 0 &&
	    json_put(o, "received_packets", json_new_int((int64_t)u->packets_received)) == 0)
		return o;
	json_free(o);
	return NULL;
}

static struct json *month_json(int64_t now_unix_s)
{
	unsigned month = usage_month_of(now_unix_s * 1000);
	char text[16];

	snprintf(text, sizeof text, "%04u-%02u", month / 100, month % 100);
	return json_new_text(str_of(text));
}

/* What a running server counts is newer than what is in the database. */
static struct json *tunnels_json(const struct job *j, int64_t row, struct account_usage *used)
{
	struct account_live live = { 0 };

	if (!j->c->live)
		return json_new_null();
	if (j->c->live(j->c->owner, row, &live))
		*used = live.used;
	return json_new_int(live.n_tunnels);
}

/* NULL: out of memory. */
static struct json *account_json(const struct job *j, const struct account_record *r)
{
	struct account_usage used = r->used;
	struct account_terms terms;
	bool known = tiers_terms(j->c->tiers, r->tier, &r->own, &terms);
	struct json *tunnels = tunnels_json(j, r->row, &used), *o = json_new_object();

	if (json_put(o, "tunnels_now", tunnels) == 0 &&
	    json_put(o, "name", json_new_text(str_of(r->name))) == 0 &&
	    json_put(o, "tier", json_new_text(str_of(r->tier))) == 0 &&
	    json_put(o, "tier_known", json_new_bool(known)) == 0 &&
	    json_put(o, "suspended", json_new_bool(r->suspended)) == 0 &&
	    json_put(o, "created_unix_s", json_new_int(r->created_unix_s)) == 0 &&
	    json_put(o, "valid_tokens", json_new_int(r->n_tokens)) == 0 &&
	    json_put(o, "limits", terms_json(&terms, NULL)) == 0 &&
	    json_put(o, "own_limits", terms_json(&r->own.terms, &r->own)) == 0 &&
	    json_put(o, "month", month_json(j->now_unix_s)) == 0 &&
	    json_put(o, "usage", usage_json(&used)) == 0)
		return o;
	json_free(o);
	return NULL;
}

static int answer_account(struct job *j, const struct account_record *r)
{
	if (json_put(j->answer, "account", account_json(j, r)) == 0 &&
	    json_put(j->answer, "default_tier", json_new_text(str_of(j->c->tiers->by_default))) ==
	                    0 &&
	    json_put(j->answer, "limits_off", json_new_bool(j->c->tiers->off)) == 0)
		return 0;
	return job_starve(j);
}

/* ---- verbs ---- */

/* ERR_NOT_FOUND where the request names none. */
static int read_tier(struct job *j, char out[static NAME_MAX_LEN + 1])
{
	char word[COMMAND_WORD_LEN], names[TIERS_NAMES_LEN];
	int rc = job_word(j, json_get(j->request, "tier"), "tier", word);

	if (rc < 0)
		return rc;
	if (!tiers_find(j->c->tiers, word))
		return job_fail(j, ERR_INVALID, "there is no tier %s among %s", opts_quote(word).s,
		                tiers_names(j->c->tiers, names));
	snprintf(out, NAME_MAX_LEN + 1, "%.*s", NAME_MAX_LEN, word);
	return 0;
}

int command_account_add(struct job *j)
{
	char name[COMMAND_WORD_LEN], tier[NAME_MAX_LEN + 1];
	struct account_record r;
	int rc = job_word(j, json_get(j->request, "name"), "name", name);

	if (rc == ERR_NOT_FOUND)
		return job_fail(j, ERR_INVALID, "no account is named");
	if (rc == 0)
		rc = read_tier(j, tier);
	if (rc == ERR_NOT_FOUND) {
		snprintf(tier, sizeof tier, "%s", j->c->tiers->by_default);
		rc = 0;
	}
	if (rc == 0)
		rc = accounts_add(j->c->accounts, name, tier, j->error);
	if (rc == 0)
		rc = accounts_find(j->c->accounts, name, j->now_unix_s, &r, j->error);
	if (rc < 0)
		return rc;
	job_say(j, " %s tier=%s", name, tier);
	return answer_account(j, &r);
}

static struct json *row_json(const struct job *j, const void *v, unsigned i)
{
	return account_json(j, (const struct account_record *)v + i);
}

/* Those whose names have "part" in them, "after" the last name of the page before. */
int command_account_list(struct job *j)
{
	char after[COMMAND_WORD_LEN] = "", part[COMMAND_WORD_LEN] = "";
	unsigned n;
	int rc = job_word(j, json_get(j->request, "after"), "after", after);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = job_word(j, json_get(j->request, "part"), "part", part);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = job_page(j, &n);
	if (rc < 0)
		return rc;
	struct account_record *v = calloc((size_t)n + 1, sizeof *v);
	if (!v)
		return job_starve(j);
	rc = accounts_list(j->c->accounts, after, part, j->now_unix_s, v, n + 1, j->error);
	rc = job_answer_page(j, "accounts", rc, n, v, row_json);
	free(v);
	if (rc == 0 && (json_put(j->answer, "month", month_json(j->now_unix_s)) < 0 ||
	                json_put(j->answer, "limits_off", json_new_bool(j->c->tiers->off)) < 0))
		rc = job_starve(j);
	return rc;
}

int command_account_show(struct job *j)
{
	struct account_record r;
	int rc = job_account(j, &r);

	return rc < 0 ? rc : answer_account(j, &r);
}

/* One of {"rate": "500Mbit", "tunnels": "default", ...}. */
static int set_own(struct job *j, struct account_overrides *own, struct str name,
                   const struct json *value)
{
	char word[COMMAND_WORD_LEN], key[16];
	enum term term;

	snprintf(key, sizeof key, "%.*s", name.len < sizeof key ? (int)name.len : 0, name.p);
	if (!term_of_name(key, &term))
		return job_fail(j, ERR_INVALID, "there is no such limit");
	int rc = job_word(j, value, key, word);
	if (rc < 0)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	job_say(j, " %s=%s", key, word);
	if (strcmp(word, "default") == 0) {
		terms_forget(own, term);
		return 0;
	}
	const char *words = terms_read(own, term, word);
	if (words)
		return job_fail(j, ERR_INVALID, "%s %s, or default, not %s", key, words,
		                opts_quote(word).s);
	return 0;
}

static int set_all_own(struct job *j, struct account_overrides *own)
{
	const struct json *given = json_get(j->request, "own");
	int rc = 0;

	for (struct json_walk w = json_walk(given); rc == 0 && json_next(&w);)
		rc = set_own(j, own, w.name, w.value);
	return rc;
}

/* Stores the record and answers with it; live tunnels are told. */
static int store(struct job *j, const struct account_record *r)
{
	int rc = accounts_store(j->c->accounts, r, j->error);

	if (rc < 0)
		return rc;
	j->changed_row = r->row;
	return answer_account(j, r);
}

int command_account_set(struct job *j)
{
	struct account_record r;
	int rc = job_account(j, &r);

	if (rc < 0)
		return rc;
	job_say(j, " %s", r.name);
	size_t before = strlen(j->what);
	rc = read_tier(j, r.tier);
	if (rc == 0)
		job_say(j, " tier=%s", r.tier);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		rc = set_all_own(j, &r.own);
	if (rc == 0 && strlen(j->what) == before)
		rc = job_fail(j, ERR_INVALID,
		              "nothing is set: give --tier, --relay, --tunnels, "
		              "--rate, --burst or --volume");
	return rc < 0 ? rc : store(j, &r);
}

static int suspend(struct job *j, bool suspended)
{
	struct account_record r;
	int rc = job_account(j, &r);

	if (rc < 0)
		return rc;
	job_say(j, " %s", r.name);
	r.suspended = suspended;
	return store(j, &r);
}

int command_account_suspend(struct job *j) { return suspend(j, true); }
int command_account_resume(struct job *j) { return suspend(j, false); }

int command_account_rm(struct job *j)
{
	struct account_record r;
	bool force = false;
	int rc = job_account(j, &r);

	if (rc < 0)
		return rc;
	if (j->c->derp_account && strcmp(r.name, j->c->derp_account) == 0)
		return job_fail(j, -EBUSY,
		                "the DERP clients of this relay count for the account \"%s\": name "
		                "another one (derp.account), or admit none (derp.allow), and reload "
		                "first",
		                r.name);
	json_as_bool(json_get(j->request, "force"), &force);
	job_say(j, " %s%s", r.name, force ? " force" : "");
	rc = accounts_remove(j->c->accounts, &r, force, j->error);
	if (rc < 0)
		return rc;
	j->changed_row = r.row;
	return json_put(j->answer, "removed", json_new_text(str_of(r.name))) == 0 ? 0 :
	                                                                            job_starve(j);
}
