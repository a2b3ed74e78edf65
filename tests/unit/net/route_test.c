#include "tests/unit/until.h"

#include <errno.h>

#include "common/net/addr.h"
#include "common/net/route.h"

static void the_way_to_ourselves_is_the_loopback_device(void **state)
{
	struct route_info info;
	struct addr dst;

	(void)state;
	addr_of_ip("127.0.0.1", 443, &dst);
	assert_int_equal(route_lookup(&dst, 0, &info), 0);
	assert_string_equal(info.device, "lo");
	assert_false(info.is_tunnel);
	assert_true(addr_is_loopback(&info.source));
}

static void the_way_of_ipv6_is_told_too(void **state)
{
	struct route_info info;
	struct addr dst;

	(void)state;
	addr_of_ip("::1", 443, &dst);
	if (route_lookup(&dst, 0, &info) < 0)
		skip(); /* a machine without IPv6 */
	assert_string_equal(info.device, "lo");
	assert_true(addr_is_loopback(&info.source));
}

static void devices_are_found_by_name(void **state)
{
	struct route_info info, before;

	(void)state;
	assert_int_equal(route_device("lo", &info), 0);
	assert_true(info.if_index > 0);
	assert_string_equal(info.device, "lo");
	before = info;
	assert_int_equal(route_device("tunn-none", &info), -ENODEV);
	assert_int_equal(route_device("a-name-longer-than-a-device", &info), -ENODEV);
	assert_memory_equal(&info, &before, sizeof info);
}

static void on_changed(void *owner) { (void)owner; }

static void a_watch_opens_and_closes(void **state)
{
	struct route_watch *w;

	(void)state;
	loop_set_up();
	assert_int_equal(route_watch_open(loop, on_changed, NULL, &w), 0);
	route_watch_close(w);
	route_watch_close(NULL);
	loop_tear_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_way_to_ourselves_is_the_loopback_device),
		cmocka_unit_test(the_way_of_ipv6_is_told_too),
		cmocka_unit_test(devices_are_found_by_name),
		cmocka_unit_test(a_watch_opens_and_closes), /* what it tells: tests/e2e, F09 */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
