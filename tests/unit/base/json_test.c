#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"

static const struct json_limits wide = { .len = 4096, .depth = 16, .parts = 256 };

static struct json *parsed(const char *text)
{
	struct json *doc = NULL;

	assert_int_equal(json_parse(str_of(text), &wide, &doc, NULL), 0);
	assert_non_null(doc);
	return doc;
}

static int parse(const char *text, const struct json_limits *limits)
{
	struct json *doc = NULL;
	int rc = json_parse(str_of(text), limits, &doc, NULL);

	assert_true((rc == 0) == (doc != NULL));
	json_free(doc);
	return rc;
}

static int64_t int_of(const char *text, const char *name)
{
	struct json *doc = parsed(text);
	int64_t n = -1;

	assert_int_equal(json_as_int(json_get(doc, name), &n), JSON_READ);
	json_free(doc);
	return n;
}

static enum json_read read_int(const char *text, const char *name)
{
	struct json *doc = parsed(text);
	int64_t n = 77;
	enum json_read r = json_as_int(json_get(doc, name), &n);

	assert_true(r == JSON_READ || n == 77);
	json_free(doc);
	return r;
}

static void a_member_is_found_in_either_case_but_underscores_count(void **state)
{
	static const char *const same[] = { "meshKey",      "MeshKey",      "meshkey",
		                            "MESHKEY",      "mESHkEY",      "me\u017fhKey",
		                            "mesh\u212aey", "MeSHKe\\u0079" };
	static const char *const others[] = {
		"mesh_key", "meshKe",       "meshKeys",     "",
		"meshKey ", "m\u0117shKey", "mesh\u212bey", "\u0161"
	};
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		snprintf(text, sizeof text, "{\"%s\":%zu}", same[i], i);
		assert_int_equal(int_of(text, "meshKey"), i);
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		snprintf(text, sizeof text, "{\"%s\":1}", others[i]);
		assert_int_equal(read_int(text, "meshKey"), JSON_ABSENT);
	}
}

static void of_several_members_the_last_counts(void **state)
{
	(void)state;
	assert_int_equal(int_of("{\"version\":1,\"version\":2}", "version"), 2);
	assert_int_equal(int_of("{\"version\":1,\"Version\":2}", "version"), 2);
	assert_int_equal(int_of("{\"Version\":1,\"x\":0,\"version\":2}", "version"), 2);
	assert_int_equal(int_of("{\"version\":2,\"VERSION\":1}", "Version"), 1);
	assert_int_equal(read_int("{\"version\":2,\"version\":null}", "version"), JSON_IS_NULL);
}

static void absent_null_and_wrong_type_are_told_apart(void **state)
{
	struct json *doc = parsed("{\"n\":null,\"t\":\"x\",\"i\":5,\"r\":2.0,\"b\":false,"
	                          "\"o\":{},\"a\":[]}");
	static const char names[][2] = { "n", "t", "i", "r", "b", "o", "a", "q" };
	struct str text;
	int64_t i;
	double r;
	bool b;
	const struct json *at;
	enum json_read got[8][6];

	(void)state;
	for (int k = 0; k < 8; k++) {
		const struct json *j = json_get(doc, names[k]);
		got[k][0] = json_as_text(j, &text);
		got[k][1] = json_as_int(j, &i);
		got[k][2] = json_as_real(j, &r);
		got[k][3] = json_as_bool(j, &b);
		got[k][4] = json_as_object(j, &at);
		got[k][5] = json_as_array(j, &at);
	}
	for (int as = 0; as < 6; as++) {
		assert_int_equal(got[0][as], JSON_IS_NULL);
		assert_int_equal(got[7][as], JSON_ABSENT);
		for (int k = 1; k < 7; k++)
			assert_int_equal(got[k][as], k == as + 1 || (k == 2 && as == 2) ?
			                                             JSON_READ :
			                                             JSON_WRONG_TYPE);
	}
	json_free(doc);
}

