#include "tests/unit/said.h"

#include "common/base/list.h"

struct item {
	int n;
	struct list node;
};

static void items_are_visited_in_the_order_added(void **state)
{
	struct list head;
	struct item items[3] = { { .n = 0 }, { .n = 1 }, { .n = 2 } };
	int expected = 0;

	(void)state;
	list_init(&head);
	assert_true(list_empty(&head));
	for (unsigned i = 0; i < 3; i++)
		list_add_tail(&head, &items[i].node);
	list_each(it, tmp, &head)
		assert_int_equal(container_of(it, struct item, node)->n, expected++);
	assert_int_equal(expected, 3);
}

static void the_body_may_unlink_what_it_visits(void **state)
{
	struct list head;
	struct item items[3] = { { .n = 0 }, { .n = 1 }, { .n = 2 } };

	(void)state;
	list_init(&head);
	for (unsigned i = 0; i < 3; i++)
		list_add_tail(&head, &items[i].node);
	list_each(it, tmp, &head)
		list_del(it);
	assert_true(list_empty(&head));
}

static void unlinking_twice_is_harmless(void **state)
{
	struct list head;
	struct item a = { 0 }, b = { 0 };

	(void)state;
	list_init(&head);
	list_add_tail(&head, &a.node);
	list_add_tail(&head, &b.node);
	list_del(&a.node);
	list_del(&a.node);
	assert_ptr_equal(head.next, &b.node);
	assert_ptr_equal(head.prev, &b.node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_are_visited_in_the_order_added),
		cmocka_unit_test(the_body_may_unlink_what_it_visits),
		cmocka_unit_test(unlinking_twice_is_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
