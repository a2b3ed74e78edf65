#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/base/heap.h"
#include "common/base/opts.h"

struct target {
	bool fast, listen, forward;
	const char *id, *proxy, *port, *listen_addr, *forward_host;
	struct opt_list peers;
	uint32_t mark, room;
	unsigned drain_ms;
};
#define AT(field) .offset = offsetof(struct target, field)

static const char *check_id(const char *v) { return *v == 'X' || !*v ? "must be small" : NULL; }
static const char *check_port(const char *v) { return *v == '7' ? NULL : "must be 7"; }

static const struct opt table[] = {
	{ .kind = OPT_TEXT,
	  .name = "port",
	  .arg = "PORT",
	  .traits = OPT_POSITIONAL,
	  AT(port),
	  .check = check_port,
	  .help = "port" },
	{ .kind = OPT_FLAG, .name = "fast", AT(fast), .help = "be fast" },
	{ .kind = OPT_TEXT, .name = "id", .arg = "ID", AT(id), .check = check_id, .help = "name" },
	{ .kind = OPT_TEXT,
	  .name = "proxy",
	  .arg = "URL",
	  .traits = OPT_PRIVATE,
	  AT(proxy),
	  .check = check_id,
	  .help = "proxy" },
	{ .kind = OPT_LIST,
	  .name = "peer",
	  .arg = "ID",
	  AT(peers),
	  .max = 5,
	  .check = check_id,
	  .help = "other end" },
	{ .kind = OPT_NUMBER,
	  .name = "fw-mark",
	  .arg = "N",
	  AT(mark),
	  .min = 1,
	  .max = UINT32_MAX,
	  .help = "mark" },
	{ .kind = OPT_DURATION,
	  .name = "drain",
	  .arg = "TIME",
	  AT(drain_ms),
	  .max = 8000,
	  .help = "time" },
	{ .kind = OPT_OPTIONAL,
	  .name = "listen",
	  .arg = "ADDR",
	  .traits = OPT_ONE_OF,
	  AT(listen),
	  .value_offset = offsetof(struct target, listen_addr),
	  .help = "listen" },
	{ .kind = OPT_OPTIONAL,
	  .name = "forward",
	  .arg = "HOST",
	  .traits = OPT_ONE_OF,
	  AT(forward),
	  .value_offset = offsetof(struct target, forward_host),
	  .help = "forward" },
	{ .kind = OPT_SIZE,
	  .name = "limits.room",
	  AT(room),
	  .min = 1,
	  .max = UINT32_MAX,
	  .traits = OPT_FILE,
	  .help = "room" },
	{ .kind = OPT_TEXT, .name = "token", .traits = OPT_SECRET, .help = "use --token-file" },
	{ .kind = OPT_END },
};
static const struct opt_command command = {
	.name = "relay", .usage = "PORT [options]", .summary = "test", .opts = table
};

static struct target t;

static void assert_text(const char *got, const char *wanted)
{
	assert_non_null(got);
	assert_string_equal(got, wanted);
}
static char *kept[256]; /* what values point into */
static unsigned n_kept;

static int forget(void **state)
{
	(void)state;
	while (n_kept)
		free(kept[--n_kept]);
	return 0;
}

/* The words, separated by blanks, as a command line. */
static int read_words(const char *words, struct opt_list *rest)
{
	char *text = strdup(words), *argv[32] = { (char[]){ "relay" } };
	int argc = 1;
	bool help = true;

	assert_non_null(text);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	memset(&t, 0, sizeof t);
	said_begin();
	int rc = opts_read(&command, argc, argv, &t, rest, &help);
	said_end();
	assert_int_equal(rc, said[0] ? ERR_CONFIG : 0);
	if (rc == 0)
		assert_false(help);
	assert_true(n_kept < 256);
	kept[n_kept++] = text;
	return rc;
}

static int read_argv(const char *words) { return read_words(words, NULL); }

static int read_file(const char *text, const char *words)
{
	char line[512];

	snprintf(line, sizeof line, "--config %s %s", file_with("o.yaml", text), words);
	return read_argv(line);
}

