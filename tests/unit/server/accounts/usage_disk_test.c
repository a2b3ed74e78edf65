/* Usage on a bad disk: full, failing, a database that refuses. The relay goes on, says it
 * once and loses nothing that was not killed. */
#include "tests/unit/server/accounts/usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/base/log.h"
#include "common/base/metric.h"

static bool has_tmpfs;
static unsigned n_failing_syncs;

/* In place of the C library's. */
int fdatasync(int fd)
{
	if (n_failing_syncs == 0)
		return (int)syscall(SYS_fdatasync, fd);
	n_failing_syncs--;
	errno = EIO;
	return -1;
}

static unsigned n_files(void)
{
	char path[512];
	unsigned n = 0;
	const struct dirent *e;

	snprintf(path, sizeof path, "%s/usage", usage_dir);
	DIR *d = opendir(path);
	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static unsigned n_said(const char *words)
{
	unsigned n = 0;

	for (const char *p = said; (p = strstr(p, words)); p++)
		n++;
	return n;
}

/* ---- full ---- */

/* Takes every byte that is left. */
static void fill(const char *path)
{
	static const char block[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	for (size_t n = sizeof block; n > 0;)
		if (write(fd, block, n) < 0)
			n /= 2;
	close(fd);
}

static void F25_a_full_disk_is_said_once_and_loses_nothing(void **state)
{
	char filler[256], mount_point[200];
	uint64_t failures = metric_sum(METRIC_USAGE_FAILURES);

	(void)state;
	if (!has_tmpfs)
		skip();
	usage_close();
	snprintf(mount_point, sizeof mount_point, "%s", file_path("small"));
	assert_int_equal(mkdir(mount_point, 0700), 0);
	assert_int_equal(mount("tunn", mount_point, "tmpfs", 0, "size=1m,mode=0700"), 0);
	snprintf(usage_dir, sizeof usage_dir, "%s/state", mount_point);
	snprintf(filler, sizeof filler, "%s/filler", mount_point);
	usage_open();
	assert_int_equal(accounts_add(usage_accounts, "acme", NULL, usage_words), 0);
	usage_terms.volume = 140000;
	struct account *a = usage_get(1);
	usage_count(a, 10, 10);
	usage_ticks(2);

	said_begin();
	fill(filler);
	for (unsigned i = 0; i < 100; i++) { /* its page has room for 78 records */
		usage_count(a, 1, 0);
		usage_ticks(2);
	}
	said_end();
	assert_int_equal(n_said("cannot write the usage journal"), 1);
	assert_int_equal(n_said(".journal: No space left on device"), 1);
	assert_true(n_said("database or disk is full") <= 1);
	assert_true(metric_sum(METRIC_USAGE_FAILURES) > failures + 1);
	assert_int_equal(account_percent(a), 85); /* who is over its volume is held all the same */
	assert_int_equal(n_usage_news, 1);
	usage_count(a, 20, 0);
	usage_ticks(1);
	assert_int_equal(account_check(a), CLOSE_QUOTA);

	said_begin();
	assert_int_equal(unlink(filler), 0);
	usage_ticks(1);
	said_end();
	assert_int_equal(n_said("is written again"), 1);
	usage_copy("freed");
	account_unref(a);
	usage_go_to("freed");
	usage_assert(usage_of(1, NOVEMBER), 130, 10);
	usage_ticks(2);
	usage_assert(usage_of(1, NOVEMBER), 130, 10);
	usage_close();
	assert_int_equal(umount2(mount_point, MNT_DETACH), 0);
	usage_open();
}

static void a_limit_of_file_sizes_only_begins_other_files(void **state)
{
	struct account *a = usage_get(1);
	struct rlimit old, small;

	(void)state;
	usage_ticks(1);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ .rlim_cur = 1000, .rlim_max = old.rlim_max };
	said_begin();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (unsigned i = 0; i < 100; i++) {
		usage_count(a, 1, 2);
		usage_ticks(1);
	}
	setrlimit(RLIMIT_FSIZE, &old);
	said_end();
	assert_said("cannot write the usage journal");
	usage_ticks(1);
	usage_copy("killed");
	account_unref(a);
	usage_go_to("killed");
	usage_assert(usage_of(1, NOVEMBER), 100, 200);
}

/* ---- failing ---- */

static void F25_after_an_error_of_the_disk_another_file_has_it_all(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_ticks(1);
	usage_count(a, 5, 0);
	usage_ticks(1);
	usage_count(a, 5, 0);
	said_begin();
	n_failing_syncs = 2;
	usage_ticks(2);
	assert_int_equal(n_failing_syncs, 0);
	usage_ticks(1);
	said_end();
	assert_int_equal(n_said("Input/output error"), 1);
	assert_int_equal(n_said("is written again"), 1);
	assert_int_equal(n_files(), 1); /* what it gave up is gone */
	usage_copy("killed");
	account_unref(a);
	usage_go_to("killed");
	usage_assert(usage_of(1, NOVEMBER), 10, 0);
}

/* The journal has all of it, of both months, and grows by no more than that. */
static void a_database_that_refuses_is_waited_for(void **state)
{
	(void)state;
	usage_close();
	usage_file_max = 500;
	usage_open();
	struct account *a = usage_get(1);
	usage_ticks(1);
	usage_sql("CREATE TRIGGER refuse BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'refused'); "
	          "END");
	said_begin();
	for (unsigned i = 0; i < 200; i++) {
		if (i == 150)
			usage_wall_ms = NOVEMBER_30 + 1000;
		usage_ticks(1); /* what was counted before the edge is seen is of November */
		usage_count(a, 1, 1);
	}
	usage_ticks(1);
	said_end();
	assert_int_equal(n_said("refused"), 1);
	assert_true(n_files() <= 2);
	usage_wall_ms = NOVEMBER_30; /* and back, to a month that is not folded yet */
	usage_ticks(1);
	usage_count(a, 3, 0);
	usage_ticks(1);
	usage_copy("killed");
	usage_sql("DROP TRIGGER refuse");
	said_begin();
	usage_ticks(10);
	said_end();
	assert_int_equal(n_said("into the accounts database again"), 1);
	usage_assert(usage_of(1, NOVEMBER), 153, 150);
	usage_assert(usage_of(1, DECEMBER), 50, 50);
	account_unref(a);

	said_begin(); /* killed while it refused, and refuses still when it starts again */
	usage_go_to("killed");
	usage_ticks(3);
	said_end();
	assert_int_equal(n_said("refused"), 1);
	usage_sql("DROP TRIGGER refuse");
	usage_ticks(11);
	usage_assert(usage_of(1, NOVEMBER), 153, 150);
	usage_assert(usage_of(1, DECEMBER), 50, 50);
}

static void without_a_directory_for_it_the_relay_goes_on(void **state)
{
	char path[512];

	(void)state;
	snprintf(path, sizeof path, "%s/usage", usage_dir);
	usage_close();
	FILE *f = fopen(path, "w"); /* something else is called so */
	assert_non_null(f);
	fclose(f);
	said_begin();
	usage_open();
	struct account *a = usage_get(1);
	usage_ticks(1);
	usage_count(a, 1, 1);
	usage_ticks(3);
	said_end();
	assert_int_equal(n_said("Not a directory"), 2); /* reading, and writing */
	assert_int_equal(unlink(path), 0);
	usage_ticks(12);
	usage_assert(usage_of(1, NOVEMBER), 1, 1);
	account_unref(a);
}

#define T(name) cmocka_unit_test_setup_teardown(name, usage_fresh, usage_done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(F25_a_full_disk_is_said_once_and_loses_nothing),
		T(a_limit_of_file_sizes_only_begins_other_files),
		T(F25_after_an_error_of_the_disk_another_file_has_it_all),
		T(a_database_that_refuses_is_waited_for),
		T(without_a_directory_for_it_the_relay_goes_on),
	};

	signal(SIGXFSZ, SIG_IGN);
	has_tmpfs = (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
	            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
