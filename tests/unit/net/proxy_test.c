#include "tests/unit/said.h"

#include "common/net/proxy.h"

static char warning[PROXY_ERROR_LEN], error[PROXY_ERROR_LEN];

static int set_up(void **state)
{
	static const char *const names[] = { "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY" };

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	return 0;
}

/* ---- which proxy ---- */

static struct proxy_conf of_url(const char *url)
{
	struct proxy_conf c;

	assert_int_equal(proxy_of_url(url, &c, warning, error), 0);
	assert_true(c.used);
	return c;
}

static void a_url_gives_host_port_and_login(void **state)
{
	struct proxy_conf c = of_url("http://worker:secret@proxy.corp:3128");

	(void)state;
	assert_string_equal(c.host, "proxy.corp");
	assert_int_equal(c.port, 3128);
	assert_string_equal(c.user, "worker");
	assert_string_equal(c.password, "secret");
	assert_string_equal(warning, "");
}

/* Row C23. */
static void C23_urls_as_people_write_them_are_understood(void **state)
{
	struct proxy_conf c;

	(void)state;
	c = of_url("proxy:3128"); /* no scheme */
	assert_string_equal(c.host, "proxy");
	assert_int_equal(c.port, 3128);
	assert_non_null(strstr(warning, "http://"));
	c = of_url("http://user:p@ss@host:1/"); /* the last @ splits */
	assert_string_equal(c.host, "host");
	assert_string_equal(c.password, "p@ss");
	c = of_url("HTTP://u%40corp:p%3A%2F%25@[2001:db8::1]:8080/");
	assert_string_equal(c.host, "2001:db8::1");
	assert_string_equal(c.user, "u@corp");
	assert_string_equal(c.password, "p:/%");
	c = of_url("http://proxy");
	assert_int_equal(c.port, 443);
	assert_string_equal(c.user, "");
}

static void C23_other_schemes_and_broken_urls_are_refused_without_repeating_a_password(void **state)
{
	static const char *const bad[] = { "socks5://u:sesame@proxy:1080",
		                           "https://u:sesame@proxy",
		                           "http://https://proxy",
		                           "http://u:sesame@https://proxy",
		                           "http://",
		                           "http:///",
		                           "http://u:sesame@",
		                           "http://u:sesame%zz@proxy",
		                           "http://u:sesame%@proxy",
		                           "http://u:sesame@proxy:99999",
		                           "http://u:sesame%00@proxy",
		                           "http://u:sesame@pro xy" };
	struct proxy_conf c = { .port = 7 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(proxy_of_url(bad[i], &c, warning, error), ERR_CONFIG);
		assert_true(strlen(error) > 10);
		assert_null(strstr(error, "sesame"));
		assert_int_equal(c.port, 7);
	}
}

static bool bypassed(const char *no_proxy)
{
	return proxy_is_bypassed(no_proxy, "relay.corp.example", 443);
}

static void C24_no_proxy_covers_what_its_grammar_says(void **state)
{
	static const char *const yes[] = { "*",
		                           "relay.corp.example",
		                           "RELAY.corp.Example",
		                           ".corp.example",
		                           "corp.example",
		                           "x, example",
		                           "x,*",
		                           " ,, .example ,",
		                           "relay.corp.example:443",
		                           "relay.corp.example.",
		                           "a b\tcorp.example" };
	static const char *const no[] = { "",
		                          " , ,",
		                          "corp",
		                          "elay.corp.example",
		                          "relay.corp.example:8443",
		                          "xcorp.example",
		                          "10.0.0.0/8",
		                          "relay.corp.example.org" };

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		if (!bypassed(yes[i]))
			fail_msg("not covered by \"%s\"", yes[i]);
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		if (bypassed(no[i]))
			fail_msg("covered by \"%s\"", no[i]);
	assert_true(proxy_is_bypassed("corp.example", "relay.corp.example.",
	                              443)); /* a final dot */
	assert_false(proxy_is_bypassed(NULL, "relay", 443));
}

