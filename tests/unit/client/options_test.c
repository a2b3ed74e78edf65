#include "tests/unit/said.h"

#include <fcntl.h>

#include "client/options.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/token.h"
#include "common/transport/transport.h"

#define PIN "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

#define RAW_PIN "sha256-raw:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static struct relay_options o;
static char *kept[256]; /* command lines that values point into */
static unsigned n_kept;
static char good[TOKEN_LEN + 1], token[TOKEN_MAX_LEN + 1];

static int read_words(const char *words)
{
	char *text = strdup(words), *argv[64] = { (char[]){ "relay" } };
	int argc = 1;
	bool help;

	assert_non_null(text);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	assert_true(n_kept < 256);
	kept[n_kept++] = text;
	memset(&o, 0, sizeof o);
	said_begin();
	int rc = relay_options_read(argc, argv, &o, &help);
	said_end();
	assert_int_equal(rc, said[0] ? ERR_CONFIG : 0);
	return rc;
}

static void assert_refused(const char *words, const char *answer)
{
	assert_int_equal(read_words(words), ERR_CONFIG);
	assert_said(answer);
}

static int take_token(void)
{
	said_begin();
	int rc = relay_options_token(&o, "relay.example", token, sizeof token);
	said_end();
	assert_int_equal(rc, said[0] ? ERR_CONFIG : 0);
	assert_not_said(good);
	return rc;
}

static int clean(void **state)
{
	(void)state;
	static const char *const names[] = { "TUNN_TOKEN",  "TUNN_RELAY", "TUNN_TOKEN_FILE",
		                             "TUNN_CONFIG", "TUNN_PEER",  "TUNN_LISTEN" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	setenv("XDG_CONFIG_HOME", file_path("none"), 1);
	return 0;
}

static void the_shortest_line_gets_the_defaults(void **state)
{
	(void)state;
	assert_int_equal(read_words("51820 --peer home-wg"), 0);
	assert_int_equal(o.port, 51820);
	assert_int_equal(o.peers.n, 1);
	assert_string_equal(o.relay, "https://tunn.to");
	assert_true(o.relay_is_default);
	assert_string_equal(o.transport, "auto");
	assert_string_equal(o.log_level, "warn");
	assert_null(o.id);
	assert_false(o.listen || o.forward || o.has_pin || o.one_way || o.once);
}

static void every_option_arrives(void **state)
{
	(void)state;
	assert_int_equal(
	                read_words("--id a --peer b --peer acme/c --relay r:8443 --transport grpc "
	                           "--forward 10.0.0.7 --proxy http://p:3128 --ca ca.pem --pin " PIN
	                           " --token-file t --fwmark 0x2a --bind-device eth0 --once "
	                           "--one-way --log-level debug 7"),
	                0);
	assert_string_equal(o.peers.v[1], "acme/c");
	assert_false(o.relay_is_default);
	assert_true(o.forward);
	assert_string_equal(o.forward_host, "10.0.0.7");
	assert_true(o.has_pin);
	assert_int_equal(o.pin[1], 0x11);
	assert_false(o.pin_is_raw);
	assert_int_equal(o.fwmark, 42);
	assert_true(o.once && o.one_way);
	assert_int_equal(o.port, 7);
}

static void a_pin_may_be_of_the_whole_certificate(void **state)
{
	(void)state;
	assert_int_equal(read_words("7 --peer b --pin " RAW_PIN), 0);
	assert_true(o.has_pin && o.pin_is_raw);
	assert_int_equal(o.pin[0], 0xff);
	assert_int_equal(o.pin[31], 0);
	assert_refused("7 --peer b --pin " RAW_PIN "0",
	               "or sha256-raw: (of the certificate) and 64");
	assert_refused("7 --peer b --pin sha256-raw:00", "must be sha256:");
	assert_refused("7 --peer b --pin sha256-ra:00", "must be sha256:");
	assert_refused("7 --peer b --pin sha256-raw:FFeeddccbbaa99887766554433221100ffeeddccbbaa9988"
	               "7766554433221100",
	               "must be sha256:");
}

static void the_port_may_stand_in_the_file(void **state)
{
	char words[300];
	(void)state;

	snprintf(words, sizeof words, "--config %s",
	         file_with("relay.yaml", "port: 51820\npeer: home-wg\nrelay: https://r.example\n"));
	assert_int_equal(read_words(words), 0);
	assert_int_equal(o.port, 51820);
	assert_false(o.relay_is_default);
	file_with("relay.yaml", "port: 51820\npeer: [a]\npin: sha256:00\n");
	assert_refused(words, "relay.yaml:3:6: pin must be sha256: (of the key");
}

static void C03_port_is_1_to_65535(void **state)
{
	static const char *const bad[] = { "0",   "65536", "-1",
		                           "44a", "0x1bb", "99999999999999999999",
		                           "+1",  "1.5" };
	char words[80], answer[80];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(words, sizeof words, "--peer b %s", bad[i]);
		snprintf(answer, sizeof answer, "tunn relay: port must be 1 to 65535, not \"%s\"",
		         bad[i]);
		assert_refused(words, answer);
	}
	assert_refused("--peer b --port=", "must be 1 to 65535, not \"\"");
	assert_refused("--peer b", "the port is missing");
	assert_int_equal(read_words("65535 --peer b"), 0);
}

