#include "tests/unit/said.h"

#include "common/base/err.h"
#include "server/options.h"

static struct server_options o;
static char *kept[128]; /* command lines that values point into */
static unsigned n_kept;

static int read_words(const char *words)
{
	char *text = strdup(words), *argv[32] = { (char[]){ "server" } };
	int argc = 1;
	bool help;

	assert_non_null(text);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	assert_true(n_kept < 128);
	kept[n_kept++] = text;
	said_begin();
	int rc = server_options_read(argc, argv, &o, &help);
	said_end();
	assert_int_equal(rc, said[0] ? ERR_CONFIG : 0);
	return rc;
}

static void assert_refused(const char *words, const char *answer)
{
	assert_int_equal(read_words(words), ERR_CONFIG);
	assert_said(answer);
}

static void nothing_given_is_a_relay_on_443(void **state)
{
	(void)state;
	setenv("STATE_DIRECTORY", "/srv/tunn", 1);
	assert_int_equal(read_words(""), 0);
	assert_int_equal(o.listen.n, 1);
	assert_string_equal(o.listen.v[0], ":443");
	assert_string_equal(o.state, "/srv/tunn");
	assert_int_equal(o.drain_ms, 2000);
	assert_string_equal(o.log_level, "info");
	assert_non_null(o.node);
	assert_false(o.open);
}

static void a_whole_file_is_read(void **state)
{
	char words[300];
	(void)state;

	snprintf(words, sizeof words, "--config %s --drain 0s",
	         file_with("server.yaml",
	                   "listen: [':443', '[::1]:8443']\ncert: c.pem\nkey: k.pem\n"
	                   "state: /s\nnode: n1\nname:\n- r.example\n- 192.0.2.1\n"
	                   "drain: 8s\nlog-level: debug\n"));
	assert_int_equal(read_words(words), 0);
	assert_int_equal(o.listen.n, 2);
	assert_int_equal(o.names.n, 2);
	assert_string_equal(o.cert, "c.pem");
	assert_string_equal(o.state, "/s");
	assert_int_equal(o.drain_ms, 0);
	file_with("server.yaml", "listen: :443\nnmae: x\n");
	assert_refused(words, "server.yaml:2:1: unknown key \"nmae\", did you mean \"name\"?");
}

static void C04_one_address_twice(void **state)
{
	(void)state;
	assert_refused("--listen :443 --listen :443", "given twice");
	assert_refused("--listen :443 --listen 443",
	               "--listen 443 is the same address as --listen :443");
	assert_refused("--listen [::1]:443 --listen [0::1]:443", "the same address");
	assert_int_equal(read_words("--listen 127.0.0.1:443 --listen [::1]:443 --listen :8443"), 0);
}

static void C03_C07_listen_grammar(void **state)
{
	static const char *const bad[] = {
		"44a", ":65536", ":-1", "0x1bb", "name:443", "127.0.0.1:"
	};
	char words[80];
	(void)state;

	assert_refused("--listen ::1:443", "brackets, like [::1]:443");
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(words, sizeof words, "--listen %s", bad[i]);
		assert_refused(words, "--listen must be ADDR:PORT");
	}
}

static void cert_and_key_go_together(void **state)
{
	(void)state;
	assert_refused("--cert c.pem", "--key is missing: --cert and --key go together");
	assert_refused("--key k.pem", "--cert is missing");
}

static void T43_admin_is_local_or_has_a_token(void **state)
{
	(void)state;
	assert_int_equal(read_words(""), 0);
	assert_null(o.admin);
	assert_true(server_options_admin_is_local(&o));
	assert_false(server_options_no_admin(&o));
	assert_int_equal(read_words("--admin off"), 0);
	assert_true(server_options_no_admin(&o));
	assert_int_equal(read_words("--admin [::1]:9180"), 0);
	assert_true(server_options_admin_is_local(&o));
	assert_int_equal(read_words("--admin 192.0.2.1:9180 --admin-token-file t"), 0);
	assert_false(server_options_admin_is_local(&o));
	assert_refused("--admin 192.0.2.1:9180", "--admin-token-file FILE");
	assert_refused("--admin :9180", "can be reached from other machines");
	assert_refused("--admin on", "--admin must be off, ADDR:PORT");
	assert_refused("--admin off --admin-token-file t", "means nothing with --admin off");
}

