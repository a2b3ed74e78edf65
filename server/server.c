#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/net/cert.h"
#include "common/net/conn.h"
#include "common/net/handover.h"
#include "common/net/listener.h"
#include "common/net/loop.h"
#include "common/net/notify.h"
#include "server/accounts/accounts.h"
#include "server/derp_setup.h"
#include "server/admin/admin_open.h"
#include "server/auth.h"
#include "server/commands/control.h"
#include "server/expiry.h"
#include "server/first.h"
#include "server/relay/mail.h"
#include "server/map_node.h"
#include "server/memory.h"
#include "server/rights.h"
#include "server/state.h"
#include "server/stun_start.h"
#include "server/relay/workers.h"
#include "common/transport/transport.h"

enum {
	PATH_LEN = 512,
	ALPN_MAX = 8,
	EXIT_RUNTIME = 1,
	EXIT_CONFIG = 2,
	TRIM_MS = 2000,
	QUIET_PACKETS = 200,
};

struct server {
	const struct server_options *opts;
	int argc;
	char **argv;
	struct loop *loop;
	struct mailbox *mailbox;
	struct timer *watchdog; /* NULL: nobody watches */
	struct timer *trim;
	struct expiry expiry;
	struct memory *memory;
	uint64_t n_packets; /* when it was last asked */
	struct worker_conf worker_conf;
	struct workers *workers;
	struct auth *auth;       /* NULL: open relay */
	struct control *control; /* of an open relay; else the accounts thread has it */
	struct admin *admin;     /* NULL: off */
	struct derp_setup derp;
	struct rights rights;
	int lock_fd;
	char cert[PATH_LEN], key[PATH_LEN];
	uint8_t pin[TLS_PIN_LEN];
	struct places listening;
	struct stun *stun; /* NULL: off, or draining */
	bool draining;
};

static int complain(int rc, const char *text)
{
	fprintf(stderr, "tunn server: %s\n", text);
	return rc;
}

/* ---- certificate ---- */

/* The protocols of the transports, in the order of the list. */
static const char *const *server_alpn(void)
{
	static const char *alpn[ALPN_MAX + 1];
	unsigned n = 0;

	for (unsigned i = 0; transports[i] && n < ALPN_MAX; i++)
		alpn[n++] = transports[i]->alpn;
	return alpn;
}

/* Our own certificate is for the names that are given and for each address that we
 * listen on: clients of other makes compare it even where they pin the certificate. */
static int ensure_own_cert(const struct server_options *o, char error[static TLS_ERROR_LEN])
{
	const char *names[NAMES_MAX + LISTEN_MAX];
	char ips[LISTEN_MAX][ADDR_TEXT_LEN];
	size_t n = 0;

	for (unsigned i = 0; i < o->names.n; i++)
		names[n++] = o->names.v[i];
	for (unsigned i = 0; i < o->listen.n; i++) {
		struct addr addr;
		bool any;
		if (addr_of_listen(o->listen.v[i], &addr, &any) == 0 && !any &&
		    !addr_is_special(&addr))
			names[n++] = addr_ip_text(&addr, ips[i]);
	}
	return cert_ensure(o->state, names, n, error);
}

static int make_tls(struct server *s, const struct server_options *o, struct tls_ctx **ctx_out,
                    char error[static TLS_ERROR_LEN])
{
	if (o->cert) {
		snprintf(s->cert, sizeof s->cert, "%s", o->cert);
		snprintf(s->key, sizeof s->key, "%s", o->key);
	} else {
		snprintf(s->cert, sizeof s->cert, "%s/tls-cert.pem", o->state);
		snprintf(s->key, sizeof s->key, "%s/tls-key.pem", o->state);
		int rc = ensure_own_cert(o, error);
		if (rc < 0)
			return rc;
	}
	struct tls_server_conf conf = { .cert_file = s->cert,
		                        .key_file = s->key,
		                        .alpn = server_alpn(),
		                        .derp_public = s->derp.conf.public.b,
		                        .names = o->names.v,
		                        .n_names = o->names.n,
		                        .allow_expired = o->allow_expired };
	int rc = tls_server_ctx_new(&conf, ctx_out, error);
	if (rc < 0)
		return rc;
	rc = cert_pin_of_file(s->cert, s->pin, error);
	if (rc < 0)
		tls_ctx_unref(*ctx_out);
	return rc;
}

