#include "server/accounts/tiers.h"

#include <stdio.h>
#include <string.h>

#include "common/base/err.h"

enum { BURST_MS = 10000 }; /* of a rate of an account's own where its tier has none */

const char *tiers_check_name(const char *v)
{
	return name_is_valid(str_of(v)) ? NULL : "must be 1 to 63 of a-z, 0-9 and -";
}

/* The map `limits:` of the same name has its own rows (common/base/limits.h). */
const char *tiers_check_limits(const char *v)
{
	return strcmp(v, "on") == 0 || strcmp(v, "off") == 0 ? NULL : "must be on or off";
}

/* ---- the built-in table ---- */

static const struct tier builtin[] = {
	{ "free",
	  { .relay = false,
	    .tunnels = 3,
	    .rate = 25000000, /* 200 Mbit/s */
	    .burst_ms = BURST_MS,
	    .volume = 1000000000 } },
	{ "pro",
	  { .relay = true,
	    .tunnels = 10,
	    .rate = 62500000, /* 500 Mbit/s */
	    .burst_ms = BURST_MS,
	    .volume = 50000000000 } },
	{ TIER_UNLIMITED, { .relay = true } }, /* the last: it is in every table */
};
enum { N_BUILTIN = sizeof builtin / sizeof *builtin };

void tiers_builtin(struct tiers *tiers_out)
{
	struct tiers t = { .n = N_BUILTIN, .by_default = TIER_UNLIMITED };

	memcpy(t.v, builtin, sizeof builtin);
	*tiers_out = t;
}

/* ---- the file ---- */

static const char option[] = "tiers";

struct reading {
	const char *command;
	struct tiers *tiers;
	struct account_overrides written[TIERS_MAX];
	const struct opt_leaf *first[TIERS_MAX]; /* where each begins */
};

/* Where the tier of the leaf is or shall be. */
static int place_of(struct reading *r, const struct opt_leaf *leaf, unsigned *at_out)
{
	struct str name = { leaf->path, strcspn(leaf->path, ".") };
	unsigned i = 0;

	while (i < r->tiers->n && !str_eq(str_of(r->tiers->v[i].name), name))
		i++;
	*at_out = i;
	if (i < r->tiers->n)
		return 0;
	if (!name_is_valid(name))
		return opts_refuse_leaf(r->command, option, leaf,
		                        "is no name of a tier: 1 to 63 of a-z, 0-9 and -");
	if (i == TIERS_MAX - 1)
		return opts_refuse_leaf(r->command, option, leaf, "is one tier more than %d",
		                        TIERS_MAX - 1);
	memcpy(r->tiers->v[i].name, name.p, name.len);
	r->first[i] = leaf;
	r->tiers->n++;
	return 0;
}

static int unknown_key(const struct reading *r, const struct opt_leaf *leaf, const char *key)
{
	const char *names[TERM_N];

	for (unsigned i = 0; i < TERM_N; i++)
		names[i] = term_name((enum term)i);
	const char *near = opts_nearest(key, names, TERM_N);
	return opts_refuse_leaf(r->command, option, leaf,
	                        "is no key of a tier: relay, tunnels, rate, burst, volume%s%s%s",
	                        near ? "; did you mean \"" : "", near ? near : "",
	                        near ? "\"?" : "");
}

static int read_leaf(struct reading *r, const struct opt_leaf *leaf)
{
	const char *dot = strchr(leaf->path, '.');
	enum term term;
	unsigned at;

	if (!dot)
		return opts_refuse_leaf(r->command, option, leaf,
		                        "must be a map: {relay: yes, tunnels: 10, rate: 500Mbit, "
		                        "burst: 10s, volume: 50GB}");
	int rc = place_of(r, leaf, &at);
	if (rc < 0)
		return rc;
	if (!term_of_name(dot + 1, &term))
		return unknown_key(r, leaf, dot + 1);
	const char *words = terms_read(&r->written[at], term, leaf->value);
	if (words)
		return opts_refuse_leaf(r->command, option, leaf, "%s, not %s", words,
		                        opts_quote(leaf->value).s);
	return 0;
}

