/* What the files of the ledger share; for them alone. */
#ifndef TUNN_SERVER_LEDGER_IMPL_H
#define TUNN_SERVER_LEDGER_IMPL_H

#include "common/base/list.h"
#include "common/base/map.h"
#include "server/accounts/accounts_usage.h"
#include "server/accounts/journal.h"
#include "server/accounts/ledger.h"

/* Of this boot. There are those of live accounts, and of months that ended or accounts
 * that were let go until they are in the database. */
struct total {
	struct total_key {
		int64_t row, month;
	} key;
	struct live *live; /* that counts in it now, or NULL */
	struct account_usage now, journaled, folded;
	struct list in_ledger;
};

struct live {
	int64_t row;
	struct account *account;
	struct total *total;
	struct account_usage others; /* of its month, what other boots counted: what the account has
	                                without it is our total */
	unsigned told;               /* percent: 0, 80 or 100 */
	bool was_unused;             /* at the last folding */
	struct list in_ledger;
};

struct ledger {
	struct ledger_conf conf;
	struct accounts_usage *usage;
	struct journal *journal;
	struct map live_of_row, total_of_key;
	struct list lives, totals;
	uint64_t folded_ms; /* when it was last tried */
	bool has_folded;    /* at all */
	bool is_rotated;    /* files before the one that is written are left */
	bool has_old;       /* journals of earlier boots are left */
	bool is_merged;
	unsigned n_busy; /* seconds since another program keeps the fold from the database */
	/* And that was said: */
	bool journal_fails, database_fails, months_fail, replay_fails, merge_fails;
};

/* ledger_store.c: journal and database */
void ledger_write(struct ledger *);
bool ledger_fold(struct ledger *); /* false: another program writes there, in a second again */
bool ledger_is_folded(const struct ledger *); /* all of it */
void ledger_rotate(struct ledger *);          /* another journal file, without what is folded */
/* The journals of earlier boots, or some of them. False: another program writes there. */
bool ledger_take_over(struct ledger *);
void ledger_merge(struct ledger *); /* some of their rows */
/* Says what fails once, and when it works again. rc: 0 or negative, with words. */
void ledger_say(bool *fails, int rc, const char *words, const char *works_again);

#endif
