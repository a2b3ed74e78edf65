#include "tests/unit/said.h"

#include "server/state.h"

static char words[STATE_ERROR_LEN];

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 0777;
}

static void directory_and_parents_are_made_for_the_owner_alone(void **state)
{
	mode_t old = umask(0);

	(void)state;
	assert_int_equal(state_ensure(file_path("made/deep/state"), words), 0);
	assert_int_equal(state_ensure(file_path("slashed///"), words), 0);
	umask(old);
	assert_int_equal(mode_of(file_path("made/deep/state")), 0700);
	assert_int_equal(mode_of(file_path("made/deep")), 0755);
	assert_int_equal(mode_of(file_path("slashed")), 0700);
	assert_int_equal(state_ensure(file_path("made/deep/state"), words), 0); /* again */
}

static void unusable_directory_is_refused_by_name(void **state)
{
	char longer[STATE_DIR_MAX + 8];

	(void)state;
	const char *file = file_with("file", "x");
	assert_true(state_ensure(file, words) < 0);
	assert_non_null(strstr(words, file));
	assert_non_null(strstr(words, "--state"));
	assert_true(state_ensure(file_path("file/below"), words) < 0);
	assert_non_null(strstr(words, "file/below"));
	assert_true(state_ensure("/proc/tunn-state", words) < 0);
	assert_non_null(strstr(words, "/proc/tunn-state"));
	assert_true(state_ensure("", words) < 0);
	memset(longer, 'a', sizeof longer);
	longer[sizeof longer - 1] = 0;
	assert_true(state_ensure(longer, words) < 0);
}

static void second_server_on_a_directory_is_refused(void **state)
{
	const char *dir = file_path("locked");

	(void)state;
	int first = state_lock(dir, words);
	assert_true(first >= 0);
	assert_true(state_lock(dir, words) < 0);
	assert_non_null(strstr(words, "another tunn server"));
	assert_non_null(strstr(words, dir));
	close(first);
	int next = state_lock(dir, words); /* free again, though the file stays */
	assert_true(next >= 0);
	close(next);
}

static void user_gets_the_journals_too(void **state)
{
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(state_ensure(file_path("given/usage"), words), 0);
	assert_int_equal(state_ensure(file_path("given/other"), words), 0);
	file_with("given/usage/a.journal", "x");
	assert_int_equal(state_give(file_path("given"), 4321, 4321, words), 0);
	assert_int_equal(stat(file_path("given/usage"), &st), 0);
	assert_int_equal(st.st_uid, 4321);
	assert_int_equal(stat(file_path("given/usage/a.journal"), &st), 0);
	assert_int_equal(st.st_uid, 4321);
	assert_int_equal(stat(file_path("given/other"), &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static void default_directory_follows_the_environment(void **state)
{
	(void)state;
	setenv("STATE_DIRECTORY", "/run/given:/run/other", 1);
	assert_string_equal(state_default_dir(), "/run/given");
	unsetenv("STATE_DIRECTORY");
	if (geteuid() == 0) {
		assert_string_equal(state_default_dir(), "/var/lib/tunn");
		return;
	}
	setenv("XDG_STATE_HOME", "/x", 1);
	assert_string_equal(state_default_dir(), "/x/tunn");
	setenv("XDG_STATE_HOME", "", 1);
	setenv("HOME", "/h", 1);
	assert_string_equal(state_default_dir(), "/h/.local/state/tunn");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_and_parents_are_made_for_the_owner_alone),
		cmocka_unit_test(unusable_directory_is_refused_by_name),
		cmocka_unit_test(second_server_on_a_directory_is_refused),
		cmocka_unit_test(user_gets_the_journals_too),
		cmocka_unit_test(default_directory_follows_the_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
