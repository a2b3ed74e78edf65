#include "tests/unit/said.h"

#include <errno.h>
#include <sys/wait.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/nodekey.h"

/* Made for these tests; not a pair that anybody uses. */
#define SECRET_HEX "88b1f5c2d40e6b8a7f3e915d2c4b6a09fedcba98765432100123456789abcd6f"
#define BIT255_HEX "88b1f5c2d40e6b8a7f3e915d2c4b6a09fedcba98765432100123456789abcdef"
#define SECRET_B64 "iLH1wtQOa4p/PpFdLEtqCf7cuph2VDIQASNFZ4mrzW8="
#define ZERO_HEX   "0000000000000000000000000000000000000000000000000000000000000000"

static struct nodekey key;
static char error[NODEKEY_ERROR_LEN];

static int read_as(struct str s, enum nodekey_kind wanted)
{
	memset(&key, 0x55, sizeof key);
	memset(error, 0, sizeof error);
	return nodekey_read(s, wanted, &key, error);
}

static struct nodekey secret_key(void)
{
	struct nodekey k = { .kind = NODEKEY_SECRET };

	assert_int_equal(hex_decode(STR(SECRET_HEX), k.key.b, KEY_LEN), 0);
	return k;
}

static void refused(struct str s, enum nodekey_kind wanted, const char *words)
{
	assert_int_equal(read_as(s, wanted), ERR_INVALID);
	if (!strstr(error, words))
		fail_msg("\"%s\" does not say \"%s\"", error, words);
	assert_null(strstr(error, "88b1f5"));
	assert_null(strstr(error, "iLH1w"));
	assert_int_equal(key.key.b[0], 0x55); /* untouched */
}

static void each_form_is_written_and_read_again(void **state)
{
	struct nodekey k = secret_key();
	char out[NODEKEY_WRITTEN_MAX];

	(void)state;
	for (int f = 0; f < NODEKEY_FORM_N; f++) {
		enum nodekey_kind says = nodekey_kind_of(f);
		k.kind = says;
		int n = nodekey_write(&k, f, out);
		assert_true(n >= KEY_LEN && n < NODEKEY_WRITTEN_MAX && out[n] == 0);
		assert_int_equal(out[n - 1] == '\n', !nodekey_form_is_binary(f));
		assert_int_equal(read_as((struct str){ out, (size_t)n }, says), 0);
		assert_int_equal(key.form, f);
		assert_int_equal(key.kind, says);
		assert_true(key_eq(&key.key, &k.key));
	}
}

static void forms_are_written_as_others_write_them(void **state)
{
	static const struct {
		enum nodekey_form form;
		const char *text;
	} rows[] = {
		{ NODEKEY_PRIVKEY, "privkey:" SECRET_HEX "\n" },
		{ NODEKEY_JSON, "{\n\t\"PrivateKey\": \"privkey:" SECRET_HEX "\"\n}\n" },
		{ NODEKEY_NODEKEY, "nodekey:" SECRET_HEX "\n" },
		{ NODEKEY_HEX, SECRET_HEX "\n" },
		{ NODEKEY_WIREGUARD, SECRET_B64 "\n" },
	};
	struct nodekey k = secret_key();
	char out[NODEKEY_WRITTEN_MAX];

	(void)state;
	k.kind = NODEKEY_EITHER;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(nodekey_write(&k, rows[i].form, out), strlen(rows[i].text));
		assert_string_equal(out, rows[i].text);
	}
	assert_int_equal(nodekey_write(&k, NODEKEY_NP, out), 34);
	assert_memory_equal(out, "np", 2);
	assert_memory_equal(out + 2, k.key.b, KEY_LEN);
	assert_int_equal(nodekey_write(&k, NODEKEY_RAW, out), 32);
	assert_memory_equal(out, k.key.b, KEY_LEN);
}

static void a_key_is_not_written_as_the_other_kind(void **state)
{
	struct nodekey k = secret_key();
	char out[NODEKEY_WRITTEN_MAX] = "";

	(void)state;
	assert_int_equal(nodekey_write(&k, NODEKEY_NODEKEY, out), ERR_INVALID);
	assert_int_equal(nodekey_write(&k, NODEKEY_NP, out), ERR_INVALID);
	k.kind = NODEKEY_PUBLIC;
	assert_int_equal(nodekey_write(&k, NODEKEY_PRIVKEY, out), ERR_INVALID);
	assert_int_equal(nodekey_write(&k, NODEKEY_JSON, out), ERR_INVALID);
	assert_int_equal(out[0], 0);
}

