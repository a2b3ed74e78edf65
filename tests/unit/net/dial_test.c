#include "tests/unit/net/names.h"
#include "tests/unit/net/tcp.h"
#include "tests/unit/until.h"

#include <signal.h>

#include "common/base/clock.h"
#include "common/net/dial.h"

static struct dial_conf conf;
static struct dialler *dialler;
static unsigned n_connected, n_failed;
static enum close_why why;
static char words[600], early[64];
static size_t early_len;
static struct addr peer;
static int given = -1;

static void on_connected(void *owner, int fd, const struct addr *p, const uint8_t *bytes,
                         size_t len)
{
	assert_ptr_equal(owner, &conf);
	n_connected++;
	given = fd;
	peer = *p;
	early_len = len < sizeof early ? len : sizeof early;
	if (early_len)
		memcpy(early, bytes, early_len);
}

static void on_failed(void *owner, enum close_why w, const char *text)
{
	(void)owner;
	n_failed++;
	why = w;
	snprintf(words, sizeof words, "%s", text);
}

static bool start_again;

static void on_failed_start_again(void *owner, enum close_why w, const char *text)
{
	on_failed(owner, w, text);
	if (!start_again)
		return;
	start_again = false;
	conf.host = "127.0.0.1";
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
}

static const struct dial_events events = { on_connected, on_failed_start_again };

/* A proxy, or any server: accepts, answers what it is told to once the request is there. */
static int listening = -1, accepted = -1;
static uint16_t port;
static size_t piece;       /* of the script at a time; 0: all */
static const char *script; /* NULL: reads and says nothing */
static char request[1024];
static size_t n_request;

static void serve(void)
{
	if (accepted < 0)
		accepted = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
	if (accepted < 0)
		return;
	ssize_t n = recv(accepted, request + n_request, sizeof request - 1 - n_request, 0);
	n_request += n > 0 ? (size_t)n : 0;
	request[n_request] = 0;
	if (script && strstr(request, "\r\n\r\n")) {
		n = (ssize_t)(piece && piece < strlen(script) ? piece : strlen(script));
		assert_int_equal(send(accepted, script, (size_t)n, 0), n);
		script = script[n] ? script + n : NULL;
	}
}

static bool told(void)
{
	serve();
	return n_connected + n_failed > 0;
}

