#include "server/accounts/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/accounts/ledger_impl.h"

/* ---- totals ---- */

static struct total *total_new(struct ledger *l, const struct total_key *key,
                               const struct account_usage *known)
{
	struct total *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->key = *key;
	t->now = t->journaled = t->folded = *known;
	if (map_put(&l->total_of_key, &t->key, t) < 0) {
		free(t);
		return NULL;
	}
	list_add_tail(&l->totals, &t->in_ledger);
	return t;
}

static void total_free(struct ledger *l, struct total *t)
{
	map_del(&l->total_of_key, &t->key);
	list_del(&t->in_ledger);
	free(t);
}

/* Of an account and month, which nobody counts in: the one that is still to be folded, else
 * it goes on from the row of this boot. Without a live account it falls to let_go(). */
static int total_get(struct ledger *l, int64_t row, uint32_t month, struct total **total_out,
                     struct account_usage *others_out)
{
	const struct total_key key = { .row = row, .month = month };
	struct account_usage all, own;
	char error[ACCOUNTS_ERROR_LEN];
	int rc = accounts_usage_month(l->usage, row, month, journal_boot(l->journal), &all, &own,
	                              error);

	ledger_say(&l->months_fail, rc, error, "usage can be read again");
	if (rc < 0)
		return rc;
	struct total *t = map_get(&l->total_of_key, &key);
	if (!t)
		t = total_new(l, &key, &own);
	if (!t)
		return -ENOMEM;
	*total_out = t;
	*others_out = usage_less(&all, &own);
	return 0;
}

/* ---- live accounts ---- */

static int read_terms(struct ledger *l, int64_t row, struct account_terms *out)
{
	return l->conf.terms(l->conf.owner, row, out);
}

static unsigned level_of(const struct account *a)
{
	unsigned percent = account_percent(a);

	return percent >= 100 ? 100 : percent >= 80 ? 80 : 0;
}

static void live_free(struct ledger *l, struct live *v)
{
	map_del(&l->live_of_row, &v->row);
	list_del(&v->in_ledger);
	v->total->live = NULL;
	account_unref(v->account);
	free(v);
}

static struct live *live_new(struct ledger *l, int64_t row, const char *name,
                             const struct account_terms *terms, struct total *t,
                             const struct account_usage *others)
{
	struct account_usage used = usage_plus(others, &t->now);
	struct live *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	*v = (struct live){ .row = row, .total = t, .others = *others };
	v->account = account_new(name, row, l->conf.n_workers, terms, &used);
	if (!v->account || map_put(&l->live_of_row, &v->row, v) < 0) {
		account_unref(v->account);
		free(v);
		return NULL;
	}
	t->live = v;
	v->told = level_of(v->account); /* who was told is told by its session when it comes */
	list_add_tail(&l->lives, &v->in_ledger);
	return v;
}

struct account *ledger_find(struct ledger *l, int64_t row)
{
	struct live *v = map_get(&l->live_of_row, &row);

	return v ? v->account : NULL;
}

struct account *ledger_get(struct ledger *l, int64_t row, const char *name)
{
	struct live *v = map_get(&l->live_of_row, &row);
	struct account_usage others;
	struct account_terms terms;
	struct total *t;

	if (!v) {
		if (read_terms(l, row, &terms) < 0 ||
		    total_get(l, row, usage_month_of(l->conf.unix_ms()), &t, &others) < 0)
			return NULL;
		v = live_new(l, row, name, &terms, t, &others);
	}
	return v ? account_ref(v->account) : NULL;
}

static int change(struct ledger *l, struct live *v)
{
	struct account_terms terms;
	int rc = read_terms(l, v->row, &terms);

	if (rc < 0)
		return rc;
	account_set_terms(v->account, &terms);
	if (level_of(v->account) < v->told) /* of another volume: crossed again, told again */
		v->told = level_of(v->account);
	return 0;
}

int ledger_changed(struct ledger *l, int64_t row)
{
	struct live *v = map_get(&l->live_of_row, &row);

	return v ? change(l, v) : 0;
}

int ledger_changed_all(struct ledger *l)
{
	int rc = 0;

	for (struct list *it = l->lives.next; it != &l->lives && rc == 0; it = it->next)
		rc = change(l, container_of(it, struct live, in_ledger));
	return rc;
}

/* ---- each second ---- */

static void tell(struct ledger *l, struct live *v, enum ledger_news news, unsigned percent)
{
	l->conf.news(l->conf.owner, v->account, news, percent,
	             usage_month_end((uint32_t)v->total->key.month));
}

static void count(struct live *v)
{
	struct account_usage u;

	account_usage(v->account, &u);
	v->total->now = usage_less(&u, &v->others);
}

/* The clock says another month, mostly the next one. When the database cannot be read it goes
 * on in the old one: the row it has there is not known. */
