/*
 * The one door to libseccomp: after start a process gives up every system call
 * that it will not need. What nobody foresaw kills the process; a list that is
 * too short is found with SANDBOX_LOG, which lets the call pass and leaves a line
 * with its number in the kernel's log.
 *
 * Whole process, threads that run already included. There is no way back.
 * Sanitizer builds leave the filter out: their run-time needs other calls.
 */
#ifndef TUNN_BASE_SANDBOX_H
#define TUNN_BASE_SANDBOX_H

enum sandbox_mode { SANDBOX_KILL, SANDBOX_LOG, SANDBOX_OFF };

/* Beyond what a loop needs for the sockets and files that are open: */
enum sandbox_need {
	SANDBOX_SOCKETS = 1, /* new sockets: IPv4, IPv6, local ones, routes by netlink */
	SANDBOX_THREADS = 2,
	SANDBOX_FILES = 4, /* files to write; reading is always allowed */
	SANDBOX_NSS = 8,   /* name service modules: mapping code fails (EPERM) but does not kill */
};

int sandbox_mode_of(const char *name, enum sandbox_mode *mode_out); /* 0 or ERR_INVALID */
const char *sandbox_mode_check(const char *name);                   /* an opt_check */
/* 0, -ENOSYS where build or kernel has no filters, else -errno. Sets
 * no_new_privs too. Nothing to do when OFF. */
int sandbox_enter(enum sandbox_mode, unsigned needs);

#endif
