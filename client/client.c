#include "client/client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/report.h"
#include "client/retry.h"
#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/net/conn.h"
#include "common/net/notify.h"
#include "common/net/resolve.h"

enum {
	GOODBYE_MS = 1000,
	DESCRIPTORS_LEAST = 32,
	DESCRIPTORS_FEW = 128,
	MAP_AGAIN_MS = 10000,
	EXIT_BAD_MAP = 2,
	DESCRIPTORS_KEPT = 64, /* for the connection to the relay, names, the loop */
};

struct client {
	const struct client_conf *conf;
	struct loop *loop;
	struct local *local;
	struct uplink *uplink; /* NULL: the map of relays is not here yet */
	struct map_ways *map;
	struct timer *map_again;
	struct report *report;
	struct timer *watchdog; /* of the service manager; NULL: nobody watches */
	struct timer *goodbye;  /* the longest we wait for the relay when leaving */
	bool leaving;
};

/* -- datagrams */

static void on_local_packet(void *owner, unsigned peer, struct pkt *p)
{
	struct client *c = owner;

	metric_add(METRIC_PKTS_IN, 1);
	metric_add(METRIC_BYTES_IN, p->len);
	if (c->uplink)
		uplink_send(c->uplink, peer, p);
	else
		pkt_drop(p, DROP_NOT_READY);
}

static void on_uplink_packet(void *owner, unsigned peer, struct pkt *p)
{
	struct client *c = owner;

	local_deliver(c->local, peer, p);
}

/* -- what the uplink tells */

static void on_ready(void *owner, unsigned n, const struct welcome *w, struct str id)
{
	struct client *c = owner;

	report_way(c->report, uplink_way(c->uplink));
	report_ready(c->report, n, id, w->account, w->node);
}

static void on_peer(void *owner, unsigned peer, const struct peer_status *status)
{
	struct client *c = owner;

	local_peer_role(c->local, peer, status->role);
	report_peer(c->report, peer, status);
}

static void on_notice(void *owner, const struct notice *n)
{
	struct client *c = owner;

	report_notice(c->report, n);
}

static void on_lost(void *owner, enum close_why why, const char *text, uint32_t delay_ms)
{
	struct client *c = owner;

	report_lost(c->report, why, text, delay_ms, loop_now_ms(c->loop));
}

static void on_turned(void *owner, const struct way *way, enum close_why why, const char *text)
{
	struct client *c = owner;

	report_turned(c->report, way, why, text, loop_now_ms(c->loop));
}

static void on_held(void *owner, const char *device, const char *tunnel)
{
	struct client *c = owner;

	report_held(c->report, device, tunnel);
}

static void on_over(void *owner, int exit_code, enum close_why why, const char *text)
{
	struct client *c = owner;

	report_over(c->report, exit_code, why, text);
	loop_stop(c->loop, exit_code);
}

static const struct uplink_events uplink_events = {
	.ready = on_ready,
	.packet = on_uplink_packet,
	.peer = on_peer,
	.notice = on_notice,
	.lost = on_lost,
	.turned = on_turned,
	.held = on_held,
	.over = on_over,
};

/* -- signals */

static void on_goodbye_over(void *arg)
{
	struct client *c = arg;

	loop_stop(c->loop, 0);
}

static void on_stop_signal(void *arg, int signo)
{
	struct client *c = arg;

	(void)signo;
	if (c->leaving) {
		loop_stop(c->loop, 0);
		return;
	}
	c->leaving = true;
	notify_say("STOPPING=1");
	if (!c->uplink) {
		loop_stop(c->loop, 0);
		return;
	}
	timer_set(c->goodbye, GOODBYE_MS);
	uplink_close(c->uplink);
}

static void on_counters_signal(void *arg, int signo)
{
	(void)arg, (void)signo;
	metric_print(STDERR_FILENO);
}

