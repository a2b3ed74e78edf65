#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/metric.h"
#include "server/accounts/ledger_impl.h"

enum {
	MERGE_MAX = 2000, /* rows a second, so that no question waits for long */
	BUSY_SAID = 10,   /* a backup takes less, and somebody's open transaction longer */
};

void ledger_say(bool *fails, int rc, const char *words, const char *works_again)
{
	if (rc < 0)
		metric_add(METRIC_USAGE_FAILURES, 1);
	if (rc < 0 && !*fails)
		log_error("%s", words);
	if (rc >= 0 && *fails)
		log_info("%s", works_again);
	*fails = rc < 0;
}

/* ---- the journal ---- */

static void say_journal(struct ledger *l, int rc, const char *path)
{
	char words[JOURNAL_PATH_LEN + 256], again[JOURNAL_PATH_LEN + 256];

	snprintf(words, sizeof words,
	         "cannot write the usage journal %s: %s; the relay goes on, usage is kept in "
	         "memory only: make room, or see to the disk",
	         path, rc < 0 ? err_text(rc) : "");
	snprintf(again, sizeof again, "the usage journal %s is written again: nothing is missing",
	         path);
	ledger_say(&l->journal_fails, rc, words, again);
}

/* What is not in the database is put into the file that is written now. */
static void forget_journaled(struct ledger *l)
{
	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		t->journaled = t->folded;
	}
}

static void drop_old_files(struct ledger *l)
{
	int rc = journal_drop_old(l->journal);

	if (rc < 0)
		log_debug("old files of %s stay for now: %s", journal_path(l->journal),
		          err_text(rc));
	else
		l->is_rotated = false;
}

void ledger_write(struct ledger *l)
{
	char path[JOURNAL_PATH_LEN];
	unsigned n = 0;

	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		if (usage_eq(&t->now, &t->journaled))
			continue;
		journal_put(l->journal, &(struct usage_total){ .row = t->key.row,
		                                               .month = (uint32_t)t->key.month,
		                                               .usage = t->now });
		n++;
	}
	snprintf(path, sizeof path, "%s", journal_path(l->journal)); /* before it gives it up */
	int rc = n ? journal_sync(l->journal) : 0;
	if (n)
		say_journal(l, rc, path);
	if (rc < 0) {
		forget_journaled(l);
		l->is_rotated = true; /* it may have begun another one */
		return;
	}
	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		t->journaled = t->now;
	}
	if (l->is_rotated)
		drop_old_files(l);
}

void ledger_rotate(struct ledger *l)
{
	journal_rotate(l->journal);
	forget_journaled(l);
	l->is_rotated = true;
	ledger_write(l);
}

/* ---- the database ---- */

static int fold_totals(struct ledger *l, char error_out[static ACCOUNTS_ERROR_LEN])
{
	int64_t boot = journal_boot(l->journal);
	int rc = accounts_usage_begin(l->usage, error_out);

	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		if (rc < 0)
			break;
		if (!usage_eq(&t->now, &t->folded))
			rc = accounts_usage_put(
			                l->usage, boot,
			                &(struct usage_total){ .row = t->key.row,
			                                       .month = (uint32_t)t->key.month,
			                                       .usage = t->now },
			                error_out);
	}
	if (rc == 0)
		rc = accounts_usage_commit(l->usage, error_out);
	if (rc < 0)
		accounts_usage_roll_back(l->usage);
	return rc;
}

bool ledger_is_folded(const struct ledger *l)
{
	list_each(it, tmp, &l->totals) {
		const struct total *t = container_of(it, struct total, in_ledger);
		if (!usage_eq(&t->now, &t->folded))
			return false;
	}
	return true;
}

/* No failure: the journal has what is not folded. */
static void say_busy(struct ledger *l, const char *words)
{
	if (++l->n_busy == BUSY_SAID)
		log_warn("%s; usage is in the journal meanwhile", words);
}

static void say_not_busy(struct ledger *l)
{
	if (l->n_busy >= BUSY_SAID)
		log_info("usage is put into the accounts database again");
	l->n_busy = 0;
}

