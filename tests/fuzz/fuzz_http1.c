/* The reply to CONNECT and the request to a server: however they are cut, the result
 * is the same. What is answered to a request is read back. The first byte says where
 * to cut. */
#include <assert.h>
#include <string.h>

#include "common/base/err.h"
#include "common/transport/pages.h"
#include "common/wire/http1.h"
#include "common/wire/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int feed(const uint8_t *data, size_t len, size_t chunk, struct http1_head *head_out,
                size_t *used_out)
{
	struct http1 *h;
	int rc = ERR_AGAIN;

	*used_out = 0;
	if (http1_new(&h) < 0)
		return -1;
	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		rc = http1_feed(h, data + at, len - at < chunk ? len - at : chunk, used_out);
		if (rc == 0)
			*used_out += at;
	}
	*head_out = *http1_head(h);
	http1_free(h);
	return rc;
}

static void response(const uint8_t *data, size_t len, size_t chunk)
{
	struct http1_head a, b;
	size_t used_a, used_b;
	int rc_a = feed(data, len, len, &a, &used_a);
	int rc_b = feed(data, len, chunk, &b, &used_b);

	assert(rc_a == rc_b);
	if (rc_a == 0)
		assert(used_a == used_b && memcmp(&a, &b, sizeof a) == 0);
}

/* An answer is one response with the status it was to have, and nothing behind its
 * length: no byte of a request gets out of its field. */
static void answer(const struct http1_answer *a)
{
	struct buf out = { 0 };
	struct http1_head head;
	size_t used;

	if (http1_respond(&out, a) == 0) {
		assert(feed(buf_data(&out), buf_len(&out), buf_len(&out), &head, &used) == 0);
		assert(head.status == a->status);
		size_t body = a->to_head || !http1_has_length(a->status) ? 0 : a->body.len;
		assert(buf_len(&out) == used + body);
	}
	buf_done(&out);
}

static void use(const struct http1_request *q)
{
	struct ws_answer ws;
	struct page page;

	assert(q->method.len && q->path.len && q->minor <= 1);
	assert(q->body_len <= HTTP1_BODY_MAX && (q->keep_alive || q->body_len == 0));
	assert(q->minor == 0 || q->n_field[HTTP1_HOST] == 1);
	for (unsigned i = 0; i < HTTP1_NAME_N; i++)
		for (size_t k = 0; k < q->field[i].len; k++)
			assert((uint8_t)q->field[i].p[k] >= ' ' || q->field[i].p[k] == '\t');
	page_for(&(struct page_request){ q->method, q->path,
	                                 q->field[HTTP1_X_TAILSCALE_CHALLENGE] },
	         &page);
	answer(&page.answer);
	ws_accept(q, &ws);
	answer(&ws.answer);
}

static int read_in(struct http1_reader *r, const uint8_t *data, size_t len, size_t chunk,
                   size_t *used_out)
{
	int rc = ERR_AGAIN;

	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		rc = http1_reader_feed(r, data + at, len - at < chunk ? len - at : chunk, used_out);
		if (rc == 0)
			*used_out += at;
	}
	return rc;
}

static bool same(const struct http1_request *a, const struct http1_request *b)
{
	bool is = str_eq(a->method, b->method) && str_eq(a->path, b->path) &&
	          str_eq(a->query, b->query) && a->minor == b->minor &&
	          a->has_upgrade == b->has_upgrade && a->keep_alive == b->keep_alive &&
	          a->say_keep_alive == b->say_keep_alive && a->body_len == b->body_len;

	for (unsigned i = 0; i < HTTP1_NAME_N; i++)
		is = is && a->n_field[i] == b->n_field[i] && str_eq(a->field[i], b->field[i]);
	return is;
}

static void request(const uint8_t *data, size_t len, size_t chunk)
{
	struct http1_reader *a = NULL, *b = NULL;
	size_t used_a = 0, used_b = 0;

	if (http1_reader_new(&a) == 0 && http1_reader_new(&b) == 0) {
		int rc_a = read_in(a, data, len, len, &used_a);
		int rc_b = read_in(b, data, len, chunk, &used_b);
		struct page page;
		assert(rc_a == rc_b && http1_reader_fault(a) == http1_reader_fault(b));
		if (rc_a == 0) {
			assert(used_a == used_b && used_a <= len);
			assert(memcmp(data + used_a - 4, "\r\n\r\n", 4) == 0);
			assert(same(http1_reader_request(a), http1_reader_request(b)));
			use(http1_reader_request(a));
		} else if (rc_a != ERR_AGAIN) {
			page_for_fault(http1_reader_fault(a), &page);
			answer(&page.answer);
		}
	}
	http1_reader_free(a);
	http1_reader_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 2)
		return 0;
	response(data + 1, len - 1, 1 + data[0]);
	request(data + 1, len - 1, 1 + data[0]);
	return 0;
}
