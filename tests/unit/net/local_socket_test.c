#include "tests/unit/said.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/net/local_socket.h"

enum { LIMIT_MS = 20000 };

/* The serving side, in the test's thread; who asks is another. */
static struct {
	struct loop *loop;
	struct local_socket *socket;
	struct timer *limit;
	unsigned n_questions, n_troubles;
	uid_t uid;
	enum local_socket_trouble trouble;
	size_t answer_len; /* 0: the question itself */
	bool late;
} s;
static char dir[512];

static char *on_question(void *owner, struct str question, uid_t uid, size_t *len_out)
{
	(void)owner;
	s.n_questions++;
	s.uid = uid;
	*len_out = s.answer_len ? s.answer_len : question.len;
	char *text = malloc(*len_out + 1);
	assert_non_null(text);
	memset(text, 'y', *len_out);
	if (!s.answer_len && question.len)
		memcpy(text, question.p, question.len);
	return text;
}

static char *on_trouble(void *owner, enum local_socket_trouble why, uid_t uid, size_t *len_out)
{
	(void)owner, (void)uid;
	s.n_troubles++;
	s.trouble = why;
	*len_out = 7;
	return strdup("trouble");
}

static const struct local_socket_events events = { on_question, on_trouble };

static void on_limit(void *arg)
{
	(void)arg;
	s.late = true;
	loop_stop(s.loop, 0);
}

static int begin(void **state)
{
	static unsigned n;
	char name[16];

	(void)state;
	memset(&s, 0, sizeof s);
	snprintf(name, sizeof name, "d%u", n++);
	snprintf(dir, sizeof dir, "%s", file_path(name));
	assert_int_equal(mkdir(dir, 0700), 0);
	s.loop = loop_new();
	assert_non_null(s.loop);
	s.limit = timer_new(s.loop, on_limit, NULL);
	timer_set(s.limit, LIMIT_MS);
	assert_int_equal(local_socket_open(s.loop, dir, "s", &events, NULL, &s.socket), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	local_socket_close(s.socket);
	timer_free(s.limit);
	loop_free(s.loop);
	return 0;
}

struct job { /* of the asking thread */
	struct str question;
	int rc;
	char *answer;
	size_t len;
	int wake;
};

static void on_asked(void *arg, unsigned what)
{
	(void)arg, (void)what;
	loop_stop(s.loop, 0);
}

static void *ask(void *arg)
{
	struct job *j = arg;

	j->rc = local_socket_ask(dir, "s", j->question, LIMIT_MS, &j->answer, &j->len);
	assert_int_equal(write(j->wake, "x", 1), 1);
	return NULL;
}

/* Runs the loop until the thread has its answer. */
static struct job asked(struct str question)
{
	struct job j = { .question = question };
	pthread_t thread;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	j.wake = ends[1];
	struct watch *w = watch_new(s.loop, ends[0], on_asked, NULL);
	assert_int_equal(watch_want(w, WATCH_READ), 0);
	assert_int_equal(pthread_create(&thread, NULL, ask, &j), 0);
	loop_run(s.loop);
	pthread_join(thread, NULL);
	watch_free(w);
	close(ends[0]);
	close(ends[1]);
	assert_false(s.late);
	return j;
}

static void question_is_answered_and_the_user_known(void **state)
{
	(void)state;
	struct job j = asked(STR("how are you"));
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "how are you");
	assert_int_equal(j.len, 11);
	assert_int_equal(s.uid, getuid());
	free(j.answer);
	j = asked(STR(""));
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "");
	free(j.answer);
	assert_int_equal(s.n_questions, 2);
}

static void long_answers_arrive_whole(void **state)
{
	(void)state;
	s.answer_len = 8 << 20;
	struct job j = asked(STR("much"));
	assert_int_equal(j.rc, 0);
	assert_int_equal(j.len, 8 << 20);
	assert_int_equal(strspn(j.answer, "y"), 8 << 20);
	free(j.answer);
}

static void longest_question_passes_and_a_longer_one_is_refused(void **state)
{
	static char text[LOCAL_QUESTION_MAX + 1];

	(void)state;
	memset(text, 'q', sizeof text);
	struct job j = asked((struct str){ text, LOCAL_QUESTION_MAX - 1 });
	assert_int_equal(j.rc, 0);
	assert_int_equal(j.len, LOCAL_QUESTION_MAX - 1);
	free(j.answer);
	assert_int_equal(s.n_troubles, 0);
	j = asked((struct str){ text, sizeof text });
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "trouble");
	assert_int_equal(s.trouble, LOCAL_TOO_BIG);
	free(j.answer);
	assert_int_equal(s.n_questions, 1);
}

