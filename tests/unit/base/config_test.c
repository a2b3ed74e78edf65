#include "tests/unit/said.h"

#include "common/base/config.h"
#include "common/base/err.h"

static char error[CONFIG_ERROR_LEN];

static struct config *read_bytes(const char *bytes, size_t len)
{
	struct config *c = NULL;

	error[0] = 0;
	int rc = config_read(file_with_bytes("c.yaml", bytes, len), &c, error);
	assert_int_equal(rc, c ? 0 : ERR_CONFIG);
	assert_int_equal(!error[0], c != NULL);
	return c;
}

static struct config *read_text(const char *text) { return read_bytes(text, strlen(text)); }

static void assert_refused(const char *text, const char *words)
{
	assert_null(read_text(text));
	if (!strstr(error, words))
		fail_msg("not in \"%s\": %s", error, words);
}

static void assert_value(const struct config_entry *e, const char *key, const char *value)
{
	assert_string_equal(e->key.text, key);
	assert_int_equal(e->n, 1);
	assert_string_equal(e->v[0].text, value);
}

static void keys_lists_and_places_are_read(void **state)
{
	(void)state;
	struct config *c = read_text("# comment\nid: home-wg\npeer: [a, b]\nlisten:\n  - :443\n"
	                             "  - '[::1]:8443'\n");
	assert_non_null(c);
	assert_int_equal(c->n, 3);
	assert_value(&c->v[0], "id", "home-wg");
	assert_int_equal(c->v[0].key.line, 2);
	assert_int_equal(c->v[0].v[0].column, 5);
	assert_false(c->v[0].is_list);
	assert_true(c->v[1].is_list);
	assert_int_equal(c->v[1].n, 2);
	assert_string_equal(c->v[2].v[1].text, "[::1]:8443");
	assert_int_equal(c->v[2].v[1].line, 6);
	config_free(c);
}

static void keys_in_a_map_carry_its_name(void **state)
{
	(void)state;
	struct config *c = read_text("limits:\n  streams: 5\n  header-list: 1KiB\nid: a\n");
	assert_non_null(c);
	assert_int_equal(c->n, 3);
	assert_value(&c->v[0], "limits.streams", "5");
	assert_int_equal(c->v[0].key.line, 2);
	assert_int_equal(c->v[0].key.column, 3);
	assert_value(&c->v[1], "limits.header-list", "1KiB");
	assert_value(&c->v[2], "id", "a");
	config_free(c);
	c = read_text("limits: {}\n");
	assert_non_null(c);
	assert_int_equal(c->n, 0);
	config_free(c);
}

static void keys_in_a_map_in_a_map_carry_both_names(void **state)
{
	(void)state;
	struct config *c = read_text("t:\n  pro:\n    rate: 5\n    burst: 1\n  free: {rate: 2}\n"
	                             "  x: 3\nid: a\n");
	assert_non_null(c);
	assert_int_equal(c->n, 5);
	assert_value(&c->v[0], "t.pro.rate", "5");
	assert_int_equal(c->v[0].v[0].line, 3);
	assert_int_equal(c->v[0].v[0].column, 11);
	assert_value(&c->v[1], "t.pro.burst", "1");
	assert_value(&c->v[2], "t.free.rate", "2");
	assert_value(&c->v[3], "t.x", "3");
	assert_value(&c->v[4], "id", "a");
	config_free(c);
}

static void C13_what_is_twice_in_a_map_in_a_map_is_refused(void **state)
{
	(void)state;
	assert_refused("t:\n  a:\n    r: 1\n    r: 2\n",
	               "c.yaml:4:5: key \"t.a.r\" is there already, in line 3");
	assert_refused("t:\n  a: {r: 1}\n  a: {s: 2}\n", "c.yaml:3:3: key \"t.a\" is there");
	assert_refused("t:\n  a: {r: 1}\nt:\n  b: {r: 1}\n", "c.yaml:3:1: key \"t\" is there");
	assert_refused("t:\n  a: {r: 1}\n  a: 1\n", "c.yaml:3:3: key \"t.a\" is there");
}

static void a_map_in_a_map_is_not_empty(void **state)
{
	(void)state;
	assert_refused("t:\n  a: {}\n  b: {r: 1}\n", "c.yaml:2:3: there is nothing in the map t.a");
	struct config *c = read_text("t: {}\n"); /* as a file with nothing in it */
	assert_non_null(c);
	config_free(c);
}

static void a_map_or_a_key_of_one_twice_is_refused(void **state)
{
	(void)state;
	assert_refused("l:\n  a: 1\n  a: 2\n",
	               "c.yaml:3:3: key \"l.a\" is there already, in line 2");
	assert_refused("l:\n  a: 1\nl:\n  b: 2\n", "c.yaml:3:1: key \"l\" is there already");
	assert_refused("l: off\nl:\n  b: 2\n", "c.yaml:2:1: key \"l\" is there already");
	assert_refused("l:\n  a: 1\nl.a: 2\n", "key \"l.a\" is there already");
}

static void an_empty_file_has_no_keys(void **state)
{
	static const char *const texts[] = {
		"", "\n\n", "# nothing\n", "---\n", "---\n...\n", "{}"
	};
	(void)state;

	for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct config *c = read_text(texts[i]);
		assert_non_null(c);
		assert_int_equal(c->n, 0);
		config_free(c);
	}
}

