#include "tests/unit/said.h"

#include <pthread.h>
#include <sqlite3.h>
#include <time.h>

#include "common/base/crypto.h"
#include "common/net/loop.h"
#include "server/auth.h"

enum { KIND = 77, LIMIT_MS = 20000 };

/* What a worker has: a loop, a mailbox, and who it still waits for. */
struct asker {
	struct loop *loop;
	struct mailbox *mailbox;
	struct timer *limit;
	unsigned waits, answers;
	struct identity last;
	uint64_t numbers; /* added up */
	bool late;
};

static struct tiers tiers;
static char dir[256], words[ACCOUNTS_ERROR_LEN], token[TOKEN_LEN + 1];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held: the database is slow */

static int pass_gate(unsigned what, void *ctx, void *p, void *x)
{
	(void)what, (void)ctx, (void)p, (void)x;
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	return 0;
}

static int on_connection(sqlite3 *db, char **error, const void *api)
{
	(void)error, (void)api;
	return sqlite3_trace_v2(db, SQLITE_TRACE_STMT, pass_gate, NULL);
}

static void on_answer(void *owner, struct mail *m)
{
	struct asker *k = owner;

	assert_int_equal(m->kind, KIND);
	k->last = *(struct identity *)m->ptr;
	k->numbers += m->number;
	k->answers++;
	identity_free(m->ptr);
	if (k->answers == k->waits)
		loop_stop(k->loop, 0);
}

static void on_limit(void *arg)
{
	struct asker *k = arg;

	k->late = true;
	loop_stop(k->loop, 0);
}

static void asker_init(struct asker *k)
{
	*k = (struct asker){ .loop = loop_new() };
	assert_non_null(k->loop);
	assert_int_equal(mailbox_new(k->loop, on_answer, NULL, k, &k->mailbox), 0);
	k->limit = timer_new(k->loop, on_limit, k);
	timer_set(k->limit, LIMIT_MS);
}

static void asker_wait(struct asker *k, unsigned answers)
{
	k->waits = answers;
	if (k->answers < answers)
		loop_run(k->loop);
	assert_false(k->late);
}

static void asker_done(struct asker *k)
{
	mailbox_free(k->mailbox);
	timer_free(k->limit);
	loop_free(k->loop);
}

static struct auth *start(void)
{
	struct auth *auth = NULL;

	if (auth_start(&(struct books_conf){ .state_dir = dir, .tiers = &tiers, .n_workers = 1 },
	               &auth, words) < 0)
		fail_msg("%s", words);
	return auth;
}

static void question_is_answered_in_the_askers_thread(void **state)
{
	struct auth *auth = start();
	struct asker k;

	(void)state;
	asker_init(&k);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 42, str_of(token)), 0);
	asker_wait(&k, 1);
	assert_int_equal(k.numbers, 42);
	assert_int_equal(k.last.why, CLOSE_NONE);
	assert_string_equal(k.last.account, "main");
	assert_string_equal(k.last.bound_id, "kitchen");
	auth_stop(auth);
	asker_done(&k);
}

static void foreign_token_is_answered_with_a_refusal(void **state)
{
	struct auth *auth = start();
	char other[TOKEN_LEN + 1];
	struct asker k;

	(void)state;
	token_new(other);
	asker_init(&k);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(other)), 0);
	asker_wait(&k, 1);
	assert_int_equal(k.last.why, CLOSE_UNAUTHENTICATED);
	auth_stop(auth);
	asker_done(&k);
}

static void string_of_another_length_is_refused_at_once(void **state)
{
	struct auth *auth = start();
	struct asker k;

	(void)state;
	asker_init(&k);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, STR("tunn_short")), ERR_INVALID);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, STR("")), ERR_INVALID);
	auth_stop(auth);
	asker_done(&k);
	assert_int_equal(k.answers, 0);
}