bool ledger_fold(struct ledger *l)
{
	char error[ACCOUNTS_ERROR_LEN];

	if (ledger_is_folded(l))
		return true;
	int rc = fold_totals(l, error);
	if (rc == ERR_AGAIN) {
		say_busy(l, error);
		return false;
	}
	say_not_busy(l);
	ledger_say(&l->database_fails, rc, error, "usage is put into the accounts database again");
	if (rc < 0)
		return true;
	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		t->folded = t->now;
	}
	return true;
}

/* ---- what earlier boots left ---- */

struct replay {
	struct ledger *ledger;
	int64_t boot;
	int failed; /* the first failure: a journal is left */
	char why[ACCOUNTS_ERROR_LEN];
	char error[ACCOUNTS_ERROR_LEN];
};

static int put_replayed(void *owner, const struct usage_total *totals, size_t n)
{
	struct replay *r = owner;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = accounts_usage_put(r->ledger->usage, r->boot, &totals[i], r->error);
	return rc;
}

static int replay_file(struct replay *r, const struct journal_file *f, const char *path,
                       struct journal_replayed *replayed_out)
{
	struct accounts_usage *u = r->ledger->usage;
	int rc = accounts_usage_begin(u, r->error);

	if (rc < 0)
		return rc;
	snprintf(r->error, sizeof r->error, "%s", "");
	rc = journal_replay(r->ledger->conf.state_dir, f, put_replayed, r, replayed_out);
	if (rc < 0 && !r->error[0])
		snprintf(r->error, sizeof r->error, "cannot read the usage journal %s: %s", path,
		         err_text(rc));
	if (rc == 0)
		rc = accounts_usage_commit(u, r->error);
	if (rc < 0)
		accounts_usage_roll_back(u);
	return rc;
}

static void say_replayed(const char *path, const struct journal_replayed *r)
{
	if (r->dropped)
		log_warn("usage journal %s: %llu records were read, the last %llu bytes are "
		         "damaged and were left out",
		         path, (unsigned long long)r->records, (unsigned long long)r->dropped);
	else
		log_info("usage journal %s: %llu records of a server that did not stop in order",
		         path, (unsigned long long)r->records);
}

static void on_old_file(void *owner, const struct journal_file *f)
{
	struct replay *r = owner;
	const char *dir = r->ledger->conf.state_dir;
	struct journal_replayed replayed;
	char path[JOURNAL_PATH_LEN];

	r->boot = f->boot;
	journal_path_of(dir, f, path);
	if (r->failed == ERR_AGAIN) /* nobody waits for each of many */
		return;
	int rc = replay_file(r, f, path, &replayed);
	if (rc == 0) {
		say_replayed(path, &replayed);
		rc = journal_delete(dir, f);
		snprintf(r->error, sizeof r->error, "cannot delete the usage journal %s: %s", path,
		         err_text(rc));
	}
	if (rc < 0 && r->failed == 0) {
		r->failed = rc;
		memcpy(r->why, r->error, sizeof r->why);
	}
}

/* No failure: they stay. */
static void say_waits(struct ledger *l, const char *words)
{
	if (!l->replay_fails)
		log_warn("%s; what earlier starts have counted waits in their journals", words);
	l->replay_fails = l->has_old = true;
}

/* Rows are merged only when no file is left, after a power cut too: it would be added again. */
bool ledger_take_over(struct ledger *l)
{
	struct replay r = { .ledger = l };
	int rc = journal_each_old(l->conf.state_dir, journal_boot(l->journal), on_old_file, &r);

	if (rc == 0 && r.failed == 0)
		rc = journal_sync_dir(l->conf.state_dir);
	if (rc < 0)
		snprintf(r.why, sizeof r.why, "cannot use the usage journals in %s/usage: %s",
		         l->conf.state_dir, err_text(rc));
	rc = rc < 0 ? rc : r.failed;
	if (rc == ERR_AGAIN) {
		say_waits(l, r.why);
		return false;
	}
	ledger_say(&l->replay_fails, rc, r.why, "the usage journals of before are taken over");
	l->has_old = rc < 0;
	return true;
}

void ledger_merge(struct ledger *l)
{
	char error[ACCOUNTS_ERROR_LEN];

	if (l->has_old || l->is_merged)
		return;
	int n = accounts_usage_merge(l->usage, journal_boot(l->journal), MERGE_MAX, error);
	if (n == ERR_AGAIN)
		return;
	ledger_say(&l->merge_fails, n, error, "usage of earlier starts is merged again");
	l->is_merged = n == 0;
}