static int set_up(void **state)
{
	(void)state;
	loop_set_up();
	listening = tcp_listen(&port);
	fcntl(listening, F_SETFL, O_NONBLOCK);
	conf = (struct dial_conf){ .host = "127.0.0.1", .port = port };
	n_connected = n_failed = 0;
	n_request = 0;
	early_len = 0;
	script = NULL;
	piece = 0;
	start_again = false;
	names_set_up();
	dialler = dialler_new(loop, &conf, &events, &conf);
	return dialler ? 0 : -1;
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int tear_down(void **state)
{
	(void)state;
	dialler_free(dialler);
	loop_tear_down();
	close_if_open(&listening);
	close_if_open(&accepted);
	close_if_open(&given);
	return 0;
}

static void use_proxy(void)
{
	conf.proxy = (struct proxy_conf){
		.used = true, .host = "127.0.0.1", .port = port, .user = "u", .password = "sesame"
	};
	conf.host = "relay.example";
	conf.port = 443;
}

static void dial(void)
{
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	assert_int_equal(n_connected + n_failed, 0); /* never from inside */
	until(told);
}

static void hang_up(void)
{
	close_if_open(&given);
	close_if_open(&accepted);
	n_connected = n_failed = 0;
}

/* At every address of this machine, on a port that is free at all of them. */
static void listen_everywhere(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t len = sizeof any;

	close(listening);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_return_code(bind(listening, (struct sockaddr *)&any, sizeof any), errno);
	assert_return_code(listen(listening, 16), errno);
	assert_return_code(getsockname(listening, (struct sockaddr *)&any, &len), errno);
	conf.port = port = ntohs(any.sin_port);
}

static const char *peer_ip(void)
{
	static char text[INET_ADDRSTRLEN];

	return inet_ntop(AF_INET, &((struct sockaddr_in *)&peer.ss)->sin_addr, text, sizeof text);
}

static void a_host_that_listens_is_reached(void **state)
{
	int on = 0;
	socklen_t len = sizeof on;

	(void)state;
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(addr_port(&peer), port);
	assert_int_equal(early_len, 0);
	getsockopt(given, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, &len);
	assert_int_equal(on, 1);
}

static void a_refused_connection_names_host_and_address(void **state)
{
	(void)state;
	close_if_open(&listening);
	dial();
	assert_int_equal(n_failed, 1);
	assert_int_equal(why, CLOSE_NETWORK);
	assert_non_null(strstr(words, "127.0.0.1"));
	assert_non_null(strstr(words, strerror(ECONNREFUSED)));
}

static void a_name_that_does_not_resolve_is_named(void **state)
{
	(void)state;
	conf.host = "no such host.invalid";
	dial();
	assert_int_equal(n_failed, 1);
	assert_non_null(strstr(words, "cannot resolve no such host.invalid"));
}

/* Of 127.0.0.2 nobody listens at this port. */
static void the_next_address_is_tried_where_the_first_refuses(void **state)
{
	char text[ADDR_TEXT_LEN], expected[ADDR_TEXT_LEN];

	(void)state;
	names_are((const char *const[]){ "127.0.0.2", "127.0.0.3", "127.0.0.1", NULL });
	conf.host = "relay.test";
	dial();
	assert_int_equal(n_connected, 1);
	snprintf(expected, sizeof expected, "127.0.0.1:%u", port);
	assert_string_equal(addr_text(&peer, text), expected);
}

static void where_all_addresses_refuse_the_last_is_named(void **state)
{
	(void)state;
	names_are((const char *const[]){ "127.0.0.2", "127.0.0.3", NULL });
	conf.host = "relay.test";
	dial();
	assert_int_equal(n_failed, 1);
	assert_int_equal(n_connected, 0);
	assert_non_null(strstr(words, "relay.test (127.0.0.3:"));
}

static void addresses_that_worked_are_tried_where_resolving_fails(void **state)
{
	(void)state;
	names_are((const char *const[]){ "127.0.0.1", NULL });
	conf.host = "relay.test";
	dial();
	dialler_judge(dialler, true);
	hang_up();
	names_rc = EAI_AGAIN;
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(n_failed, 0);
}

static void addresses_that_proved_nothing_are_not_tried_where_resolving_fails(void **state)
{
	(void)state;
	names_are((const char *const[]){ "127.0.0.1", NULL });
	conf.host = "relay.test";
	dial();
	hang_up();
	names_rc = EAI_AGAIN;
	dial();
	assert_int_equal(n_failed, 1);
}

static void F19_behind_a_stale_address_the_good_one_is_tried(void **state)
{
	(void)state;
	names_are((const char *const[]){ "127.0.0.1", NULL });
	conf.host = "relay.test";
	dial();
	dialler_judge(dialler, true);
	hang_up();
	names_are((const char *const[]){ "127.0.0.9", NULL });
	dial();
	assert_int_equal(n_connected, 1);
	assert_string_equal(peer_ip(), "127.0.0.1");
}

static void G28_an_address_that_connects_in_vain_comes_last(void **state)
{
	static const char *const ips[] = { "127.0.0.1", "127.0.0.2", NULL };
	static const char *const expected[] = { "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1",
		                                "127.0.0.2" };

	(void)state;
	listen_everywhere();
	names_are(ips);
	conf.host = "relay.test";
	for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) {
		dial();
		assert_string_equal(peer_ip(), expected[i]);
		dialler_judge(dialler, i == 0);
		hang_up();
	}
}

static void a_dialler_may_be_used_again(void **state)
{
	(void)state;
	dial();
	close_if_open(&given);
	close_if_open(&accepted);
	n_connected = 0;
	dial();
	assert_int_equal(n_connected, 1);
}

static bool second_told(void) { return n_connected == 1; }

static void a_new_start_gives_the_running_attempt_up(void **state)
{
	(void)state;
	dialler_start(dialler, 1000);
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(second_told);
	assert_int_equal(n_failed, 0);
}

static void assert_silent_and_usable(void)
{
	conf.proxy.used = false;
	conf.host = "127.0.0.1";
	conf.port = port;
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(n_failed, 0);
}