static void C08_hosts_outside_the_grammar(void **state)
{
	char words[512], label[80];
	(void)state;

	memset(label, 'a', 64);
	label[64] = 0;
	snprintf(words, sizeof words, "7 --peer b --relay %s.example", label);
	assert_refused(words, "--relay must be https://HOST");
	assert_refused("7 --peer b --relay under_score.example", "--relay must be");
	assert_refused("7 --peer b --relay http://r.example", "--relay must be");
	assert_refused("7 --peer b --relay ::1:443", "brackets");
	assert_refused("7 --peer b --forward under_score", "--forward must be a host name");
	assert_refused("7 --peer b --forward h:1", "without port");
	assert_refused("7 --peer b --forward 0.0.0.0", "--forward must be one host");
	assert_refused("7 --peer b --listen name", "--listen must be a numeric address");
}

static void U10_forward_takes_one_machine(void **state)
{
	static const char *const bad[] = { "224.0.0.1",        "255.255.255.255",
		                           "ff02::1",          "::",
		                           "::ffff:224.0.0.1", "fe80::1%",
		                           "2001:db8::1%eth0", "fe80::1%sixteen-letters1",
		                           "127.0.0.1%eth0",   "fe80::1%a%b" };
	char words[80];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(words, sizeof words, "7 --peer b --forward %s", bad[i]);
		assert_refused(words, "--forward must be ");
	}
	assert_int_equal(read_words("7 --peer b --forward ::ffff:192.0.2.1"), 0);
	assert_int_equal(read_words("7 --peer b --forward fe80::1%eth0"), 0);
}

static void C23_proxies_and_their_passwords(void **state)
{
	(void)state;
	assert_refused("7 --peer b --proxy socks5://u:hunter2@p:1", "--proxy is no proxy: ");
	assert_not_said("hunter2");
	assert_int_equal(read_words("7 --peer b --proxy none"), 0);
	assert_int_equal(read_words("7 --peer b --proxy http://u:p@ss@p:3128/"), 0);
}

static void C30_ids_and_peers_outside_the_grammar(void **state)
{
	static const char *const bad[] = {
		"",
		"Home",
		"a_b",
		"-a",
		"a/b/c",
		"/a",
		"a/",
		"a b",
		"nodekey:00",
		"nodekey:zz",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};
	char words[200];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (strchr(bad[i], ' '))
			continue;
		snprintf(words, sizeof words, "7 --peer=%s", bad[i]);
		assert_refused(words, "--peer must be ID, ACCOUNT/ID");
		snprintf(words, sizeof words, "7 --peer b --id=%s", bad[i]);
		assert_refused(words, "--id must be 1 to 63 of a-z");
	}
	assert_refused("7", "--peer is missing");
	assert_refused("7 --peer b --peer b", "--peer \"b\" is given twice");
	assert_refused("7 --peer b --id b", "this end's own --id");
}