static int clean(void **state)
{
	(void)state;
	static const char *const names[] = { "TUNN_ID",      "TUNN_PEER",   "TUNN_FAST",
		                             "TUNN_FW_MARK", "TUNN_LISTEN", "TUNN_FORWARD",
		                             "TUNN_CONFIG",  "TUNN_TOKEN",  "TUNN_PORT",
		                             "TUNN_PROXY" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	return 0;
}

static void both_ways_of_writing_a_value(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--id a --fw-mark=0x1F --peer=b --peer c --fast --drain=2s 7"),
	                 0);
	assert_text(t.id, "a");
	assert_int_equal(t.mark, 31);
	assert_int_equal(t.peers.n, 2);
	assert_text(t.peers.v[1], "c");
	assert_true(t.fast);
	assert_int_equal(t.drain_ms, 2000);
	assert_text(t.port, "7");
	assert_int_equal(read_argv("--id=a=b"), 0);
	assert_text(t.id, "a=b");
	assert_int_equal(read_argv("--id=--fast"), 0);
	assert_text(t.id, "--fast");
}

static void the_stronger_source_wins(void **state)
{
	(void)state;
	setenv("TUNN_ID", "env", 1);
	setenv("TUNN_FW_MARK", "2", 1);
	setenv("TUNN_PEER", "e1, e2,e3", 1);
	assert_int_equal(read_file("id: file\nfw-mark: 3\ndrain: 5s\npeer: [f1]\nfast: yes\n",
	                           "--id argv"),
	                 0);
	assert_text(t.id, "argv");
	assert_int_equal(t.mark, 2);
	assert_int_equal(t.drain_ms, 5000);
	assert_int_equal(t.peers.n, 3);
	assert_text(t.peers.v[2], "e3");
	assert_true(t.fast);
	assert_int_equal(read_argv("--peer a"), 0);
	assert_int_equal(t.peers.n, 1);
	setenv("TUNN_FAST", "no", 1);
	assert_int_equal(read_file("fast: true\n", ""), 0);
	assert_false(t.fast);
}

static void the_file_may_be_named_by_a_variable(void **state)
{
	(void)state;
	setenv("TUNN_CONFIG", file_with("e.yaml", "id: from-env-file\n"), 1);
	assert_int_equal(read_argv(""), 0);
	assert_text(t.id, "from-env-file");
	assert_int_equal(read_file("id: other\n", ""), 0);
	assert_text(t.id, "other");
}

static void an_empty_variable_counts_as_unset(void **state)
{
	(void)state;
	setenv("TUNN_ID", "", 1);
	setenv("TUNN_PEER", " , ", 1);
	assert_int_equal(read_argv(""), 0);
	assert_null(t.id);
	assert_int_equal(t.peers.n, 0);
}

static void an_optional_argument_may_be_left_out(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--listen 7"), 0);
	assert_true(t.listen);
	assert_null(t.listen_addr);
	assert_text(t.port, "7");
	assert_int_equal(read_argv("--listen ::1 7"), 0);
	assert_text(t.listen_addr, "::1");
	assert_int_equal(read_argv("--forward --fast"), 0);
	assert_true(t.forward && t.fast);
	assert_null(t.forward_host);
	assert_int_equal(read_file("listen: true\n", ""), 0);
	assert_true(t.listen);
	assert_null(t.listen_addr);
	assert_int_equal(read_file("forward: 10.0.0.1\n", ""), 0);
	assert_text(t.forward_host, "10.0.0.1");
}

static void of_two_that_exclude_each_other_the_stronger_source_wins(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--listen --forward"), ERR_CONFIG);
	assert_said("exclude each other");
	assert_int_equal(read_file("listen: true\nforward: true\n", ""), ERR_CONFIG);
	assert_said("o.yaml:2:10: forward and listen exclude each other");
	assert_int_equal(read_file("listen: true\n", "--forward"), 0);
	assert_true(t.forward && !t.listen);
	setenv("TUNN_LISTEN", "no", 1);
	assert_int_equal(read_file("forward: true\n", ""), 0);
	assert_true(t.forward && !t.listen);
}

static void C01_unknown_option_suggests_the_nearest(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--pere x"), ERR_CONFIG);
	assert_said("tunn relay: unknown option \"--pere\", did you mean --peer?\nusage: tunn relay ");
	assert_int_equal(read_argv("--Id=x"), ERR_CONFIG);
	assert_said("did you mean --id?");
	assert_int_equal(read_argv("--pro x"), ERR_CONFIG);
	assert_said("did you mean --proxy?");
	assert_int_equal(read_argv("--confg x"), ERR_CONFIG);
	assert_said("did you mean --config?");
	assert_int_equal(read_argv("--zzzzzz"), ERR_CONFIG);
	assert_not_said("did you mean");
	assert_int_equal(read_argv("-p x"), ERR_CONFIG);
	assert_int_equal(read_argv("--no-fast"), ERR_CONFIG);
}

