#include "tests/unit/net/certs.h"
#include "tests/unit/net/names.h"
#include "tests/unit/until.h"

#include "tests/unit/net/httpd.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/base/json.h"
#include "common/base/sandbox.h"
#include "common/net/resolve.h"
#include "server/relay/derp_verify.h"
#include "server/rights.h"

static struct derp_verify *verify;
static char url[100], words[1000];
static unsigned n_done;
static enum close_why why;
static struct derp_question *questions[DERP_VERIFY_MAX + 1];
static const struct key key = { { 0x11, 0x22, [31] = 0x7f } };
static struct addr source;

static void on_done(void *owner, enum close_why w, const char *text)
{
	assert_ptr_equal(owner, &key);
	n_done++;
	why = w;
	snprintf(words, sizeof words, "%s", text);
}

static bool done(void) { return n_done > 0; }
static bool asked(void) { return httpd.n_requests > 0; }
static bool all_asked(void) { return httpd.n_requests == DERP_VERIFY_MAX; }
static bool all_hung_up(void) { return httpd.n_closed == httpd.n_requests; }

static int set_up(void **state)
{
	(void)state;
	loop_set_up();
	httpd_start("127.0.0.1");
	names_set_up();
	assert_int_equal(addr_of_ip("203.0.113.5", 4711, &source), 0);
	snprintf(url, sizeof url, "http://127.0.0.1:%u/admit", httpd.port);
	verify = derp_verify_new(loop, url, NULL);
	n_done = 0;
	return verify ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	derp_verify_free(verify);
	httpd_stop();
	loop_tear_down();
	conn_thread_done();
	return 0;
}

static void ask(void)
{
	n_done = 0;
	why = CLOSE_N;
	assert_int_equal(derp_verify_ask(verify, &key, &source, on_done, (void *)(uintptr_t)&key,
	                                 &questions[0]),
	                 0);
	assert_int_equal(n_done, 0);
	until(done);
}

static void answer(const char *head, const char *body)
{
	static char text[20000];

	snprintf(text, sizeof text, "%s\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body),
	         body);
	httpd.answer = text;
	ask();
}

static void is_let_in_by(const char *body)
{
	answer("HTTP/1.1 200 OK", body);
	if (why != CLOSE_NONE)
		fail_msg("%s: %s", body, words);
	assert_string_equal(words, "");
}

static void is_refused_by(const char *head, const char *body, enum close_why expected,
                          const char *text)
{
	answer(head, body);
	assert_int_equal(why, expected);
	if (!strstr(words, text))
		fail_msg("\"%s\" is not in \"%s\"", text, words);
}

static void who_is_allowed_is_let_in(void **state)
{
	(void)state;
	is_let_in_by("{\"Allow\":true}");
	is_let_in_by(" {\"allow\": true, \"Reason\": [1, {}]}\n");
	is_let_in_by("{\"ALLOW\":false,\"Allow\":true}"); /* Go takes the last */
}

static void the_question_is_derpers(void **state)
{
	static const char body[] =
	                "\r\n\r\n{\"NodePublic\":\"nodekey:"
	                "112200000000000000000000000000000000000000000000000000000000007f"
	                "\",\"Source\":\"203.0.113.5\"}";

	(void)state;
	is_let_in_by("{\"Allow\":true}");
	assert_ptr_equal(strstr(httpd.request, "POST /admit HTTP/1.1\r\n"), httpd.request);
	assert_non_null(strstr(httpd.request, body));
	assert_null(strcasestr(httpd.request, "Content-Type"));
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6 };
	inet_pton(AF_INET6, "::ffff:192.0.2.1", &mapped.sin6_addr);
	memcpy(&source.ss, &mapped, sizeof mapped);
	is_let_in_by("{\"Allow\":true}");
	assert_non_null(strstr(httpd.request, "\"Source\":\"192.0.2.1\"}"));
}

static void who_is_not_allowed_is_refused(void **state)
{
	static const char ok[] = "HTTP/1.1 200 OK";

	(void)state;
	is_refused_by(ok, "{\"Allow\":false}", CLOSE_DENIED, "Allow");
	is_refused_by(ok, "{\"Allow\":true,\"allow\":false}", CLOSE_DENIED, "Allow");
	is_refused_by(ok, "{}", CLOSE_DENIED, "Allow");
	is_refused_by(ok, "{\"Allow\":null}", CLOSE_DENIED, "Allow");
}

static void what_is_not_derpers_answer_refuses(void **state)
{
	static const char *const bodies[] = { "",
		                              "true",
		                              "Allow",
		                              "[{\"Allow\":true}]",
		                              "{\"Allow\":\"true\"}",
		                              "{\"Allow\":1}",
		                              "{\"Allow\":true",
		                              "{\"_Allow\":true}",
		                              "{\"Allow\":true} {\"Allow\":false}",
		                              "<html>{\"Allow\":true}</html>",
		                              "{\"x\":{\"Allow\":true}}" };

	(void)state;
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
		is_refused_by("HTTP/1.1 200 OK", bodies[i], CLOSE_DENIED, "Allow");
}

static void another_status_refuses_whatever_it_says(void **state)
{
	static const char *const heads[] = { "HTTP/1.1 500 Broken", "HTTP/1.1 201 Made",
		                             "HTTP/1.1 302 Found\r\nLocation: /",
		                             "HTTP/1.1 404 None", "HTTP/1.1 403 No" };

	(void)state;
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
		is_refused_by(heads[i], "{\"Allow\":true}", CLOSE_UNAVAILABLE, "status");
}

static char huge[16000];