/* ---- signals ---- */

static void on_stop(void *arg, int signo)
{
	struct server *s = arg;

	if (s->draining) {
		log_warn("signal %d again: ending now", signo);
		_exit(0);
	}
	s->draining = true;
	notify_say("STOPPING=1");
	admin_tell(s->admin, ADMIN_DRAINING);
	stun_free(s->stun); /* who looks for a relay now shall not choose this one */
	s->stun = NULL;
	log_info("draining: ends are told to leave within %u ms", s->opts->drain_ms);
	workers_drain(s->workers, s->opts->drain_ms);
}

/* Workers end by themselves; until then signals and the watchdog are heard. */
static void on_mail(void *owner, struct mail *m)
{
	struct server *s = owner;

	if (m->kind == MAIL_ENDED && workers_ended(s->workers))
		loop_stop(s->loop, 0);
	if (m->kind == MAIL_ALIVE && workers_answered(s->workers, m))
		notify_say("WATCHDOG=1");
}

static void reload_failed(const char *why)
{
	metric_add(METRIC_RELOAD_FAILURES, 1);
	log_error("reload refused, the old configuration stays: %s", why);
}

static bool is_same_word(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same_list(const struct opt_list *a, const struct opt_list *b)
{
	bool same = a->n == b->n;

	for (unsigned i = 0; same && i < a->n; i++)
		same = is_same_word(a->v[i], b->v[i]);
	return same;
}

static bool is_same_mesh(const struct server_options *a, const struct server_options *b)
{
	return is_same_word(a->mesh_key_file, b->mesh_key_file) &&
	       is_same_word(a->mesh_ca, b->mesh_ca) && is_same_list(&a->mesh_with, &b->mesh_with);
}

/* What was opened at the start with rights that are gone stays. */
static void reload(struct server *s)
{
	struct server_options fresh = { 0 };
	struct tls_ctx *ctx;
	char error[TLS_ERROR_LEN];
	bool help;

	if (server_options_read(s->argc, s->argv, &fresh, &help) < 0) {
		reload_failed("the configuration has an error");
		return;
	}
	if (!is_same_word(fresh.derp_verify_url, s->opts->derp_verify_url)) {
		reload_failed("derp.verify-url is another now: that needs a restart");
		return;
	}
	if (make_tls(s, &fresh, &ctx, error) < 0) {
		reload_failed(error);
		return;
	}
	enum log_level level;
	if (log_level_of(fresh.log_level, &level) == 0)
		log_set_level(level);
	struct worker_news news = { .tls = ctx,
		                    .policy = derp_setup_policy(&fresh),
		                    .limits = fresh.limits,
		                    .penalty_on = server_options_penalty(&fresh) };
	int64_t not_after_unix_s = tls_not_after_unix_s(ctx);
	rights_fit(&s->rights, &news.limits);
	int rc = news.policy ? workers_reload(s->workers, &news) : -ENOMEM;
	if (rc == 0 && s->auth)
		rc = auth_reload(s->auth, &fresh.tiers, derp_setup_account(news.policy));
	tls_ctx_unref(ctx); /* each has references of its own */
	native_policy_unref(news.policy);
	if (rc < 0) {
		reload_failed("out of memory");
		return;
	}
	expiry_of(&s->expiry, not_after_unix_s);
	memory_set_limit(s->memory, fresh.memory, s->opts->open ? NULL : &fresh.tiers);
	admin_open_again(s->admin,
	                 &(struct admin_place){ .opts = s->opts, .cert = s->cert, .key = s->key },
	                 &fresh.limits);
	if (!is_same_mesh(&fresh, s->opts))
		log_warn("mesh-with, mesh-key-file or mesh-ca is another now: that needs a restart");
	log_info("reloaded certificate %s", s->cert);
}

static void on_reload(void *arg, int signo)
{
	const void *mark = opts_mark();

	(void)signo;
	notify_reloading();
	reload(arg);
	opts_release(mark); /* what stays in force was copied */
	notify_say("READY=1");
}

/* The watchdog of the service manager is answered when all workers have answered us. */
static void on_watchdog(void *arg)
{
	struct server *s = arg;

	workers_ask(s->workers);
	timer_set(s->watchdog, notify_watchdog_ms());
}

static void on_dump(void *arg, int signo)
{
	(void)arg, (void)signo;
	metric_print(STDERR_FILENO);
}

/* Workers that allocate wait for it, so only when that delays nobody. */
static void on_trim(void *arg)
{
	struct server *s = arg;
	uint64_t n = metric_sum(METRIC_PKTS_IN) + metric_sum(METRIC_PKTS_OUT);
	bool is_quiet = n - s->n_packets < QUIET_PACKETS;

	s->n_packets = n;
	timer_set(s->trim, TRIM_MS);
	if (is_quiet && heap_trim())
		log_debug("memory that is free was given back");
}

/* ---- start ---- */

/* Takes fd. */
static int listen_at(struct server *s, int fd)
{
	struct place p = { .is_dual = listener_is_dual(fd) };
	int rc = workers_listen(s->workers, fd, &p.addr);

	if (rc == 0)
		s->listening.v[s->listening.n++] = p;
	return rc;
}

static int listen_all(struct server *s)
{
	for (unsigned i = 0; i < s->opts->listen.n; i++) {
		struct addr addr;
		char text[ADDR_TEXT_LEN], words[300];
		bool any;
		addr_of_listen(s->opts->listen.v[i], &addr, &any); /* checked when read */
		int fd = listener_bind(&addr, any);
		int rc = fd < 0 ? fd : listen_at(s, fd);
		if (rc < 0) {
			snprintf(words, sizeof words, "cannot listen on %s: %s%s",
			         s->opts->listen.v[i], strerror(-rc),
			         rc == -EACCES ? " (ports below 1024 need root or CAP_NET_BIND_SERVICE)" :
			         rc == -EADDRINUSE ? " (is another server running there?)" :
			                             "");
			return complain(EXIT_RUNTIME, words);
		}
		printf("tunn: listening on %s\n", addr_text(&s->listening.v[i].addr, text));
	}
	return 0;
}

/* What the service manager listens on counts, not --listen. */
static int take_listeners(struct server *s, const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		char text[ADDR_TEXT_LEN];
		if (listen_at(s, fds[i]) < 0)
			return complain(EXIT_RUNTIME, "out of memory or descriptors");
		printf("tunn: listening on %s, handed over by the service manager\n",
		       addr_text(&s->listening.v[i].addr, text));
	}
	return 0;
}

