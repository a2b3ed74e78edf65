#include "tests/unit/said.h"

#include <sys/wait.h>
#include <time.h>

#include "common/base/crypto.h"
#include "server/accounts/accounts.h"
#include "tests/unit/server/accounts/database.h"

static void make_token(struct accounts *a, const char *id, int64_t expires,
                       char token_out[static TOKEN_LEN + 1])
{
	if (accounts_token_new(a, "main", id, expires, token_out, words) < 0)
		fail_msg("%s", words);
}

static struct identity who_at(struct accounts *a, const char *token, int64_t now)
{
	struct identity who;

	memset(&who, 0x55, sizeof who);
	accounts_authenticate(a, str_of(token), now, &who);
	return who;
}

static struct identity who_is(struct accounts *a, const char *token)
{
	return who_at(a, token, time(NULL));
}

/* The same id with another secret, or the same secret under another id, and
 * the CRC that belongs to it. */
static void forge(const char *token, size_t at, char out[static TOKEN_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";

	memcpy(out, token, TOKEN_LEN + 1);
	out[at] = out[at] == 'x' ? 'y' : 'x';
	uint32_t crc = 0xffffffff;
	for (size_t i = 0; i < TOKEN_LEN - TOKEN_CRC_LEN - 1; i++) {
		crc ^= (uint8_t)out[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	crc = ~crc;
	for (unsigned i = 0; i < 8; i++)
		out[TOKEN_LEN - 8 + i] = hex[crc >> (28 - 4 * i) & 15];
	assert_int_equal(token_check(str_of(out)), 0);
}

static void token_speaks_for_its_account(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	make_token(a, NULL, 0, token);
	struct identity who = who_is(a, token);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_string_equal(who.account, "main");
	assert_false(who.has_bound);
	assert_string_equal(who.bound_id, "");
	accounts_close(a);
}

static void bound_token_tells_its_id(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	make_token(a, "kitchen", 0, token);
	struct identity who = who_is(a, token);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_true(who.has_bound);
	assert_string_equal(who.bound_id, "kitchen");
	accounts_close(a);
}

static void A09_two_tokens_of_an_account_are_valid_together(void **state)
{
	struct accounts *a = with_account("main");
	char one[TOKEN_LEN + 1], two[TOKEN_LEN + 1];

	(void)state;
	make_token(a, NULL, 0, one);
	make_token(a, "kitchen", 0, two);
	assert_int_equal(who_is(a, one).why, CLOSE_NONE);
	assert_int_equal(who_is(a, two).why, CLOSE_NONE);
	assert_false(who_is(a, one).has_bound); /* nothing of the other stays */
	accounts_close(a);
}

static void A02_unknown_id_and_wrong_secret_are_answered_alike(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1], forged[TOKEN_LEN + 1];

	(void)state;
	make_token(a, "kitchen", 0, token);
	forge(token, 6, forged);
	struct identity unknown = who_is(a, forged);
	forge(token, 30, forged);
	struct identity wrong = who_is(a, forged);
	assert_int_equal(unknown.why, CLOSE_UNAUTHENTICATED);
	assert_int_equal(wrong.why, unknown.why);
	assert_string_equal(close_text(wrong.why), close_text(unknown.why));
	assert_string_equal(wrong.account, "");
	assert_string_equal(wrong.bound_id, "");
	assert_false(wrong.has_bound);
	assert_int_equal(who_is(a, token).why, CLOSE_NONE);
	accounts_close(a);
}

static void A03_expired_token_is_refused_after_a_minute_of_grace(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];
	int64_t now = time(NULL);

	(void)state;
	make_token(a, NULL, now + 100, token);
	assert_int_equal(who_at(a, token, now).why, CLOSE_NONE);
	assert_int_equal(who_at(a, token, now + 100 + 59).why, CLOSE_NONE);
	assert_int_equal(who_at(a, token, now + 100 + 60).why, CLOSE_UNAUTHENTICATED);
	accounts_close(a);
}

static void A03_revoked_token_is_refused_at_once(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	make_token(a, NULL, 0, token);
	assert_int_equal(who_is(a, token).why, CLOSE_NONE);
	sql("UPDATE token SET revoked = 1"); /* by another connection */
	assert_int_equal(who_is(a, token).why, CLOSE_UNAUTHENTICATED);
	assert_true(who_is(a, token).revoked);
	assert_string_equal(who_is(a, token).account, "main"); /* for the log */
	forge(token, 30, token);
	assert_string_equal(who_is(a, token).account, ""); /* who guesses hears nothing */
	accounts_close(a);
}

static void token_of_another_relay_is_refused(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	make_token(a, NULL, 0, token);
	accounts_close(a);
	fresh(state);
	a = with_account("main");
	assert_int_equal(who_is(a, token).why, CLOSE_UNAUTHENTICATED);
	accounts_close(a);
}

static void accounts_and_tokens_survive_a_restart(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];
	unsigned n = 0;

	(void)state;
	make_token(a, "kitchen", 0, token);
	accounts_close(a);
	a = open_accounts();
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, 1);
	assert_int_equal(who_is(a, token).why, CLOSE_NONE);
	accounts_close(a);
}