static void each_asker_gets_its_own_answers(void **state)
{
	struct auth *auth = start();
	struct asker a, b;

	(void)state;
	asker_init(&a);
	asker_init(&b);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(auth_ask(auth, a.mailbox, KIND, 1, str_of(token)), 0);
		assert_int_equal(auth_ask(auth, b.mailbox, KIND, 1000, str_of(token)), 0);
	}
	asker_wait(&a, 100);
	asker_wait(&b, 100);
	assert_int_equal(a.numbers, 100);
	assert_int_equal(b.numbers, 100000);
	auth_stop(auth);
	asker_done(&a);
	asker_done(&b);
}

static void questions_beyond_the_bound_fail_at_once_and_room_comes_back(void **state)
{
	struct auth *auth = start();
	struct asker k;

	(void)state;
	asker_init(&k);
	pthread_mutex_lock(&gate);
	for (unsigned i = 0; i < AUTH_WAITING_MAX; i++)
		assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(token)), 0);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(token)), ERR_AGAIN);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(token)), ERR_AGAIN);
	pthread_mutex_unlock(&gate);
	asker_wait(&k, AUTH_WAITING_MAX);
	int rc; /* the last answer is posted just before its place is free */
	while ((rc = auth_ask(auth, k.mailbox, KIND, 1, str_of(token))) == ERR_AGAIN)
		;
	assert_int_equal(rc, 0);
	asker_wait(&k, AUTH_WAITING_MAX + 1);
	auth_stop(auth);
	asker_done(&k);
}

static void what_was_asked_before_the_stop_is_answered(void **state)
{
	struct auth *auth = start();
	struct asker k;

	(void)state;
	asker_init(&k);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(token)), 0);
	auth_stop(auth);
	asker_done(&k); /* hands out what lies in the box */
	assert_int_equal(k.answers, 50);
}

static void expired_token_is_judged_by_the_wall_clock(void **state)
{
	struct auth *auth = start();
	char old[TOKEN_LEN + 1];
	struct accounts *a;
	struct asker k;

	(void)state;
	assert_int_equal(accounts_open(dir, &a, words), 0);
	assert_int_equal(accounts_token_new(a, "main", NULL, time(NULL) - 3600, old, words), 0);
	accounts_close(a);
	asker_init(&k);
	assert_int_equal(auth_ask(auth, k.mailbox, KIND, 1, str_of(old)), 0);
	asker_wait(&k, 1);
	assert_int_equal(k.last.why, CLOSE_UNAUTHENTICATED);
	auth_stop(auth);
	asker_done(&k);
}

static void unusable_state_is_said_at_start(void **state)
{
	struct auth *auth = NULL;

	(void)state;
	assert_true(auth_start(&(struct books_conf){ .state_dir = "/proc/tunn-state",
	                                             .tiers = &tiers },
	                       &auth, words) < 0);
	assert_non_null(strstr(words, "/proc/tunn-state"));
	assert_null(auth);
	auth_stop(auth);
}

static int prepare(void **state)
{
	struct accounts *a;

	(void)state;
	sqlite3_auto_extension((void (*)(void))on_connection);
	snprintf(dir, sizeof dir, "%s", file_path("state"));
	return accounts_open(dir, &a, words) < 0 || accounts_add(a, "main", NULL, words) < 0 ||
	       accounts_token_new(a, "main", "kitchen", 0, token, words) < 0 ||
	       (accounts_close(a), false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(question_is_answered_in_the_askers_thread),
		cmocka_unit_test(foreign_token_is_answered_with_a_refusal),
		cmocka_unit_test(string_of_another_length_is_refused_at_once),
		cmocka_unit_test(each_asker_gets_its_own_answers),
		cmocka_unit_test(questions_beyond_the_bound_fail_at_once_and_room_comes_back),
		cmocka_unit_test(what_was_asked_before_the_stop_is_answered),
		cmocka_unit_test(expired_token_is_judged_by_the_wall_clock),
		cmocka_unit_test(unusable_state_is_said_at_start),
	};

	tiers_builtin(&tiers);
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, prepare, NULL);
}
