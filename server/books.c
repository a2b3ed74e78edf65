#include "server/books.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "server/commands/control.h"
#include "server/accounts/ledger.h"
#include "server/login/login.h"
#include "server/relay/mail.h"

enum { TICK_MS = 1000 };

/* A token whose ends some workers have not been told to close, for want of memory. */
struct revocation {
	struct list node;
	unsigned n_told;
	char token_id[TOKEN_ID_LEN + 1];
};

struct books {
	struct accounts *accounts;
	struct tiers tiers;
	struct ledger *ledger;
	struct login *login;
	struct commands commands;
	char derp_account[NAME_MAX_LEN + 1]; /* commands' */
	struct control *control;
	struct loop *loop;
	struct timer *tick;
	unsigned n_workers;
	struct mailbox *const *workers;
	struct list revocations;
	bool read_again; /* terms that changed could not be read */
	bool name_again; /* the account of DERP clients, while another program had the database */
	bool look_again; /* workers have missed some news: all look at all accounts */
};

/* ---- to the workers ---- */

static int tell(struct mailbox *box, unsigned kind, uint64_t number, struct account *a)
{
	struct mail m = { .kind = kind, .number = number, .ptr = account_ref(a) };
	int rc = mailbox_post(box, &m);

	if (rc < 0)
		account_unref(a);
	return rc;
}

/* account NULL: every one. What is missed for want of memory is made up for by the next tick;
 * a percentage that nobody hears is not. */
static void tell_all(struct books *b, unsigned kind, unsigned percent, struct account *a)
{
	for (unsigned i = 0; i < b->n_workers; i++)
		if (tell(b->workers[i], kind, percent, a) < 0 && kind == MAIL_ACCOUNT)
			b->look_again = true;
}

static bool tell_revoked(struct books *b, struct revocation *r)
{
	for (; r->n_told < b->n_workers; r->n_told++) {
		struct mail m = { .kind = MAIL_REVOKED, .ptr = strdup(r->token_id) };
		if (!m.ptr || mailbox_post(b->workers[r->n_told], &m) < 0) {
			free(m.ptr);
			return false;
		}
	}
	list_del(&r->node);
	free(r);
	return true;
}

static void cut_off(struct books *b, const char *token_id)
{
	struct revocation *r = calloc(1, sizeof *r);

	if (!r) {
		log_error("out of memory: ends that came in by token %s stay until they register again",
		          token_id);
		return;
	}
	snprintf(r->token_id, sizeof r->token_id, "%s", token_id);
	list_add_tail(&b->revocations, &r->node);
	tell_revoked(b, r);
}

/* ---- what the ledger asks and tells ---- */

/* An account that was removed while ends of it are here may nothing any more. */
static int terms_of(void *owner, int64_t row, struct account_terms *out)
{
	struct books *b = owner;
	struct account_record r;
	char error[ACCOUNTS_ERROR_LEN];
	int rc = accounts_read(b->accounts, row, clock_unix_ms() / 1000, &r, error);

	if (rc == ERR_NOT_FOUND) {
		*out = (struct account_terms){ .suspended = true };
		return 0;
	}
	if (rc < 0) {
		log_error("%s", error);
		return rc;
	}
	tiers_terms(&b->tiers, r.tier, &r.own, out);
	out->suspended = r.suspended;
	return 0;
}

static void on_news(void *owner, struct account *a, enum ledger_news news, unsigned percent,
                    int64_t resets_unix_s)
{
	struct books *b = owner;

	(void)resets_unix_s;
	if (news != LEDGER_QUOTA)
		return;
	log_info("account=%s has used %u %% of its volume of this month", account_name(a), percent);
	tell_all(b, percent < 100 ? MAIL_PERCENT : MAIL_ACCOUNT, percent, a);
}

/* ---- what commands change and ask ---- */

static void on_changed(void *owner, int64_t row, const char *token_id)
{
	struct books *b = owner;
	struct account *a = ledger_find(b->ledger, row);

	login_sign_out(b->login, row);
	if (token_id)
		cut_off(b, token_id);
	else if (a && ledger_changed(b->ledger, row) < 0)
		b->read_again = true;
	else if (a)
		tell_all(b, MAIL_ACCOUNT, 0, a);
}

static bool on_live(void *owner, int64_t row, struct account_live *out)
{
	struct books *b = owner;
	struct account *a = ledger_find(b->ledger, row);

	if (!a)
		return false;
	out->n_tunnels = account_n_tunnels(a);
	account_usage(a, &out->used);
	return true;
}

void books_take_tiers(struct books *b, const struct tiers *tiers)
{
	b->tiers = *tiers;
	commands_warn_of_tiers(&b->commands);
	if (ledger_changed_all(b->ledger) < 0)
		b->read_again = true;
	tell_all(b, MAIL_ACCOUNT, 0, NULL);
}

struct json *books_run(struct books *b, const struct json *request)
{
	return commands_run(&b->commands, request, geteuid());
}

/* ---- questions ---- */

void books_identify(struct books *b, struct str token, int64_t now_unix_s, struct identity *out)
{
	accounts_authenticate(b->accounts, token, now_unix_s, out);
	if (out->why != CLOSE_NONE)
		return;
	out->payer = ledger_get(b->ledger, out->row, out->account);
	if (!out->payer)
		out->why = CLOSE_UNAVAILABLE;
}

