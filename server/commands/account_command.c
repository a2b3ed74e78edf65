#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/table.h"
#include "server/commands/ask.h"
#include "server/command.h"
#include "server/options.h"
#include "server/commands/requests.h"
#include "server/accounts/accounts.h"
#include "server/accounts/terms.h"

enum { LAST_DEFAULT = 100, LAST_MAX = 1000000 };

struct account_options {
	struct ask_options ask;
	const char *tier;
	const char *own[TERM_N];
	const char *account;
	unsigned last; /* 0: not given */
	bool force;
};

/* ---- the table ---- */

static const char *check_own(enum term t, const char *v)
{
	static char words[200];
	const char *why = strcmp(v, "default") == 0 ? NULL : term_check(t, v);

	if (why)
		snprintf(words, sizeof words, "%s, or default", why);
	return why ? words : NULL;
}
static const char *check_relay(const char *v) { return check_own(TERM_RELAY, v); }
static const char *check_tunnels(const char *v) { return check_own(TERM_TUNNELS, v); }
static const char *check_rate(const char *v) { return check_own(TERM_RATE, v); }
static const char *check_burst(const char *v) { return check_own(TERM_BURST, v); }
static const char *check_volume(const char *v) { return check_own(TERM_VOLUME, v); }

#define OWN(term, name_, arg_, check_, help_)                                                      \
	{                                                                                          \
		.kind = OPT_TEXT, .name = name_, .arg = arg_, .traits = OPT_LINE, .check = check_, \
		.offset = offsetof(struct account_options, own) + (term) * sizeof(const char *),   \
		.help = help_                                                                      \
	}

static const struct opt account_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "tier",
	  .arg = "TIER",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct account_options, tier),
	  .check = tiers_check_name,
	  .help = "the account's tier; default of add: the server's default-tier" },
	OWN(TERM_RELAY, "relay", "yes|no", check_relay,
	    "its ends may exchange datagrams, whatever its tier says"),
	OWN(TERM_TUNNELS, "tunnels", "N", check_tunnels, "tunnels at once, or unlimited"),
	OWN(TERM_RATE, "rate", "RATE", check_rate,
	    "per second, sent and received together (500Mbit), or unlimited"),
	OWN(TERM_BURST, "burst", "TIME", check_burst,
	    "after a rest, as much at once as its rate gives in this time (10s)"),
	OWN(TERM_VOLUME, "volume", "SIZE", check_volume,
	    "in a UTC month, sent and received together (50GB), or unlimited"),
	{ .kind = OPT_TEXT,
	  .name = "account",
	  .arg = "NAME",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct account_options, account),
	  .check = ask_check_name,
	  .help = "the account that a login is approved for; default: the only one" },
	{ .kind = OPT_NUMBER,
	  .name = "last",
	  .arg = "N",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct account_options, last),
	  .min = 1,
	  .max = LAST_MAX,
	  .help = "how many lines of the log, the newest first; default: 100" },
	{ .kind = OPT_FLAG,
	  .name = "force",
	  .traits = OPT_LINE,
	  .offset = offsetof(struct account_options, force),
	  .help = "remove an account that has valid tokens" },
	ASK_OPTS(struct account_options, ask),
	{ .kind = OPT_END },
};

static const struct opt_command account_cmd = {
	.name = "account",
	.usage = "add NAME | list | show NAME | set NAME | suspend NAME | resume NAME | rm NAME | "
	         "log | requests | approve CODE | deny CODE [options]",
	.summary = "manage the accounts of a relay",
	.text = "add NAME [--tier TIER] adds an account, set NAME changes its tier (--tier) or gives "
	        "it limits of its own, which win over its tier's; the word default takes one away. "
	        "suspend NAME keeps its ends out until resume NAME. rm NAME [--force] removes it "
	        "with its tokens and its usage. list and show NAME tell what there is, log who did "
	        "what. requests shows the logins (tunn login) that wait, approve CODE [--account NAME] "
	        "lets one have its token, deny CODE does not.\n\n"
	        "It acts on the relay whose state is on this machine: a running server obeys at "
	        "once, live tunnels included.",
	.opts = account_opts,
	.file_of = server_opts,
};