static void C24_no_proxy_covers_networks(void **state)
{
	(void)state;
	assert_true(proxy_is_bypassed("10.0.0.0/8", "10.200.3.4", 443));
	assert_false(proxy_is_bypassed("10.0.0.0/8", "11.0.0.1", 443));
	assert_true(proxy_is_bypassed("192.0.2.128/25", "192.0.2.200", 443));
	assert_false(proxy_is_bypassed("192.0.2.128/25", "192.0.2.100", 443));
	assert_true(proxy_is_bypassed("0.0.0.0/0", "192.0.2.1", 443));
	assert_true(proxy_is_bypassed("2001:db8::/32", "2001:db8:1::5", 443));
	assert_false(proxy_is_bypassed("2001:db8::/32", "2001:db9::5", 443));
	assert_false(proxy_is_bypassed("10.0.0.0/33", "10.0.0.1",
	                               443)); /* no such network: ignored */
	assert_false(proxy_is_bypassed("10.0.0.0/-1", "10.0.0.1", 443));
	assert_false(proxy_is_bypassed("10.0.0.0/8x", "10.0.0.1", 443));
	assert_false(proxy_is_bypassed("10.0.0.0/", "10.0.0.1", 443));
	assert_true(proxy_is_bypassed("[::1]", "::1", 443));
	assert_true(proxy_is_bypassed("127.0.0.1", "127.0.0.1", 443));
}

static void C24_an_address_is_covered_by_itself_and_networks_alone(void **state)
{
	(void)state;
	assert_false(proxy_is_bypassed("0.0.1", "127.0.0.1", 443)); /* no suffix of an address */
	assert_false(proxy_is_bypassed(".0.0.1", "127.0.0.1", 443));
	assert_false(proxy_is_bypassed("1", "127.0.0.1", 443));
	assert_true(proxy_is_bypassed("127.0.0.1:443", "127.0.0.1", 443));
	assert_true(proxy_is_bypassed("0:0:0:0:0:0:0:1", "::1", 443)); /* written another way */
	assert_true(proxy_is_bypassed("::ffff:192.0.2.1", "192.0.2.1", 443));
}

static void assert_warned(const char *no_proxy, const char *words)
{
	static char used[] = "https_proxy=http://env:1", not_used[128];
	struct proxy_conf c;

	snprintf(not_used, sizeof not_used, "no_proxy=%s", no_proxy);
	putenv(used); /* needs no memory of its own */
	putenv(not_used);
	assert_int_equal(proxy_choose(NULL, "10.0.0.1", 443, &c, warning, error), 0);
	assert_true(c.used);
	assert_string_equal(warning, words);
}

static void C24_a_network_that_is_none_is_named_and_ignored(void **state)
{
	(void)state;
	assert_warned(" , .corp ,,10.0.0.0/33",
	              "no_proxy: \"10.0.0.0/33\" is no network (ADDRESS/BITS): left out");
	assert_warned("corp/8", "no_proxy: \"corp/8\" is no network (ADDRESS/BITS): left out");
	assert_warned("10.0.0.0/8\033[0m", "no_proxy: \"10.0.0.0/8\\x1b[0m\" is no network "
	                                   "(ADDRESS/BITS): left out");
	assert_warned(" , .corp ,,11.0.0.0/8", "");
}

static void C24_an_ipv6_entry_may_have_a_port(void **state)
{
	(void)state;
	assert_true(proxy_is_bypassed("[::1]:443", "::1", 443));
	assert_false(proxy_is_bypassed("[::1]:8443", "::1", 443));
	assert_false(proxy_is_bypassed("[::2]:443", "::1", 443));
	assert_false(proxy_is_bypassed("[::1]:", "::1", 443));
	assert_false(proxy_is_bypassed("::1:443", "::1", 443)); /* an address of its own */
}

static struct proxy_conf chosen(const char *flag)
{
	struct proxy_conf c;

	assert_int_equal(proxy_choose(flag, "relay.example", 443, &c, warning, error), 0);
	return c;
}

static void the_flag_wins_over_the_environment(void **state)
{
	(void)state;
	assert_false(chosen(NULL).used);
	setenv("HTTPS_PROXY", "http://upper:1", 1);
	assert_string_equal(chosen(NULL).host, "upper");
	setenv("https_proxy", "http://lower:1", 1);
	assert_string_equal(chosen(NULL).host, "lower");
	assert_string_equal(chosen("http://flag:1").host, "flag");
	assert_false(chosen("none").used);
	setenv("https_proxy", "", 1); /* empty is as absent */
	assert_string_equal(chosen(NULL).host, "upper");
}

static void no_proxy_concerns_the_environment_not_the_flag(void **state)
{
	(void)state;
	setenv("https_proxy", "http://env:1", 1);
	setenv("NO_PROXY", "example", 1);
	assert_false(chosen(NULL).used);
	assert_true(chosen("http://flag:1").used);
	setenv("no_proxy", "other", 1);
	assert_true(chosen(NULL).used);
}

/* ---- CONNECT ---- */