static void listen_and_forward_exclude_each_other(void **state)
{
	(void)state;
	assert_refused("7 --peer b --listen --forward", "exclude each other");
	setenv("TUNN_LISTEN", "yes", 1);
	assert_int_equal(read_words("--forward 7 --peer b"), 0);
	assert_true(o.forward && !o.listen);
}

static void bad_pins_transports_devices_and_levels(void **state)
{
	(void)state;
	assert_refused("7 --peer b --pin 00", "--pin must be sha256:");
	assert_refused("7 --peer b --pin sha256:AA112233445566778899aabbccddeeff00112233445566778899"
	               "aabbccddeeff",
	               "--pin must be sha256:");
	assert_refused("7 --peer b --pin " PIN "0", "--pin must be sha256:");
	assert_refused("7 --peer b --transport quic",
	               "--transport must be auto, grpc or derp, not \"quic\"");
	assert_refused("7 --peer b --bind-device sixteen-letters1", "--bind-device must be");
	assert_refused("7 --peer b --fwmark 0", "--fwmark must be a number from 1");
	assert_refused("7 --peer b --log-level loud",
	               "--log-level must be error, warn, info or debug");
}

#define NODE "nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765"

static void who_is_native_has_a_key_and_no_id(void **state)
{
	(void)state;
	assert_int_equal(read_words("7 --transport derp --peer " NODE), 0);
	assert_true(relay_options_are_native(&o));
	assert_int_equal(read_words("7 --derp-map m.json --derp-region 900 --peer " NODE), 0);
	assert_true(relay_options_are_native(&o));
	assert_int_equal(read_words("7 --peer " NODE), 0);
	assert_false(relay_options_are_native(&o));
	assert_int_equal(read_words("7 --transport derp --id me --peer " NODE), 0);
	assert_false(relay_options_are_native(&o));
	assert_int_equal(read_words("7 --transport derp --peer " NODE " --peer b"), 0);
	assert_false(relay_options_are_native(&o));
}

static void words_of_derp_that_do_not_go_together(void **state)
{
	(void)state;
	assert_refused("7 --peer b --key-file k", "--key-file is for DERP servers");
	assert_refused("7 --peer b --derp-region 900", "nothing without --derp-map");
	assert_refused("7 --derp-map m --peer b", "every --peer is nodekey:");
	assert_refused("7 --derp-map m --peer " NODE " --id me", "--id means nothing");
	assert_refused("7 --derp-map m --peer " NODE " --relay r", "give one");
	assert_refused("7 --derp-map m --peer " NODE " --transport grpc", "needs --transport derp");
	assert_refused("7 --derp-map m --peer " NODE " --pin " PIN, "CertName");
}

static void C20_token_on_the_command_line(void **state)
{
	char words[200];
	(void)state;

	snprintf(words, sizeof words, "7 --peer b --token %s", good);
	assert_refused(words,
	               "use --token-file FILE, the variable TUNN_TOKEN, or --token-file - for "
	               "standard input");
	assert_not_said(good);
	snprintf(words, sizeof words, "7 --peer b --token=%s", good);
	assert_refused(words, "--token-file");
	assert_not_said(good);
}

static void use_file(const char *path)
{
	char words[400];

	snprintf(words, sizeof words, "7 --peer b --relay relay.example --token-file %s", path);
	assert_int_equal(read_words(words), 0);
}

static void use_text(const char *text) { use_file(file_with("token", text)); }

static void a_token_file_is_one_line(void **state)
{
	char text[400];
	(void)state;

	use_text(good);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
	snprintf(text, sizeof text, "%s\r\n", good);
	use_text(text);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
}

static void C21_token_files_that_are_refused(void **state)
{
	char text[400];
	(void)state;

	use_text("");
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("it is empty");
	use_text(" \n");
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("it is empty");
	snprintf(text, sizeof text, "%s\n%s\n", good, good);
	use_text(text);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("more than one line");
	char *huge = calloc(1, 5000);
	assert_non_null(huge);
	memset(huge, 'a', 4999);
	use_text(huge);
	free(huge);
	assert_int_equal(take_token(), ERR_CONFIG);
	use_file("/nowhere/token");
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("/nowhere/token: No such file");
	use_file("/tmp");
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("not a regular file");
	use_file("/dev/zero");
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_string_equal(token, "");
}