struct login *books_logins(struct books *b) { return b->login; }

static int name_derp(struct books *b, const char *name, char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct account_record r;
	int64_t now_s = clock_unix_ms() / 1000;
	int rc = accounts_find(b->accounts, name, now_s, &r, error_out);

	if (rc == ERR_NOT_FOUND) {
		rc = accounts_add(b->accounts, name, b->tiers.by_default, error_out);
		rc = rc < 0 ? rc : accounts_find(b->accounts, name, now_s, &r, error_out);
	}
	if (rc < 0)
		return rc;
	struct account *a = ledger_get(b->ledger, r.row, name);
	if (!a) {
		snprintf(error_out, ACCOUNTS_ERROR_LEN, "account %s cannot be read", name);
		return -EIO;
	}
	for (unsigned i = 0; i < b->n_workers && rc == 0; i++)
		rc = tell(b->workers[i], MAIL_DERP, 0, a);
	account_unref(a);
	if (rc < 0)
		snprintf(error_out, ACCOUNTS_ERROR_LEN, "out of memory");
	return rc;
}

/* The name is kept from being removed, also while there is trouble with it. */
int books_name_derp(struct books *b, const char *name, char error_out[static ACCOUNTS_ERROR_LEN])
{
	snprintf(b->derp_account, sizeof b->derp_account, "%s", name ? name : "");
	b->commands.derp_account = name ? b->derp_account : NULL;
	int rc = name ? name_derp(b, b->derp_account, error_out) : 0;
	b->name_again = rc == ERR_AGAIN;
	return rc;
}

/* ---- what went wrong at first ---- */

static void name_derp_again(struct books *b)
{
	char error[ACCOUNTS_ERROR_LEN];

	if (!b->name_again)
		return;
	int rc = name_derp(b, b->derp_account, error);
	b->name_again = rc == ERR_AGAIN;
	if (rc == 0)
		log_info("DERP clients count for the account %s now", b->derp_account);
	else if (rc != ERR_AGAIN)
		log_error("%s", error);
}

static void tell_what_was_missed(struct books *b)
{
	name_derp_again(b);
	if (b->read_again && ledger_changed_all(b->ledger) == 0) {
		b->read_again = false;
		b->look_again = true;
	}
	if (b->look_again) {
		b->look_again = false;
		tell_all(b, MAIL_ACCOUNT, 0, NULL);
	}
	list_each(it, tmp, &b->revocations)
		if (!tell_revoked(b, container_of(it, struct revocation, node)))
			return;
}

/* ---- life ---- */

static void on_tick(void *arg)
{
	struct books *b = arg;

	timer_set(b->tick, TICK_MS);
	ledger_tick(b->ledger, loop_now_ms(b->loop));
	login_expire(b->login, loop_now_ms(b->loop));
	tell_what_was_missed(b);
}

static int open_all(struct books *b, const struct books_conf *conf,
                    char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = accounts_open(conf->state_dir, &b->accounts, error_out);

	if (rc < 0)
		return rc;
	accounts_keep_audit(b->accounts, conf->audit_days);
	const struct ledger_conf ledger = { .accounts = b->accounts,
		                            .state_dir = conf->state_dir,
		                            .n_workers = conf->n_workers,
		                            .unix_ms = clock_unix_ms,
		                            .terms = terms_of,
		                            .news = on_news,
		                            .owner = b };
	rc = ledger_open(&ledger, &b->ledger, error_out);
	if (rc < 0)
		return rc;
	if ((b->login = login_new(b->accounts)) == NULL) {
		snprintf(error_out, ACCOUNTS_ERROR_LEN, "out of memory");
		return -ENOMEM;
	}
	b->commands = (struct commands){ .accounts = b->accounts,
		                         .tiers = &b->tiers,
		                         .login = b->login,
		                         .logs = true,
		                         .owner = b,
		                         .changed = on_changed,
		                         .live = on_live };
	commands_warn_of_tiers(&b->commands);
	rc = control_open(b->loop, conf->state_dir, &b->commands, &b->control, error_out);
	if (rc == 0)
		rc = books_name_derp(b, conf->derp_account, error_out);
	accounts_never_wait(b->accounts); /* from now on registrations would wait too */
	return rc;
}

int books_open(struct loop *loop, const struct books_conf *conf, struct books **books_out,
               char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct books *b = calloc(1, sizeof *b);
	int rc = -ENOMEM;

	snprintf(error_out, ACCOUNTS_ERROR_LEN, "out of memory");
	if (!b)
		return rc;
	list_init(&b->revocations);
	b->loop = loop;
	b->tiers = *conf->tiers;
	b->n_workers = conf->workers ? conf->n_workers : 0;
	b->workers = conf->workers;
	b->tick = timer_new(loop, on_tick, b);
	if (b->tick)
		rc = open_all(b, conf, error_out);
	if (rc < 0) {
		books_close(b);
		return rc;
	}
	timer_set(b->tick, TICK_MS);
	*books_out = b;
	return 0;
}

void books_close(struct books *b)
{
	if (!b)
		return;
	control_close(b->control);
	ledger_close(b->ledger);
	login_free(b->login);
	accounts_close(b->accounts);
	timer_free(b->tick);
	list_each(it, tmp, &b->revocations)
		free(container_of(it, struct revocation, node));
	free(b);
}
