/*
 * The state directory: where it is, and that one server at a time has it.
 * Blocks on files: start and commands only.
 */
#ifndef TUNN_SERVER_STATE_H
#define TUNN_SERVER_STATE_H

#include <sys/types.h>

enum { STATE_ERROR_LEN = 768, STATE_DIR_MAX = 400 /* bytes of the path */ };

/* $STATE_DIRECTORY, else /var/lib/tunn for root, else $XDG_STATE_HOME/tunn or
 * ~/.local/state/tunn. Lives until the process ends. */
const char *state_default_dir(void);
/* Makes it (0700) where missing. 0 or -errno with error_out in words. */
int state_ensure(const char *dir, char error_out[static STATE_ERROR_LEN]);
/* As root: gives the directory and the files in it to a user, unless it is somebody
 * else's than root's already. 0 or -errno with error_out. */
int state_give(const char *dir, uid_t uid, gid_t gid, char error_out[static STATE_ERROR_LEN]);
/* Locks it for a server: a descriptor to keep open, or negative. A command that has it for a
 * moment is waited for. */
int state_lock(const char *dir, char error_out[static STATE_ERROR_LEN]);
/* The same without waiting, for a command: -EWOULDBLOCK while a server or another has it. */
int state_lock_now(const char *dir, char error_out[static STATE_ERROR_LEN]);
/* As root, where the directory is another user's: becomes that user for good, so that the
 * server that runs as it can open what is made here. 0 or -errno with error_out. */
int state_become_owner(const char *dir, char error_out[static STATE_ERROR_LEN]);

#endif
