#include "server/admin/admin_open.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/net/listener.h"
#include "server/admin/admin_ask.h"
#include "server/admin/admin_token.h"

enum { EXIT_RUNTIME = 1, EXIT_CONFIG = 2, CONNS_LEAST = 4, ROOM_LEAST = 64 };

static const char *where(const struct server_options *o)
{
	return o->admin ? o->admin : ADMIN_DEFAULT;
}

/* ---- TLS ---- */

/* HTTP/1.1 alone; not the certificate that tells DERP clients our key. */
static int make_tls(const struct admin_place *p, struct tls_ctx **tls_out,
                    char error[static TLS_ERROR_LEN])
{
	static const char *const alpn[] = { "http/1.1", NULL };
	const struct tls_server_conf conf = { .cert_file = p->cert,
		                              .key_file = p->key,
		                              .alpn = alpn,
		                              .allow_expired = p->opts->allow_expired };

	return tls_server_ctx_new(&conf, tls_out, error);
}

/* ---- opening ---- */

/* Where nobody asked for it, the relay does without. */
static int cannot(const struct server_options *o, const char *why)
{
	if (o->admin) {
		fprintf(stderr, "tunn server: cannot listen on --admin %s: %s\n", o->admin, why);
		return EXIT_RUNTIME;
	}
	log_warn("no admin listener on " ADMIN_DEFAULT ": %s; --admin ADDR:PORT puts it elsewhere, "
	         "--admin off does without",
	         why);
	return 0;
}

static int listen_with(const struct admin_place *p, struct admin_conf *conf,
                       struct admin **admin_out)
{
	struct addr addr, bound;
	char text[ADDR_TEXT_LEN];
	bool any;

	addr_of_listen(where(p->opts), &addr, &any); /* checked when read */
	conf->fd = listener_bind(&addr, any);
	if (conf->fd < 0)
		return cannot(p->opts,
		              conf->fd == -EADDRINUSE ? "the port is taken" : strerror(-conf->fd));
	int rc = admin_new(conf, admin_out, &bound);
	if (rc < 0)
		return cannot(p->opts, strerror(-rc));
	printf("tunn: admin on %s://%s/\n", conf->tls ? "https" : "http", addr_text(&bound, text));
	return 0;
}

static unsigned most_conns(const struct rights *r)
{
	unsigned n = r->descriptors / 16;

	return n < CONNS_LEAST ? CONNS_LEAST : n > HTTPD_CONNS_MAX ? HTTPD_CONNS_MAX : n;
}

static int open_with(const struct admin_place *p, struct str token, struct admin **admin_out)
{
	struct addr listening[PLACES_MAX];
	char error[TLS_ERROR_LEN];
	struct admin_conf conf = { .max_conns = most_conns(p->rights),
		                   .token = token,
		                   .names = &p->opts->names,
		                   .node = p->opts->node,
		                   .workers = p->workers,
		                   .listening = listening,
		                   .n_listening = p->listening->n,
		                   .limits = p->opts->limits };

	for (unsigned i = 0; i < p->listening->n; i++)
		listening[i] = p->listening->v[i].addr;
	if (!server_options_admin_is_local(p->opts) && make_tls(p, &conf.tls, error) < 0) {
		fprintf(stderr, "tunn server: --admin: %s\n", error);
		return EXIT_CONFIG;
	}
	int rc = listen_with(p, &conf, admin_out);
	tls_ctx_unref(conf.tls);
	return rc;
}

int admin_open(const struct admin_place *p, struct admin **admin_out)
{
	char token[ADMIN_TOKEN_MAX] = "";
	int n = 0;

	if (server_options_no_admin(p->opts))
		return 0;
	if (!p->opts->admin && p->rights->descriptors < ROOM_LEAST)
		return cannot(p->opts, "too few file descriptors (ulimit -n)");
	if (p->opts->admin_token_file)
		n = admin_token_read("tunn server: --admin-token-file", p->opts->admin_token_file,
		                     token);
	int rc = n < 0 ? EXIT_CONFIG : open_with(p, (struct str){ token, (size_t)n }, admin_out);
	crypto_wipe(token, sizeof token);
	return rc;
}

int admin_open_thread(struct admin *a, struct auth *auth)
{
	if (!a)
		return 0;
	if (auth)
		admin_set_accounts(a, admin_ask_auth, auth);
	if (admin_start(a) == 0)
		return 0;
	fprintf(stderr, "tunn server: cannot start a thread\n");
	return EXIT_RUNTIME;
}

void admin_open_again(struct admin *a, const struct admin_place *p, const struct limits *limits)
{
	struct tls_ctx *tls = NULL;
	char error[TLS_ERROR_LEN];

	if (!a)
		return;
	if (!server_options_admin_is_local(p->opts) && make_tls(p, &tls, error) < 0)
		log_error("the admin listener keeps its certificate: %s", error);
	admin_reload(a, tls, limits);
	tls_ctx_unref(tls);
}
