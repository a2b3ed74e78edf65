/*
 * What the process itself is: its user, its capabilities, its core dump, its
 * descriptors. The one door to libcap-ng. Before any other thread starts:
 * capabilities belong to threads.
 */
#ifndef TUNN_BASE_PROCESS_H
#define TUNN_BASE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#define PROCESS_USER "tunn" /* who we become where nobody else is named */

struct process_user {
	char name[64];
	uid_t uid;
	gid_t gid;
	bool changes; /* differs from who we are */
};

enum process_power { /* what of root's rights stays */
	             PROCESS_NET_ADMIN = 1,
	             PROCESS_BIND = 2,
	             PROCESS_READ_ALL = 4,
};

/* No core dump, whatever handler the kernel has for them, and no other process of
 * the same user may look at our memory or environment. */
void process_hide_memory(void);

/* Who we shall be: `name`, or with NULL PROCESS_USER where there is one; nobody
 * else than now unless root asks. 0, or ERR_NOT_FOUND for an unknown name. */
int process_user_find(const char *name, struct process_user *user_out);
/* Becomes that user for good, with its groups; of our capabilities the named ones
 * stay, if we had them. 0 or -errno. */
int process_become(const struct process_user *, unsigned powers);

/* Takes all descriptors that the hard limit grants. The number. */
unsigned process_descriptors(void);

#endif