static void a_dialler_stopped_while_it_resolves_says_nothing(void **state)
{
	(void)state;
	conf.host = "relay.test";
	names_hold = true;
	dialler_start(dialler, 1000);
	sem_wait(&names_asked);
	dialler_stop(dialler);
	dialler_stop(dialler);
	sem_post(&names_go);
	sem_wait(&names_answered);
	assert_silent_and_usable();
}

static struct task stop_task;
static struct timer *begin, *fence;
static bool was_stopped;

/* Queued anew each turn, so that it stands in front of the report. */
static void stop_behind_fence(struct task *t)
{
	if (timer_is_set(fence)) {
		loop_defer(loop, LOOP_PUMP, t);
		return;
	}
	dialler_stop(dialler);
	was_stopped = true;
}

static void on_fence(void *arg) { (void)arg; }

/* Timers of one handler and one delay end in one turn: the fence and the deadline. */
static void start_with_fence(void *arg)
{
	(void)arg;
	timer_set(fence, 0);
	dialler_start(dialler, 0);
	loop_defer(loop, LOOP_PUMP, &stop_task);
}

static bool stopped(void) { return was_stopped; }

static void a_dialler_stopped_with_its_report_underway_says_nothing(void **state)
{
	(void)state;
	was_stopped = false;
	stop_task = (struct task){ .cb = stop_behind_fence };
	begin = timer_new(loop, start_with_fence, NULL);
	fence = timer_new(loop, on_fence, NULL);
	conf.host = "relay.test";
	names_hold = true;
	timer_set(begin, 0);
	until(stopped);
	sem_post(&names_go);
	sem_wait(&names_answered);
	assert_silent_and_usable();
	timer_free(begin);
	timer_free(fence);
}

static bool request_there(void)
{
	serve();
	return strstr(request, "\r\n\r\n");
}

static bool hung_up(void)
{
	char c;
	return recv(accepted, &c, 1, 0) == 0;
}

static void wait_for_request(void)
{
	use_proxy();
	request[0] = 0;
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(request_there);
}

static void a_dialler_stopped_before_the_proxy_answers_hangs_up_and_says_nothing(void **state)
{
	(void)state;
	wait_for_request();
	dialler_stop(dialler);
	until(hung_up);
	close_if_open(&accepted);
	assert_silent_and_usable();
}

static void a_dialler_freed_before_the_proxy_answers_hangs_up(void **state)
{
	(void)state;
	wait_for_request();
	dialler_free(dialler);
	dialler = NULL;
	until(hung_up);
	assert_int_equal(n_connected + n_failed, 0);
}

static bool connected_after_failure(void)
{
	serve();
	return n_connected == 1;
}

static void a_failure_may_start_the_next_attempt(void **state)
{
	(void)state;
	conf.host = "relay.test"; /* unknown */
	start_again = true;
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(connected_after_failure);
	assert_int_equal(n_failed, 1);
}

static void a_device_that_is_not_there_is_named(void **state)
{
	(void)state;
	dialler_set_device(dialler, "tunn-none");
	dial();
	assert_int_equal(n_failed, 1);
	assert_non_null(strstr(words, "tunn-none"));
	n_failed = 0;
	dialler_set_device(dialler, "");
	dial();
	assert_int_equal(n_connected, 1);
}

/* ---- through a proxy ---- */

static void X03_a_proxy_that_agrees_gives_its_connection_and_the_surplus(void **state)
{
	(void)state;
	use_proxy();
	script = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nsurplus";
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(addr_port(&peer), port); /* of the proxy */
	assert_int_equal(early_len, 7);
	assert_memory_equal(early, "surplus", 7);
	assert_non_null(strstr(request, "CONNECT relay.example:443 HTTP/1.1\r\n"));
	assert_non_null(strstr(request, "Proxy-Authorization: Basic dTpzZXNhbWU=\r\n"));
}

static void a_proxy_that_refuses_is_told_in_its_words(void **state)
{
	(void)state;
	use_proxy();
	script = "HTTP/1.1 403 Forbidden\r\n\r\n";
	dial();
	assert_int_equal(n_failed, 1);
	assert_int_equal(why, CLOSE_PROXY_DENIED);
	assert_non_null(strstr(words, "relay.example:443"));
	assert_null(strstr(words, "sesame"));
}

