/*
 * Asks an admin listener for a status: three answers of /api/v1/, one after the other.
 * Belongs to its loop's thread.
 */
#ifndef TUNN_SERVER_STATUS_ASK_H
#define TUNN_SERVER_STATUS_ASK_H

#include "common/net/fetch.h"
#include "server/admin/status.h"

enum { STATUS_URL_LEN = 300, STATUS_WORDS_LEN = FETCH_ERROR_LEN + 300 };

struct status_place {              /* borrowed while it is asked */
	char base[STATUS_URL_LEN]; /* "http://127.0.0.1:9180" */
	struct tls_ctx *tls;       /* for https */
	struct str token;          /* empty: none */
};

struct status_ask;
/* s NULL: error says why, in words; json is what the relay said, as one document and a line
 * break. Both are given, json to free(). The ask is over, the next may begin from inside. */
typedef void status_ask_done(void *owner, struct status *s, char *json, const char *error);

struct status_ask *status_ask_new(struct loop *, const struct status_place *, status_ask_done *,
                                  void *owner); /* NULL: out of memory */
void status_ask_start(struct status_ask *);     /* done follows once; not while one is under way */
void status_ask_free(struct status_ask *);      /* NULL allowed */

#endif
