#include "server/commands/commands.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "server/commands/commands_impl.h"

enum { REQUEST_MAX = 64 * 1024, LOGIN_MAX = 64 };

static const struct {
	const char *name;
	command_verb *run;
	/* The database: in a transaction, with a line in the audit. Decisions about logins see to
	 * that themselves: they are not taken back if it fails. */
	bool changes;
} verbs[] = {
	{ "account add", command_account_add, true },
	{ "account list", command_account_list, false },
	{ "account show", command_account_show, false },
	{ "account set", command_account_set, true },
	{ "account suspend", command_account_suspend, true },
	{ "account resume", command_account_resume, true },
	{ "account rm", command_account_rm, true },
	{ "account log", command_account_log, false },
	{ "account requests", command_account_requests, false },
	{ "account approve", command_account_approve, false },
	{ "account deny", command_account_deny, false },
	{ "token new", command_token_new, true },
	{ "token list", command_token_list, false },
	{ "token revoke", command_token_revoke, true },
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

/* ---- of a job ---- */

int job_fail(struct job *j, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->error, sizeof j->error, fmt, ap);
	va_end(ap);
	return rc;
}

int job_starve(struct job *j) { return job_fail(j, -ENOMEM, "out of memory"); }

void job_say(struct job *j, const char *fmt, ...)
{
	size_t n = strlen(j->what);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->what + n, sizeof j->what - n, fmt, ap);
	va_end(ap);
}

int job_word(struct job *j, const struct json *value, const char *name,
             char out[static COMMAND_WORD_LEN])
{
	struct str text;
	enum json_read r = json_as_text(value, &text);

	if (r == JSON_ABSENT || r == JSON_IS_NULL)
		return ERR_NOT_FOUND;
	if (r != JSON_READ || text.len >= COMMAND_WORD_LEN || memchr(text.p, 0, text.len))
		return job_fail(j, ERR_INVALID, "%s is no text of at most %d bytes", name,
		                COMMAND_WORD_LEN - 1);
	memcpy(out, text.p, text.len);
	out[text.len] = 0;
	return 0;
}

int job_account(struct job *j, struct account_record *out)
{
	char name[COMMAND_WORD_LEN];
	int rc = job_word(j, json_get(j->request, "name"), "name", name);

	if (rc == ERR_NOT_FOUND)
		return job_fail(j, ERR_INVALID, "no account is named");
	return rc < 0 ? rc : accounts_find(j->c->accounts, name, j->now_unix_s, out, j->error);
}

/* ---- pages ---- */

int job_page(struct job *j, unsigned *n_out)
{
	enum { PAGE_DEFAULT = 100 };
	int64_t n = PAGE_DEFAULT;
	enum json_read r = json_as_int(json_get(j->request, "n"), &n);

	if (r == JSON_WRONG_TYPE || n < 1 || n > COMMAND_PAGE_MAX)
		return job_fail(j, ERR_INVALID, "n must be 1 to %d", COMMAND_PAGE_MAX);
	*n_out = (unsigned)n;
	return 0;
}

int job_answer_page(struct job *j, const char *name, int rc, unsigned n, const void *v,
                    job_row *row_json)
{
	struct json *list = rc < 0 ? NULL : json_new_array();
	bool more = rc > 0 && (unsigned)rc > n;

	if (rc < 0)
		return rc;
	rc = list ? (more ? (int)n : rc) : -ENOMEM;
	for (unsigned i = 0, n_rows = rc < 0 ? 0 : (unsigned)rc; rc >= 0 && i < n_rows; i++)
		rc = json_add(list, row_json(j, v, i));
	if (rc < 0) {
		json_free(list);
		return job_starve(j);
	}
	if (json_put(j->answer, name, list) == 0 &&
	    json_put(j->answer, "more", json_new_bool(more)) == 0)
		return 0;
	return job_starve(j);
}

/* ---- who ---- */

static bool is_plain(const char *login)
{
	size_t n = strspn(login, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                         "._-@\\");

	return n && n <= LOGIN_MAX && !login[n];
}

/* The number is the kernel's word, the name the command's: an administrator who became root
 * is still named. */
static void who_is(struct job *j, uid_t uid, char *out, size_t cap)
{
	char login[COMMAND_WORD_LEN];

	if (job_word(j, json_get(j->request, "login"), "login", login) == 0 && is_plain(login))
		snprintf(out, cap, "uid=%u login=%s", (unsigned)uid, login);
	else
		snprintf(out, cap, "uid=%u", (unsigned)uid);
}

