/*
 * What the relay's port answers to somebody who is no end: the routes of plain
 * HTTP, whichever protocol they are asked for by (product.md section 5). Pure
 * data. Any thread.
 */
#ifndef TUNN_TRANSPORT_PAGES_H
#define TUNN_TRANSPORT_PAGES_H

#include "common/base/bytes.h"

struct page {
	const char *path; /* exact */
	const char *content_type, *body;
};

const struct page *page_of(struct str path); /* or NULL */

#endif