static void roll_over(struct ledger *l, struct live *v, uint32_t month)
{
	struct account_usage others, known, ended;
	struct total *t;

	if (total_get(l, v->row, month, &t, &others) < 0)
		return;
	known = usage_plus(&others, &t->now);
	account_new_month(v->account, &known, &ended);
	v->total->now = usage_less(&ended, &v->others);
	v->total->live = NULL;
	v->total = t;
	v->others = others;
	t->live = v;
	v->told = level_of(v->account);
	tell(l, v, LEDGER_MONTH, account_percent(v->account));
}

/* What boots of before counted has become more: a journal of theirs could be read at last. */
static void learn_of_others(struct ledger *l)
{
	list_each(it, tmp, &l->lives) {
		struct live *v = container_of(it, struct live, in_ledger);
		struct account_usage others, more;
		struct total *t;
		if (total_get(l, v->row, (uint32_t)v->total->key.month, &t, &others) < 0)
			return;
		more = usage_less(&others, &v->others);
		account_learn(v->account, &more);
		v->others = others;
	}
}

static void count_all(struct ledger *l)
{
	uint32_t month = usage_month_of(l->conf.unix_ms());

	list_each(it, tmp, &l->lives) {
		struct live *v = container_of(it, struct live, in_ledger);
		if (v->total->key.month != month)
			roll_over(l, v, month);
		count(v);
	}
}

static void tell_all(struct ledger *l)
{
	list_each(it, tmp, &l->lives) {
		struct live *v = container_of(it, struct live, in_ledger);
		unsigned level = level_of(v->account);
		while (v->told < level) {
			v->told = v->told < 80 ? 80 : 100;
			tell(l, v, LEDGER_QUOTA, v->told);
		}
	}
}

/* After a fold. An account stays for one more after its last end left: who only comes again
 * asks the database nothing. */
static void let_go(struct ledger *l, uint64_t now_ms)
{
	list_each(it, tmp, &l->lives) {
		struct live *v = container_of(it, struct live, in_ledger);
		bool is_unused = account_is_unused(v->account, now_ms);
		if (is_unused)
			count(v); /* nobody counts in it any more */
		if (is_unused && v->was_unused && usage_eq(&v->total->now, &v->total->folded))
			live_free(l, v);
		else
			v->was_unused = is_unused;
	}
	list_each(it, tmp, &l->totals) {
		struct total *t = container_of(it, struct total, in_ledger);
		if (!t->live && usage_eq(&t->now, &t->folded))
			total_free(l, t);
	}
}

/* False: another program writes to the database, so that it is to be tried again in a second. */
static bool fold(struct ledger *l, uint64_t now_ms)
{
	if (!ledger_fold(l))
		return false;
	if (l->has_old && ledger_take_over(l))
		learn_of_others(l);
	let_go(l, now_ms);
	return true;
}

void ledger_tick(struct ledger *l, uint64_t now_ms)
{
	uint64_t file_max = l->conf.file_max ? l->conf.file_max : JOURNAL_FILE_MAX;

	count_all(l);
	ledger_write(l);
	tell_all(l);
	bool is_long = journal_len(l->journal) >= file_max;
	if ((is_long || !l->has_folded || now_ms - l->folded_ms >= LEDGER_FOLD_MS) &&
	    fold(l, now_ms)) {
		l->folded_ms = now_ms;
		l->has_folded = true;
	}
	if (is_long)
		ledger_rotate(l);
	ledger_merge(l);
}

/* ---- life ---- */

int ledger_open(const struct ledger_conf *conf, struct ledger **ledger_out,
                char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct ledger *l = calloc(1, sizeof *l);
	int rc = -ENOMEM;

	snprintf(error_out, ACCOUNTS_ERROR_LEN, "out of memory");
	if (!l)
		return rc;
	l->conf = *conf;
	map_init(&l->live_of_row, sizeof(int64_t));
	map_init(&l->total_of_key, sizeof(struct total_key));
	list_init(&l->lives);
	list_init(&l->totals);
	l->journal = journal_new(conf->state_dir);
	if (l->journal)
		rc = accounts_usage_open(conf->accounts, &l->usage, error_out);
	if (rc < 0) {
		ledger_close(l);
		return rc;
	}
	ledger_take_over(l);
	*ledger_out = l;
	return 0;
}

/* What is in the database needs no journal any more. */
static void write_last(struct ledger *l)
{
	count_all(l);
	ledger_write(l);
	ledger_fold(l);
	if (!ledger_is_folded(l))
		return;
	ledger_rotate(l);
}

void ledger_close(struct ledger *l)
{
	if (!l)
		return;
	if (l->usage)
		write_last(l);
	list_each(it, tmp, &l->lives)
		live_free(l, container_of(it, struct live, in_ledger));
	list_each(it, tmp, &l->totals)
		total_free(l, container_of(it, struct total, in_ledger));
	map_done(&l->live_of_row);
	map_done(&l->total_of_key);
	accounts_usage_close(l->usage);
	journal_free(l->journal);
	free(l);
}