static int listen_somewhere(struct server *s)
{
	int fds[HANDOVER_MAX];
	char error[HANDOVER_ERROR_LEN];
	int n = handover_take(fds, error);

	if (n < 0)
		return complain(EXIT_CONFIG, error);
	return n ? take_listeners(s, fds, n) : listen_all(s);
}

/* By which clients reach us, without brackets. False: a guess, no certificate of ours is
 * for it. */
static bool own_host(const struct server *s, char *out, size_t cap)
{
	const struct addr *first = &s->listening.v[0].addr;
	char ip[ADDR_TEXT_LEN];

	if (s->opts->names.n) {
		snprintf(out, cap, "%s", s->opts->names.v[0]);
		return true;
	}
	if (!addr_is_special(first)) {
		snprintf(out, cap, "%s", addr_ip_text(first, ip));
		return true;
	}
	snprintf(out, cap, "localhost");
	gethostname(out, cap - 1);
	return false;
}

/* The command line that works on the other side. */
static void print_client_line(const struct server *s)
{
	char pin[2 * TLS_PIN_LEN + 1], host[256] = "", port[16] = "";

	own_host(s, host, sizeof host);
	hex_encode(s->pin, TLS_PIN_LEN, pin);
	if (addr_port(&s->listening.v[0].addr) != 443)
		snprintf(port, sizeof port, ":%u", addr_port(&s->listening.v[0].addr));
	bool v6 = strchr(host, ':') != NULL;
	printf("tunn: on both ends run (with the other id as --peer):\n"
	       "tunn:   tunn relay 51820 --id home-wg --peer laptop-wg --relay https://%s%s%s%s --pin "
	       "sha256:%s%s\n",
	       v6 ? "[" : "", host, v6 ? "]" : "", port, pin,
	       s->opts->open ? "" : " --token-file FILE");
}