static int handle_signals(struct client *c)
{
	int rc = loop_on_signal(c->loop, SIGTERM, on_stop_signal, c);

	signal(SIGPIPE, SIG_IGN); /* our standard output may be a pipe that closed */
	if (rc == 0)
		rc = loop_on_signal(c->loop, SIGINT, on_stop_signal, c);
	if (rc == 0)
		rc = loop_on_signal(c->loop, SIGUSR1, on_counters_signal, c);
	return rc;
}

/* -- start and end */

static const struct addr *where(void *arg, unsigned peer) { return local_where(arg, peer); }

static void tell_start(struct client *c)
{
	struct report_port port = { .role = local_role(c->local),
		                    .chosen = local_is_chosen(c->local),
		                    .where = where,
		                    .too = local_where_too(c->local),
		                    .arg = c->local };

	report_port(c->report, &port);
}

static unsigned sockets_for_flows(unsigned descriptors)
{
	return descriptors > 2 * DESCRIPTORS_KEPT ? descriptors - DESCRIPTORS_KEPT :
	                                            descriptors / 2;
}

static int open_local(struct client *c)
{
	char error[LOCAL_ERROR_LEN];
	struct local_conf conf = c->conf->local;

	conf.sockets_max = sockets_for_flows(process_descriptors());
	int rc = local_open(c->loop, &conf, on_local_packet, c, &c->local, error);

	if (rc)
		fprintf(stderr, "tunn: %s\n", error);
	return rc;
}

static uint64_t now_ms(void *arg) { return loop_now_ms(((struct client *)arg)->loop); }

static int make_report(struct client *c)
{
	struct report_conf conf = { .out = stdout,
		                    .err = stderr,
		                    .port = c->conf->local.port,
		                    .n_peers = c->conf->local.n_peers,
		                    .peers = c->conf->peers,
		                    .now_ms = now_ms,
		                    .arg = c };

	c->report = report_new(&conf);
	return c->report ? 0 : -1;
}

/* ways NULL: those of the configuration. */
static int make_uplink(struct client *c, const struct map_ways_result *ways)
{
	struct uplink_conf conf = c->conf->uplink;

	if (ways) {
		conf.ways = ways->ways;
		conf.n_ways = ways->n;
	}
	conf.hello.role = local_role(c->local);
	c->uplink = uplink_new(c->loop, &conf, &uplink_events, c);
	if (c->uplink)
		report_relay(c->report, &conf.ways[0],
		             ways                       ? ways->words :
		             c->conf->transport_is_auto ? "auto" :
		                                          NULL);
	return c->uplink ? 0 : -1;
}

/* -- a map of relays */

/* What is bad stays bad, all else is told and tried as a connection that is lost. */
static void on_no_map(struct client *c, const char *why, bool is_bad)
{
	char words[MAP_WAYS_ERROR_LEN + 64];

	snprintf(words, sizeof words, "--derp-map %.200s: %s", c->conf->map->source, why);
	if (is_bad || c->conf->uplink.once) {
		int code = is_bad ? EXIT_BAD_MAP : EXIT_UNREACHABLE;
		report_over(c->report, code, CLOSE_LOCAL, words);
		loop_stop(c->loop, code);
		return;
	}
	report_lost(c->report, CLOSE_LOCAL, words, MAP_AGAIN_MS, loop_now_ms(c->loop));
	timer_set(c->map_again, MAP_AGAIN_MS);
}

static void on_map(void *arg, const struct map_ways_result *ways)
{
	struct client *c = arg;

	if (ways->ways && make_uplink(c, ways) == 0)
		uplink_start(c->uplink);
	else
		on_no_map(c, ways->ways ? "out of memory" : ways->words, ways->is_bad);
}

static void on_map_again(void *arg)
{
	struct client *c = arg;

	map_ways_free(c->map);
	c->map = map_ways_start(c->loop, c->conf->map, on_map, c);
	if (!c->map)
		timer_set(c->map_again, MAP_AGAIN_MS);
}

