/*
 * The status page: its files, which the build puts into the program, so that nothing is
 * read while it runs. They are the same for everybody and hold nothing of the relay; what
 * they show they ask of /api/v1/. Any thread.
 */
#ifndef TUNN_SERVER_PAGE_H
#define TUNN_SERVER_PAGE_H

#include <stdbool.h>

#include "common/base/bytes.h"

enum { PAGE_ETAG_LEN = 35 };

struct page_file {
	const char *path, *type;
	struct str body;
	char etag[PAGE_ETAG_LEN]; /* of its bytes: strong (RFC 9110 8.8.3) */
};

/* Scripts and styles are files of ours, nobody else is asked, nothing is sent anywhere,
 * no other page shows it inside itself. */
#define PAGE_POLICY                                                                                \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "          \
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

void page_start(void);                              /* once, before the others */
const struct page_file *page_find(struct str path); /* NULL: not of the page */
/* Does the asker, who says If-None-Match, have this one already? */
bool page_has(const struct page_file *, struct str if_none_match);

#endif
