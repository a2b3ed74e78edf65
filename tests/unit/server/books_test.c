/* The books, asked by one worker: what it hears of changes, also those that go wrong at first. */
#include "tests/unit/until.h"

#include <time.h>

#include "tests/unit/server/accounts/database.h"

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "server/books.h"
#include "server/relay/mail.h"

enum { UNLIMITED = 2 }; /* of the built-in tiers */

static struct books *books;
static struct mailbox *worker;
static struct tiers tiers;
static unsigned n_news, n_derp;
static char token[TOKEN_LEN + 1];

static void on_mail(void *owner, struct mail *m)
{
	(void)owner;
	n_news += m->kind == MAIL_ACCOUNT;
	n_derp += m->kind == MAIL_DERP;
	account_unref(m->ptr);
}

static int open_books(void **state)
{
	const struct books_conf conf = {
		.state_dir = dir, .tiers = &tiers, .n_workers = 1, .workers = &worker
	};

	fresh(state);
	loop_set_up();
	tiers_builtin(&tiers);
	log_set_level(LOG_ERROR);
	struct accounts *a = with_account("acme");
	assert_int_equal(accounts_token_new(a, "acme", NULL, 0, token, words), 0);
	accounts_close(a);
	n_news = n_derp = 0;
	assert_int_equal(mailbox_new(loop, on_mail, NULL, NULL, &worker), 0);
	if (books_open(loop, &conf, &books, words) < 0)
		fail_msg("%s", words);
	return 0;
}

static int close_books(void **state)
{
	(void)state;
	books_close(books);
	mailbox_free(worker);
	loop_tear_down();
	return 0;
}

static struct account *identified(void)
{
	struct identity who;

	books_identify(books, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_NONE);
	return who.payer;
}

static bool told(void) { return n_news > 0; }
static bool told_again(void) { return n_news > 1; }

static void what_a_reload_changes_is_told(void **state)
{
	struct account *a = identified();

	(void)state;
	tiers.v[UNLIMITED].terms.relay = false;
	books_take_tiers(books, &tiers);
	until(told);
	assert_int_equal(account_check(a), CLOSE_DENIED);
	account_unref(a);
}

static void terms_that_could_not_be_read_are_read_again(void **state)
{
	struct account *a = identified();

	(void)state;
	tiers.v[UNLIMITED].terms.relay = false;
	said_begin();
	sql("ALTER TABLE usage RENAME TO away");
	books_take_tiers(books, &tiers);
	sql("ALTER TABLE away RENAME TO usage");
	said_end();
	assert_said("no such table");
	assert_int_equal(account_check(a), CLOSE_NONE);
	until(told_again);
	assert_int_equal(account_check(a), CLOSE_DENIED);
	account_unref(a);
}

static bool derp_is_named(void) { return n_derp > 0; }

static void the_account_of_derp_clients_waits_for_a_foreign_writer(void **state)
{
	sqlite3 *db;

	(void)state;
	assert_int_equal(sqlite3_open(in_dir("accounts.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(books_name_derp(books, "phones", words), ERR_AGAIN);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	until(derp_is_named);
	assert_int_equal(n_derp, 1);
	assert_int_equal(books_name_derp(books, "phones", words), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_books, close_books)
	const struct CMUnitTest tests[] = {
		TEST(what_a_reload_changes_is_told),
		TEST(terms_that_could_not_be_read_are_read_again),
		TEST(the_account_of_derp_clients_waits_for_a_foreign_writer),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
