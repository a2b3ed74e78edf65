/* Workers with their sessions, routers and accounts, met by links of the client's side:
 * every test with one worker, and with four that connections come to at random. */
#include "tests/unit/net/certs.h"
#include "tests/unit/until.h"

#include <signal.h>
#include <sys/socket.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/link.h"
#include "common/net/listener.h"
#include "server/relay/native_policy.h"
#include "server/accounts/accounts.h"
#include "server/auth.h"
#include "server/relay/mail.h"
#include "server/relay/workers.h"

enum { CLIENTS = 3 };

/* An end: one link with one lane, and what it was told. */
struct client {
	struct link *link;
	struct lane *lane;
	const char *id, *token;
	struct str peer;
	uint8_t instance;
	unsigned n_ready, n_ended, n_packets, n_draining, n_superseded;
	size_t last_len;
	enum close_why why;
	char text[300], account[70], given_id[70];
	enum peer_state state;
	struct key peer_key;
};

static struct tiers tiers;
static struct links *links;
static struct tls_ctx *server_tls, *client_tls;
static struct native_policy *policy;
static struct auth *auth;
static struct workers *workers;
static unsigned n_workers;
static struct mailbox *reports;
static unsigned n_ended_workers;
static struct addr bound;
static struct client clients[CLIENTS], *const a = &clients[0], *const b = &clients[1],
                                              *const c = &clients[2];
static char main_token[TOKEN_LEN + 1], kitchen_token[TOKEN_LEN + 1], other_token[TOKEN_LEN + 1];

/* ---- the client's side ---- */

static void on_up(void *owner, struct link *l)
{
	struct client *k = owner;
	struct hello h = { .id = str_of(k->id),
		           .token = str_of(k->token),
		           .instance = { k->instance },
		           .has_instance = true,
		           .version = 1,
		           .bidirectional = true,
		           .n_peers = 1,
		           .peers = &k->peer };

	assert_int_equal(link_dial(l, &h, &k->lane), 0);
}

static int on_hello(void *owner, struct lane *lane, const struct hello *h)
{
	(void)owner, (void)lane, (void)h;
	return ERR_CLOSED; /* never on this side */
}

static void on_ready(void *owner, struct lane *lane, const struct welcome *w)
{
	struct client *k = owner;

	(void)lane;
	k->n_ready++;
	k->peer_key = w->peer_keys[0];
	snprintf(k->account, sizeof k->account, "%.*s", (int)w->account.len, w->account.p);
	snprintf(k->given_id, sizeof k->given_id, "%.*s", (int)w->id.len, w->id.p);
}

static void on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	struct client *k = owner;

	(void)lane;
	k->n_packets++;
	k->last_len = p->len;
	pkt_free(p);
}

static void on_peer(void *owner, struct lane *lane, const struct peer_status *p)
{
	struct client *k = owner;

	(void)lane;
	k->state = p->state;
}

static void on_notice(void *owner, struct lane *lane, const struct notice *n)
{
	struct client *k = owner;

	(void)lane;
	k->n_draining += n->kind == NOTICE_DRAINING;
	k->n_superseded += n->kind == NOTICE_SUPERSEDED;
}

static void on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct client *k = owner;

	(void)lane;
	k->n_ended++;
	k->why = why;
	snprintf(k->text, sizeof k->text, "%s", text);
}

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	struct client *k = owner;

	(void)l, (void)why, (void)text;
	k->link = NULL;
}

static const struct link_events events = {
	.up = on_up,
	.hello = on_hello,
	.ready = on_ready,
	.packet = on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.ended = on_ended,
	.closed = on_closed,
};

static void dial(struct client *k, const char *id, const char *peer, const char *token)
{
	struct link_conf l = { .side = SIDE_CLIENT,
		               .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		               .tls = client_tls,
		               .server_name = "relay.test",
		               .ops = transport_named(STR("grpc")),
		               .transport = { .authority = "relay.test", .user_agent = "test" } };

	k->id = id;
	k->token = token;
	k->peer = str_of(peer);
	if (!k->instance)
		k->instance = (uint8_t)(k - clients + 1);
	assert_int_equal(connect(l.fd, (struct sockaddr *)&bound.ss, bound.len), 0);
	assert_int_equal(link_open(links, &l, &events, k, &k->link), 0);
}

/* ---- workers for each test ---- */

static void on_report(void *owner, struct mail *m)
{
	(void)owner;
	n_ended_workers += m->kind == MAIL_ENDED;
}