static int connected(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof sun.sun_path, "%.90s/s", dir);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof sun), 0);
	return fd;
}

static void the_seventeenth_at_once_is_told_to_come_again(void **state)
{
	int fd[LOCAL_CONNS_MAX];

	(void)state;
	for (unsigned i = 0; i < LOCAL_CONNS_MAX; i++)
		fd[i] = connected(); /* and say nothing */
	struct job j = asked(STR("me too"));
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "trouble");
	assert_int_equal(s.trouble, LOCAL_CROWDED);
	free(j.answer);
	for (unsigned i = 0; i < LOCAL_CONNS_MAX; i++)
		close(fd[i]);
	j = asked(STR("now"));
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "now");
	free(j.answer);
}

static void half_a_question_is_none(void **state)
{
	(void)state;
	int fd = connected();
	assert_int_equal(write(fd, "half", 4), 4);
	close(fd);
	struct job j = asked(STR("whole"));
	assert_int_equal(j.rc, 0);
	assert_int_equal(s.n_questions, 1);
	free(j.answer);
}

static void pieces_of_a_question_are_put_together(void **state)
{
	char got[64];

	(void)state;
	int fd = connected();
	for (const char *p = "piece by piece\n"; *p; p++) {
		assert_int_equal(write(fd, p, 1), 1);
		struct job j = asked(STR("another")); /* a turn or more of the loop */
		free(j.answer);
	}
	assert_int_equal(read(fd, got, sizeof got), 15);
	assert_memory_equal(got, "piece by piece\n", 15);
	assert_int_equal(read(fd, got, sizeof got), 0);
	close(fd);
}

static void the_deadline_ends_who_says_nothing(void **state)
{
	char got[8];

	(void)state;
	int fd = connected();
	struct watch *w = watch_new(s.loop, fd, on_asked, NULL);
	assert_int_equal(watch_want(w, WATCH_READ), 0);
	loop_run(s.loop); /* until it is readable: the end */
	assert_false(s.late);
	assert_int_equal(read(fd, got, sizeof got), 0);
	watch_free(w);
	close(fd);
}

static void the_socket_is_the_owners_and_goes_with_the_server(void **state)
{
	char path[600], *answer;
	struct stat st;
	size_t len;

	(void)state;
	snprintf(path, sizeof path, "%s/s", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	local_socket_close(s.socket);
	s.socket = NULL;
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(local_socket_ask(dir, "s", STR("x"), 1000, &answer, &len), -ENOENT);
}

static void what_a_killed_server_left_is_replaced(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char *answer;
	size_t len;

	(void)state;
	local_socket_close(s.socket);
	s.socket = NULL;
	snprintf(sun.sun_path, sizeof sun.sun_path, "%.90s/s", dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
	close(fd);
	assert_int_equal(local_socket_ask(dir, "s", STR("x"), 1000, &answer, &len), -ECONNREFUSED);
	assert_int_equal(local_socket_open(s.loop, dir, "s", &events, NULL, &s.socket), 0);
	struct job j = asked(STR("alive"));
	assert_int_equal(j.rc, 0);
	free(j.answer);
}

static void path_longer_than_the_kernels_structure_works(void **state)
{
	char deep[512];

	(void)state;
	local_socket_close(s.socket);
	snprintf(deep, sizeof deep, "%.60s/%0100d", dir, 7);
	assert_int_equal(mkdir(deep, 0700), 0);
	memcpy(dir, deep, sizeof deep);
	assert_int_equal(local_socket_open(s.loop, dir, "s", &events, NULL, &s.socket), 0);
	struct job j = asked(STR("far"));
	assert_int_equal(j.rc, 0);
	assert_string_equal(j.answer, "far");
	free(j.answer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(question_is_answered_and_the_user_known),
		T(long_answers_arrive_whole),
		T(longest_question_passes_and_a_longer_one_is_refused),
		T(the_seventeenth_at_once_is_told_to_come_again),
		T(half_a_question_is_none),
		T(pieces_of_a_question_are_put_together),
		T(the_deadline_ends_who_says_nothing),
		T(the_socket_is_the_owners_and_goes_with_the_server),
		T(what_a_killed_server_left_is_replaced),
		T(path_longer_than_the_kernels_structure_works),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