static void what_is_added_beside_is_known_at_once(void **state)
{
	struct accounts *server = open_accounts(), *command = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	make_token(command, NULL, 0, token);
	assert_int_equal(who_is(server, token).why, CLOSE_NONE);
	accounts_close(command);
	accounts_close(server);
}

static void account_exists_once(void **state)
{
	struct accounts *a = with_account("main");

	(void)state;
	assert_true(accounts_add(a, "main", NULL, words) < 0);
	assert_words("\"main\" exists already");
	accounts_close(a);
}

static void names_outside_the_grammar_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"-a",
		"A",
		"a b",
		"a/b",
		"a_b",
		"a.b",
		"\xc3\xa9",
		"0123456789012345678901234567890123456789012345678901234567890123"
	};
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(accounts_add(a, bad[i], NULL, words), ERR_INVALID);
		assert_int_equal(accounts_token_new(a, bad[i], NULL, 0, token, words), ERR_INVALID);
		assert_int_equal(accounts_token_new(a, "main", bad[i], 0, token, words),
		                 ERR_INVALID);
		assert_words("a-z, 0-9 and -");
	}
	accounts_close(a);
}

static void A12_token_in_place_of_a_name_is_not_repeated(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1], other[TOKEN_LEN + 1];

	(void)state;
	make_token(a, NULL, 0, token);
	assert_int_equal(accounts_token_new(a, token, NULL, 0, other, words), ERR_INVALID);
	assert_null(strstr(words, token + 14));
	assert_int_equal(accounts_add(a, token, NULL, words), ERR_INVALID);
	assert_null(strstr(words, token + 14));
	accounts_close(a);
}

static void token_for_nobody_is_refused_with_the_way_out(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	assert_true(accounts_token_new(a, "nobody", NULL, 0, token, words) < 0);
	assert_words("tunn account add nobody");
	for (unsigned i = 0; i < sizeof token; i++)
		assert_int_equal(token[i], 0); /* nothing usable is left */
	accounts_close(a);
}

static bool file_holds(const char *name, const char *needle, size_t len)
{
	FILE *f = fopen(in_dir(name), "rb");
	static char data[1 << 20];

	if (!f)
		return false;
	size_t n = fread(data, 1, sizeof data, f);
	fclose(f);
	assert_true(n < sizeof data);
	return memmem(data, n, needle, len) != NULL;
}

static void T17_database_holds_no_usable_token(void **state)
{
	static const char *const files[] = { "accounts.db", "accounts.db-wal", "accounts.db-shm" };
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];
	bool kid_found = false;

	(void)state;
	make_token(a, NULL, 0, token);
	for (unsigned open = 0; open < 2; open++) {
		for (unsigned i = 0; i < 3; i++) {
			kid_found |= file_holds(files[i], token_id(str_of(token)).p, TOKEN_ID_LEN);
			assert_false(file_holds(files[i], token_secret(str_of(token)).p, 12));
		}
		assert_true(kid_found); /* or the search could not have failed */
		accounts_close(a);
		a = NULL;
	}
}

static void T17_copy_of_the_database_alone_is_refused(void **state)
{
	(void)state;
	accounts_close(with_account("main"));
	assert_int_equal(unlink(in_dir("pepper")), 0);
	struct accounts *a = NULL;
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("pepper is missing");
	assert_words("backup");
	assert_int_equal(access(in_dir("pepper"), F_OK), -1); /* none was made up */
}

/* Rotating it, or a backup of one file only: every token would silently be wrong. */
static void T17_another_pepper_is_refused_and_the_old_one_taken_again(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1], kept[520];

	(void)state;
	make_token(a, NULL, 0, token);
	accounts_close(a);
	snprintf(kept, sizeof kept, "%s.kept", in_dir("pepper"));
	assert_int_equal(rename(in_dir("pepper"), kept), 0);
	FILE *f = fopen(in_dir("pepper"), "w");
	assert_non_null(f);
	assert_int_equal(fwrite("another pepper of 32 bytes......", 1, 32, f), 32);
	fclose(f);
	chmod(in_dir("pepper"), 0600);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("is not the one that its tokens were made with");
	assert_words("backup");
	assert_int_equal(rename(kept, in_dir("pepper")), 0);
	a = open_accounts();
	assert_int_equal(who_is(a, token).why, CLOSE_NONE);
	accounts_close(a);
}