static void C01_a_word_too_many_is_refused(void **state)
{
	struct opt_list rest;
	(void)state;

	assert_int_equal(read_argv("7 eight"), ERR_CONFIG);
	assert_said("unexpected argument \"eight\"");
	assert_int_equal(read_words("7 eight -- --nine", &rest), 0);
	assert_int_equal(rest.n, 2);
	assert_string_equal(rest.v[1], "--nine");
}

static void C02_option_without_its_argument(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--peer"), ERR_CONFIG);
	assert_said("tunn relay: --peer needs a value: --peer ID");
	assert_int_equal(read_argv("--peer --fast"), ERR_CONFIG);
	assert_said("--peer needs a value");
	assert_int_equal(read_argv("--id="), ERR_CONFIG);
	assert_said("--id must be small, not \"\"");
	assert_int_equal(read_argv("--config="), ERR_CONFIG);
	assert_said("--config must not be empty");
}

static void C03_a_positional_is_named_without_dashes(void **state)
{
	(void)state;
	assert_int_equal(read_argv("44a"), ERR_CONFIG);
	assert_said("tunn relay: port must be 7, not \"44a\"");
	assert_int_equal(read_argv("-1"), ERR_CONFIG);
	assert_said("port must be 7, not \"-1\"");
	assert_int_equal(read_argv("--port 8"), ERR_CONFIG);
	assert_said("--port must be 7");
	assert_int_equal(read_argv("7 --port 7"), ERR_CONFIG);
	assert_said("given twice");
	setenv("TUNN_PORT", "8", 1);
	assert_int_equal(read_argv("7"), 0);
	assert_int_equal(read_argv(""), ERR_CONFIG);
	assert_said("TUNN_PORT must be 7, not \"8\"");
}

static void once_is_enough(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--id a --id b"), ERR_CONFIG);
	assert_said("--id is given twice");
	assert_int_equal(read_argv("--fast --fast"), ERR_CONFIG);
	assert_int_equal(read_argv("--peer a --peer b --peer a"), ERR_CONFIG);
	assert_said("--peer \"a\" is given twice");
	assert_int_equal(read_argv("--peer a --peer b --peer c --peer d --peer e"), 0);
	assert_text(t.peers.v[4], "e");
	assert_int_equal(read_argv("--peer a --peer b --peer c --peer d --peer e --peer f"),
	                 ERR_CONFIG);
	assert_said("--peer is given more than 5 times");
}

static void C12_unknown_key_suggests_the_nearest(void **state)
{
	(void)state;
	assert_int_equal(read_file("id: a\npere: b\n", ""), ERR_CONFIG);
	assert_said("o.yaml:2:1: unknown key \"pere\", did you mean \"peer\"?");
}

static void a_file_of_another_command_is_read_for_what_is_ours(void **state)
{
	static const struct opt other[] = {
		{ .kind = OPT_LIST, .name = "theirs", .help = "x" },
		{ .kind = OPT_END },
	};
	struct opt_command cmd = command;
	char line[300], *argv[] = { (char[]){ "relay" }, (char[]){ "--config" }, line };
	bool help;
	(void)state;

	cmd.file_of = other;
	snprintf(line, sizeof line, "%s", file_with("o.yaml", "theirs: [a, b]\nid: mine\n"));
	memset(&t, 0, sizeof t);
	assert_int_equal(opts_read(&cmd, 3, argv, &t, NULL, &help), 0);
	assert_string_equal(t.id, "mine");
	file_with("o.yaml", "theirs: [a, b]\nnobodys: 1\n");
	said_begin();
	assert_int_equal(opts_read(&cmd, 3, argv, &t, NULL, &help), ERR_CONFIG);
	said_end();
	assert_said("o.yaml:2:1: unknown key \"nobodys\"");
}

static void values_of_the_file_are_checked_with_their_place(void **state)
{
	(void)state;
	assert_int_equal(read_file("peer:\n  - a\n  - X\n", ""), ERR_CONFIG);
	assert_said("o.yaml:3:5: peer must be small, not \"X\"");
	assert_int_equal(read_file("id: [a]\n", ""), ERR_CONFIG);
	assert_said("id takes one value, not a list");
	assert_int_equal(read_file("fast: perhaps\n", ""), ERR_CONFIG);
	assert_said("fast must be yes or no, not \"perhaps\"");
	assert_int_equal(read_file("config: other.yaml\n", ""), ERR_CONFIG);
	assert_said("no place in a config file");
	assert_int_equal(read_argv("--config /nowhere/x.yaml"), ERR_CONFIG);
	assert_said("/nowhere/x.yaml: cannot be opened");
}

