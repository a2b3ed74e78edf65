/*
 * Tiers: what the accounts of each may (product.md section 7). From the config file's map
 * `tiers:`, in which each tier is a map; where there is none, the table of free, pro and
 * unlimited. Read by the accounts thread, changed by a reload; commands read it too.
 */
#ifndef TUNN_SERVER_TIERS_H
#define TUNN_SERVER_TIERS_H

#include "common/base/key.h"
#include "common/base/opts.h"
#include "server/account.h"

enum { TIERS_MAX = 64, TIERS_ERROR_LEN = 256 };

struct tier {
	char name[NAME_MAX_LEN + 1];
	struct account_terms terms; /* suspended is false */
};

struct tiers { /* a value */
	unsigned n;
	struct tier v[TIERS_MAX];
	char by_default[NAME_MAX_LEN + 1]; /* of an account that was added without --tier */
	bool off;                          /* `limits: off`: nobody is limited in anything */
};

#endif
