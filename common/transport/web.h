/*
 * Requests of plain HTTP that the owner of a transport answers, the part that is the
 * same whichever HTTP they come by: which these are, their head and body in memory, and
 * what is wrong with them. Faults are told as the status to answer with.
 * The transport's thread.
 */
#ifndef TUNN_TRANSPORT_WEB_H
#define TUNN_TRANSPORT_WEB_H

#include "common/transport/pages.h"
#include "common/transport/transport.h"

enum { WEB_HEAD_PARTS = 7 };

struct web_call {
	struct web web; /* first */
	char *head;     /* its parts one after the other */
	uint16_t len[WEB_HEAD_PARTS];
	size_t head_len, body_len;
	char *body; /* WEB_BODY_MAX; NULL before its first byte */
	int fault;  /* for whoever has it */
};

/* Under /login; or it has a token where none belongs, in its path or query, and somebody has
 * to be told (robustness.md A12). */
bool web_is_asked(const struct transport_events *, struct str path, struct str query);
/* Before anything is kept: 0, 413 or 415. body_len 0: none, or not known yet. */
int web_check(const struct web_request *head, uint64_t body_len);
size_t web_head_len(const struct web_request *head);
/* Copies what the head says into a zeroed call. 0, 431 or 503. */
int web_begin(struct web_call *, struct transport *, const struct transport_ops *,
              const struct web_request *head);
/* A piece of the body: 0, 413, 415 or 503. */
int web_take(struct web_call *, const uint8_t *data, size_t len);
/* Asks the owner: 0, or the status of what is to be said instead of its answer. */
int web_ask(struct web_call *, const struct transport_events *, void *owner);
bool web_is_head(const struct web_call *); /* its answer has no body (RFC 9110 9.3.2) */
/* The owner's answer as a page, which borrows from both. */
void web_page(const struct web_call *, const struct web_answer *, struct page *page_out);
/* Wipes what it holds; tells the owner if it waits for an answer. NULL allowed. */
void web_done(struct web_call *, const struct transport_events *, void *owner);

#endif