/* ---- running ---- */

static const char *code_of(int rc)
{
	switch (rc) {
	case ERR_INVALID: return "invalid";
	case ERR_NOT_FOUND: return "not-found";
	case -EEXIST: return "exists";
	case -EBUSY: return "busy";
	case ERR_AGAIN: return "again";
	case -EPERM: return "denied";
	default: return "failed";
	}
}

struct json *commands_refusal(int rc, const char *words)
{
	struct json *o = json_new_object();

	if (json_put(o, "ok", json_new_bool(false)) == 0 &&
	    json_put(o, "error", json_new_text(str_of(words))) == 0 &&
	    json_put(o, "code", json_new_text(str_of(code_of(rc)))) == 0)
		return o;
	json_free(o);
	return NULL;
}

static int run_and_audit(struct job *j, command_verb *run, const char *who)
{
	struct accounts *a = j->c->accounts;
	int rc = accounts_begin(a, j->error);

	if (rc == 0)
		rc = run(j);
	if (rc == 0)
		rc = accounts_audit(a, who, j->what, j->error);
	if (rc == 0)
		rc = accounts_commit(a, j->error);
	if (rc < 0)
		accounts_rollback(a);
	return rc;
}

static void tell(const struct job *j, const char *who)
{
	const struct commands *c = j->c;

	if (c->logs)
		log_info("admin: %s, by %s", j->what, who);
	if (j->changed_row && c->changed)
		c->changed(c->owner, j->changed_row, *j->changed_token ? j->changed_token : NULL);
}

static int run_verb(struct job *j, unsigned verb, uid_t uid)
{
	char who[2 * COMMAND_WORD_LEN];

	who_is(j, uid, who, sizeof who);
	j->who = who;
	if (!verbs[verb].changes)
		return verbs[verb].run(j);
	job_say(j, "%s", verbs[verb].name);
	int rc = run_and_audit(j, verbs[verb].run, who);
	if (rc == 0)
		tell(j, who);
	return rc;
}

static int run_named(struct job *j, uid_t uid)
{
	char verb[COMMAND_WORD_LEN];
	int rc = job_word(j, json_get(j->request, "verb"), "verb", verb);

	for (unsigned i = 0; rc == 0 && i < N_VERBS; i++)
		if (strcmp(verb, verbs[i].name) == 0)
			return run_verb(j, i, uid);
	if (rc == 0 || rc == ERR_NOT_FOUND)
		return job_fail(j, ERR_INVALID,
		                "the verb is not one that this tunn knows: are both the same "
		                "version?");
	return rc;
}

struct json *commands_run(const struct commands *c, const struct json *request, uid_t uid)
{
	struct job j = { .c = c,
		         .request = request,
		         .now_unix_s = clock_unix_ms() / 1000,
		         .answer = json_new_object() };
	int rc = json_put(j.answer, "ok", json_new_bool(true));

	if (rc == 0)
		rc = run_named(&j, uid);
	if (rc == 0)
		return j.answer;
	json_free(j.answer);
	return commands_refusal(rc, *j.error ? j.error : "out of memory");
}

struct json *commands_run_text(const struct commands *c, struct str text, uid_t uid)
{
	static const struct json_limits limits = { .len = REQUEST_MAX, .depth = 3, .parts = 64 };
	struct json *request = NULL;
	const struct json *object;
	int rc = json_parse(text, &limits, &request, NULL);

	if (rc == 0 && json_as_object(request, &object) != JSON_READ)
		rc = ERR_INVALID;
	struct json *answer = rc == -ENOMEM ? NULL :
	                      rc < 0        ? commands_refusal(ERR_INVALID,
	                                                       "the request is no JSON object") :
	                                      commands_run(c, request, uid);
	json_free(request);
	return answer;
}

/* ---- tiers that are gone ---- */

static void warn_of_tier(void *owner, const char *tier, unsigned n)
{
	const struct commands *c = owner;

	if (!tiers_find(c->tiers, tier))
		log_warn("%u account%s the tier %s, which the config file does not know: the terms "
		         "of %s hold for them",
		         n, n == 1 ? " has" : "s have", tier, c->tiers->by_default);
}

void commands_warn_of_tiers(const struct commands *c)
{
	char error[ACCOUNTS_ERROR_LEN];

	if (accounts_each_tier(c->accounts, warn_of_tier, (void *)(uintptr_t)c, error) < 0)
		log_warn("%s", error);
}