/* ---- words into a request ---- */

enum { MAY_TIER = 1, MAY_OWN = 2, MAY_FORCE = 4, MAY_ACCOUNT = 8, IS_LOGIN = 16, MAY_LAST = 32 };

static const struct ask_verb verbs[] = {
	{ "add", "add NAME [--tier TIER]", "NAME", MAY_TIER },
	{ "list", "list", NULL, 0 },
	{ "show", "show NAME", "NAME", 0 },
	{ "set", "set NAME [--tier TIER] [--relay yes|no] [--tunnels N] [--rate RATE] ...", "NAME",
	  MAY_TIER | MAY_OWN },
	{ "suspend", "suspend NAME", "NAME", 0 },
	{ "resume", "resume NAME", "NAME", 0 },
	{ "rm", "rm NAME [--force]", "NAME", MAY_FORCE },
	{ "log", "log [--last N]", NULL, MAY_LAST },
	{ "requests", "requests", NULL, IS_LOGIN },
	{ "approve", "approve CODE [--account NAME]", "CODE", MAY_ACCOUNT | IS_LOGIN },
	{ "deny", "deny CODE", "CODE", IS_LOGIN },
};

/* An option that would do nothing is a mistake somewhere. */
static int check_fit(const struct account_options *o, const struct ask_verb *verb)
{
	const char *stray = o->tier && !(verb->options & MAY_TIER)       ? "tier" :
	                    o->force && !(verb->options & MAY_FORCE)     ? "force" :
	                    o->account && !(verb->options & MAY_ACCOUNT) ? "account" :
	                    o->last && !(verb->options & MAY_LAST)       ? "last" :
	                                                                   NULL;

	for (unsigned i = 0; i < TERM_N; i++)
		if (o->own[i] && !(verb->options & MAY_OWN))
			stray = term_name((enum term)i);
	if (!stray)
		return 0;
	return opts_fail(account_cmd.name, "--%s means nothing with %s: tunn account %s", stray,
	                 verb->name, verb->usage);
}

static int put_own(struct json *request, const char *const own[TERM_N])
{
	struct json *o = json_new_object();
	int rc = o ? 0 : -1;

	for (unsigned i = 0; rc == 0 && i < TERM_N; i++)
		if (own[i])
			rc = json_put(o, term_name((enum term)i), json_new_text(str_of(own[i])));
	if (rc == 0)
		return json_put(request, "own", o);
	json_free(o);
	return rc;
}

/* NULL: out of memory. */
static struct json *request_of(const struct account_options *o, const struct ask_verb *verb,
                               const char *name)
{
	struct json *r = json_new_object();
	char text[32];

	snprintf(text, sizeof text, "account %s", verb->name);
	int rc = json_put(r, "verb", json_new_text(str_of(text)));
	if (rc == 0 && verb->word)
		rc = json_put(r, verb->options & IS_LOGIN ? "code" : "name",
		              json_new_text(str_of(name)));
	if (rc == 0 && o->account)
		rc = json_put(r, "name", json_new_text(str_of(o->account)));
	if (rc == 0 && o->tier)
		rc = json_put(r, "tier", json_new_text(str_of(o->tier)));
	if (rc == 0 && (verb->options & MAY_OWN))
		rc = put_own(r, o->own);
	if (rc == 0 && o->force)
		rc = json_put(r, "force", json_new_bool(true));
	if (rc == 0)
		return r;
	json_free(r);
	return NULL;
}

/* ---- the answer for people ---- */

struct shown { /* an account, read back */
	struct ask_text name, tier, month;
	bool tier_known, suspended;
	int64_t created, n_tokens, n_tunnels; /* the last: -1 where no server runs */
	int64_t sent, received;
	struct account_overrides limits, own;
	bool limits_off;
};

/* answer: which the account is part of. */
static struct shown read_back(const struct json *answer, const struct json *account)
{
	const struct json *usage = json_get(account, "usage");
	struct shown s = { .name = ask_text(account, "name"),
		           .tier = ask_text(account, "tier"),
		           .month = ask_text(account, "month"),
		           .n_tunnels = -1 };

