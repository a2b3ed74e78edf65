#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/err.h"
#include "server/accounts/accounts_impl.h"

/* Where SQLite's locks for writing lie: of WAL in the file beside the database, else in it
 * (sqlite.org/walformat.html 2.3, fileformat: the lock-byte page). */
enum { WAL_WRITE_LOCK = 120, PENDING_BYTE = 0x40000000 };

static unsigned long inode_of(const char *path, const char *suffix)
{
	char full[ACCOUNTS_PATH_LEN + 8];
	struct stat st;

	snprintf(full, sizeof full, "%s%s", path, suffix);
	return stat(full, &st) == 0 ? (unsigned long)st.st_ino : 0;
}

static bool is_for_writing(unsigned long inode, unsigned long long at, const unsigned long files[2])
{
	return inode && ((inode == files[0] && at >= PENDING_BYTE) ||
	                 (inode == files[1] && at == WAL_WRITE_LOCK));
}

/* proc_locks(5). To ask by F_GETLK we would have to open the file, and to close it again
 * would let go of SQLite's own locks (fcntl(2)). */
static int find(const unsigned long files[2])
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	int found = 0, pid;
	unsigned long inode;
	unsigned long long at;

	while (f && !found && fgets(line, sizeof line, f))
		if (sscanf(line, "%*[^:]: POSIX %*s WRITE %d %*x:%*x:%lu %llu", &pid, &inode,
		           &at) == 3 &&
		    pid != getpid() && is_for_writing(inode, at, files))
			found = pid;
	if (f)
		fclose(f);
	return found;
}

void accounts_holder(const char *db_path, char out[static ACCOUNTS_HOLDER_LEN])
{
	const unsigned long files[2] = { inode_of(db_path, ""), inode_of(db_path, "-shm") };
	char path[64], name[32] = "";
	int pid = find(files);

	/* It has ended meanwhile, or is not to be seen from here: our systemd unit has
	 * ProcSubset=pid. Who asks sees more. */
	snprintf(out, ACCOUNTS_HOLDER_LEN, "another program (sudo lslocks shows it)");
	if (pid <= 0)
		return;
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	FILE *f = fopen(path, "re");
	if (f && !fgets(name, sizeof name, f))
		name[0] = 0;
	if (f)
		fclose(f);
	name[strcspn(name, "\n")] = 0;
	make_printable(name, strlen(name));
	snprintf(out, ACCOUNTS_HOLDER_LEN, "%s (pid %d)", name[0] ? name : "a program", pid);
}
