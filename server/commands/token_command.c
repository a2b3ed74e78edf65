#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/base/table.h"
#include "common/base/token.h"
#include "server/commands/ask.h"
#include "server/command.h"
#include "server/options.h"

struct token_options {
	struct ask_options ask;
	const char *id, *expires;
};

/* `90d` or `12h`; no longer than any other time (366 days). */
static int64_t seconds_of(const char *v)
{
	size_t digits = strspn(v, "0123456789");
	int64_t n = 0, unit = strcmp(v + digits, "d") == 0 ? 86400 :
	                      strcmp(v + digits, "h") == 0 ? 3600 :
	                                                     0;

	if (digits == 0 || digits > 5 || unit == 0)
		return 0;
	for (size_t i = 0; i < digits; i++)
		n = n * 10 + v[i] - '0';
	n *= unit;
	return n <= (int64_t)366 * 86400 ? n : 0;
}

static const char *check_expires(const char *v)
{
	return seconds_of(v) ? NULL : "must be days or hours, like 90d or 12h, at most 366d";
}

static const struct opt token_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "id",
	  .arg = "ID",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct token_options, id),
	  .check = ask_check_name,
	  .help = "the token claims only this tunnel id" },
	{ .kind = OPT_TEXT,
	  .name = "expires",
	  .arg = "TIME",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct token_options, expires),
	  .check = check_expires,
	  .help = "the token ends after this time (90d, 12h); default: never" },
	ASK_OPTS(struct token_options, ask),
	{ .kind = OPT_END },
};

static const struct opt_command token_cmd = {
	.name = "token",
	.usage = "new ACCOUNT | list ACCOUNT | revoke TOKENID [options]",
	.summary = "make, list and revoke the tokens of an account",
	.text = "new ACCOUNT makes a token and prints it, this once: only a hash of it is stored. "
	        "Several are valid at a time. list ACCOUNT shows their ids, the letters behind tunn_; "
	        "revoke TOKENID ends one, and the tunnels that came with it.\n\n"
	        "It acts on the relay whose state is on this machine; a running server obeys at once.",
	.opts = token_opts,
	.file_of = server_opts,
};

static const struct ask_verb verbs[] = {
	{ "new", "new ACCOUNT [--id ID] [--expires TIME]", "ACCOUNT", 1 },
	{ "list", "list ACCOUNT", "ACCOUNT", 0 },
	{ "revoke", "revoke TOKENID", "TOKENID", 0 },
};
#define IS(verb, name_) (strcmp((verb)->name, name_) == 0)

/* ---- words into a request ---- */

static int check_fit(const struct token_options *o, const struct ask_verb *verb, const char *word)
{
	if ((o->id || o->expires) && !verb->options)
		return opts_fail(token_cmd.name, "--%s means nothing with %s: tunn token %s",
		                 o->id ? "id" : "expires", verb->name, verb->usage);
	if (!IS(verb, "revoke") && ask_check_name(word))
		return opts_fail(token_cmd.name, "%s: %s", opts_quote(word).s,
		                 ask_check_name(word));
	return 0;
}

/* NULL: out of memory. */
static struct json *request_of(const struct token_options *o, const struct ask_verb *verb,
                               const char *word)
{
	struct json *r = json_new_object();
	char text[32];

	snprintf(text, sizeof text, "token %s", verb->name);
	int rc = json_put(r, "verb", json_new_text(str_of(text)));
	if (rc == 0)
		rc = json_put(r, IS(verb, "revoke") ? "token_id" : "name",
		              json_new_text(str_of(word)));
	if (rc == 0 && o->id)
		rc = json_put(r, "id", json_new_text(str_of(o->id)));
	if (rc == 0 && o->expires)
		rc = json_put(r, "expires_s", json_new_int(seconds_of(o->expires)));
	if (rc == 0)
		return r;
	json_free(r);
	return NULL;
}

/* ---- the answer for people ---- */

