#include "tests/unit/said.h"

#include "client/regions.h"
#include "common/base/err.h"
#include "common/base/json.h"

static struct derp_map map;
static struct regions regions;
static char words[DERP_MAP_ERROR_LEN];

static int tear_down(void **state)
{
	(void)state;
	regions_done(&regions);
	derp_map_done(&map);
	return 0;
}

static int choose(const char *json, const char *only)
{
	assert_int_equal(derp_map_parse(str_of(json), &map, words), 0);
	return regions_init(&regions, &map, only, words);
}

/* Region 1 has two nodes and one for STUN in front, 3 is avoided, 4 is nobody's home, 5 has
 * no DERP at all. */
static const char usual[] =
                "{\"Regions\":{"
                "\"1\":{\"RegionCode\":\"a\",\"Nodes\":[{\"HostName\":\"s1\",\"STUNOnly\":true},"
                "{\"HostName\":\"a1\"},{\"HostName\":\"s2\",\"STUNOnly\":true},{\"HostName\":\"a2\"}]},"
                "\"2\":{\"RegionCode\":\"b\",\"Nodes\":[{\"HostName\":\"b1\"}]},"
                "\"3\":{\"RegionCode\":\"c\",\"Avoid\":true,\"Nodes\":[{\"HostName\":\"c1\"}]},"
                "\"4\":{\"RegionCode\":\"d\",\"NoMeasureNoHome\":true,\"Nodes\":[{\"HostName\":\"d1\"}]},"
                "\"5\":{\"RegionCode\":\"e\",\"Nodes\":[{\"HostName\":\"s3\",\"STUNOnly\":true}]},"
                "\"6\":{\"RegionCode\":\"f\",\"Nodes\":[{\"HostName\":\"f1\"}]}}}";

static void note(const char *code, uint32_t ms)
{
	const struct derp_region *r = derp_map_find(&map, code);

	assert_non_null(r);
	regions_note(&regions, r, ms);
}

/* The nodes in the order in which they are tried, until it begins anew. */
static const char *order(void)
{
	static char text[200];
	size_t n = 0;

	do
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "",
		                      regions_node(&regions, NULL)->host);
	while (regions_next(&regions));
	return text;
}

static void without_a_measurement_the_maps_order_holds_and_the_avoided_come_last(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, NULL), 0);
	assert_true(regions_have_choice(&regions));
	assert_false(regions_heard_any(&regions));
	assert_string_equal(order(), "a1 a2 b1 f1 c1");
	assert_string_equal(order(), "a1 a2 b1 f1 c1"); /* and so on */
}

static void the_nearest_comes_first_and_who_was_not_heard_behind(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, NULL), 0);
	note("f", 30);
	note("b", 80);
	note("b", 25); /* the least counts */
	note("b", 90);
	note("d", 1); /* nobody's home */
	regions_settle(&regions);
	assert_true(regions_heard_any(&regions));
	assert_string_equal(order(), "b1 f1 a1 a2 c1");
}

static void equal_latencies_go_by_id(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, NULL), 0);
	note("f", 30);
	note("b", 30);
	note("a", 30);
	regions_settle(&regions);
	assert_string_equal(order(), "a1 a2 b1 f1 c1");
}

static void who_is_avoided_is_not_measured(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, NULL), 0);
	assert_false(regions_may_measure(derp_map_find(&map, "c")));
	assert_true(regions_may_measure(derp_map_find(&map, "a")));
}

static void failing_leads_through_the_region_then_to_the_next(void **state)
{
	const struct derp_region *r;

	(void)state;
	assert_int_equal(choose(usual, NULL), 0);
	note("b", 10);
	note("a", 20);
	regions_settle(&regions);
	assert_string_equal(regions_node(&regions, &r)->host, "b1");
	assert_int_equal(r->id, 2);
	assert_true(regions_next(&regions));
	assert_string_equal(regions_node(&regions, &r)->host, "a1");
	assert_true(regions_next(&regions));
	assert_string_equal(regions_node(&regions, &r)->host, "a2");
	assert_int_equal(r->id, 1);
	assert_true(regions_next(&regions));
	assert_true(regions_next(&regions));
	assert_string_equal(regions_node(&regions, &r)->host, "c1");
	assert_false(regions_next(&regions)); /* that was the last */
	assert_string_equal(regions_node(&regions, NULL)->host, "b1");
}

static void scores_weigh_latencies(void **state)
{
	(void)state;
	assert_int_equal(choose("{\"HomeParams\":{\"RegionScore\":{\"1\":0.25}},\"Regions\":{"
	                        "\"1\":{\"Nodes\":[{\"HostName\":\"a1\"}]},"
	                        "\"2\":{\"Nodes\":[{\"HostName\":\"b1\"}]}}}",
	                        NULL),
	                 0);
	regions_note(&regions, &map.regions[0], 100);
	regions_note(&regions, &map.regions[1], 26);
	regions_settle(&regions);
	assert_string_equal(order(), "a1 b1");
}

static void a_score_counts_below_a_millisecond_too(void **state)
{
	(void)state;
	assert_int_equal(
	                choose("{\"HomeParams\":{\"RegionScore\":{\"1\":0.001,\"2\":1000}},\"Regions\":{"
	                       "\"1\":{\"Nodes\":[{\"HostName\":\"a1\"}]},"
	                       "\"2\":{\"Nodes\":[{\"HostName\":\"b1\"}]}}}",
	                       NULL),
	                0);
	regions_note(&regions, &map.regions[0], 3);
	regions_note(&regions, &map.regions[1], 0);
	regions_settle(&regions);
	assert_string_equal(order(), "a1 b1");
}

static void a_region_that_is_named_is_the_only_one(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, "A"), 0);
	assert_false(regions_have_choice(&regions));
	assert_string_equal(order(), "a1 a2");
	tear_down(NULL);
	assert_int_equal(choose(usual, "4"), 0); /* also one that is nobody's home by itself */
	assert_string_equal(order(), "d1");
}

static void a_region_that_is_not_there_is_told(void **state)
{
	(void)state;
	assert_int_equal(choose(usual, "nowhere"), ERR_INVALID);
	assert_non_null(strstr(words, "no region \"nowhere\""));
	tear_down(NULL);
	assert_int_equal(choose(usual, "e"), ERR_INVALID);
	assert_non_null(strstr(words, "no node for DERP"));
	tear_down(NULL);
	assert_int_equal(choose("{\"Regions\":{\"1\":{\"NoMeasureNoHome\":true,\"Nodes\":"
	                        "[{\"HostName\":\"h\"}]}}}",
	                        NULL),
	                 ERR_INVALID);
	assert_non_null(strstr(words, "NoMeasureNoHome"));
	assert_null(regions.v);
}

#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(without_a_measurement_the_maps_order_holds_and_the_avoided_come_last),
		T(the_nearest_comes_first_and_who_was_not_heard_behind),
		T(equal_latencies_go_by_id),
		T(who_is_avoided_is_not_measured),
		T(failing_leads_through_the_region_then_to_the_next),
		T(scores_weigh_latencies),
		T(a_score_counts_below_a_millisecond_too),
		T(a_region_that_is_named_is_the_only_one),
		T(a_region_that_is_not_there_is_told),
	};
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