static int stun_port(const struct server *s)
{
	struct addr a;
	bool any;

	if (!s->stun)
		return -1;
	if (s->opts->stun.n)
		addr_of_listen(s->opts->stun.v[0], &a, &any); /* checked when read */
	return s->opts->stun.n ? addr_port(&a) : 0;
}

/* For the DERP map, where DERP clients are let in. Without a name to be found by in the
 * certificate they would refuse us. */
static void print_map_node(const struct server *s)
{
	uint8_t raw_pin[TLS_PIN_LEN];
	char host[256] = "", text[MAP_NODE_LEN];
	bool is_pinned = !s->opts->cert && tls_leaf_raw_sha256(s->worker_conf.tls, raw_pin) == 0;
	const struct map_node node = { .host = host,
		                       .port = addr_port(&s->listening.v[0].addr),
		                       .stun_port = stun_port(s),
		                       .raw_pin = is_pinned ? raw_pin : NULL };

	if (s->derp.policy->allow == NATIVE_ALLOW_NONE)
		return;
	if (!own_host(s, host, sizeof host))
		printf("tunn: DERP clients need our name: --name HOST, then the node for their DERP "
		       "map is printed here\n");
	else if (map_node_print(&node, text) == 0)
		printf("tunn: node for a DERP map: %s\n", text);
}

static int open_workers(struct server *s)
{
	char error[DERP_SETUP_ERROR_LEN];
	int rc = derp_setup(&s->derp, s->opts, error);

	if (rc == 0)
		rc = make_tls(s, s->opts, &s->worker_conf.tls, error);
	if (rc < 0)
		return complain(rc == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME, error);
	s->worker_conf.derp = s->derp.conf;
	s->worker_conf.policy = s->derp.policy;
	s->worker_conf.verify_tls = s->derp.verify_tls;
	s->worker_conf.mesh = s->derp.mesh.n_with ? &s->derp.mesh : NULL;
	s->worker_conf.reports = s->mailbox;
	s->worker_conf.node = s->opts->node;
	s->worker_conf.limits = s->opts->limits;
	s->worker_conf.penalty_on = server_options_penalty(s->opts);
	rights_fit(&s->rights, &s->worker_conf.limits);
	s->worker_conf.reflection = s->opts->reflection;
	if (expiry_start(&s->expiry, s->loop) < 0 ||
	    workers_new(&s->worker_conf, s->rights.workers, &s->workers) < 0)
		return complain(EXIT_RUNTIME, "out of memory or descriptors");
	s->memory = memory_start(s->loop, s->workers);
	if (!s->memory)
		return complain(EXIT_RUNTIME, "out of memory");
	memory_set_limit(s->memory, s->opts->memory, s->opts->open ? NULL : &s->opts->tiers);
	expiry_of(&s->expiry, tls_not_after_unix_s(s->worker_conf.tls));
	return listen_somewhere(s);
}

static int open_admin(struct server *s)
{
	const struct admin_place place = { .opts = s->opts,
		                           .rights = &s->rights,
		                           .listening = &s->listening,
		                           .cert = s->cert,
		                           .key = s->key,
		                           .workers = s->workers };

	return admin_open(&place, &s->admin);
}

static int start_accounts(struct server *s)
{
	char error[ACCOUNTS_ERROR_LEN];

	if (s->opts->open)
		return control_open(s->loop, s->opts->state, NULL, &s->control, error) < 0 ?
		                       complain(EXIT_RUNTIME, error) :
		                       0;
	const struct books_conf conf = { .state_dir = s->opts->state,
		                         .tiers = &s->opts->tiers,
		                         .audit_days = s->opts->audit_days,
		                         .derp_account = derp_setup_account(s->derp.policy),
		                         .n_workers = workers_count(s->workers),
		                         .workers = workers_mailboxes(s->workers) };
	if (first_start(s->opts->state, error) < 0 || auth_start(&conf, &s->auth, error) < 0)
		return complain(EXIT_RUNTIME, error);
	return 0;
}

