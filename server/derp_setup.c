#include "server/derp_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/nodekey.h"

enum { PATH_LEN = 512, MESH_TEXT_MAX = 256 };

struct native_policy *derp_setup_policy(const struct server_options *o)
{
	const struct native_policy_conf conf = {
		.allow = (const char *const *)o->derp_allow.v,
		.n_allow = o->derp_allow.n,
		.verify_url = o->derp_verify_url,
		.peering = (const char *const *)o->derp_peering.v,
		.n_peering = o->derp_peering.n,
		.account = o->derp_account,
	};

	return native_policy_new(&conf);
}

/* ---- the key of the mesh ---- */

/* 64 hex digits of either case, white space around them is not looked at (derp.md 2.7). */
static int parse_mesh_key(char *text, uint8_t *out)
{
	char *at = text + strspn(text, " \t\r\n");

	at[strcspn(at, " \t\r\n")] = 0;
	for (char *c = at; *c; c++)
		if (*c >= 'A' && *c <= 'F')
			*c |= 32;
	return hex_decode(str_of(at), out, KEY_LEN);
}

static int read_mesh_key(const char *path, uint8_t *out,
                         char error_out[static DERP_SETUP_ERROR_LEN])
{
	char text[MESH_TEXT_MAX] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || read(fd, text, sizeof text - 1) < 0) {
		rc = -errno;
		snprintf(error_out, DERP_SETUP_ERROR_LEN, "--mesh-key-file %s: %s", path,
		         strerror(-rc));
	} else if (st.st_mode & 077) {
		rc = ERR_CONFIG;
		snprintf(error_out, DERP_SETUP_ERROR_LEN,
		         "--mesh-key-file %s can be read by others: chmod 600 %s", path, path);
	} else if (parse_mesh_key(text, out) < 0) {
		rc = ERR_CONFIG;
		snprintf(error_out, DERP_SETUP_ERROR_LEN,
		         "--mesh-key-file %s must hold 64 hex digits, as `openssl rand -hex 32` "
		         "makes them",
		         path);
	}
	if (fd >= 0)
		close(fd);
	crypto_wipe(text, sizeof text);
	return rc;
}

/* ---- the other relays ---- */

static int set_up_mesh(struct derp_setup *s, const struct server_options *o,
                       char error_out[static DERP_SETUP_ERROR_LEN])
{
	const struct tls_client_conf tls = { .ca_file = o->mesh_ca, .ca_option = "--mesh-ca" };
	char error[TLS_ERROR_LEN];

	if (o->mesh_with.n == 0)
		return 0;
	s->mesh.with = (const char *const *)o->mesh_with.v;
	s->mesh.n_with = o->mesh_with.n;
	s->mesh.derp = s->conf;
	s->mesh.ops = transport_named(STR("derp"));
	int rc = tls_client_ctx_new(&tls, &s->mesh.tls, error);
	if (rc == 0)
		return 0;
	snprintf(error_out, DERP_SETUP_ERROR_LEN, "--mesh-with: %s", error);
	return rc == -ENOMEM ? rc : ERR_CONFIG;
}

/* ---- all ---- */

static int set_up(struct derp_setup *s, const struct server_options *o,
                  char error_out[static DERP_SETUP_ERROR_LEN])
{
	char path[PATH_LEN];
	struct nodekey key;
	bool created;

	snprintf(path, sizeof path, "%s/derp.key", o->state);
	int rc = nodekey_load_or_create(o->derp_key ? o->derp_key : path, &key, &created,
	                                error_out);
	if (rc < 0)
		return rc == ERR_INVALID ? ERR_CONFIG : rc;
	memcpy(s->secret, key.key.b, KEY_LEN);
	crypto_wipe(&key, sizeof key);
	crypto_node_public(s->secret, s->conf.public.b);
	s->conf.secret = s->secret;
	if (o->mesh_key_file) {
		rc = read_mesh_key(o->mesh_key_file, s->mesh_key, error_out);
		s->conf.mesh_key = s->mesh_key;
	}
	if (rc == 0 && o->derp_verify_url && strncmp(o->derp_verify_url, "https:", 6) == 0)
		rc = tls_client_ctx_new(&(struct tls_client_conf){ 0 }, &s->verify_tls, error_out);
	return rc ? rc : set_up_mesh(s, o, error_out);
}

int derp_setup(struct derp_setup *s, const struct server_options *o,
               char error_out[static DERP_SETUP_ERROR_LEN])
{
	s->secret = crypto_secret_new(KEY_LEN);
	s->mesh_key = crypto_secret_new(KEY_LEN);
	s->policy = derp_setup_policy(o);
	if (s->secret && s->mesh_key && s->policy)
		return set_up(s, o, error_out);
	snprintf(error_out, DERP_SETUP_ERROR_LEN, "out of memory");
	return -ENOMEM;
}

void derp_setup_done(struct derp_setup *s)
{
	crypto_secret_free(s->secret);
	crypto_secret_free(s->mesh_key);
	native_policy_unref(s->policy);
	tls_ctx_unref(s->verify_tls);
	tls_ctx_unref(s->mesh.tls);
	*s = (struct derp_setup){ 0 };
}

const char *derp_setup_account(const struct native_policy *p)
{
	return p->allow == NATIVE_ALLOW_NONE ? NULL : p->account;
}
