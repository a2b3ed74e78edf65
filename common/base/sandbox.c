#include "common/base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"

static const char *const mode_names[] = { "kill", "log", "off" };

int sandbox_mode_of(const char *name, enum sandbox_mode *mode_out)
{
	for (unsigned i = 0; i < sizeof mode_names / sizeof *mode_names; i++) {
		if (strcmp(name, mode_names[i]) == 0) {
			*mode_out = (enum sandbox_mode)i;
			return 0;
		}
	}
	return ERR_INVALID;
}

const char *sandbox_mode_check(const char *name)
{
	enum sandbox_mode unused;

	return sandbox_mode_of(name, &unused) == 0 ? NULL : "must be kill, log or off";
}

/* ---- what is allowed ----
 *
 * By name, so that one list serves every architecture and libraries newer than
 * our headers: a name that libseccomp does not know is passed over. The vDSO's
 * calls are listed too: with some clocks they become real ones. */

static const char *const always[] = {
	/* memory; mmap and mprotect have rules of their own */
	"brk", "munmap", "mremap", "madvise", "map_shadow_stack", "mlock", "munlock", "mseal",
	/* descriptors */
	"read", "readv", "write", "writev", "pread64", "close", "fcntl", "fcntl64", "lseek",
	"_llseek", "fstat", "fstat64", "stat", "stat64", "lstat", "lstat64", "newfstatat",
	"fstatat64", "statx", "access", "faccessat", "faccessat2", "getdents64", "readlink",
	"readlinkat",
	/* waiting */
	"epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "poll", "ppoll", "ppoll_time64",
	"select", "pselect6", "_newselect", "eventfd2",
	/* sockets that are open */
	"accept4", "recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "send", "sendto",
	"sendmsg", "sendmmsg", "getsockname", "getpeername", "getsockopt", "setsockopt", "shutdown",
	/* time */
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday",
	"time", "nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "restart_syscall",
	/* threads and signals of our own; clone and tgkill have rules */
	"futex", "futex_time64", "futex_wait", "futex_wake", "futex_requeue", "set_robust_list",
	"rseq", "membarrier", "sched_yield", "sched_getaffinity", "getcpu", "gettid", "getpid",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "exit",
	"exit_group",
	/* harmless questions */
	"getrandom", "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid",
	"getegid32", "getppid", "uname", "sysinfo", "getrusage", "getrlimit", "ugetrlimit"
}; /* getrlimit(3) is prlimit64, which has a rule */

static const char *const sockets[] = { "bind", "connect" };

static const char *const files[] = {
	"pwrite64", "ftruncate", "ftruncate64", "fsync",    "fdatasync", "fallocate",
	"unlink",   "unlinkat",  "rename",      "renameat", "renameat2", "mkdir",
	"mkdirat",  "umask",     "fchmod",      "fchown",   "fchown32",  "getcwd",
};

static const int domains[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

/* How many bytes wait, and whether standard output is a terminal. */
static const unsigned long requests[] = { SIOCOUTQNSD, FIONREAD, TCGETS, TIOCGWINSZ };

/* ---- rules ---- */

struct filter {
	scmp_filter_ctx ctx;
	int rc; /* the first error */
};

static void rule(struct filter *f, uint32_t action, const char *name, unsigned n,
                 const struct scmp_arg_cmp *args)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (nr == __NR_SCMP_ERROR || f->rc)
		return;
	int rc = seccomp_rule_add_array(f->ctx, action, nr, n, args);
	if (rc < 0 && rc != -EDOM && rc != -EEXIST) /* not of this architecture; said already */
		f->rc = rc;
}

/* Of the argument the bits of the mask. */
static struct scmp_arg_cmp has_bits(unsigned arg, scmp_datum_t mask, scmp_datum_t bits)
{
	return (struct scmp_arg_cmp){
		.arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = bits
	};
}

/* Of an int: what stands in the upper half of its register counts for nobody. */
static struct scmp_arg_cmp equals(unsigned arg, scmp_datum_t value)
{
	return has_bits(arg, UINT32_MAX, value);
}