static void start_workers(struct auth *with)
{
	struct addr any_port;

	const struct worker_conf conf = {
		.reports = reports,
		.node = "n1",
		.tls = server_tls,
		.policy = policy,
		.limits = limits_default,
	};

	addr_of_ip("127.0.0.1", 0, &any_port);
	assert_int_equal(workers_new(&conf, n_workers, &workers), 0);
	assert_int_equal(workers_listen(workers, listener_bind(&any_port, false), &bound), 0);
	assert_int_equal(workers_start(workers, with), 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(clients, 0, sizeof clients);
	loop_set_up();
	links = links_new(loop);
	n_ended_workers = 0;
	assert_int_equal(mailbox_new(loop, on_report, NULL, NULL, &reports), 0);
	start_workers(auth);
	return 0;
}

static bool drained;

static void drain(void)
{
	if (!drained)
		workers_drain(workers, 100);
	drained = true;
}

static bool all_ended(void) { return n_ended_workers == n_workers; }

static void stop_workers(void)
{
	drain();
	until(all_ended);
	workers_join(workers);
	workers_free(workers);
	drained = false;
	n_ended_workers = 0;
}

static int tear_down(void **state)
{
	(void)state;
	links_free(links);
	stop_workers();
	mailbox_free(reports);
	loop_tear_down();
	pkt_pool_drain();
	return 0;
}

static bool a_ready(void) { return a->n_ready || a->n_ended; }
static bool b_ready(void) { return b->n_ready || b->n_ended; }
static bool a_ended(void) { return a->n_ended && !a->link; }
static bool both_see_each_other(void) { return a->state == PEER_UP && b->state == PEER_UP; }

static void join(struct client *k, const char *id, const char *peer)
{
	dial(k, id, peer, main_token);
	until(k == a ? a_ready : b_ready);
	if (!k->n_ready)
		fail_msg("%s refused: %s", id, k->text);
}

static void assert_refused(const char *id, const char *peer, const char *token, enum close_why why,
                           const char *words)
{
	*a = (struct client){ 0 };
	dial(a, id, peer, token);
	until(a_ended);
	assert_int_equal(a->n_ready, 0);
	assert_int_equal(a->why, why);
	if (!strstr(a->text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, a->text);
	assert_null(*token ? strstr(a->text, token) : NULL);
}

/* ---- admission ---- */

static void a_valid_token_admits_and_names_its_account(void **state)
{
	(void)state;
	join(a, "home", "laptop");
	assert_string_equal(a->account, "main");
	assert_string_equal(a->given_id, "home");
}

static void a_bound_token_gives_its_id(void **state)
{
	(void)state;
	dial(a, "", "laptop", kitchen_token);
	until(a_ready);
	assert_int_equal(a->n_ready, 1);
	assert_string_equal(a->given_id, "kitchen");
}

static void refusals_say_what_is_wrong(void **state)
{
	char unknown[TOKEN_LEN + 1];

	(void)state;
	token_new(unknown);
	assert_refused("home", "laptop", "", CLOSE_UNAUTHENTICATED,
	               "none was given, and this relay needs one");
	assert_refused("home", "laptop", "tunn_typo", CLOSE_UNAUTHENTICATED, "malformed token");
	assert_refused("home", "laptop", unknown, CLOSE_UNAUTHENTICATED, "not valid here");
	assert_refused("bath", "laptop", kitchen_token, CLOSE_DENIED, "bound to the id kitchen");
	assert_refused("", "laptop", main_token, CLOSE_INVALID, "id needed");
	assert_refused("home", "home", main_token, CLOSE_INVALID, "its own peer");
	assert_refused("home", "main/home", main_token, CLOSE_INVALID, "its own peer");
}

static void an_open_relay_needs_an_id_and_no_token(void **state)
{
	(void)state;
	stop_workers();
	start_workers(NULL);
	assert_refused("", "laptop", "", CLOSE_INVALID, "id needed");
	*a = (struct client){ 0 };
	dial(a, "home", "laptop", "");
	until(a_ready);
	assert_string_equal(a->account, "open");
}

static void workers_that_were_never_started_end_at_once(void **state)
{
	const struct worker_conf conf = {
		.node = "n1", .tls = server_tls, .policy = policy, .limits = limits_default
	};
	struct workers *idle;

	(void)state;
	assert_int_equal(workers_new(&conf, n_workers, &idle), 0);
	workers_drain(idle, 0);
	workers_join(idle);
	workers_free(idle);
}

static bool a_dialled(void) { return a->lane; }

/* Its token is still with the accounts thread then. */
static void an_end_that_leaves_before_it_is_admitted_harms_nobody(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		*a = (struct client){ 0 };
		dial(a, "home", "laptop", main_token);
		until(a_dialled);
		link_close(a->link, CLOSE_LOCAL);
		until(a_ended);
	}
	join(b, "home", "laptop");
}

/* ---- packets ---- */

static bool b_got_one(void) { return b->n_packets == 1; }

static void packets_pass_between_ends_that_declare_each_other(void **state)
{
	struct pkt *p;

	(void)state;
	join(a, "home", "laptop");
	join(b, "laptop", "home");
	until(both_see_each_other);
	p = pkt_new(1420);
	memset(p->data, 1, p->len);
	p->dst = a->peer_key;
	p->born_ms = loop_now_ms(loop);
	link_send(a->lane, p);
	until(b_got_one);
	assert_int_equal(b->last_len, 1420);
}

static bool b_gone(void) { return !b->link; }
static bool b_got_more(void) { return b->n_packets > 0; }
static bool b_sees_its_peer(void) { return b->state == PEER_UP; }

/* Each time it comes, an end may come to another worker. */
static void packets_pass_from_worker_to_worker(void **state)
{
	uint64_t before = metric_sum(METRIC_PKTS_FORWARDED), after = before;
	unsigned tries = 0;

	(void)state;
	join(a, "home", "laptop");
	while (after == before && tries++ < (n_workers > 1 ? 200 : 1)) {
		*b = (struct client){ 0 };
		join(b, "laptop", "home");
		until(b_sees_its_peer);
		struct pkt *p = pkt_new(100);
		p->dst = a->peer_key;
		p->born_ms = loop_now_ms(loop);
		link_send(a->lane, p);
		until(b_got_more);
		after = metric_sum(METRIC_PKTS_FORWARDED);
		link_close(b->link, CLOSE_LOCAL);
		until(b_gone);
	}
	assert_int_equal(after > before, n_workers > 1);
}

static bool a_sees_its_peer(void) { return a->state == PEER_UP; }

static void another_account_is_not_reached_by_the_same_name(void **state)
{
	(void)state;
	join(a, "home", "laptop");
	dial(b, "laptop", "home", other_token);
	until(b_ready);
	assert_string_equal(b->account, "other");
	dial(c, "laptop", "home", main_token);
	until(a_sees_its_peer);
	assert_int_equal(b->state, PEER_ABSENT);
}

/* ---- taking over, draining ---- */

static void another_instance_takes_the_id_and_the_older_is_told(void **state)
{
	(void)state;
	join(a, "home", "laptop");
	join(b, "home", "laptop");
	until(a_ended);
	assert_int_equal(a->why, CLOSE_SUPERSEDED);
	assert_int_equal(a->n_superseded, 1);
	assert_int_equal(close_verdict(a->why), VERDICT_FINAL);
}

static void the_same_instance_takes_its_id_back_silently(void **state)
{
	(void)state;
	join(a, "home", "laptop");
	b->instance = a->instance;
	join(b, "home", "laptop");
	until(a_ended);
	assert_int_not_equal(close_verdict(a->why), VERDICT_FINAL);
	assert_int_equal(a->n_superseded, 0);
}

static void a_drain_tells_the_ends_and_then_ends_them(void **state)
{
	(void)state;
	join(a, "home", "laptop");
	drain();
	until(a_ended);
	assert_in_range(a->n_draining, 1, 2); /* by GOAWAY, and in the stream */
	assert_int_not_equal(close_verdict(a->why), VERDICT_FINAL);
}

/* ---- what all share ---- */

static int make_shared(void **state)
{
	struct accounts *accounts;
	char dir[256], words[ACCOUNTS_ERROR_LEN];

	certs_make(state);
	server_tls = certs_server(certs_h2);
	policy = native_policy_new(&(struct native_policy_conf){ 0 });
	assert_non_null(policy);
	client_tls = certs_client(NULL, certs_pin, certs_h2);
	snprintf(dir, sizeof dir, "%s", file_path("."));
	chmod(dir, 0700);
	if (accounts_open(dir, &accounts, words) < 0 ||
	    accounts_add(accounts, "main", NULL, words) < 0 ||
	    accounts_add(accounts, "other", NULL, words) < 0 ||
	    accounts_token_new(accounts, "main", NULL, 0, main_token, words) < 0 ||
	    accounts_token_new(accounts, "main", "kitchen", 0, kitchen_token, words) < 0 ||
	    accounts_token_new(accounts, "other", NULL, 0, other_token, words) < 0)
		fail_msg("%s", words);
	accounts_close(accounts);
	if (auth_start(&(struct books_conf){ .state_dir = dir,
	                                     .tiers = &tiers,
	                                     .n_workers = WORKERS_MAX },
	               &auth, words) < 0)
		fail_msg("%s", words);
	return 0;
}

static int free_shared(void **state)
{
	(void)state;
	auth_stop(auth);
	tls_ctx_unref(server_tls);
	native_policy_unref(policy);
	tls_ctx_unref(client_tls);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_valid_token_admits_and_names_its_account),
		TEST(a_bound_token_gives_its_id),
		TEST(refusals_say_what_is_wrong),
		TEST(an_open_relay_needs_an_id_and_no_token),
		TEST(workers_that_were_never_started_end_at_once),
		TEST(an_end_that_leaves_before_it_is_admitted_harms_nobody),
		TEST(packets_pass_between_ends_that_declare_each_other),
		TEST(packets_pass_from_worker_to_worker),
		TEST(another_account_is_not_reached_by_the_same_name),
		TEST(another_instance_takes_the_id_and_the_older_is_told),
		TEST(the_same_instance_takes_its_id_back_silently),
		TEST(a_drain_tells_the_ends_and_then_ends_them),
	};
	tiers_builtin(&tiers);
	if (crypto_start() < 0)
		return 1;
	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	n_workers = 1;
	int failed = cmocka_run_group_tests_name("one worker", tests, make_shared, NULL);
	n_workers = 4;
	return failed + cmocka_run_group_tests_name("four workers", tests, NULL, free_shared);
}
