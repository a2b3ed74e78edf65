#include "tests/unit/said.h"

#include <fcntl.h>
#include <pty.h>
#include <sqlite3.h>

#include "common/base/crypto.h"
#include "server/first.h"

static char words[ACCOUNTS_ERROR_LEN], output[4096];

static void first_start_to(const char *dir, int fd)
{
	int real = dup(STDOUT_FILENO);

	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	int rc = first_start(dir, words);
	fflush(stdout);
	dup2(real, STDOUT_FILENO);
	close(real);
	if (rc < 0)
		fail_msg("%s", words);
}

static void first_start_to_file(const char *dir)
{
	int fd = open(file_path("output"), O_RDWR | O_CREAT | O_TRUNC, 0600);

	first_start_to(dir, fd);
	ssize_t n = pread(fd, output, sizeof output - 1, 0);
	output[n > 0 ? n : 0] = 0;
	close(fd);
}

static enum close_why worth(const char *dir, const char *token)
{
	struct accounts *a;
	struct identity who;

	assert_int_equal(accounts_open(dir, &a, words), 0);
	accounts_authenticate(a, (struct str){ token, TOKEN_LEN }, 0, &who);
	accounts_close(a);
	if (who.why == CLOSE_NONE)
		assert_string_equal(who.account, FIRST_ACCOUNT);
	return who.why;
}

static size_t read_token(const char *dir, char out[static 256])
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof path, "%s/first-token", dir);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	ssize_t n = read(fd, out, 255);
	assert_true(n >= 0);
	out[n] = 0;
	close(fd);
	return (size_t)n;
}

static void without_a_terminal_the_token_goes_to_a_file(void **state)
{
	char dir[256], token[256];

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("piped"));
	first_start_to_file(dir);
	assert_int_equal(read_token(dir, token), TOKEN_LEN + 1);
	assert_int_equal(token[TOKEN_LEN], '\n');
	assert_int_equal(worth(dir, token), CLOSE_NONE);
	assert_non_null(strstr(output, "/piped/first-token"));
	assert_null(strstr(output, "tunn_"));
}

static void on_a_terminal_the_token_is_shown_once(void **state)
{
	char dir[256], shown[1024], path[300];
	int terminal, far_end;

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("shown"));
	if (openpty(&terminal, &far_end, NULL, NULL, NULL) < 0)
		skip();
	first_start_to(dir, far_end);
	ssize_t n = read(terminal, shown, sizeof shown - 1);
	assert_true(n > 0);
	shown[n] = 0;
	char *token = strstr(shown, "tunn_");
	assert_non_null(token);
	assert_int_equal(worth(dir, token), CLOSE_NONE);
	snprintf(path, sizeof path, "%s/first-token", dir);
	assert_int_equal(access(path, F_OK), -1);
	first_start_to_file(dir);
	assert_string_equal(output, "");
	close(terminal);
	close(far_end);
}

static void later_starts_make_nothing(void **state)
{
	char dir[256], token[256], after[256];
	struct accounts *a;
	unsigned n = 0;

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("again"));
	first_start_to_file(dir);
	read_token(dir, token);
	first_start_to_file(dir);
	read_token(dir, after);
	assert_string_equal(output, "");
	assert_string_equal(token, after);
	assert_int_equal(accounts_open(dir, &a, words), 0);
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, 1);
	struct audit_record lines[2];
	assert_int_equal(accounts_audited(a, 0, lines, 2, words), 1);
	assert_string_equal(lines[0].who, "server");
	snprintf(after, sizeof after, "first start main token=%.8s", token_id(str_of(token)).p);
	assert_string_equal(lines[0].what, after);
	accounts_close(a);
}

static void a_start_that_cannot_be_audited_makes_no_account(void **state)
{
	char dir[256], path[300];
	struct accounts *a;
	sqlite3 *db;
	unsigned n = 1;

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("unaudited"));
	assert_int_equal(accounts_open(dir, &a, words), 0);
	snprintf(path, sizeof path, "%s/accounts.db", dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "ALTER TABLE audit RENAME TO away", NULL, NULL, NULL),
	                 SQLITE_OK);
	assert_true(first_start(dir, words) < 0);
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, 0);
	assert_int_equal(sqlite3_exec(db, "ALTER TABLE away RENAME TO audit", NULL, NULL, NULL),
	                 SQLITE_OK);
	sqlite3_close(db);
	accounts_close(a);
	first_start_to_file(dir);
	assert_non_null(strstr(output, "/unaudited/first-token"));
}

static void a_token_file_left_behind_is_replaced_with_the_right_mode(void **state)
{
	char dir[256], path[300], token[256];

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("left"));
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(path, sizeof path, "%s/first-token", dir);
	int fd = open(path, O_WRONLY | O_CREAT, 0644);
	assert_true(fd >= 0);
	close(fd);
	chmod(path, 0644);
	first_start_to_file(dir);
	assert_int_equal(read_token(dir, token), TOKEN_LEN + 1);
	assert_int_equal(worth(dir, token), CLOSE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_terminal_the_token_goes_to_a_file),
		cmocka_unit_test(on_a_terminal_the_token_is_shown_once),
		cmocka_unit_test(later_starts_make_nothing),
		cmocka_unit_test(a_start_that_cannot_be_audited_makes_no_account),
		cmocka_unit_test(a_token_file_left_behind_is_replaced_with_the_right_mode),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
