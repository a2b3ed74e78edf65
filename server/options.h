/*
 * What `tunn server` was asked to do; read at start and again on SIGHUP.
 */
#ifndef TUNN_SERVER_OPTIONS_H
#define TUNN_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/base/opts.h"
#include "server/accounts/tiers.h"

#define ADMIN_DEFAULT "127.0.0.1:9180"

enum { LISTEN_MAX = 16, NAMES_MAX = 32, AUDIT_DAYS = 400, AUDIT_DAYS_MAX = 36500 };

struct server_options {
	struct opt_list listen; /* --listen, default ":443" */
	struct opt_list stun;   /* --stun; empty: port 3478 where we listen; "off" stands alone */
	const char *cert, *key; /* both or none */
	const char *state;      /* directory; default $STATE_DIRECTORY, else /var/lib/tunn for
	                           root, else $XDG_STATE_HOME/tunn */
	const char *node;       /* name told to ends; default: host name in id form */
	struct opt_list names;  /* --name: DNS names or addresses clients use (certificate, printed
	                           command) */
	bool open;              /* --open: no token needed (loopback only) */
	bool open_to_everyone;
	bool allow_expired; /* --allow-expired: start with a certificate that is out of date */
	const char *admin;  /* --admin: NULL: ADMIN_DEFAULT, if it can be had; or "off" */
	const char *admin_token_file;
	unsigned workers;  /* --workers; 0: one for each CPU that we may use */
	unsigned drain_ms; /* --drain, default 2 s, at most 8 s */
	unsigned audit_days;
	const char *log_level;
	const char *user;           /* --user: NULL: "tunn" where it exists */
	const char *seccomp;        /* a name that sandbox_mode_of() knows */
	struct limits limits;       /* keys under `limits:` in the config file */
	const char *penalty;        /* on or off; NULL: on */
	const char *memory;         /* as memory_limit_of() takes it; NULL: a share */
	struct opt_list derp_allow; /* words that native_allow_check() knows */
	struct opt_list derp_peering;
	const char *derp_verify_url; /* NULL: none */
	const char *derp_account;    /* NULL: the default */
	const char *derp_key;        /* file; NULL: in the state directory */
	const char *mesh_key_file;   /* NULL: no mesh */
	struct opt_list mesh_with;   /* as mesh_with_of() takes them */
	const char *mesh_ca;         /* NULL: the system's store */
	bool reflection;             /* --reflection: tools may ask which services there are */
	struct tiers_words tiers_words;
	struct tiers tiers; /* what those words say */
};

extern const struct opt server_opts[];

bool server_options_no_stun(const struct server_options *);        /* --stun off */
bool server_options_penalty(const struct server_options *);        /* not off */
bool server_options_no_admin(const struct server_options *);       /* --admin off */
bool server_options_admin_is_local(const struct server_options *); /* a loopback address */
int server_options_read(int argc, char **argv, struct server_options *opts_out, bool *help_out);

#endif