	json_as_bool(json_get(answer, "limits_off"), &s.limits_off);
	json_as_bool(json_get(account, "tier_known"), &s.tier_known);
	json_as_bool(json_get(account, "suspended"), &s.suspended);
	json_as_int(json_get(account, "created_unix_s"), &s.created);
	json_as_int(json_get(account, "valid_tokens"), &s.n_tokens);
	json_as_int(json_get(account, "tunnels_now"), &s.n_tunnels);
	json_as_int(json_get(usage, "sent_bytes"), &s.sent);
	json_as_int(json_get(usage, "received_bytes"), &s.received);
	terms_of_json(json_get(account, "limits"), &s.limits);
	terms_of_json(json_get(account, "own_limits"), &s.own);
	return s;
}

static void say_limit(const struct shown *s, enum term t, const char *more)
{
	char text[UNITS_LEN];

	printf("%-10s %s%s%s\n", term_name(t), terms_text(&s->limits.terms, t, text), more,
	       terms_have(&s->own, t) && !s->limits_off ? " (its own)" : "");
}

static void show_limits(const struct shown *s)
{
	char now[48] = "";

	if (s->n_tunnels >= 0)
		snprintf(now, sizeof now, ", %" PRId64 " now", s->n_tunnels);
	say_limit(s, TERM_RELAY, "");
	say_limit(s, TERM_TUNNELS, now);
	say_limit(s, TERM_RATE, s->limits.terms.rate ? " per second" : "");
	if (s->limits.terms.rate)
		say_limit(s, TERM_BURST, "");
	say_limit(s, TERM_VOLUME, s->limits.terms.volume ? " a month" : "");
}

static void show(const struct json *answer)
{
	struct shown s = read_back(answer, json_get(answer, "account"));
	char used[UNITS_LEN], sent[UNITS_LEN], received[UNITS_LEN], created[TABLE_TIME_LEN];

	printf("%-10s %s\n", "account", s.name.s);
	printf("%-10s %s", "tier", s.tier.s);
	if (!s.tier_known)
		printf(", which the config file does not know: what %s says holds",
		       ask_text(answer, "default_tier").s);
	printf("\n%-10s %s\n", "state", s.suspended ? "suspended" : "active");
	show_limits(&s);
	if (s.limits_off)
		printf("%-10s off for all accounts (limits: off)\n", "limits");
	printf("%-10s %s in %s: %s sent, %s received\n", "used",
	       units_size_brief((uint64_t)s.sent + (uint64_t)s.received, used), s.month.s,
	       units_size_brief((uint64_t)s.sent, sent),
	       units_size_brief((uint64_t)s.received, received));
	printf("%-10s %" PRId64 " valid\n", "tokens", s.n_tokens);
	printf("%-10s %s\n", "created", table_time(s.created, created));
}

struct listing {
	const struct account_options *o;
	const struct ask_verb *verb;
	bool own, strange; /* there were * and ? */
};

static void add_row(void *owner, struct table *t, const struct json *page, const struct json *row)
{
	struct listing *l = owner;
	struct shown s = read_back(page, row);
	char text[UNITS_LEN];
	static const enum term columns[] = { TERM_RELAY, TERM_TUNNELS, TERM_RATE, TERM_VOLUME };

	l->strange |= !s.tier_known;
	table_add(t, str_of(s.name.s));
	table_addf(t, "%s%s", s.tier.s, s.tier_known ? "" : "?");
	for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++) {
		bool is_own = terms_have(&s.own, columns[i]) && !s.limits_off;
		l->own |= is_own;
		table_addf(t, "%s%s", terms_text(&s.limits.terms, columns[i], text),
		           is_own ? "*" : "");
	}
	table_addf(t, "%s", units_size_brief((uint64_t)s.sent + (uint64_t)s.received, text));
	table_addf(t, "%" PRId64, s.n_tokens);
	table_addf(t, "%s", s.suspended ? "suspended" : "active");
}

/* ---- list: page after page ---- */

static struct json *list_request(void *owner)
{
	const struct listing *l = owner;

	return request_of(l->o, l->verb, "");
}