static void values_are_read_as_they_were_written(void **state)
{
	struct json *doc = parsed("{\"t\":\"a\\u0000\\\"\\u00e9\\ud83d\\ude00\",\"e\":\"\","
	                          "\"min\":-9223372036854775808,\"r\":1.5e3,\"i\":7,\"y\":true}");
	struct str text;
	int64_t n;
	double r;
	bool b;

	(void)state;
	assert_int_equal(json_as_text(json_get(doc, "t"), &text), JSON_READ);
	assert_true(str_eq(text, STR("a\0\"\u00e9\U0001f600")));
	assert_int_equal(json_as_text(json_get(doc, "e"), &text), JSON_READ);
	assert_int_equal(text.len, 0);
	assert_int_equal(json_as_int(json_get(doc, "min"), &n), JSON_READ);
	assert_true(n == INT64_MIN);
	assert_int_equal(json_as_real(json_get(doc, "r"), &r), JSON_READ);
	assert_true(r == 1500);
	assert_int_equal(json_as_real(json_get(doc, "i"), &r), JSON_READ);
	assert_true(r == 7);
	assert_int_equal(json_as_bool(json_get(doc, "y"), &b), JSON_READ);
	assert_true(b);
	json_free(doc);
}

static void nothing_is_found_in_what_is_no_object(void **state)
{
	static const char *const texts[] = { "[{\"a\":1}]", "\"a\"", "1", "null", "true" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_int_equal(read_int(texts[i], "a"), JSON_ABSENT);
	assert_null(json_get(NULL, "a"));
}

static void what_is_no_json_is_refused_with_its_line(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} bad[] = {
		{ "", 1 },
		{ " \n\t", 2 },
		{ "{", 1 },
		{ "{\"a\":1}\n\n{}", 3 },
		{ "{\"a\":1,}", 1 },
		{ "{\n\"a\" 1}", 2 },
		{ "{a:1}", 1 },
		{ "['a']", 1 },
		{ "{\"a\":01}", 1 },
		{ "\"\xff\"", 1 },
		{ "\"\\ud800\"", 1 },
		{ "\"\n\"", 1 },
		{ "[1]]", 1 },
		{ "NaN", 1 },
		{ "99999999999999999999", 1 },
	};
	struct json *doc = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		unsigned line = 0;
		assert_int_equal(json_parse(str_of(bad[i].text), &wide, &doc, &line), ERR_INVALID);
		assert_int_equal(line, bad[i].line);
	}
	assert_null(doc);
	assert_int_equal(json_parse((struct str){ NULL, 0 }, &wide, &doc, NULL), ERR_INVALID);
	assert_int_equal(json_parse(STR("{\"a\0b\":1}"), &wide, &doc, NULL), ERR_INVALID);
}

static void each_limit_holds_to_the_byte(void **state)
{
	struct json_limits l = { .len = 8, .depth = 2, .parts = 4 };

	(void)state;
	assert_int_equal(parse("[12,345]", &l), 0);
	assert_int_equal(parse("[12,3456]", &l), ERR_TOO_BIG);
	assert_int_equal(parse("[[]]", &l), 0);
	assert_int_equal(parse("[[[]]]", &l), ERR_TOO_BIG);
	assert_int_equal(parse("{\"[\":[]}", &l), 0);
	assert_int_equal(parse("[\"\\\"[[\"]", &(struct json_limits){ 9, 1, 9 }), 0);
	assert_int_equal(parse("[1,2,3]", &l), 0);
	assert_int_equal(parse("[1,2,3,4", &l), ERR_TOO_BIG);
	assert_int_equal(parse("[],[],[]", &l), ERR_TOO_BIG);
	assert_int_equal(parse("7", &(struct json_limits){ 1, 0, 1 }), 0);
	assert_int_equal(parse("[]", &(struct json_limits){ 2, 0, 9 }), ERR_TOO_BIG);
}