static void C15_numbers_do_not_overflow(void **state)
{
	static const char *const bad[] = {
		"0",          "10XB", "-1",          "1e9", "18446744073709551616",
		"4294967296", "0x",   "0x100000000", "+5",  "99999999999999999999"
	};
	char words[64];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(words, sizeof words, "--fw-mark %s", bad[i]);
		assert_int_equal(read_argv(words), ERR_CONFIG);
		assert_said("--fw-mark must be a number from 1 to 4294967295");
	}
	assert_int_equal(read_argv("--fw-mark 4294967295"), 0);
	assert_int_equal(t.mark, UINT32_MAX);
}

static void C15_sizes_carry_units_and_do_not_overflow(void **state)
{
	static const struct {
		const char *text;
		uint32_t bytes;
	} good[] = {
		{ "1", 1 },         { "7B", 7 },         { "3kB", 3000 },       { "3KiB", 3072 },
		{ "2MB", 2000000 }, { "2MiB", 2 << 20 }, { "4GB", 4000000000 }, { "3GiB", 3u << 30 }
	};
	static const char *const bad[] = {
		"0",    "10XB", "-1", "1e999", "18446744073709551616",
		"4GiB", "1 kB", "kB", "1Kib",  "18446744073709551615GiB"
	};
	char text[64];
	(void)state;

	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		snprintf(text, sizeof text, "limits:\n  room: %s\n", good[i].text);
		assert_int_equal(read_file(text, ""), 0);
		assert_int_equal(t.room, good[i].bytes);
	}
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "limits:\n  room: %s\n", bad[i]);
		assert_int_equal(read_file(text, ""), ERR_CONFIG);
		assert_said("o.yaml:2:9: limits.room must be a size from 1 to 4294967295 bytes");
	}
}

static void what_belongs_to_the_file_is_no_option_and_no_variable(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--limits.room 5"), ERR_CONFIG);
	assert_said("limits.room is a key of the config file only");
	setenv("TUNN_LIMITS.ROOM", "x", 1);
	assert_int_equal(read_argv(""), 0);
	unsetenv("TUNN_LIMITS.ROOM");
	assert_int_equal(read_file("limits:\n  rome: 5\n", ""), ERR_CONFIG);
	assert_said("unknown key \"limits.rome\", did you mean \"limits.room\"?");
}

/* A reload reads everything again, for years. */
static void what_is_released_leaves_no_memory_behind(void **state)
{
	size_t before = 0;
	(void)state;

	for (unsigned i = 0; i < 60; i++) {
		const void *mark = opts_mark();
		assert_int_equal(read_file("peer: [a, b, c]\nid: i\nlimits:\n  room: 5\n", ""), 0);
		forget(NULL);
		opts_release(mark);
		if (i == 9)
			before = heap_in_use();
	}
	assert_true(heap_in_use() <= before + 8000); /* it was 600 bytes each time */
}

static void C16_durations_need_a_unit_and_stay_in_bounds(void **state)
{
	static const char *const bad[] = { "5",    "-1s",    "1000000h",
		                           "9s",   "8001ms", "s",
		                           "1.5s", "1S",     "99999999999999999999d",
		                           "5s5s" };
	char words[64];
	(void)state;

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(words, sizeof words, "--drain %s", bad[i]);
		assert_int_equal(read_argv(words), ERR_CONFIG);
		assert_said("--drain must be a time from 0s to 8s with its unit");
	}
	assert_int_equal(read_file("drain: 5 s\n", ""), ERR_CONFIG);
	assert_int_equal(read_argv("--drain 1500ms"), 0);
	assert_int_equal(t.drain_ms, 1500);
}

static void C20_a_secret_is_refused_and_never_echoed(void **state)
{
	static const char *const lines[] = { "--token tunn_secret",   "--token=tunn_secret",
		                             "--toke=tunn_secret",    "7 tunn_secret",
		                             "tunn_secret",           "--id Xtunn_secret",
		                             "--fw-mark tunn_secret", "--peer Xtunn_secret",
		                             "--tunn_secret" };
	(void)state;

	for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
		assert_int_equal(read_argv(lines[i]), ERR_CONFIG);
		assert_not_said("secret");
	}
	assert_int_equal(read_argv("--token x"), ERR_CONFIG);
	assert_said("tunn relay: --token: use --token-file");
	assert_int_equal(read_file("token: tunn_secret\n", ""), ERR_CONFIG);
	assert_said("token is no key: use --token-file");
	assert_not_said("secret");
	setenv("TUNN_TOKEN", "tunn_secret", 1);
	assert_int_equal(read_argv(""), 0);
}