static int list(const struct account_options *o, const struct ask_verb *verb)
{
	static const char *const head[] = { "NAME",   "TIER", "RELAY",  "TUNNELS", "RATE",
		                            "VOLUME", "USED", "TOKENS", "STATE",   NULL };
	struct listing l = { .o = o, .verb = verb };
	const struct ask_list accounts = { .rows = "accounts",
		                           .key = "name",
		                           .head = head,
		                           .owner = &l,
		                           .request = list_request,
		                           .add = add_row };
	int rc = ask_list(&o->ask, &accounts);

	if (l.own)
		printf("* its own limit, not its tier's\n");
	if (l.strange)
		printf("? a tier that the config file does not know: the default tier's limits "
		       "hold\n");
	return rc == ASK_OK ? ask_printed(&o->ask) : rc;
}

/* ---- log ---- */

static void add_line(void *owner, struct table *t, const struct json *page, const struct json *row)
{
	char at[TABLE_TIME_LEN], words[AUDIT_WHAT_LEN];
	struct str what = STR("");
	int64_t at_unix_s = 0;

	(void)owner, (void)page;
	json_as_int(json_get(row, "at_unix_s"), &at_unix_s);
	table_addf(t, "%s", table_time(at_unix_s, at));
	table_add(t, str_of(ask_text(row, "who").s));
	json_as_text(json_get(row, "what"), &what);
	snprintf(words, sizeof words, "%.*s", (int)what.len, what.p);
	make_printable(words, strlen(words));
	table_add(t, str_of(words));
}

static int show_log(const struct account_options *o, const struct ask_verb *verb)
{
	static const char *const head[] = { "TIME", "WHO", "WHAT", NULL };
	struct listing l = { .o = o, .verb = verb };
	const struct ask_list lines = { .rows = "log",
		                        .key = "number",
		                        .head = head,
		                        .most = o->last ? o->last : LAST_DEFAULT,
		                        .owner = &l,
		                        .request = list_request,
		                        .add = add_line };
	int rc = ask_list(&o->ask, &lines);

	return rc == ASK_OK ? ask_printed(&o->ask) : rc;
}

/* ---- the command ---- */

static int act(const struct account_options *o, const struct ask_verb *verb, const char *name)
{
	struct json *answer;
	int rc = ask(&o->ask, request_of(o, verb, name), &answer);

	if (rc != ASK_OK)
		return rc;
	if (ask_print_json(&o->ask, answer))
		;
	else if (verb->options & IS_LOGIN && verb->word)
		requests_decided(answer);
	else if (verb->options & IS_LOGIN)
		requests_print(answer);
	else if (strcmp(verb->name, "add") == 0)
		fprintf(stderr,
		        "tunn: account %s added, tier %s; make a token with: tunn token new %s\n",
		        name, ask_text(json_get(answer, "account"), "tier").s, name);
	else if (strcmp(verb->name, "rm") == 0)
		fprintf(stderr, "tunn: account %s removed, with its tokens and usage\n", name);
	else
		show(answer);
	json_free(answer);
	return ask_printed(&o->ask);
}

int account_command(int argc, char **argv)
{
	struct account_options o = { .ask.command = account_cmd.name };
	struct opt_list words = { 0 };
	const char *name;
	bool help;

	if (opts_read(&account_cmd, argc, argv, &o, &words, &help) < 0)
		return ASK_USAGE;
	if (help)
		return ASK_OK;
	const struct ask_verb *verb = ask_verb_of(&account_cmd, verbs, sizeof verbs / sizeof *verbs,
	                                          &words, &name);
	if (!verb || check_fit(&o, verb) < 0 || ask_prepare(&o.ask) < 0)
		return ASK_USAGE;
	o.ask.makes = strcmp(verb->name, "add") == 0;
	bool is_login = verb->options & IS_LOGIN;
	if (verb->word && !is_login && ask_check_name(name)) {
		opts_fail(account_cmd.name, "%s: %s", opts_quote(name).s, ask_check_name(name));
		return ASK_USAGE;
	}
	if (verb->options & MAY_LAST)
		return show_log(&o, verb);
	return verb->word || is_login ? act(&o, verb, name) : list(&o, verb);
}