static struct proxy *proxy_for(const char *user, const char *password)
{
	struct proxy_conf c = { .used = true, .host = "proxy.corp", .port = 3128 };
	struct proxy *p;

	snprintf(c.user, sizeof c.user, "%s", user);
	snprintf(c.password, sizeof c.password, "%s", password);
	assert_int_equal(proxy_new(&c, "relay.example", 443, &p), 0);
	return p;
}

static void assert_request(struct proxy *p, const char *expected)
{
	struct buf out = { 0 };

	assert_int_equal(proxy_request(p, &out), 0);
	assert_int_equal(buf_len(&out), strlen(expected));
	assert_memory_equal(buf_data(&out), expected, strlen(expected));
	buf_done(&out);
	proxy_free(p);
}

static void the_request_names_the_host_and_lets_the_proxy_resolve(void **state)
{
	(void)state;
	assert_request(proxy_for("", ""),
	               "CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
	               "User-Agent: tunn/" TUNN_VERSION "\r\nProxy-Connection: keep-alive\r\n\r\n");
}

/* RFC 7617 section 2. */
static void a_login_is_sent_as_basic(void **state)
{
	(void)state;
	assert_request(proxy_for("Aladdin", "open sesame"),
	               "CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
	               "User-Agent: tunn/" TUNN_VERSION "\r\nProxy-Connection: keep-alive\r\n"
	               "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
}

static void an_ipv6_target_stands_in_brackets(void **state)
{
	struct proxy_conf c = { .used = true, .host = "p", .port = 1 };
	struct buf out = { 0 };
	struct proxy *p;

	(void)state;
	assert_int_equal(proxy_new(&c, "2001:db8::1", 443, &p), 0);
	assert_int_equal(proxy_request(p, &out), 0);
	assert_memory_equal(buf_data(&out), "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n", 36);
	buf_done(&out);
	proxy_free(p);
}

static int reply(struct proxy *p, const char *text, size_t *used_out)
{
	return proxy_reply(p, (const uint8_t *)text, strlen(text), used_out);
}

static void any_2xx_opens_the_tunnel_and_the_rest_belongs_to_it(void **state)
{
	static const char text[] = "HTTP/1.1 200 Connection established\r\n\r\nsurplus";
	struct proxy *p;
	size_t used;

	(void)state;
	for (size_t cut = 1; cut < sizeof text - 8; cut++) {
		p = proxy_for("", "");
		assert_int_equal(proxy_reply(p, (const uint8_t *)text, cut, &used), ERR_AGAIN);
		assert_int_equal(reply(p, text + cut, &used), 0);
		assert_string_equal(text + cut + used, "surplus");
		proxy_free(p);
	}
}

static void assert_opens(const char *text, const char *rest)
{
	struct proxy *p = proxy_for("", "");
	size_t used = 0;

	if (reply(p, text, &used) != 0)
		fail_msg("refused: %s", text);
	assert_string_equal(text + used, rest);
	proxy_free(p);
}

static void X01_status_lines_as_proxies_write_them_open_the_tunnel(void **state)
{
	(void)state;
	assert_opens("HTTP/1.1 200\r\n\r\nx", "x");
	assert_opens("HTTP/1.0 200 OK\r\n\r\nx", "x");
	assert_opens("HTTP/1.1 204 No Content\r\n\r\nx", "x");
	assert_opens("HTTP/1.1 299 Odd\r\n\r\nx", "x");
	assert_opens("HTTP/1.1 200 OK\nVia: x\n\nx", "x"); /* X04: LF alone */
}

/* RFC 9110 section 9.3.6: what stands behind the head is the tunnel's. */
static void X02_a_length_in_the_answer_is_ignored(void **state)
{
	(void)state;
	assert_opens("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsurplus", "surplus");
	assert_opens("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsurplus", "surplus");
}

static void an_answer_may_come_byte_by_byte(void **state)
{
	static const char text[] = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
	struct proxy *p = proxy_for("", "");
	size_t last = sizeof text - 2, used = 0;

	(void)state;
	for (size_t i = 0; i < last; i++)
		assert_int_equal(proxy_reply(p, (const uint8_t *)text + i, 1, &used), ERR_AGAIN);
	assert_int_equal(proxy_reply(p, (const uint8_t *)text + last, 1, &used), 0);
	assert_int_equal(used, 1);
	proxy_free(p);
}

/* The result of a reply, with the words it left. */
static enum close_why refused(const char *user, const char *text, char *words, size_t cap)
{
	struct proxy *p = proxy_for(user, "sesame");
	size_t used;

	assert_int_equal(reply(p, text, &used), ERR_CLOSED);
	enum close_why why = proxy_why(p);
	snprintf(words, cap, "%s", proxy_text(p));
	assert_null(strstr(words, "sesame"));
	assert_non_null(strstr(words, "proxy.corp:3128"));
	assert_non_null(strstr(words, "relay.example:443"));
	proxy_free(p);
	return why;
}

static void assert_refused(const char *user, const char *text, enum close_why why,
                           const char *words)
{
	char said_words[600];

	assert_int_equal(refused(user, text, said_words, sizeof said_words), why);
	if (!strstr(said_words, words))
		fail_msg("\"%s\" is not in \"%s\"", words, said_words);
}

static void X05_a_407_names_what_is_offered(void **state)
{
	(void)state;
	assert_refused("", "HTTP/1.1 407 A\r\n\r\n", CLOSE_PROXY_DENIED, "does not say which kind");
	assert_refused("", "HTTP/1.1 407 A\r\nProxy-Authenticate: Shibboleth\r\n\r\n",
	               CLOSE_PROXY_DENIED, "offers Shibboleth, but we speak Basic only");
	assert_refused("",
	               "HTTP/1.1 407 A\r\nProxy-Authenticate: Negotiate, NTLM, Basic realm=\"a,b\"\r\n\r\n",
	               CLOSE_PROXY_DENIED, "offers Negotiate, NTLM, Basic)");
	assert_refused("",
	               "HTTP/1.1 407 A\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Digest realm=x, nonce=\"y, z\"\r\n\r\n",
	               CLOSE_PROXY_DENIED, "offers Negotiate, Digest, but we speak Basic only");
}

static void X06_a_proxy_that_knows_only_ntlm_is_told_apart_from_a_wrong_password(void **state)
{
	(void)state;
	assert_refused("u",
	               "HTTP/1.1 407 A\r\nProxy-Authenticate: NTLM\r\nProxy-Connection: close\r\n\r\n",
	               CLOSE_PROXY_DENIED, "offers NTLM, but we speak Basic only");
}

static void X13_an_answer_in_tls_is_called_that(void **state)
{
	(void)state;
	assert_refused("", "\x15\x03\x03\x01\x02\x02\x28", CLOSE_PROXY, "is it the relay?");
	assert_refused("", "\x16\x03\x01\x01\x02\x02\x28", CLOSE_PROXY, "is it the relay?");
	assert_refused("", "\x17\x03\x01\x01\x02\x02\x28", CLOSE_PROXY, "does not speak HTTP");
}

static void X07_a_login_that_is_not_accepted_is_final(void **state)
{
	(void)state;
	assert_refused("u", "HTTP/1.1 407 A\r\nProxy-Authenticate: Basic\r\n\r\n",
	               CLOSE_PROXY_DENIED, "not accepted (407)");
}

static void X08_a_redirect_shows_where_to_and_no_more(void **state)
{
	char words[600];

	(void)state;
	assert_int_equal(
	                refused("",
	                        "HTTP/1.1 302 F\r\nLocation: https://login.corp/?token=abc\r\n\r\n",
	                        words, sizeof words),
	                CLOSE_PROXY);
	assert_non_null(strstr(words, "login.corp"));
	assert_null(strstr(words, "token"));
}

static void assert_redirect(const char *location, const char *words)
{
	char text[300];

	snprintf(text, sizeof text, "HTTP/1.1 302 F\r\nLocation: %s\r\n\r\n", location);
	assert_refused("", text, CLOSE_PROXY, words);
}

static void X08_a_redirect_without_a_host_or_with_a_login_is_told_too(void **state)
{
	(void)state;
	assert_redirect("https://guest:sesame@login.corp:8080/x", "sends us to login.corp:8080 ");
	assert_redirect("//login.corp/?next=https://relay.example", "sends us to login.corp ");
	assert_redirect("/login?next=https://relay.example", "sends us elsewhere");
	assert_redirect("", "sends us elsewhere");
	assert_refused("", "HTTP/1.1 302 F\r\n\r\n", CLOSE_PROXY, "sends us elsewhere");
}

static void X09_a_403_is_final_and_gateway_errors_are_not(void **state)
{
	(void)state;
	assert_refused("", "HTTP/1.1 403 F\r\n\r\n<html>", CLOSE_PROXY_DENIED, "does not allow");
	assert_refused("", "HTTP/1.1 502 B\r\n\r\n", CLOSE_PROXY, "502");
	assert_refused("", "HTTP/1.1 503 B\r\n\r\n", CLOSE_PROXY, "503");
	assert_refused("", "HTTP/1.1 504 B\r\n\r\n", CLOSE_PROXY, "504");
	assert_int_equal(close_verdict(CLOSE_PROXY_DENIED), VERDICT_FINAL);
	assert_int_equal(close_verdict(CLOSE_PROXY), VERDICT_RETRY);
}

static void X04_what_is_no_http_or_does_not_end_is_told(void **state)
{
	static char endless[40000];

	(void)state;
	assert_refused("", "SSH-2.0-OpenSSH_9.2\r\n", CLOSE_PROXY, "does not speak HTTP");
	strcpy(endless, "HTTP/1.1 200 OK\r\nX: ");
	memset(endless + 20, 'a', sizeof endless - 21);
	assert_refused("", endless, CLOSE_PROXY, "does not end");
	assert_refused("", "HTTP/1.1 20x OK\r\n\r\n", CLOSE_PROXY, "does not speak HTTP");
}

static const char *reply_of_lines(unsigned n)
{
	static char text[4096];
	size_t len = (size_t)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n");

	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "X-%u: y\r\n", i);
	snprintf(text + len, sizeof text - len, "\r\n");
	return text;
}