static void of_a_huge_answer_the_first_4096_bytes_count(void **state)
{
	(void)state;
	memset(huge, ' ', sizeof huge - 1);
	memcpy(huge, "{\"Allow\":true}", 14);
	is_let_in_by(huge);
	memset(huge, ' ', 14);
	memcpy(huge + 4096 - 13, "{\"Allow\":true}", 14); /* its last byte is the 4097th */
	is_refused_by("HTTP/1.1 200 OK", huge, CLOSE_DENIED, "Allow");
}

static void nobody_there_refuses(void **state)
{
	(void)state;
	listener_close(httpd.listener);
	httpd.listener = NULL;
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
	assert_non_null(strstr(words, "refused"));
}

static void a_connection_that_ends_refuses(void **state)
{
	(void)state;
	httpd.close_behind = true;
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
	httpd.answer = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"Allow\":true}";
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
}

static void a_server_that_hangs_refuses_in_5_s(void **state)
{
	(void)state;
	uint64_t begun_ms = loop_now_ms(loop);
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
	assert_non_null(strstr(words, "5.0 s"));
	assert_in_range(loop_now_ms(loop) - begun_ms, DERP_VERIFY_MS - 100, DERP_VERIFY_MS + 5000);
}

static void a_name_that_does_not_resolve_refuses(void **state)
{
	(void)state;
	snprintf(url, sizeof url, "http://admission.test:%u/", httpd.port);
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
	assert_non_null(strstr(words, "resolve"));
}

static int ask_one(unsigned i)
{
	return derp_verify_ask(verify, &key, &source, on_done, (void *)(uintptr_t)&key,
	                       &questions[i]);
}

static void more_than_the_bound_is_refused_until_one_is_answered(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DERP_VERIFY_MAX; i++)
		assert_int_equal(ask_one(i), 0);
	assert_int_equal(ask_one(DERP_VERIFY_MAX), ERR_AGAIN);
	until(all_asked);
	derp_verify_cancel(questions[3]);
	assert_int_equal(ask_one(3), 0);
	assert_int_equal(ask_one(DERP_VERIFY_MAX), ERR_AGAIN);
	assert_int_equal(n_done, 0);
}

static void what_is_taken_back_is_not_answered(void **state)
{
	(void)state;
	assert_int_equal(ask_one(0), 0);
	until(asked);
	derp_verify_cancel(questions[0]);
	derp_verify_cancel(NULL);
	until(all_hung_up);
	assert_int_equal(ask_one(0), 0);
	derp_verify_free(verify); /* a worker that ends */
	verify = NULL;
	until(all_hung_up);
	assert_int_equal(n_done, 0);
}

static void over_https_the_servers_name_is_verified(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };
	struct tls_ctx *client = certs_client(certs_cert, NULL, NULL);

	(void)state;
	names_are(ips);
	httpd.tls = certs_server(NULL);
	derp_verify_free(verify);
	snprintf(url, sizeof url, "https://relay.test:%u/", httpd.port);
	verify = derp_verify_new(loop, url, client);
	is_let_in_by("{\"Allow\":true}");
	snprintf(url, sizeof url, "https://other.test:%u/", httpd.port);
	ask();
	assert_int_equal(why, CLOSE_UNAVAILABLE);
	assert_non_null(strstr(words, "not trusted"));
	tls_ctx_unref(client);
	tls_ctx_unref(httpd.tls);
}

/* ---- with the rights that a server keeps for it ---- */

static int ask_in_the_sandbox(unsigned needs)
{
	int rc = sandbox_enter(SANDBOX_KILL, needs);

	if (rc < 0)
		return rc == -ENOSYS ? 77 : 1;
	ask();
	return why == CLOSE_NONE ? 0 : 2;
}

static int fate_of_asking(unsigned needs)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		httpd.answer = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"Allow\":true}";
		_exit(ask_in_the_sandbox(needs));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

#ifdef TUNN_SANITIZED
enum { ALLOWED = 77, KILLED = 77 };
#else
enum { ALLOWED = 0, KILLED = -SIGSYS };
#endif

static void only_a_server_that_asks_may_connect(void **state)
{
	static const struct opt_list no_mesh;

	(void)state;
	assert_int_equal(fate_of_asking(rights_needs(url, &no_mesh)), ALLOWED);
	assert_int_equal(fate_of_asking(rights_needs(NULL, &no_mesh)), KILLED);
	assert_int_equal(rights_needs(NULL, &no_mesh), SANDBOX_FILES);
	assert_int_equal(rights_needs(url, &no_mesh), SANDBOX_FILES | SANDBOX_SOCKETS);
	resolve_prepare();
	unsigned needs = rights_needs("https://localhost/", &no_mesh);
	assert_true(needs & SANDBOX_THREADS && needs & SANDBOX_NSS);
	snprintf(url, sizeof url, "http://localhost:%u/", httpd.port);
	assert_int_equal(fate_of_asking(needs), ALLOWED);
}

static int make_certs(void **state)
{
	json_start();
	return tls_start() < 0 ? -1 : certs_make(state);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_is_allowed_is_let_in),
		T(the_question_is_derpers),
		T(who_is_not_allowed_is_refused),
		T(what_is_not_derpers_answer_refuses),
		T(another_status_refuses_whatever_it_says),
		T(of_a_huge_answer_the_first_4096_bytes_count),
		T(nobody_there_refuses),
		T(a_connection_that_ends_refuses),
		T(a_server_that_hangs_refuses_in_5_s),
		T(a_name_that_does_not_resolve_refuses),
		T(more_than_the_bound_is_refused_until_one_is_answered),
		T(what_is_taken_back_is_not_answered),
		T(only_a_server_that_asks_may_connect),
		T(over_https_the_servers_name_is_verified),
	};
	return cmocka_run_group_tests(tests, make_certs, NULL);
}