static void a_private_value_is_not_shown(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--proxy Xpassword"), ERR_CONFIG);
	assert_said("--proxy must be small\n");
	assert_not_said("password");
}

static void control_characters_are_escaped(void **state)
{
	(void)state;
	assert_int_equal(read_argv("--id X\x1b[2J\xff"), ERR_CONFIG);
	assert_said("not \"X\\x1b[2J\\xff\"");
	char longest[400] = "--id X";
	memset(longest + 6, 'a', 300);
	assert_int_equal(read_argv(longest), ERR_CONFIG);
	assert_said("aaa...\"");
}

static void help_lists_every_option_but_secrets(void **state)
{
	char *argv[] = { (char[]){ "relay" }, (char[]){ "--help" }, NULL };
	bool help = false;
	(void)state;

	fflush(stdout);
	int out = dup(STDOUT_FILENO);
	said_begin();
	dup2(STDERR_FILENO, STDOUT_FILENO);
	int rc = opts_read(&command, 2, argv, &t, NULL, &help);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(out);
	said_end();
	assert_int_equal(rc, 0);
	assert_true(help);
	for (const struct opt *o = table; o->kind != OPT_END; o++) {
		char line[64];
		snprintf(line, sizeof line, "\n  --%s", o->name);
		if (o->traits & (OPT_SECRET | OPT_FILE))
			assert_not_said(line);
		else
			assert_said(line);
	}
	assert_said("\n  --listen [ADDR]");
	assert_said("\n  --peer ID...");
	for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 80);
}

static void nearest_knows_swapped_letters_and_beginnings(void **state)
{
	static const char *const words[] = { "relay", "server",  "account",
		                             "token", "version", "help" };
	(void)state;

	assert_string_equal(opts_nearest("sever", words, 6), "server");
	assert_string_equal(opts_nearest("realy", words, 6), "relay");
	assert_string_equal(opts_nearest("acc", words, 6), "account");
	assert_string_equal(opts_nearest("TOKEN", words, 6), "token");
	assert_null(opts_nearest("status", words, 6));
	assert_null(opts_nearest("", words, 6));
	assert_null(opts_nearest("x", words, 6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(both_ways_of_writing_a_value, clean),
		cmocka_unit_test_setup(the_stronger_source_wins, clean),
		cmocka_unit_test_setup(the_file_may_be_named_by_a_variable, clean),
		cmocka_unit_test_setup(an_empty_variable_counts_as_unset, clean),
		cmocka_unit_test_setup(an_optional_argument_may_be_left_out, clean),
		cmocka_unit_test_setup(of_two_that_exclude_each_other_the_stronger_source_wins,
		                       clean),
		cmocka_unit_test_setup(C01_unknown_option_suggests_the_nearest, clean),
		cmocka_unit_test_setup(C01_a_word_too_many_is_refused, clean),
		cmocka_unit_test_setup(C02_option_without_its_argument, clean),
		cmocka_unit_test_setup(C03_a_positional_is_named_without_dashes, clean),
		cmocka_unit_test_setup(once_is_enough, clean),
		cmocka_unit_test_setup(C12_unknown_key_suggests_the_nearest, clean),
		cmocka_unit_test_setup(a_file_of_another_command_is_read_for_what_is_ours, clean),
		cmocka_unit_test_setup(values_of_the_file_are_checked_with_their_place, clean),
		cmocka_unit_test_setup(C15_numbers_do_not_overflow, clean),
		cmocka_unit_test_setup(C15_sizes_carry_units_and_do_not_overflow, clean),
		cmocka_unit_test_setup(what_belongs_to_the_file_is_no_option_and_no_variable,
		                       clean),
		cmocka_unit_test_setup(what_is_released_leaves_no_memory_behind, clean),
		cmocka_unit_test_setup(C16_durations_need_a_unit_and_stay_in_bounds, clean),
		cmocka_unit_test_setup(C20_a_secret_is_refused_and_never_echoed, clean),
		cmocka_unit_test_setup(a_private_value_is_not_shown, clean),
		cmocka_unit_test_setup(control_characters_are_escaped, clean),
		cmocka_unit_test_setup(help_lists_every_option_but_secrets, clean),
		cmocka_unit_test_setup(nearest_knows_swapped_letters_and_beginnings, clean),
	};
	return cmocka_run_group_tests(tests, NULL, forget);
}
