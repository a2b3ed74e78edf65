#include "common/base/process.h"

#include <cap-ng.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/err.h"

void process_hide_memory(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none); /* for a file; a handler's pipe asks for dumpable only */
	prctl(PR_SET_DUMPABLE, 0);
}

/* ---- user ---- */

int process_user_find(const char *name, struct process_user *user_out)
{
	struct process_user u = { .uid = geteuid(), .gid = getegid() };
	const struct passwd *pw = NULL;

	if (name || u.uid == 0)
		pw = getpwnam(name ? name : PROCESS_USER);
	if (name && !pw)
		return ERR_NOT_FOUND;
	if (!pw)
		pw = getpwuid(u.uid);
	if (pw) {
		u.changes = pw->pw_uid != u.uid;
		u.uid = pw->pw_uid;
		u.gid = u.changes ? pw->pw_gid : u.gid;
	}
	snprintf(u.name, sizeof u.name, "%s", pw ? pw->pw_name : "");
	*user_out = u;
	return 0;
}

static void keep(unsigned powers)
{
	static const struct {
		unsigned power, cap;
	} caps[] = {
		{ PROCESS_NET_ADMIN, CAP_NET_ADMIN },
		{ PROCESS_BIND, CAP_NET_BIND_SERVICE },
		{ PROCESS_READ_ALL, CAP_DAC_READ_SEARCH },
	};
	bool had[sizeof caps / sizeof *caps];

	capng_get_caps_process();
	for (unsigned i = 0; i < sizeof caps / sizeof *caps; i++)
		had[i] = (powers & caps[i].power) &&
		         capng_have_capability(CAPNG_PERMITTED, caps[i].cap);
	capng_clear(CAPNG_SELECT_ALL);
	for (unsigned i = 0; i < sizeof caps / sizeof *caps; i++)
		if (had[i])
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, caps[i].cap);
}

int process_become(const struct process_user *user, unsigned powers)
{
	int rc;

	keep(powers);
	errno = 0;
	if (user->changes)
		rc = capng_change_id((int)user->uid, (int)user->gid,
		                     CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING |
		                                     CAPNG_CLEAR_AMBIENT);
	else
		rc = capng_apply(CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT);
	if (rc < 0 && (errno != EPERM || user->changes || user->uid == 0))
		return errno ? -errno : -EPERM;
	/* else the service manager's filter has no capset: what it granted stays */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	process_hide_memory(); /* a change of user sets it back */
	return 0;
}

/* ---- descriptors ---- */

unsigned process_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return UINT_MAX;
	if (r.rlim_cur < r.rlim_max) {
		rlim_t soft = r.rlim_cur;
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			r.rlim_cur = soft;
	}
	return r.rlim_cur > UINT_MAX ? UINT_MAX : (unsigned)r.rlim_cur;
}