static void stun_is_where_we_listen_or_where_it_is_asked_for(void **state)
{
	(void)state;
	assert_int_equal(read_words(""), 0);
	assert_int_equal(o.stun.n, 0);
	assert_false(server_options_no_stun(&o));
	assert_int_equal(read_words("--stun off"), 0);
	assert_true(server_options_no_stun(&o));
	assert_int_equal(read_words("--stun :3478 --stun 192.0.2.1:1 --stun [::1]:0"), 0);
	assert_int_equal(o.stun.n, 3);
	assert_false(server_options_no_stun(&o));
	assert_refused("--stun off --stun :3478", "--stun off stands alone");
	assert_refused("--stun :3478 --stun off", "--stun off stands alone");
	assert_refused("--stun on", "--stun must be off, ADDR:PORT");
	assert_refused("--stun ::1:3478", "--stun must be off, ADDR:PORT, [IPV6]:PORT");
	assert_refused("--stun :3478 --stun 3478", "--stun 3478 is the same address");
}

static void open_is_for_loopback(void **state)
{
	(void)state;
	assert_refused("--open", "--open lets in everybody who reaches :443");
	assert_refused("--open --listen 127.0.0.1:1 --listen 192.0.2.1:1", "reaches 192.0.2.1:1");
	assert_int_equal(read_words("--open --listen 127.0.0.1:443 --listen [::1]:443"), 0);
	assert_int_equal(read_words("--open --open-to-everyone"), 0);
	assert_refused("--open-to-everyone", "means nothing without --open");
}

static void a_verify_url_is_one_that_can_be_asked(void **state)
{
	(void)state;
	assert_int_equal(read_words("--derp.verify-url http://[::1]:8080/admit?x"), 0);
	assert_string_equal(o.derp_verify_url, "http://[::1]:8080/admit?x");
	assert_refused("--derp.verify-url ftp://a/", "https://");
	assert_refused("--derp.verify-url https:///a", "form");
	assert_refused("--derp.verify-url https://u:p@a/", "login");
	assert_refused("--derp.verify-url https://a:70000/", "form");
	assert_refused("--derp.verify-url https://a_b/", "host name");
}

static void C16_drain_is_bounded(void **state)
{
	(void)state;
	assert_refused("--drain 9s", "--drain must be a time from 0s to 8s");
	assert_refused("--drain 5", "with its unit");
	assert_int_equal(read_words("--drain 8s"), 0);
	assert_int_equal(o.drain_ms, 8000);
}

static void C08_names_outside_the_grammar(void **state)
{
	(void)state;
	assert_refused("--name under_score", "--name must be a host name");
	assert_refused("--name r.example:443", "without port");
	assert_refused("--name https://r.example", "--name must be");
	assert_refused("--node Relay", "--node must be 1 to 63 of a-z");
	assert_refused("--log-level loud", "--log-level must be");
	assert_refused("443", "unexpected argument \"443\"");
	assert_int_equal(read_words("--name 2001:db8::1 --name r.example"), 0);
}

static void limits_that_contradict_each_other_are_refused(void **state)
{
	char words[300];

	(void)state;
	snprintf(words, sizeof words, "--config %s",
	         file_with("server.yaml", "limits:\n  streams: 100\n  queued-frames: 199\n"));
	assert_refused(words,
	               "limits.queued-frames 199 is less than two for each of the 100 streams");
}

static void what_was_read_stays_when_reading_again_fails(void **state)
{
	(void)state;
	assert_int_equal(read_words("--node first"), 0);
	assert_int_equal(read_words("--node second --drain 1"), ERR_CONFIG);
	assert_string_equal(o.node, "first");
}

static int forget(void **state)
{
	(void)state;
	while (n_kept)
		free(kept[--n_kept]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_given_is_a_relay_on_443),
		cmocka_unit_test(a_whole_file_is_read),
		cmocka_unit_test(C04_one_address_twice),
		cmocka_unit_test(C03_C07_listen_grammar),
		cmocka_unit_test(cert_and_key_go_together),
		cmocka_unit_test(stun_is_where_we_listen_or_where_it_is_asked_for),
		cmocka_unit_test(T43_admin_is_local_or_has_a_token),
		cmocka_unit_test(open_is_for_loopback),
		cmocka_unit_test(a_verify_url_is_one_that_can_be_asked),
		cmocka_unit_test(C16_drain_is_bounded),
		cmocka_unit_test(C08_names_outside_the_grammar),
		cmocka_unit_test(limits_that_contradict_each_other_are_refused),
		cmocka_unit_test(what_was_read_stays_when_reading_again_fails),
	};
	return cmocka_run_group_tests(tests, NULL, forget);
}
