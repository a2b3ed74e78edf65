/* The files of the status page, as the program has them. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "server/admin/page.h"

static const char *const paths[] = { "/",         "/page.css",  "/page.js", "/api.js",
	                             "/chart.js", "/tables.js", "/words.js" };
enum { N_PATHS = sizeof paths / sizeof *paths };

static void each_file_is_there_whole_with_a_tag_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N_PATHS; i++) {
		const struct page_file *f = page_find(str_of(paths[i]));
		assert_non_null(f);
		assert_true(f->body.len > 500 && f->body.p[f->body.len - 1] == '\n');
		assert_int_equal(strlen(f->etag), PAGE_ETAG_LEN - 1);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(f->etag, page_find(str_of(paths[k]))->etag);
	}
	assert_null(page_find(STR("/index.html")));
	assert_null(page_find(STR("")));
	assert_null(page_find(STR("//")));
}

static void a_browser_has_it_by_its_tag_however_the_list_is_written(void **state)
{
	const struct page_file *f = page_find(STR("/"));
	char list[200];

	(void)state;
	assert_true(page_has(f, str_of(f->etag)));
	assert_true(page_has(f, STR("*")));
	snprintf(list, sizeof list, "\"other\", W/%s", f->etag);
	assert_true(page_has(f, str_of(list)));
	assert_false(page_has(f, (struct str){ NULL, 0 }));
	assert_false(page_has(f, STR("")));
	assert_false(page_has(f, STR("\"\"")));
	assert_false(page_has(f, (struct str){ f->etag, PAGE_ETAG_LEN - 2 })); /* cut */
	assert_false(page_has(f, str_of(page_find(STR("/page.js"))->etag)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_file_is_there_whole_with_a_tag_of_its_own),
		cmocka_unit_test(a_browser_has_it_by_its_tag_however_the_list_is_written),
	};

	if (crypto_start() < 0)
		return 1;
	page_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
