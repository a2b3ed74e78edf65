#include "common/base/machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "common/base/units.h"

enum { MACHINE_PATH_LEN = 1024, LINE_LEN = 512 };

static uint64_t of_kernel(void)
{
	struct sysinfo info;

	return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 0;
}

/* Of proc_meminfo(5), which has kB, and in a container perhaps less than the kernel says. It is
 * not there where /proc has processes alone: systemd's ProcSubset=pid, as in our unit. */
static uint64_t of_machine(const char *root)
{
	char path[MACHINE_PATH_LEN];
	unsigned long long kb = 0;

	snprintf(path, sizeof path, "%s/proc/meminfo", root);
	FILE *f = fopen(path, "re");
	if (!f)
		return of_kernel();
	if (fscanf(f, "MemTotal: %llu kB", &kb) != 1)
		kb = 0;
	fclose(f);
	return kb * 1024;
}

/* "max" is none. */
static uint64_t read_bound(const char *path)
{
	char line[LINE_LEN] = "";
	uint64_t n = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return 0;
	if (!fgets(line, sizeof line, f))
		line[0] = 0;
	fclose(f);
	line[strcspn(line, "\n")] = 0;
	return units_number(line, &n) == 0 ? n : 0;
}

static void lower(uint64_t *least, uint64_t bound)
{
	if (bound && (!*least || bound < *least))
		*least = bound;
}

/* A group has no more than those around it. In a container its path may be one that is not
 * seen there: then the root of what is mounted is its own. */
static void lower_by_groups(const char *mount, const char *group, const char *file, uint64_t *least)
{
	char dir[MACHINE_PATH_LEN / 2], path[MACHINE_PATH_LEN];

	snprintf(dir, sizeof dir, "%s%s", mount, group);
	for (;;) {
		snprintf(path, sizeof path, "%s/%s", dir, file);
		lower(least, read_bound(path));
		if (strlen(dir) <= strlen(mount))
			return;
		*strrchr(dir, '/') = 0;
	}
}

/* proc_pid_cgroup(5): HIERARCHY:CONTROLLERS:PATH; v2 is hierarchy 0 and names none. */
static void take_group(const char *root, char *line, uint64_t *least)
{
	char mount[MACHINE_PATH_LEN / 4], *controllers = strchr(line, ':');
	char *group = controllers ? strchr(controllers + 1, ':') : NULL;

	line[strcspn(line, "\n")] = 0;
	if (!group)
		return;
	*group++ = 0;
	if (strcmp(line, "0:") == 0) {
		snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
		lower_by_groups(mount, group, "memory.max", least);
		lower_by_groups(mount, group, "memory.high", least);
	} else if (strcmp(controllers, ":memory") == 0) {
		snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/memory", root);
		lower_by_groups(mount, group, "memory.limit_in_bytes", least);
	}
}

uint64_t machine_memory(const char *root)
{
	char path[MACHINE_PATH_LEN], line[LINE_LEN];
	uint64_t least = of_machine(root);

	snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
	FILE *f = fopen(path, "re");
	if (!f)
		return least;
	while (fgets(line, sizeof line, f))
		take_group(root, line, &least);
	fclose(f);
	return least;
}