static int out_of_resources(void)
{
	fprintf(stderr, "tunn: cannot start: out of memory or file descriptors\n");
	return 1;
}

/* --fwmark and large socket buffers need CAP_NET_ADMIN for as long as we run. */
static int drop_rights(const struct client_conf *conf)
{
	int rc = process_become(&conf->user, PROCESS_NET_ADMIN);

	if (rc == 0)
		return 0;
	fprintf(stderr, "tunn: cannot become the user %s: %s\n", conf->user.name, strerror(-rc));
	return 1;
}

static void enter_sandbox(const struct client_conf *conf)
{
	resolve_prepare();
	int rc = sandbox_enter(conf->seccomp, SANDBOX_SOCKETS | SANDBOX_THREADS | SANDBOX_NSS);
	if (conf->seccomp == SANDBOX_OFF)
		log_warn("--seccomp off: a fault in us could use every system call");
	else if (rc < 0)
		log_warn("no system call filter: %s", strerror(-rc));
}

static void on_watchdog(void *arg)
{
	struct client *c = arg;

	notify_say("WATCHDOG=1");
	timer_set(c->watchdog, notify_watchdog_ms());
}

/* Ready is who can take datagrams; the relay may be away for long. */
static void tell_manager(struct client *c)
{
	notify_say("READY=1");
	c->watchdog = notify_watchdog_ms() ? timer_new(c->loop, on_watchdog, c) : NULL;
	if (c->watchdog)
		on_watchdog(c);
}

/* Each local program that sends costs one. */
static int count_descriptors(void)
{
	unsigned n = process_descriptors();

	if (n < DESCRIPTORS_LEAST) {
		fprintf(stderr,
		        "tunn: only %u file descriptors (ulimit -n): at least %u are needed\n", n,
		        DESCRIPTORS_LEAST);
		return 2;
	}
	if (n < DESCRIPTORS_FEW)
		log_warn("only %u file descriptors (ulimit -n): each local program that sends "
		         "takes one",
		         n);
	return 0;
}

static void tell_lacks(void)
{
	char lacks[CONN_LACKS_LEN];

	if (conn_lacks(lacks))
		log_info("this kernel has no, or not for us: %s", lacks);
}

static int start(struct client *c)
{
	if (count_descriptors())
		return 2;
	c->loop = loop_new();
	if (!c->loop || !(c->goodbye = timer_new(c->loop, on_goodbye_over, c)))
		return out_of_resources();
	int rc = open_local(c);
	if (rc)
		return rc == ERR_CONFIG ? 2 : 1;
	if (drop_rights(c->conf))
		return 1;
	tell_lacks();
	if (make_report(c) || handle_signals(c))
		return out_of_resources();
	notify_open();
	enter_sandbox(c->conf);
	return 0;
}

static void done(struct client *c)
{
	uplink_free(c->uplink);
	map_ways_free(c->map); /* the uplink used its ways */
	timer_free(c->map_again);
	local_close(c->local);
	timer_free(c->goodbye);
	timer_free(c->watchdog);
	loop_free(c->loop); /* sweeps what was just closed */
	report_free(c->report);
	pkt_pool_drain();
	buf_pool_drain();
}

/* Now there is a loop to wait in. */
static int go(struct client *c)
{
	if (c->conf->map) {
		c->map_again = timer_new(c->loop, on_map_again, c);
		if (!c->map_again)
			return out_of_resources();
		timer_set(c->map_again, 0);
		return 0;
	}
	if (make_uplink(c, NULL))
		return out_of_resources();
	uplink_start(c->uplink);
	return 0;
}

int client_run(const struct client_conf *conf)
{
	struct client c = { .conf = conf };
	int rc = start(&c);

	if (rc == 0) {
		tell_start(&c);
		rc = go(&c);
	}
	if (rc == 0) {
		tell_manager(&c);
		rc = loop_run(c.loop);
	}
	done(&c);
	return rc;
}
