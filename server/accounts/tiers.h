/*
 * Tiers: what the accounts of each may (product.md section 7). From the config file's map
 * `tiers:`, in which each tier is a map; where there is none, the table of free, pro and
 * unlimited. The last is in every table, unless the file says what it is. A value: made when
 * options are read, copied to the accounts thread; a reload makes another.
 */
#ifndef TUNN_SERVER_TIERS_H
#define TUNN_SERVER_TIERS_H

#include <stdbool.h>

#include "common/base/key.h"
#include "common/base/opts.h"
#include "server/accounts/account.h"
#include "server/accounts/terms.h"

enum { TIERS_MAX = 64 };
#define TIER_UNLIMITED "unlimited"

struct tier {
	char name[NAME_MAX_LEN + 1];
	struct account_terms terms; /* suspended is false */
};

struct tiers {
	unsigned n;
	struct tier v[TIERS_MAX];          /* the lowest first, as in the file */
	char by_default[NAME_MAX_LEN + 1]; /* of an account that was added without --tier */
	bool off;                          /* `limits: off`: nobody is limited in anything */
};

/* What was written about them. All may be left out. */
struct tiers_words {
	struct opt_tree tiers;  /* `tiers:` */
	const char *by_default; /* `default-tier:` */
	const char *limits;     /* --limits on|off */
};
/* Rows of an option table whose target has a struct tiers_words at that field; traits for
 * the last two: where they may be given. */
#define TIERS_OPTS(target, field, traits_)                                                                 \
	{ .kind = OPT_TREE,                                                                                \
	  .name = "tiers",                                                                                 \
	  .offset = offsetof(target, field.tiers),                                                         \
	  .traits = OPT_FILE,                                                                              \
	  .help = "what the accounts of each tier may" },                                                  \
	                { .kind = OPT_TEXT,                                                                \
		          .name = "default-tier",                                                          \
		          .arg = "NAME",                                                                   \
		          .offset = offsetof(target, field.by_default),                                    \
		          .traits = traits_,                                                               \
		          .check = tiers_check_name,                                                       \
		          .help = "tier of the accounts that are added without one; default: unlimited" }, \
	{                                                                                                  \
		.kind = OPT_TEXT, .name = "limits", .arg = "on|off",                                       \
		.offset = offsetof(target, field.limits), .traits = traits_,                               \
		.check = tiers_check_limits,                                                               \
		.help = "off: no account is limited in anything, whatever its tier; default: on"           \
	}
const char *tiers_check_name(const char *);
const char *tiers_check_limits(const char *);

/* 0, or ERR_CONFIG after printing "tunn COMMAND: FILE:LINE:COLUMN: tiers.pro.rate ...". */
int tiers_read(const char *command, const struct tiers_words *, struct tiers *tiers_out);
void tiers_builtin(struct tiers *tiers_out); /* as with nothing written */

/* NULL: there is none of that name. */
const struct tier *tiers_find(const struct tiers *, const char *name);
/* What an account of that tier with those limits of its own (NULL: none) may; `suspended` is
 * the caller's to set. False: the tier is not known, and it has the default one's terms. */
bool tiers_terms(const struct tiers *, const char *tier, const struct account_overrides *own,
                 struct account_terms *terms_out);
/* "free, pro, unlimited", shortened where that is long. */
enum { TIERS_NAMES_LEN = 128 };
const char *tiers_names(const struct tiers *, char out[static TIERS_NAMES_LEN]);

#endif