static void blanks_around_and_upper_case_digits_do_not_matter(void **state)
{
	static const struct {
		const char *text;
		enum nodekey_form form;
	} rows[] = {
		{ "privkey:88B1F5C2D40E6B8A7F3E915D2C4B6A09FEDCBA98765432100123456789ABCD6F",
		  NODEKEY_PRIVKEY },
		{ "nodekey:88B1f5c2d40e6b8a7f3e915d2c4b6a09fedcba98765432100123456789abcd6F\r\n",
		  NODEKEY_NODEKEY },
		{ "\n\t 88B1F5C2D40E6B8A7F3E915D2C4B6A09FEDCBA98765432100123456789ABCD6F ",
		  NODEKEY_HEX },
		{ "  " SECRET_B64 "\r\n", NODEKEY_WIREGUARD },
		{ " {\"privatekey\":\"privkey:" SECRET_HEX "\"} ", NODEKEY_JSON },
		{ "{\"Other\":[1,{}],\"PrivateKey\":\"x\",\"PrivateKey\":\"privkey:" SECRET_HEX
		  "\"}",
		  NODEKEY_JSON },
	};
	struct nodekey k = secret_key();

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(read_as(str_of(rows[i].text), NODEKEY_EITHER), 0);
		assert_int_equal(key.form, rows[i].form);
		assert_true(key_eq(&key.key, &k.key));
	}
}

