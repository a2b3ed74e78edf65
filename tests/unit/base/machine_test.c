/* What the machine and its control groups give, from a tree of files as the kernel has it. */
#include "tests/unit/said.h"

#include <ftw.h>

#include "common/base/file.h"
#include "common/base/machine.h"

static char root[64];

static void put(const char *path, const char *text)
{
	char full[256], dir[256];

	snprintf(full, sizeof full, "%s%s", root, path);
	snprintf(dir, sizeof dir, "%s", full);
	*strrchr(dir, '/') = 0;
	assert_int_equal(file_make_dir(dir), 0);
	assert_int_equal(file_create(full, str_of(text)), 0);
}

static int set_up(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/tunn-machine-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	put("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\n");
	return 0;
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static int tear_down(void **state)
{
	(void)state;
	return nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
}

static void without_groups_it_is_the_machines(void **state)
{
	(void)state;
	assert_int_equal(machine_memory(root), 1024000);
	put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(machine_memory(root), 1024000);
}

static void a_group_and_those_around_it_bound_it(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/system.slice/tunn.service\n");
	put("/sys/fs/cgroup/system.slice/memory.max", "700000\n");
	put("/sys/fs/cgroup/system.slice/tunn.service/memory.max", "max\n");
	assert_int_equal(machine_memory(root), 700000);
	put("/sys/fs/cgroup/system.slice/tunn.service/memory.high", "500000\n");
	assert_int_equal(machine_memory(root), 500000);
}

/* A container without a namespace of its own: the path is the host's. */
static void a_group_that_is_not_seen_is_that_of_the_mount(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/docker/0123\n");
	put("/sys/fs/cgroup/memory.max", "300000\n");
	assert_int_equal(machine_memory(root), 300000);
}

static void the_first_version_of_groups_bounds_it_too(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/a\n1:name=systemd:/a\n0::/\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "400000\n");
	put("/sys/fs/cgroup/cpu,cpuacct/a/memory.limit_in_bytes", "1\n");
	assert_int_equal(machine_memory(root), 400000);
}

static void what_cannot_be_read_is_no_bound(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "\nnonsense\n0:\n0::\n0::/x\n");
	put("/sys/fs/cgroup/x/memory.max", "12 34\n");
	put("/sys/fs/cgroup/memory.max", "");
	assert_int_equal(machine_memory(root), 1024000);
	assert_true(machine_memory("") > 1 << 20);
}

/* As in our own systemd unit, where the group mostly has no bound either. */
static void where_proc_has_processes_alone_the_kernel_is_asked(void **state)
{
	char path[sizeof root + 32];

	(void)state;
	snprintf(path, sizeof path, "%s/proc/meminfo", root);
	assert_int_equal(remove(path), 0);
	put("/proc/self/cgroup", "0::/system.slice/tunn.service\n");
	put("/sys/fs/cgroup/system.slice/tunn.service/memory.max", "max\n");
	assert_true(machine_memory(root) > 1 << 20);
	put("/sys/fs/cgroup/system.slice/tunn.service/memory.high", "700000\n");
	assert_int_equal(machine_memory(root), 700000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(without_groups_it_is_the_machines),
		T(a_group_and_those_around_it_bound_it),
		T(a_group_that_is_not_seen_is_that_of_the_mount),
		T(the_first_version_of_groups_bounds_it_too),
		T(what_cannot_be_read_is_no_bound),
		T(where_proc_has_processes_alone_the_kernel_is_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