static void rule_if(struct filter *f, uint32_t action, const char *name, struct scmp_arg_cmp arg)
{
	rule(f, action, name, 1, &arg);
}

static void allow_all(struct filter *f, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rule(f, SCMP_ACT_ALLOW, names[i], 0, NULL);
}

/* No page that can be run is made, so no code arrives after start. */
static void add_memory(struct filter *f, unsigned needs)
{
	static const char *const calls[] = { "mmap", "mmap2", "mprotect" };
	struct scmp_arg_cmp plain = has_bits(2, PROT_EXEC, 0);
	struct scmp_arg_cmp code = has_bits(2, PROT_EXEC, PROT_EXEC);

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		rule_if(f, SCMP_ACT_ALLOW, calls[i], plain);
		if (needs & SANDBOX_NSS)
			rule_if(f, SCMP_ACT_ERRNO(EPERM), calls[i], code);
	}
}

static void add_files(struct filter *f, unsigned needs)
{
	if (needs & SANDBOX_FILES) {
		allow_all(f, files, sizeof files / sizeof *files);
		rule(f, SCMP_ACT_ALLOW, "openat", 0, NULL);
		return;
	}
	/* O_TRUNC works beside O_RDONLY too */
	rule_if(f, SCMP_ACT_ALLOW, "openat", has_bits(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

static void add_sockets(struct filter *f, unsigned needs)
{
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
		rule_if(f, SCMP_ACT_ALLOW, "ioctl", equals(1, requests[i]));
	if (!(needs & SANDBOX_SOCKETS))
		return;
	allow_all(f, sockets, sizeof sockets / sizeof *sockets);
	for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
		rule_if(f, SCMP_ACT_ALLOW, "socket", equals(0, (scmp_datum_t)domains[i]));
}

/* The flags of clone3 lie in memory, where no filter can look: with ENOSYS the C
 * library takes clone. */
static void add_threads(struct filter *f, unsigned needs)
{
	rule_if(f, SCMP_ACT_ALLOW, "tgkill", equals(0, (scmp_datum_t)getpid()));
	if (!(needs & SANDBOX_THREADS))
		return;
	rule(f, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	rule_if(f, SCMP_ACT_ALLOW, "clone", has_bits(0, CLONE_THREAD, CLONE_THREAD));
}

/* Asking, of ourselves: sysconf(3) and the C library's threads do. */
static void add_limits(struct filter *f)
{
	const struct scmp_arg_cmp args[] = { equals(0, 0), has_bits(2, UINT64_MAX, 0) };

	rule(f, SCMP_ACT_ALLOW, "prlimit64", 2, args);
}

static int load(scmp_filter_ctx ctx, unsigned needs)
{
	struct filter f = { .ctx = ctx };

	f.rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1); /* threads that run, too */
	if (f.rc == 0)
		f.rc = seccomp_attr_set(ctx, SCMP_FLTATR_API_SYSRAWRC,
		                        1); /* the kernel's own errno */
	if (f.rc == 0)
		f.rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
	allow_all(&f, always, sizeof always / sizeof *always);
	add_memory(&f, needs);
	add_files(&f, needs);
	add_sockets(&f, needs);
	add_threads(&f, needs);
	add_limits(&f);
	return f.rc ? f.rc : seccomp_load(ctx);
}

int sandbox_enter(enum sandbox_mode mode, unsigned needs)
{
#ifdef TUNN_SANITIZED
	(void)load, (void)needs;
	return mode == SANDBOX_OFF ? 0 : -ENOSYS;
#else
	if (mode == SANDBOX_OFF)
		return 0;
	scmp_filter_ctx ctx = seccomp_init(mode == SANDBOX_LOG ? SCMP_ACT_LOG :
	                                                         SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return -ENOSYS;
	int rc = load(ctx, needs);
	seccomp_release(ctx);
	return rc == -EINVAL ? -ENOSYS : rc; /* prctl(2): a kernel built without */
#endif
}