static void C09_only_regular_files_of_a_mebibyte(void **state)
{
	struct config *c = NULL;
	char *big = malloc(CONFIG_FILE_MAX + 1);
	(void)state;

	assert_non_null(big);
	assert_int_equal(config_read(file_path("missing"), &c, error), ERR_CONFIG);
	assert_non_null(strstr(error, "missing: cannot be opened: No such file"));
	assert_int_equal(config_read("/tmp", &c, error), ERR_CONFIG);
	assert_string_equal(error, "/tmp: is a directory, not a config file");
	assert_int_equal(config_read("/dev/zero", &c, error), ERR_CONFIG);
	assert_string_equal(error, "/dev/zero: is not a regular file");
	const char *fifo = file_path("fifo");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(config_read(fifo, &c, error), ERR_CONFIG);
	memset(big, '#', CONFIG_FILE_MAX + 1);
	assert_null(read_bytes(big, CONFIG_FILE_MAX + 1));
	assert_non_null(strstr(error, "larger than 1 MiB"));
	c = read_bytes(big, CONFIG_FILE_MAX);
	assert_non_null(c);
	config_free(c);
	free(big);
}

static void C10_mark_carriage_returns_and_no_last_newline_are_accepted(void **state)
{
	(void)state;
	struct config *c = read_text("\xef\xbb\xbfid: a\r\npeer:\r\n- b\r\n- c\r\nonce: yes");
	assert_non_null(c);
	assert_int_equal(c->n, 3);
	assert_value(&c->v[0], "id", "a");
	assert_int_equal(c->v[1].n, 2);
	assert_string_equal(c->v[1].v[1].text, "c");
	assert_value(&c->v[2], "once", "yes");
	config_free(c);
}

static void C11_bad_utf8_and_nul_are_refused_with_their_place(void **state)
{
	(void)state;
	assert_refused("id: a\npeer: \xc3\xa9\xff\n", "c.yaml:2:8: byte 14 is not UTF-8");
	assert_null(read_bytes("id: a\0b\n", 8));
	assert_non_null(strstr(error, "c.yaml:1:6: byte 5 is NUL"));
	assert_refused("id: \"a\\0b\"\n", "c.yaml:1:5: holds a NUL");
	assert_null(read_bytes("\xff\xfei\0d\0:\0 \0a\0\n\0", 14)); /* UTF-16 */
}

static void C13_a_key_twice_is_refused(void **state)
{
	(void)state;
	assert_refused("id: a\npeer: b\nid: c\n",
	               "c.yaml:3:1: key \"id\" is there already, in line 1");
}

static void what_is_not_flat_is_refused(void **state)
{
	(void)state;
	assert_refused("a:\n  b:\n    c:\n      d: e\n",
	               "c.yaml:4:7: a map deeper than two levels");
	assert_refused("peer: [[a]]\n", "a list inside a list");
	assert_refused("peer: [{a: b}]\n", "a map deeper than two levels");
	assert_refused("- a\n", "c.yaml:1:1: lines of `key: value`");
	assert_refused("just words\n", "lines of `key: value`");
	assert_refused("[a]: b\n", "a key is a word");
	assert_refused("id: a\n---\nid: b\n", "a second document");
	assert_refused("id: &x a\nnode: *x\n", "anchors");
}

static void a_missing_value_is_refused(void **state)
{
	(void)state;
	assert_refused("id:\n", "c.yaml:1:4: the value is missing");
	assert_refused("id: ~\n", "the value is missing");
	struct config *c = read_text("id: '~'\nnode: ''\n");
	assert_non_null(c);
	assert_value(&c->v[0], "id", "~");
	assert_value(&c->v[1], "node", "");
	config_free(c);
}

static void broken_yaml_is_refused_with_its_place(void **state)
{
	(void)state;
	assert_refused("id: [a\n", "c.yaml:2:1: not YAML: ");
	assert_refused("id: 'a\n", "not YAML: ");
	assert_refused("\tid: a\n", "c.yaml:1:1: not YAML: ");
	assert_refused("a: b: c\n", "c.yaml:1:5: not YAML: ");
}

static void deep_nesting_and_many_keys_end_early(void **state)
{
	char *text = malloc(200000);
	size_t n = 0;
	(void)state;

	assert_non_null(text);
	memset(text, '[', 199999);
	text[199999] = 0;
	assert_refused(text, ":1:1: ");
	for (unsigned i = 0; i < 2000; i++)
		n += (size_t)sprintf(text + n, "k%u: 1\n", i);
	assert_refused(text, "c.yaml:1001:1: too many keys");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_lists_and_places_are_read),
		cmocka_unit_test(keys_in_a_map_carry_its_name),
		cmocka_unit_test(keys_in_a_map_in_a_map_carry_both_names),
		cmocka_unit_test(C13_what_is_twice_in_a_map_in_a_map_is_refused),
		cmocka_unit_test(a_map_in_a_map_is_not_empty),
		cmocka_unit_test(a_map_or_a_key_of_one_twice_is_refused),
		cmocka_unit_test(an_empty_file_has_no_keys),
		cmocka_unit_test(C09_only_regular_files_of_a_mebibyte),
		cmocka_unit_test(C10_mark_carriage_returns_and_no_last_newline_are_accepted),
		cmocka_unit_test(C11_bad_utf8_and_nul_are_refused_with_their_place),
		cmocka_unit_test(C13_a_key_twice_is_refused),
		cmocka_unit_test(what_is_not_flat_is_refused),
		cmocka_unit_test(a_missing_value_is_refused),
		cmocka_unit_test(broken_yaml_is_refused_with_its_place),
		cmocka_unit_test(deep_nesting_and_many_keys_end_early),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