static void a_proxy_may_answer_byte_by_byte(void **state)
{
	(void)state;
	use_proxy();
	piece = 1;
	script = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(early_len, 0);
}

/* Takes connections and never a word. */
static void the_proxy_address_that_answers_first_wins(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int mute = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[ADDR_TEXT_LEN];

	(void)state;
	inet_pton(AF_INET, "127.0.0.2", &a.sin_addr);
	assert_int_equal(bind(mute, (struct sockaddr *)&a, sizeof a) | listen(mute, 16), 0);
	use_proxy();
	names_are((const char *const[]){ "127.0.0.2", "127.0.0.1", NULL });
	snprintf(conf.proxy.host, sizeof conf.proxy.host, "proxy.test");
	script = "HTTP/1.1 200 OK\r\n\r\n";
	dial();
	assert_int_equal(n_connected, 1);
	assert_non_null(strstr(addr_text(&peer, text), "127.0.0.1:"));
	close(mute);
}

static bool told_after_hanging_up(void)
{
	serve();
	if (n_request) {
		close_if_open(&accepted);
		close_if_open(&listening);
	}
	return n_failed > 0;
}

static void X11_a_proxy_that_hangs_up_is_told(void **state)
{
	(void)state;
	use_proxy();
	script = "";
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told_after_hanging_up);
	assert_int_equal(why, CLOSE_PROXY);
	assert_non_null(strstr(words, "closed the connection without an answer"));
}

static void X12_a_proxy_that_never_answers_is_given_up_at_the_deadline(void **state)
{
	(void)state;
	use_proxy();
	dialler_start(dialler, 1000);
	until(told);
	assert_int_equal(n_failed, 1);
	assert_int_equal(why, CLOSE_SLOW_START);
	assert_non_null(strstr(words, "no answer within 1 s"));
}

static void a_proxy_that_refuses_the_connection_is_called_one(void **state)
{
	(void)state;
	use_proxy();
	close_if_open(&listening);
	dial();
	assert_int_equal(n_failed, 1);
	assert_non_null(strstr(words, "proxy 127.0.0.1"));
}

/* ---- several addresses ---- */

static int other = -1; /* listens on 127.0.0.2 at the same port */
static int other_accepted = -1;

static void listen_on_other(int backlog)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, "127.0.0.2", &a.sin_addr);
	other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(other, (struct sockaddr *)&a, sizeof a) | listen(other, backlog), 0);
}

static int set_up_names(void **state)
{
	int rc = set_up(state);

	names_set_up();
	conf.host = "relay.test";
	return rc;
}

static int tear_down_names(void **state)
{
	close_if_open(&other);
	close_if_open(&other_accepted);
	return tear_down(state);
}

static void use_proxy_name(void)
{
	use_proxy();
	snprintf(conf.proxy.host, sizeof conf.proxy.host, "proxy.test");
}

/* A full queue of unaccepted connections takes no further one: the next hangs. */
static void fill_other(int fillers[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, "127.0.0.2", &a.sin_addr);
	for (unsigned i = 0; i < 2; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fillers[i], (struct sockaddr *)&a, sizeof a);
	}
}

/* RFC 8305 section 5: 250 ms between attempts. */
static void beside_an_address_that_hangs_the_next_is_tried(void **state)
{
	int fillers[2];
	uint64_t start_ms;
	char text[ADDR_TEXT_LEN];

	(void)state;
	listen_on_other(0);
	fill_other(fillers);
	names_are((const char *const[]){ "127.0.0.2", "127.0.0.1", NULL });
	start_ms = clock_now_ms();
	dial();
	assert_int_equal(n_connected, 1);
	assert_non_null(strstr(addr_text(&peer, text), "127.0.0.1:"));
	assert_true(clock_now_ms() >= start_ms + 249);
	close(fillers[0]);
	close(fillers[1]);
}

