/*
 * What the relay's port answers to somebody who is no end: the routes of plain
 * HTTP, whichever protocol they are asked for by (product.md section 5, derp.md
 * 1.3). Pure data. Any thread.
 */
#ifndef TUNN_TRANSPORT_PAGES_H
#define TUNN_TRANSPORT_PAGES_H

#include "common/base/bytes.h"
#include "common/wire/http1.h"

enum { PAGE_FIELDS_MAX = 12, PAGE_CHALLENGE_MAX = 64 };

struct page {
	struct http1_answer answer; /* its pointers lead to constants and into this struct */
	struct http1_field fields[PAGE_FIELDS_MAX];
	char response[sizeof "response " + PAGE_CHALLENGE_MAX];
};

struct page_request { /* borrowed for the call */
	struct str method, path;
	struct str challenge; /* X-Tailscale-Challenge */
};

/* Any method, any path has a page: what nobody knows is the home page. `/derp` is
 * asked for here only where it is not upgraded. Date, say_keep_alive and more of
 * `close` than the page itself wants are the caller's. The page must not be moved
 * while it is used. */
void page_for(const struct page_request *, struct page *page_out);
/* The same for what http1_reader_fault() tells, and what web.h does. */
void page_for_fault(int status, struct page *page_out);

#endif
