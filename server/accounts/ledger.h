/*
 * The ledger: the accounts that have tunnels, and what they use. It makes the live account
 * when a token of it is asked for (ledger_get), and each second (ledger_tick) takes what workers
 * counted, puts changed totals into the journal (journal.h), begins a month when the clock says
 * so, tells who has crossed 80 and 100 % of its volume; every LEDGER_FOLD_MS it folds totals
 * into the database and lets accounts go to which nobody refers any more and that have rested.
 *
 * A process that is killed loses what was counted since its last tick and nothing is counted
 * twice: a boot has one total of each account and month, in the journal and in the
 * database, and the larger one is right. What cannot be written (a full disk) stays in
 * memory, is said once and counted (METRIC_USAGE_FAILURES); the relay goes on.
 *
 * Accounts thread, all of it.
 */
#ifndef TUNN_SERVER_LEDGER_H
#define TUNN_SERVER_LEDGER_H

#include "server/accounts/account.h"
#include "server/accounts/accounts.h"

struct ledger;

enum { LEDGER_FOLD_MS = 10000 };

enum ledger_news {
	LEDGER_QUOTA, /* it has used 80, resp. 100 percent of its volume, each once a month; of
	                 terms that changed again */
	LEDGER_MONTH, /* a month began: percent of it that is used already, hardly ever not 0 */
};

struct ledger_conf { /* borrows all of it until ledger_close() */
	struct accounts *accounts;
	const char *state_dir;
	unsigned n_workers;
	uint64_t file_max;        /* bytes of a journal file; 0: JOURNAL_FILE_MAX */
	int64_t (*unix_ms)(void); /* the clock of the wall */
	/* What an account may: 0, or negative when that cannot be told. */
	int (*terms)(void *owner, int64_t row, struct account_terms *terms_out);
	/* From ledger_tick(). The account is borrowed; resets_unix_s is when its month ends. */
	void (*news)(void *owner, struct account *, enum ledger_news, unsigned percent,
	             int64_t resets_unix_s);
	void *owner;
};

/* Takes over what killed boots left in their journals. A disk that cannot be written is no
 * error here. 0, or negative with error_out in words. */
int ledger_open(const struct ledger_conf *, struct ledger **ledger_out,
                char error_out[static ACCOUNTS_ERROR_LEN]);
/* Puts all that was counted into the database, or at least into the journal. Accounts that
 * others still refer to stay theirs. NULL allowed. */
void ledger_close(struct ledger *);

/* The live account of a row, which is called so: a reference, given. NULL: its terms or its
 * usage cannot be read, or out of memory. */
struct account *ledger_get(struct ledger *, int64_t row, const char *name);
/* The same, borrowed, if it is live; else NULL. */
struct account *ledger_find(struct ledger *, int64_t row);
/* Reads the terms of a live account, or of all, again. 0, or what `terms` said, and the other
 * accounts have those of before. */
int ledger_changed(struct ledger *, int64_t row);
int ledger_changed_all(struct ledger *);

void ledger_tick(struct ledger *, uint64_t now_ms);

#endif
