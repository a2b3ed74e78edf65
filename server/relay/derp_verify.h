/*
 * The question whether a native DERP end may enter, asked of an URL as derper's
 * -verify-client-url does: POST {"NodePublic":"nodekey:HEX","Source":"IP"}; only
 * {"Allow":true} with status 200, within 5 s and the first 4096 bytes, lets it in.
 * All else refuses, a URL that cannot be asked included.
 *
 * One for each worker, on its loop: nothing blocks. One question each, no cache: who
 * was taken off the list stays out.
 */
#ifndef TUNN_SERVER_DERP_VERIFY_H
#define TUNN_SERVER_DERP_VERIFY_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/net/addr.h"
#include "common/net/fetch.h"
#include "common/net/loop.h"
#include "common/net/tls.h"

enum {
	DERP_VERIFY_MAX = 64, /* questions of one worker at once: each is a connection */
	DERP_VERIFY_MS = 5000,
	DERP_VERIFY_BODY = 4096, /* what is read of an answer */
};

struct derp_verify;
struct derp_question;

/* url is borrowed until freed and was checked by fetch_check_url(); tls is referenced,
 * NULL for http. NULL: out of memory. */
struct derp_verify *derp_verify_new(struct loop *, const char *url, struct tls_ctx *tls);
void derp_verify_free(struct derp_verify *); /* before its loop; tells nobody; NULL allowed */

/* why: CLOSE_NONE lets it in, CLOSE_DENIED is the URL's no, CLOSE_UNAVAILABLE everything
 * else; text for the log, "" when let in. */
typedef void derp_verify_done(void *owner, enum close_why why, const char *text);

/* 0: done follows once, never from inside, unless cancelled. ERR_AGAIN: DERP_VERIFY_MAX
 * wait already, to be refused as unavailable. -ENOMEM. */
int derp_verify_ask(struct derp_verify *, const struct key *, const struct addr *source,
                    derp_verify_done *done, void *owner, struct derp_question **question_out);
void derp_verify_cancel(struct derp_question *); /* before done only; NULL allowed */

#endif