static void A01_a_malformed_token_is_told_here(void **state)
{
	char text[200];
	(void)state;

	snprintf(text, sizeof text, "%s", good);
	text[20] = text[20] == 'a' ? 'b' : 'a';
	use_text(text);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("malformed token");
	assert_not_said(text);
}

static void C17_a_token_others_may_read_is_refused(void **state)
{
	const char *path = file_with("open", good);
	(void)state;

	use_file(path);
	chmod(path, 0644);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("others may read it: chmod 600");
	chmod(path, 0620);
	assert_int_equal(take_token(), ERR_CONFIG);
	chmod(path, 0400);
	assert_int_equal(take_token(), 0);
}

static void the_variable_is_wiped(void **state)
{
	(void)state;
	setenv("TUNN_TOKEN", good, 1);
	const char *place = getenv("TUNN_TOKEN");
	assert_int_equal(read_words("7 --peer b --relay relay.example"), 0);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
	assert_null(getenv("TUNN_TOKEN"));
	for (unsigned i = 0; i < TOKEN_LEN; i++)
		assert_int_equal(place[i], 0);
	setenv("TUNN_TOKEN", good, 1); /* also when it was not needed */
	use_text(good);
	assert_int_equal(take_token(), 0);
	assert_null(getenv("TUNN_TOKEN"));
}

static void a_native_end_takes_no_token_and_wipes_the_variable_all_the_same(void **state)
{
	(void)state;
	setenv("TUNN_TOKEN", good, 1);
	const char *place = getenv("TUNN_TOKEN");
	assert_non_null(place);
	assert_int_equal(read_words("7 --transport derp --relay relay.example --peer " NODE), 0);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, "");
	assert_null(getenv("TUNN_TOKEN"));
	for (unsigned i = 0; i < TOKEN_LEN; i++)
		assert_int_equal(place[i], 0);
}

static void where_there_is_no_home_nothing_is_stored(void **state)
{
	char path[RELAY_PATH_LEN];
	(void)state;

	setenv("XDG_CONFIG_HOME", "/c", 1);
	assert_true(relay_options_place("node.key", path));
	assert_string_equal(path, "/c/tunn/node.key");
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", "/h", 1);
	assert_true(relay_options_place("node.key", path));
	assert_string_equal(path, "/h/.config/tunn/node.key");
	setenv("HOME", "", 1);
	assert_false(relay_options_place("node.key", path));
	unsetenv("HOME");
	assert_false(relay_options_place("node.key", path));
}

static void C21_an_empty_variable_is_refused(void **state)
{
	(void)state;
	assert_int_equal(read_words("7 --peer b --relay relay.example"), 0);
	setenv("TUNN_TOKEN", "", 1);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("token from TUNN_TOKEN: it is empty");
	setenv("TUNN_TOKEN", " \t", 1);
	assert_int_equal(take_token(), ERR_CONFIG);
	setenv("TUNN_TOKEN", "tunn_a\ntunn_b", 1);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("more than one line");
}

static int take_from_input(const char *text)
{
	int pipe_fd[2], input = dup(STDIN_FILENO);

	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(write(pipe_fd[1], text, strlen(text)), (ssize_t)strlen(text));
	close(pipe_fd[1]);
	dup2(pipe_fd[0], STDIN_FILENO);
	close(pipe_fd[0]);
	int rc = take_token();
	dup2(input, STDIN_FILENO);
	close(input);
	return rc;
}

static void C21_standard_input(void **state)
{
	char text[400];
	(void)state;

	use_file("-");
	snprintf(text, sizeof text, "%s\n", good);
	assert_int_equal(take_from_input(text), 0);
	assert_string_equal(token, good);
	assert_int_equal(take_from_input(""), ERR_CONFIG);
	assert_said("token from standard input: it is empty");
	snprintf(text, sizeof text, "%s\n%s", good, good);
	assert_int_equal(take_from_input(text), ERR_CONFIG);
	assert_said("more than one line");
}