static void X04_a_hundred_lines_are_read_and_no_more(void **state)
{
	(void)state;
	assert_opens(reply_of_lines(100), "");
	assert_refused("", reply_of_lines(101), CLOSE_PROXY, "does not end");
}

/* In pieces: it is given up at the limit, not when all is there. */
static void X04_a_header_of_a_megabyte_is_given_up_early(void **state)
{
	static uint8_t block[1000];
	struct proxy *p = proxy_for("", "");
	size_t used, n = 0;

	(void)state;
	assert_int_equal(reply(p, "HTTP/1.1 200 OK\r\nX: ", &used), ERR_AGAIN);
	memset(block, 'a', sizeof block);
	while (n < 1 << 20 && proxy_reply(p, block, sizeof block, &used) == ERR_AGAIN)
		n += sizeof block;
	assert_in_range(n, 15000, 16384);
	assert_int_equal(proxy_why(p), CLOSE_PROXY);
	proxy_free(p);
}

/* A byte of zero is nobody's header. */
static void X04_a_zero_byte_is_no_http(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n";
	struct proxy *p = proxy_for("", "");
	size_t used;

	(void)state;
	assert_int_equal(proxy_reply(p, (const uint8_t *)text, sizeof text - 1, &used), ERR_CLOSED);
	proxy_free(p);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_url_gives_host_port_and_login),
		TEST(C23_urls_as_people_write_them_are_understood),
		TEST(C23_other_schemes_and_broken_urls_are_refused_without_repeating_a_password),
		TEST(C24_no_proxy_covers_what_its_grammar_says),
		TEST(C24_no_proxy_covers_networks),
		TEST(C24_an_address_is_covered_by_itself_and_networks_alone),
		TEST(C24_a_network_that_is_none_is_named_and_ignored),
		TEST(C24_an_ipv6_entry_may_have_a_port),
		TEST(the_flag_wins_over_the_environment),
		TEST(no_proxy_concerns_the_environment_not_the_flag),
		TEST(the_request_names_the_host_and_lets_the_proxy_resolve),
		TEST(a_login_is_sent_as_basic),
		TEST(an_ipv6_target_stands_in_brackets),
		TEST(any_2xx_opens_the_tunnel_and_the_rest_belongs_to_it),
		TEST(X01_status_lines_as_proxies_write_them_open_the_tunnel),
		TEST(X02_a_length_in_the_answer_is_ignored),
		TEST(an_answer_may_come_byte_by_byte),
		TEST(X05_a_407_names_what_is_offered),
		TEST(X06_a_proxy_that_knows_only_ntlm_is_told_apart_from_a_wrong_password),
		TEST(X13_an_answer_in_tls_is_called_that),
		TEST(X07_a_login_that_is_not_accepted_is_final),
		TEST(X08_a_redirect_shows_where_to_and_no_more),
		TEST(X08_a_redirect_without_a_host_or_with_a_login_is_told_too),
		TEST(X09_a_403_is_final_and_gateway_errors_are_not),
		TEST(X04_what_is_no_http_or_does_not_end_is_told),
		TEST(X04_a_hundred_lines_are_read_and_no_more),
		TEST(X04_a_header_of_a_megabyte_is_given_up_early),
		TEST(X04_a_zero_byte_is_no_http),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