static void where_every_address_hangs_the_deadline_ends_it(void **state)
{
	int fillers[2];

	(void)state;
	listen_on_other(0);
	fill_other(fillers);
	names_are((const char *const[]){ "127.0.0.2", "127.0.0.2", NULL });
	dialler_start(dialler, 1000);
	until(told);
	assert_int_equal(n_failed, 1);
	assert_int_equal(why, CLOSE_SLOW_START);
	assert_non_null(strstr(words, "relay.test"));
	close(fillers[0]);
	close(fillers[1]);
}

static void where_ipv6_refuses_ipv4_is_reached(void **state)
{
	(void)state;
	names_are((const char *const[]){ "127.0.0.1", "::1", NULL }); /* ::1 comes first */
	dial();
	assert_int_equal(n_connected, 1);
	assert_int_equal(peer.ss.ss_family, AF_INET);
}

static bool told_once_the_other_is_asked(void)
{
	if (other_accepted < 0)
		other_accepted = accept4(other, NULL, NULL, SOCK_NONBLOCK);
	if (other_accepted >= 0)
		serve();
	return n_connected + n_failed > 0;
}

static bool other_hung_up(void)
{
	char bytes[1024];
	return recv(other_accepted, bytes, sizeof bytes, 0) == 0;
}

static void a_slow_proxy_may_still_win_and_the_others_are_let_go(void **state)
{
	char text[ADDR_TEXT_LEN];

	(void)state;
	listen_on_other(16);
	use_proxy_name();
	names_are((const char *const[]){ "127.0.0.1", "127.0.0.2", NULL });
	script = "HTTP/1.1 200 OK\r\n\r\n";
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told_once_the_other_is_asked);
	assert_int_equal(n_connected, 1);
	assert_non_null(strstr(addr_text(&peer, text), "127.0.0.1:"));
	until(other_hung_up);
}

static void assert_denied_once(const char *answer)
{
	listen_on_other(16);
	use_proxy_name();
	names_are((const char *const[]){ "127.0.0.1", "127.0.0.2", "127.0.0.3", NULL });
	script = answer;
	dial();
	assert_int_equal(n_failed, 1);
	assert_int_equal(why, CLOSE_PROXY_DENIED);
	assert_int_equal(accept(other, NULL, NULL), -1); /* nobody came */
}

/* Directories lock an account after a few wrong logins. */
static void X07_a_login_that_is_not_accepted_is_not_tried_at_the_next_address(void **state)
{
	(void)state;
	assert_denied_once("HTTP/1.1 407 A\r\nProxy-Authenticate: Basic\r\n\r\n");
	assert_non_null(strstr(words, "not tried again"));
}

static void X09_a_target_that_is_not_allowed_is_not_tried_at_the_next_address(void **state)
{
	(void)state;
	assert_denied_once("HTTP/1.1 403 Forbidden\r\n\r\n");
}

static void a_denial_ends_the_attempts_beside_it(void **state)
{
	(void)state;
	listen_on_other(16);
	use_proxy_name();
	names_are((const char *const[]){ "127.0.0.1", "127.0.0.2", NULL });
	script = "HTTP/1.1 403 Forbidden\r\n\r\n";
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told_once_the_other_is_asked);
	assert_int_equal(why, CLOSE_PROXY_DENIED);
	until(other_hung_up);
}

static bool other_asked(void)
{
	serve();
	if (other_accepted < 0)
		other_accepted = accept4(other, NULL, NULL, SOCK_NONBLOCK);
	return other_accepted >= 0 || n_failed;
}

static void X09_a_gateway_error_is_tried_at_the_next_address(void **state)
{
	(void)state;
	listen_on_other(16);
	use_proxy_name();
	names_are((const char *const[]){ "127.0.0.1", "127.0.0.2", NULL });
	script = "HTTP/1.1 503 Busy\r\n\r\n";
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(other_asked);
	assert_int_equal(n_failed, 0);
}

#define TEST(name)       cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_NAMES(name) cmocka_unit_test_setup_teardown(name, set_up_names, tear_down_names)

/* ---- addresses that are known without the name ---- */

static struct dial_family at(const char *ip)
{
	struct dial_family f = { .off = false };

	assert_int_equal(addr_of_ip(ip, 1, &f.at), 0); /* the port is the conf's */
	return f;
}