static void print_new(const struct json *answer, const char *account)
{
	struct ask_text id = ask_text(answer, "id");
	struct str token = STR("");
	char until[TABLE_TIME_LEN] = "";
	int64_t expires = 0;

	json_as_text(json_get(answer, "token"), &token);
	if (json_as_int(json_get(answer, "expires_unix_s"), &expires) == JSON_READ)
		table_time(expires, until);
	fprintf(stderr, "tunn: token of account %s for %s%s, valid %s%s, shown only now:\n",
	        account, id.s[0] ? "the id " : "any id", id.s, until[0] ? "until " : "for ever",
	        until);
	if (token_check(token) == 0)
		printf("%.*s\n", (int)token.len, token.p);
}

/* Nobody has it now, but it is valid. */
static int print_lost(const struct json *answer)
{
	fprintf(stderr, "tunn: nobody has seen that token: tunn token revoke %s\n",
	        ask_text(answer, "token_id").s);
	return ASK_FAILED;
}

static void add_row(void *owner, struct table *t, const struct json *page, const struct json *token)
{
	struct ask_text id = ask_text(token, "id");
	int64_t created = 0, expires = 0, revoked = 0;
	char text[TABLE_TIME_LEN];
	bool valid = false;

	(void)owner, (void)page;
	json_as_int(json_get(token, "created_unix_s"), &created);
	json_as_int(json_get(token, "expires_unix_s"), &expires);
	json_as_int(json_get(token, "revoked_unix_s"), &revoked);
	json_as_bool(json_get(token, "valid"), &valid);
	table_add(t, str_of(ask_text(token, "token_id").s));
	table_add(t, str_of(id.s[0] ? id.s : "any"));
	table_addf(t, "%s", table_time(created, text));
	table_addf(t, "%s", expires ? table_time(expires, text) : "never");
	if (revoked)
		table_addf(t, "revoked %s", table_time(revoked, text));
	else
		table_addf(t, "%s", valid ? "valid" : "expired");
}

struct listing {
	const struct token_options *o;
	const struct ask_verb *verb;
	const char *account;
};

static struct json *list_request(void *owner)
{
	const struct listing *l = owner;

	return request_of(l->o, l->verb, l->account);
}

static int list(const struct token_options *o, const struct ask_verb *verb, const char *account)
{
	static const char *const head[] = { "TOKEN", "ID", "CREATED", "EXPIRES", "STATE", NULL };
	struct listing l = { .o = o, .verb = verb, .account = account };
	const struct ask_list tokens = { .rows = "tokens",
		                         .key = "token_id",
		                         .head = head,
		                         .owner = &l,
		                         .request = list_request,
		                         .add = add_row };
	int rc = ask_list(&o->ask, &tokens);

	return rc == ASK_OK ? ask_printed(&o->ask) : rc;
}

static void print_revoked(const struct json *answer)
{
	fprintf(stderr, "tunn: token %s of account %s revoked\n", ask_text(answer, "token_id").s,
	        ask_text(answer, "account").s);
}

int token_command(int argc, char **argv)
{
	struct token_options o = { .ask.command = token_cmd.name };
	struct opt_list words = { 0 };
	struct json *answer;
	const char *word;
	bool help;

	if (opts_read(&token_cmd, argc, argv, &o, &words, &help) < 0)
		return ASK_USAGE;
	if (help)
		return ASK_OK;
	const struct ask_verb *verb = ask_verb_of(&token_cmd, verbs, sizeof verbs / sizeof *verbs,
	                                          &words, &word);
	if (!verb || check_fit(&o, verb, word) < 0 || ask_prepare(&o.ask) < 0)
		return ASK_USAGE;
	if (IS(verb, "list"))
		return list(&o, verb, word);
	int rc = ask(&o.ask, request_of(&o, verb, word), &answer);
	if (rc != ASK_OK)
		return rc;
	if (ask_print_json(&o.ask, answer))
		;
	else if (IS(verb, "new"))
		print_new(answer, word);
	else
		print_revoked(answer);
	rc = ask_printed(&o.ask);
	if (rc != ASK_OK && IS(verb, "new"))
		rc = print_lost(answer);
	json_free(answer);
	return rc;
}