static void T43_a_database_that_others_may_read_is_closed_to_them(void **state)
{
	struct stat st;

	(void)state;
	accounts_close(with_account("main"));
	chmod(in_dir("accounts.db"), 0644);
	accounts_close(open_accounts());
	assert_int_equal(stat(in_dir("accounts.db"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void T43_a_directory_that_everybody_may_write_to_is_refused(void **state)
{
	struct accounts *a = NULL;

	(void)state;
	accounts_close(with_account("main"));
	chmod(dir, 0777);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("everybody may write to the state directory");
	assert_words("chmod o-w");
	chmod(dir, 0700);
	accounts_close(open_accounts());
}

static void T43_files_are_for_nobody_else(void **state)
{
	static const char *const files[] = { "pepper", "accounts.db", "accounts.db-wal",
		                             "accounts.db-shm" };
	mode_t old = umask(0);
	struct accounts *a = with_account("main");
	struct stat st;

	(void)state;
	umask(old);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(stat(in_dir(files[i]), &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	accounts_close(a);
}

static void T43_damaged_or_open_pepper_is_refused_by_name(void **state)
{
	struct accounts *a = NULL;

	(void)state;
	accounts_close(with_account("main"));
	chmod(in_dir("pepper"), 0640);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("chmod 600");
	chmod(in_dir("pepper"), 0600);
	assert_int_equal(truncate(in_dir("pepper"), 31), 0);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("/pepper has not 32 bytes");
	assert_int_equal(truncate(in_dir("pepper"), 33), 0);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("/pepper has not 32 bytes");
}

static void newer_schema_is_refused_and_left_alone(void **state)
{
	struct accounts *a = NULL;

	(void)state;
	accounts_close(with_account("main"));
	sql("PRAGMA user_version = 99");
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words("schema 99");
	assert_words("newer tunn");
	assert_words(in_dir("accounts.db"));
	sql("PRAGMA user_version = 3");
	a = open_accounts(); /* the lock is gone and the account still there */
	unsigned n = 0;
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, 1);
	accounts_close(a);
}

static void file_that_is_no_database_is_refused_by_name(void **state)
{
	struct accounts *a = NULL;

	(void)state;
	accounts_close(open_accounts());
	FILE *f = fopen(in_dir("accounts.db"), "w");
	assert_non_null(f);
	for (unsigned i = 0; i < 1000; i++)
		fputs("these are words, ", f);
	fclose(f);
	assert_true(accounts_open(dir, &a, words) < 0);
	assert_words(in_dir("accounts.db"));
	assert_words("not a database");
}

static void unreadable_database_is_unavailable_not_unauthenticated(void **state)
{
	struct accounts *a = with_account("main");
	char token[TOKEN_LEN + 1];

	(void)state;
	make_token(a, NULL, 0, token);
	sql("DROP TABLE token");
	assert_int_equal(who_is(a, token).why, CLOSE_UNAVAILABLE);
	accounts_close(a);
}

/* One of several processes that start together in an empty directory. */
static int add_some(unsigned process, int start_fd)
{
	struct accounts *a = NULL;
	char name[32], go, token[TOKEN_LEN + 1], said_here[ACCOUNTS_ERROR_LEN];

	if (read(start_fd, &go, 1) < 0 || accounts_open(dir, &a, said_here) < 0) {
		fprintf(stderr, "process %u: %s\n", process, said_here);
		return 1;
	}
	for (unsigned i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "a%u-%u", process, i);
		if (accounts_add(a, name, NULL, said_here) < 0 ||
		    accounts_token_new(a, name, NULL, 0, token, said_here) < 0 ||
		    who_is(a, token).why != CLOSE_NONE) {
			fprintf(stderr, "process %u: %s\n", process, said_here);
			return 1;
		}
	}
	accounts_close(a);
	return 0;
}

static void processes_that_start_and_add_together_all_succeed(void **state)
{
	enum { PROCESSES = 8 };
	pid_t pid[PROCESSES];
	int gate[2], status;
	unsigned n = 0;

	(void)state;
	assert_int_equal(pipe(gate), 0);
	for (unsigned i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0) {
			close(gate[1]);
			_exit(add_some(i, gate[0]));
		}
	}
	close(gate[0]);
	close(gate[1]); /* all read the end of file at once */
	for (unsigned i = 0; i < PROCESSES; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	struct accounts *a = open_accounts();
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, PROCESSES * 5);
	accounts_close(a);
}

#define T(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(token_speaks_for_its_account),
		T(bound_token_tells_its_id),
		T(A09_two_tokens_of_an_account_are_valid_together),
		T(A02_unknown_id_and_wrong_secret_are_answered_alike),
		T(A03_expired_token_is_refused_after_a_minute_of_grace),
		T(A03_revoked_token_is_refused_at_once),
		T(token_of_another_relay_is_refused),
		T(accounts_and_tokens_survive_a_restart),
		T(what_is_added_beside_is_known_at_once),
		T(account_exists_once),
		T(names_outside_the_grammar_are_refused),
		T(A12_token_in_place_of_a_name_is_not_repeated),
		T(token_for_nobody_is_refused_with_the_way_out),
		T(T17_database_holds_no_usable_token),
		T(T17_copy_of_the_database_alone_is_refused),
		T(T17_another_pepper_is_refused_and_the_old_one_taken_again),
		T(T43_a_database_that_others_may_read_is_closed_to_them),
		T(T43_a_directory_that_everybody_may_write_to_is_refused),
		T(T43_files_are_for_nobody_else),
		T(T43_damaged_or_open_pepper_is_refused_by_name),
		T(newer_schema_is_refused_and_left_alone),
		T(file_that_is_no_database_is_refused_by_name),
		T(unreadable_database_is_unavailable_not_unauthenticated),
		T(processes_that_start_and_add_together_all_succeed),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