static void what_is_no_key_is_refused_in_words_without_it(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{ "", "empty" },
		{ " \r\n", "empty" },
		{ "privkey:", "64 hex digits behind it, here are 0" },
		{ "privkey:88b1f5", "here are 6 characters" },
		{ "privkey:" SECRET_HEX "0", "here are 65" },
		{ "privkey: " SECRET_HEX, "here are 65" },
		{ "privkey:g8b1f5c2d40e6b8a7f3e915d2c4b6a09fedcba98765432100123456789abcd6f",
		  "not all hex digits" },
		{ "Privkey:" SECRET_HEX, "no key" },
		{ "nodekey:" SECRET_HEX "\nnodekey:" SECRET_HEX, "here are 137" },
		{ SECRET_HEX "\n" SECRET_HEX, "more than one line" },
		{ "88b1f5c2d40e6b8a7f3e915d2c4b6a09", "32 characters that are no key" },
		{ "correct horse battery staple 123", "32 characters that are no key" },
		{ "iLH1wtQOa4p/PpFdLEtqCf7cuph2VDIQASNFZ4mrzW8", "43 characters" },
		{ "iLH1wtQOa4p_PpFdLEtqCf7cuph2VDIQASNFZ4mrzW8=", "44 characters" },
		{ "iLH1wtQOa4p/PpFdLEtqCf7cuph2VDIQASNFZ4mrzW9=", "44 characters" },
		{ "iLH1wtQOa4p/PpFdLEtqCf7cuph2VDIQASNFZ4mrzW8A", "44 characters" },
		{ "discokey:" SECRET_HEX, "disco key" },
		{ "mkey:" SECRET_HEX, "machine" },
		{ "tunn_12345678_secret", "token" },
		{ "-----BEGIN PRIVATE KEY-----\nx", "PEM" },
		{ "[Interface]\nPrivateKey = " SECRET_B64, "WireGuard config" },
		{ "{", "line 1" },
		{ "{\n\"PrivateKey\": \"privkey:" SECRET_HEX "\",\n}", "line 3" },
		{ "{}", "without the text \"PrivateKey\"" },
		{ "{\"PrivateKey\":null}", "without the text" },
		{ "{\"PrivateKey\":7}", "without the text" },
		{ "{\"PrivateKey\":\"" SECRET_HEX "\"}", "must be privkey:" },
		{ "{\"PrivateKey\":\"nodekey:" SECRET_HEX "\"}", "must be privkey:" },
		{ "{\"PrivateKey\":\"privkey:88b1f5\"}", "here are 6" },
		{ "{\"PrivateKey\":[[[[[1]]]]]}", "too much" },
		{ "privkey:" ZERO_HEX, "all zeros" },
		{ ZERO_HEX, "all zeros" },
		{ "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "all zeros" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		refused(str_of(rows[i].text), NODEKEY_EITHER, rows[i].words);
}

static void bytes_are_a_key_at_their_one_length_only(void **state)
{
	char bytes[64] = "np";
	struct nodekey k = secret_key();

	(void)state;
	memcpy(bytes + 2, k.key.b, KEY_LEN);
	for (size_t n = 9; n < sizeof bytes; n++) { /* before, they are letters */
		if (n == 32 || n == 34)
			continue;
		refused((struct str){ bytes, n }, NODEKEY_EITHER, "neither text nor");
	}
	assert_int_equal(read_as((struct str){ bytes, 34 }, NODEKEY_PUBLIC), 0);
	assert_true(key_eq(&key.key, &k.key));
	assert_int_equal(read_as((struct str){ bytes + 2, 32 }, NODEKEY_SECRET), 0);
	assert_true(key_eq(&key.key, &k.key));
	bytes[0] = 'n' + 1;
	refused((struct str){ bytes, 34 }, NODEKEY_EITHER, "neither text nor");
	memset(bytes, 0, sizeof bytes);
	refused((struct str){ bytes, 32 }, NODEKEY_EITHER, "all zeros");
}

static void the_other_kind_is_refused_where_the_form_says_it(void **state)
{
	(void)state;
	refused(STR("nodekey:" SECRET_HEX), NODEKEY_SECRET, "secret one is needed");
	refused(STR("privkey:" SECRET_HEX), NODEKEY_PUBLIC, "tunn key pub");
	refused(STR("{\"PrivateKey\":\"privkey:" SECRET_HEX "\"}"), NODEKEY_PUBLIC, "tunn key pub");
	assert_int_equal(read_as(STR(SECRET_HEX), NODEKEY_SECRET), 0);
	assert_int_equal(key.kind, NODEKEY_SECRET);
	assert_int_equal(read_as(STR(SECRET_B64), NODEKEY_PUBLIC), 0);
	assert_int_equal(key.kind, NODEKEY_PUBLIC);
	assert_int_equal(read_as(STR(SECRET_B64), NODEKEY_EITHER), 0);
	assert_int_equal(key.kind, NODEKEY_EITHER);
}

static void a_public_key_never_has_bit_255_but_a_secret_may(void **state)
{
	struct nodekey pub, pub_clamped;

	(void)state;
	refused(STR("nodekey:" BIT255_HEX), NODEKEY_EITHER, "bit 255");
	refused(STR(BIT255_HEX), NODEKEY_PUBLIC, "bit 255");
	assert_int_equal(read_as(STR("privkey:" BIT255_HEX), NODEKEY_SECRET), 0);
	assert_int_equal(key.key.b[31], 0xef); /* kept as it is */
	nodekey_public(&key, &pub);
	crypto_node_clamp(key.key.b);
	nodekey_public(&key, &pub_clamped);
	assert_true(key_eq(&pub.key, &pub_clamped.key));
	assert_int_equal(pub.kind, NODEKEY_PUBLIC);
}

static void forms_have_names(void **state)
{
	enum nodekey_form f;

	(void)state;
	for (int i = 0; i < NODEKEY_FORM_N; i++) {
		assert_int_equal(nodekey_form_of(nodekey_form_name(i), &f), 0);
		assert_int_equal(f, i);
	}
	assert_int_equal(nodekey_form_of("PRIVKEY", &f), ERR_INVALID);
	assert_int_equal(nodekey_form_of("", &f), ERR_INVALID);
}

/* ---- files ---- */

static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static const char *key_file(const char *name, const char *content, mode_t mode)
{
	const char *path = in_dir(name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(content, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/tunn-nodekey-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static void a_secret_that_others_may_read_is_refused(void **state)
{
	static const mode_t open_modes[] = { 0644, 0604, 0620, 0666, 0601 };
	const char *path;

	(void)state;
	for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
		path = key_file("k", "privkey:" SECRET_HEX, open_modes[i]);
		assert_int_equal(nodekey_read_file(path, NODEKEY_EITHER, &key, error), ERR_INVALID);
		assert_non_null(strstr(error, "chmod 600"));
		path = key_file("k", SECRET_B64, open_modes[i]);
		assert_int_equal(nodekey_read_file(path, NODEKEY_EITHER, &key, error), ERR_INVALID);
		assert_int_equal(nodekey_read_file(path, NODEKEY_SECRET, &key, error), ERR_INVALID);
		assert_int_equal(nodekey_read_file(path, NODEKEY_PUBLIC, &key, error), 0);
		path = key_file("k", "nodekey:" SECRET_HEX, open_modes[i]);
		assert_int_equal(nodekey_read_file(path, NODEKEY_EITHER, &key, error), 0);
	}
	path = key_file("k", "privkey:" SECRET_HEX, 0600);
	assert_int_equal(nodekey_read_file(path, NODEKEY_SECRET, &key, error), 0);
	path = key_file("k", "privkey:" SECRET_HEX, 0400);
	assert_int_equal(nodekey_read_file(path, NODEKEY_SECRET, &key, error), 0);
}

static void a_bad_file_is_refused_by_name(void **state)
{
	char big[5000];

	(void)state;
	assert_int_equal(nodekey_read_file(in_dir("none"), NODEKEY_SECRET, &key, error), -ENOENT);
	assert_non_null(strstr(error, "/none: "));
	assert_true(nodekey_read_file(dir, NODEKEY_SECRET, &key, error) < 0);
	assert_non_null(strstr(error, "not a regular file"));
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	assert_true(nodekey_read_file(in_dir("fifo"), NODEKEY_SECRET, &key, error) < 0);
	memset(big, ' ', sizeof big - 1);
	big[sizeof big - 1] = 0;
	assert_true(nodekey_read_file(key_file("big", big, 0600), NODEKEY_SECRET, &key, error) < 0);
	assert_non_null(strstr(error, "/big: it is far too long"));
	assert_true(nodekey_read_file(key_file("bad", "privkey:88b1f5", 0600), NODEKEY_SECRET, &key,
	                              error) < 0);
	assert_non_null(strstr(error, "/bad: privkey: needs 64"));
}

static void a_key_is_made_once_and_then_loaded(void **state)
{
	struct nodekey first, again;
	bool created;
	struct stat st;

	(void)state;
	const char *path = in_dir("deep/er/derp.key");
	assert_int_equal(nodekey_load_or_create(path, &first, &created, error), 0);
	assert_true(created);
	assert_int_equal(first.kind, NODEKEY_SECRET);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(in_dir("deep/er"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	path = in_dir("deep/er/derp.key");
	assert_int_equal(nodekey_load_or_create(path, &again, &created, error), 0);
	assert_false(created);
	assert_true(key_eq(&first.key, &again.key));
	assert_int_equal(again.form, NODEKEY_JSON);
}

static void a_file_that_is_no_key_is_not_replaced(void **state)
{
	char text[8] = "";
	bool created;

	(void)state;
	const char *path = key_file("derp.key", "oops", 0600);
	assert_int_equal(nodekey_load_or_create(path, &key, &created, error), ERR_INVALID);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	assert_string_equal(text, "oops");
	assert_int_equal(nodekey_create_file(path, &key, NODEKEY_HEX, error), -EEXIST);
	assert_non_null(strstr(error, "exists"));
	assert_int_equal(symlink("nowhere", in_dir("link")), 0);
	assert_true(nodekey_load_or_create(in_dir("link"), &key, &created, error) < 0);
	assert_int_equal(access(in_dir("nowhere"), F_OK), -1);
}

static void two_that_start_at_once_get_the_same_key(void **state)
{
	enum { N = 16 };
	struct nodekey mine;
	uint8_t got[N][KEY_LEN];
	bool created;
	int from[2];

	(void)state;
	assert_int_equal(pipe(from), 0);
	for (int i = 0; i < N; i++) {
		if (fork() == 0) {
			int rc = nodekey_load_or_create(in_dir("race/k"), &mine, &created, error);
			_exit(rc == 0 && write(from[1], mine.key.b, KEY_LEN) == KEY_LEN ? 0 : 1);
		}
	}
	close(from[1]);
	for (int i = 0; i < N; i++) {
		assert_int_equal(read(from[0], got[i], KEY_LEN), KEY_LEN);
		assert_memory_equal(got[i], got[0], KEY_LEN);
	}
	close(from[0]);
	for (int i = 0; i < N; i++) {
		int status;
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
}

static void what_cannot_be_written_leaves_nothing_behind(void **state)
{
	bool created;

	(void)state;
	assert_true(nodekey_load_or_create("/proc/none/k", &key, &created, error) < 0);
	assert_non_null(strstr(error, "/proc/none"));
	assert_int_equal(nodekey_create_file(in_dir("no/dir"), &key, NODEKEY_HEX, error), -ENOENT);
	key_file("taken", "", 0600);
	assert_int_equal(nodekey_create_file(in_dir("taken"), &key, NODEKEY_HEX, error), -EEXIST);
	char command[160];
	snprintf(command, sizeof command, "test \"$(ls -A %s | grep -c 'taken\\.')\" = 0", dir);
	assert_int_equal(system(command), 0);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_form_is_written_and_read_again),
		cmocka_unit_test(forms_are_written_as_others_write_them),
		cmocka_unit_test(a_key_is_not_written_as_the_other_kind),
		cmocka_unit_test(blanks_around_and_upper_case_digits_do_not_matter),
		cmocka_unit_test(what_is_no_key_is_refused_in_words_without_it),
		cmocka_unit_test(bytes_are_a_key_at_their_one_length_only),
		cmocka_unit_test(the_other_kind_is_refused_where_the_form_says_it),
		cmocka_unit_test(a_public_key_never_has_bit_255_but_a_secret_may),
		cmocka_unit_test(forms_have_names),
		IN_DIR(a_secret_that_others_may_read_is_refused),
		IN_DIR(a_bad_file_is_refused_by_name),
		IN_DIR(a_key_is_made_once_and_then_loaded),
		IN_DIR(a_file_that_is_no_key_is_not_replaced),
		IN_DIR(two_that_start_at_once_get_the_same_key),
		IN_DIR(what_cannot_be_written_leaves_nothing_behind),
	};
	if (crypto_start() < 0)
		return 1;
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