/* The file stored for relay.example under a config home of our own. */
static void store_token(void)
{
	char path[300];

	setenv("XDG_CONFIG_HOME", file_path("config"), 1);
	mkdir(file_path("config"), 0700);
	mkdir(file_path("config/tunn"), 0700);
	mkdir(file_path("config/tunn/tokens"), 0700);
	snprintf(path, sizeof path, "%s", file_with("config/tunn/tokens/relay.example", good));
	chmod(path, 0600);
}

static void the_stored_file_of_the_host_is_the_default(void **state)
{
	(void)state;
	assert_int_equal(read_words("7 --peer b --relay relay.example"), 0);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, "");
	store_token();
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", file_path("none"), 1);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, "");
}

static void the_default_relay_gets_only_the_token_stored_for_it(void **state)
{
	char words[400];
	(void)state;

	assert_int_equal(read_words("7 --peer b"), 0);
	setenv("TUNN_TOKEN", good, 1);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_said("which relay is the token for? Say --relay URL");
	assert_string_equal(token, "");
	assert_null(getenv("TUNN_TOKEN"));
	snprintf(words, sizeof words, "7 --peer b --token-file %s", file_with("token", good));
	assert_int_equal(read_words(words), 0);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_int_equal(read_words("7 --peer b --token-file -"), 0);
	assert_int_equal(take_token(), ERR_CONFIG);
	assert_int_equal(read_words("7 --peer b"), 0);
	store_token();
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
}

static void the_default_relay_may_be_meant(void **state)
{
	(void)state;
	assert_int_equal(read_words("7 --peer b --relay https://tunn.to"), 0);
	assert_false(o.relay_is_default);
	setenv("TUNN_TOKEN", good, 1);
	assert_int_equal(take_token(), 0);
	assert_string_equal(token, good);
}

static int begin(void **state)
{
	(void)state;
	int rc = crypto_start();

	token_new(good);
	return rc;
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
		cmocka_unit_test_setup(the_shortest_line_gets_the_defaults, clean),
		cmocka_unit_test_setup(every_option_arrives, clean),
		cmocka_unit_test_setup(a_pin_may_be_of_the_whole_certificate, clean),
		cmocka_unit_test_setup(the_port_may_stand_in_the_file, clean),
		cmocka_unit_test_setup(C03_port_is_1_to_65535, clean),
		cmocka_unit_test_setup(C08_hosts_outside_the_grammar, clean),
		cmocka_unit_test_setup(U10_forward_takes_one_machine, clean),
		cmocka_unit_test_setup(C23_proxies_and_their_passwords, clean),
		cmocka_unit_test_setup(C30_ids_and_peers_outside_the_grammar, clean),
		cmocka_unit_test_setup(listen_and_forward_exclude_each_other, clean),
		cmocka_unit_test_setup(bad_pins_transports_devices_and_levels, clean),
		cmocka_unit_test_setup(who_is_native_has_a_key_and_no_id, clean),
		cmocka_unit_test_setup(words_of_derp_that_do_not_go_together, clean),
		cmocka_unit_test_setup(C20_token_on_the_command_line, clean),
		cmocka_unit_test_setup(a_token_file_is_one_line, clean),
		cmocka_unit_test_setup(C21_token_files_that_are_refused, clean),
		cmocka_unit_test_setup(A01_a_malformed_token_is_told_here, clean),
		cmocka_unit_test_setup(C17_a_token_others_may_read_is_refused, clean),
		cmocka_unit_test_setup(the_variable_is_wiped, clean),
		cmocka_unit_test_setup(
		                a_native_end_takes_no_token_and_wipes_the_variable_all_the_same,
		                clean),
		cmocka_unit_test_setup(where_there_is_no_home_nothing_is_stored, clean),
		cmocka_unit_test_setup(C21_an_empty_variable_is_refused, clean),
		cmocka_unit_test_setup(C21_standard_input, clean),
		cmocka_unit_test_setup(the_stored_file_of_the_host_is_the_default, clean),
		cmocka_unit_test_setup(the_default_relay_gets_only_the_token_stored_for_it, clean),
		cmocka_unit_test_setup(the_default_relay_may_be_meant, clean),
	};
	return cmocka_run_group_tests(tests, begin, forget);
}