/* ---- all of it ---- */

static void tell_lacks(void)
{
	char lacks[CONN_LACKS_LEN];

	if (conn_lacks(lacks))
		log_info("this kernel has no, or not for us: %s", lacks);
}

static int open_all(struct server *s)
{
	char error[ACCOUNTS_ERROR_LEN];
	int rc = rights_count_descriptors(&s->rights, s->opts->workers);

	if (rc == 0 && tls_start() < 0)
		rc = complain(EXIT_RUNTIME, "out of memory");
	if (rc == 0)
		rc = rights_become_user(&s->rights, s->opts);
	if (rc)
		return rc;
	tell_lacks();
	s->lock_fd = state_lock(s->opts->state, error);
	if (s->lock_fd < 0)
		return complain(EXIT_RUNTIME, error);
	s->loop = loop_new();
	if (!s->loop || !(s->trim = timer_new(s->loop, on_trim, s)) ||
	    mailbox_new(s->loop, on_mail, NULL, s, &s->mailbox) < 0)
		return complain(EXIT_RUNTIME, "out of memory or descriptors");
	timer_set(s->trim, TRIM_MS);
	rc = open_workers(s);
	if (rc == 0)
		rc = stun_start(s->loop, s->opts, &s->listening, &s->stun);
	if (rc == 0)
		rc = open_admin(s);
	if (rc == 0)
		rc = rights_drop(&s->rights, s->key);
	return rc ? rc : start_accounts(s);
}

static int start(struct server *s)
{
	int rc = open_all(s);

	if (rc)
		return rc;
	if (loop_on_signal(s->loop, SIGTERM, on_stop, s) < 0 ||
	    loop_on_signal(s->loop, SIGINT, on_stop, s) < 0 ||
	    loop_on_signal(s->loop, SIGHUP, on_reload, s) < 0 ||
	    loop_on_signal(s->loop, SIGUSR1, on_dump, s) < 0)
		return complain(EXIT_RUNTIME, "out of memory");
	notify_open();
	s->watchdog = timer_new(s->loop, on_watchdog, s);
	if (!s->watchdog)
		return complain(EXIT_RUNTIME, "out of memory");
	rc = admin_open_thread(s->admin, s->auth);
	if (rc)
		return rc;
	if (workers_start(s->workers, s->auth) < 0) /* last: from now on ends come in */
		return complain(EXIT_RUNTIME, "cannot start a thread");
	rights_enter_sandbox(s->opts, s->opts->derp_verify_url);
	print_client_line(s);
	print_map_node(s);
	fflush(stdout);
	admin_tell(s->admin, ADMIN_SERVING);
	notify_say("READY=1");
	if (notify_watchdog_ms())
		on_watchdog(s);
	return 0;
}

static void stop(struct server *s)
{
	admin_stop(s->admin);
	auth_stop(s->auth); /* before the mailbox that its answers go to */
	workers_free(s->workers);
	admin_free(s->admin); /* what workers had not answered came back */
	mailbox_free(s->mailbox);
	stun_free(s->stun);
	control_close(s->control);
	tls_ctx_unref(s->worker_conf.tls);
	derp_setup_done(&s->derp);
	timer_free(s->watchdog);
	timer_free(s->trim);
	expiry_stop(&s->expiry);
	memory_stop(s->memory);
	loop_free(s->loop);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
}

int server_run(const struct server_options *opts, int argc, char **argv)
{
	struct server s = { .opts = opts, .argc = argc, .argv = argv, .lock_fd = -1 };
	int rc = start(&s);

	bool is_up = rc == 0;
	if (is_up)
		rc = loop_run(s.loop);
	else
		workers_drain(s.workers, 0); /* what failed came after their start */
	workers_join(s.workers);
	if (is_up)
		log_info("stopped");
	stop(&s);
	return rc;
}