static void an_address_that_is_given_replaces_what_the_name_gives(void **state)
{
	static const char *const ips[] = { "192.0.2.1", NULL };

	(void)state;
	names_are(ips);
	conf.host = "relay.test";
	conf.ipv4 = at("127.0.0.1");
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told);
	assert_int_equal(n_connected, 1);
	assert_int_equal(addr_port(&peer), port);
	assert_true(addr_is_loopback(&peer));
}

static void where_both_families_are_settled_nobody_is_asked(void **state)
{
	(void)state;
	names_hold = true; /* whoever asks waits for ever */
	conf.host = "relay.test";
	conf.ipv4 = at("127.0.0.1");
	conf.ipv6.off = true;
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	assert_int_equal(n_connected + n_failed, 0);
	until(told);
	assert_int_equal(n_connected, 1);
	assert_int_not_equal(sem_trywait(&names_asked), 0);
}

static void a_family_that_is_off_is_not_tried(void **state)
{
	(void)state;
	conf.ipv4.off = true; /* the host is 127.0.0.1 */
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told);
	assert_int_equal(n_failed, 1);
	assert_non_null(strstr(words, "no address"));
	conf.ipv6.off = true;
	n_failed = 0;
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	assert_int_equal(n_failed, 0);
	until(told);
	assert_int_equal(n_failed, 1);
}

static void without_the_name_the_given_address_is_tried(void **state)
{
	(void)state;
	conf.host = "relay.test"; /* does not exist */
	conf.ipv4 = at("127.0.0.1");
	dialler_start(dialler, UNTIL_LIMIT_MS / 2);
	until(told);
	assert_int_equal(n_connected, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_address_that_is_given_replaces_what_the_name_gives),
		TEST(where_both_families_are_settled_nobody_is_asked),
		TEST(a_family_that_is_off_is_not_tried),
		TEST(without_the_name_the_given_address_is_tried),
		TEST(a_host_that_listens_is_reached),
		TEST(a_refused_connection_names_host_and_address),
		TEST(a_name_that_does_not_resolve_is_named),
		TEST(the_next_address_is_tried_where_the_first_refuses),
		TEST(where_all_addresses_refuse_the_last_is_named),
		TEST(addresses_that_worked_are_tried_where_resolving_fails),
		TEST(addresses_that_proved_nothing_are_not_tried_where_resolving_fails),
		TEST(F19_behind_a_stale_address_the_good_one_is_tried),
		TEST(G28_an_address_that_connects_in_vain_comes_last),
		TEST(a_dialler_may_be_used_again),
		TEST(a_new_start_gives_the_running_attempt_up),
		TEST(a_dialler_stopped_while_it_resolves_says_nothing),
		TEST(a_dialler_stopped_with_its_report_underway_says_nothing),
		TEST(a_dialler_stopped_before_the_proxy_answers_hangs_up_and_says_nothing),
		TEST(a_dialler_freed_before_the_proxy_answers_hangs_up),
		TEST(a_failure_may_start_the_next_attempt),
		TEST(a_device_that_is_not_there_is_named),
		TEST(X03_a_proxy_that_agrees_gives_its_connection_and_the_surplus),
		TEST(a_proxy_that_refuses_is_told_in_its_words),
		TEST(a_proxy_may_answer_byte_by_byte),
		TEST(the_proxy_address_that_answers_first_wins),
		TEST(X11_a_proxy_that_hangs_up_is_told),
		TEST(X12_a_proxy_that_never_answers_is_given_up_at_the_deadline),
		TEST(a_proxy_that_refuses_the_connection_is_called_one),
		TEST_NAMES(beside_an_address_that_hangs_the_next_is_tried),
		TEST_NAMES(where_every_address_hangs_the_deadline_ends_it),
		TEST_NAMES(where_ipv6_refuses_ipv4_is_reached),
		TEST_NAMES(a_slow_proxy_may_still_win_and_the_others_are_let_go),
		TEST_NAMES(X07_a_login_that_is_not_accepted_is_not_tried_at_the_next_address),
		TEST_NAMES(X09_a_target_that_is_not_allowed_is_not_tried_at_the_next_address),
		TEST_NAMES(a_denial_ends_the_attempts_beside_it),
		TEST_NAMES(X09_a_gateway_error_is_tried_at_the_next_address),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