/* What is left out would be unlimited without a word (C22). */
static int check_tier(const struct reading *r, unsigned at)
{
	const struct account_overrides *w = &r->written[at];
	const struct opt_leaf *leaf = r->first[at];
	const struct opt_leaf tier = { .path = r->tiers->v[at].name,
		                       .file = leaf->file,
		                       .line = leaf->line,
		                       .column = leaf->column };

	for (unsigned i = 0; i < TERM_N; i++)
		if (i != TERM_BURST && !terms_have(w, (enum term)i))
			return opts_refuse_leaf(r->command, option, &tier, "has no %s: give it%s",
			                        term_name((enum term)i),
			                        i == TERM_RELAY ? "" : ", or say unlimited");
	if (w->terms.rate && !w->terms.burst_ms)
		return opts_refuse_leaf(r->command, option, &tier,
		                        "has a rate and no burst: give it, like burst: 10s");
	if (!w->terms.rate && w->terms.burst_ms)
		return opts_refuse_leaf(r->command, option, &tier,
		                        "has a burst, which means nothing without a rate");
	return 0;
}

static int read_tree(const char *command, const struct opt_tree *tree, struct tiers *tiers)
{
	struct reading r = { .command = command, .tiers = tiers };
	int rc = 0;

	tiers->n = 0;
	memset(tiers->v, 0, sizeof tiers->v);
	for (unsigned i = 0; rc == 0 && i < tree->n; i++)
		rc = read_leaf(&r, &tree->v[i]);
	for (unsigned i = 0; rc == 0 && i < tiers->n; i++) {
		rc = check_tier(&r, i);
		tiers->v[i].terms = r.written[i].terms;
	}
	if (rc == 0 && !tiers_find(tiers, TIER_UNLIMITED))
		tiers->v[tiers->n++] = builtin[N_BUILTIN - 1];
	return rc;
}

int tiers_read(const char *command, const struct tiers_words *w, struct tiers *tiers_out)
{
	char names[TIERS_NAMES_LEN];
	struct tiers t;
	int rc = 0;

	tiers_builtin(&t);
	if (w->tiers.n)
		rc = read_tree(command, &w->tiers, &t);
	if (rc < 0)
		return rc;
	if (w->by_default)
		snprintf(t.by_default, sizeof t.by_default, "%s", w->by_default);
	if (!tiers_find(&t, t.by_default))
		return opts_fail(command, "default-tier: there is no tier \"%s\" among %s",
		                 t.by_default, tiers_names(&t, names));
	t.off = w->limits && strcmp(w->limits, "off") == 0;
	*tiers_out = t;
	return 0;
}

/* ---- questions ---- */

const struct tier *tiers_find(const struct tiers *t, const char *name)
{
	for (unsigned i = 0; i < t->n; i++)
		if (strcmp(t->v[i].name, name) == 0)
			return &t->v[i];
	return NULL;
}

const char *tiers_names(const struct tiers *t, char out[static TIERS_NAMES_LEN])
{
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < t->n; i++) {
		const char *name = t->v[i].name;
		if (n + strlen(name) + 8 > TIERS_NAMES_LEN) {
			snprintf(out + n, TIERS_NAMES_LEN - n, ", ...");
			break;
		}
		n += (size_t)snprintf(out + n, TIERS_NAMES_LEN - n, "%s%s", i ? ", " : "", name);
	}
	return out;
}

static void overlay(struct account_terms *terms, const struct account_overrides *own)
{
	for (unsigned i = 0; i < TERM_N; i++)
		if (terms_have(own, (enum term)i))
			terms_put(terms, (enum term)i, terms_number(&own->terms, (enum term)i));
	if (!terms->rate)
		terms->burst_ms = 0;
	else if (!terms->burst_ms)
		terms->burst_ms = BURST_MS;
}

bool tiers_terms(const struct tiers *t, const char *tier, const struct account_overrides *own,
                 struct account_terms *terms_out)
{
	const struct tier *found = tiers_find(t, tier);
	const struct tier *used = found ? found : tiers_find(t, t->by_default);
	struct account_terms terms = used ? used->terms : (struct account_terms){ 0 };

	if (own)
		overlay(&terms, own);
	if (t->off)
		terms = (struct account_terms){ .relay = true };
	terms.rank = used ? (unsigned)(used - t->v) : 0;
	*terms_out = terms;
	return found != NULL;
}