static void a_walk_meets_members_and_elements_in_their_order(void **state)
{
	struct json *doc = parsed("{\"10\":\"a\",\"2\":\"b\",\"list\":[3,1,2],\"\":\"c\"}");
	char seen[64] = "";
	int64_t n;

	(void)state;
	for (struct json_walk w = json_walk(doc); json_next(&w);) {
		struct str text = STR("-");
		json_as_text(w.value, &text);
		snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%.*s=%.*s ",
		         (int)w.name.len, w.name.p, (int)text.len, text.p);
	}
	assert_string_equal(seen, "10=a 2=b list=- =c ");
	seen[0] = 0;
	for (struct json_walk w = json_walk(json_get(doc, "LIST")); json_next(&w);) {
		assert_int_equal(json_as_int(w.value, &n), JSON_READ);
		snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%d", (int)n);
	}
	assert_string_equal(seen, "312");
	json_free(doc);
	doc = parsed("{\"a\":\"text\",\"n\":null,\"o\":{},\"l\":[]}");
	for (struct json_walk w = json_walk(doc); json_next(&w);)
		for (struct json_walk in = json_walk(w.value); json_next(&in);)
			fail();
	for (struct json_walk w = json_walk(NULL); json_next(&w);)
		fail();
	json_free(doc);
}

static void documents_are_printed_as_go_prints_them(void **state)
{
	struct json *o = json_new_object(), *list = json_new_array(), *in = json_new_object();
	char out[128];

	(void)state;
	assert_int_equal(json_put(o, "version", json_new_int(2)), 0);
	assert_int_equal(json_put(o, "CanAckPings", json_new_bool(true)), 0);
	assert_int_equal(json_print(o, JSON_ONE_LINE, out, sizeof out), 32);
	assert_string_equal(out, "{\"version\":2,\"CanAckPings\":true}");
	assert_int_equal(json_add(list, json_new_text(STR("x\n  y"))), 0);
	assert_int_equal(json_put(in, "list", list), 0);
	assert_int_equal(json_put(o, "in", in), 0);
	json_print(o, JSON_TABS, out, sizeof out);
	assert_string_equal(out, "{\n\t\"version\": 2,\n\t\"CanAckPings\": true,\n\t\"in\": {\n"
	                         "\t\t\"list\": [\n\t\t\t\"x\\n  y\"\n\t\t]\n\t}\n}");
	json_free(o);
}

static void printing_needs_room_for_all_and_the_nul(void **state)
{
	struct json *o = json_new_object();
	char out[9];

	(void)state;
	assert_int_equal(json_put(o, "a", json_new_int(12)), 0);
	for (size_t cap = 0; cap < 9; cap++)
		assert_int_equal(json_print(o, JSON_ONE_LINE, out, cap), ERR_TOO_BIG);
	assert_int_equal(json_print(o, JSON_ONE_LINE, out, 9), 8);
	assert_string_equal(out, "{\"a\":12}");
	assert_int_equal(json_put(o, "b", NULL), -ENOMEM);
	assert_int_equal(json_put(o, "b", json_new_text(STR("\xff"))), -ENOMEM);
	assert_int_equal(json_put(NULL, "b", json_new_int(1)), -ENOMEM);
	assert_int_equal(json_add(NULL, json_new_int(1)), -ENOMEM);
	assert_int_equal(json_print(NULL, JSON_ONE_LINE, out, 9), ERR_TOO_BIG);
	json_free(o);
	json_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_member_is_found_in_either_case_but_underscores_count),
		cmocka_unit_test(of_several_members_the_last_counts),
		cmocka_unit_test(absent_null_and_wrong_type_are_told_apart),
		cmocka_unit_test(values_are_read_as_they_were_written),
		cmocka_unit_test(nothing_is_found_in_what_is_no_object),
		cmocka_unit_test(what_is_no_json_is_refused_with_its_line),
		cmocka_unit_test(each_limit_holds_to_the_byte),
		cmocka_unit_test(a_walk_meets_members_and_elements_in_their_order),
		cmocka_unit_test(documents_are_printed_as_go_prints_them),
		cmocka_unit_test(printing_needs_room_for_all_and_the_nul),
	};
	if (crypto_start() < 0)
		return 1;
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
