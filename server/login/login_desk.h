/*
 * A worker's desk for requests under /login: it copies what is asked into a question, which
 * goes to the accounts thread and comes back with the answer. Who asked may be gone
 * by then. A desk belongs to its worker's thread; a question to whoever has it.
 */
#ifndef TUNN_SERVER_LOGIN_DESK_H
#define TUNN_SERVER_LOGIN_DESK_H

#include <stdint.h>

#include "common/base/map.h"
#include "common/link.h"

struct auth;
struct login_question;
struct mailbox;

enum { LOGIN_DESK_MAX = 64 }; /* questions of one worker under way: memory, 32 KiB each at most */

struct login_desk {
	struct auth *auth;       /* NULL: nobody has an account here, nobody logs in */
	struct mailbox *mailbox; /* of the worker */
	struct map by_number;    /* struct ticket: a web that waits */
	uint64_t next_number;
	unsigned n; /* questions that have not come back */
};

void login_desk_init(struct login_desk *);
/* Before the links are freed: nobody waits any more. Questions may still come back. */
void login_desk_close(struct login_desk *);

/* As link_events.request and unasked. */
int login_desk_ask(struct login_desk *, struct link *, struct web *, const struct web_request *);
void login_desk_unasked(struct login_desk *, struct web *);
/* MAIL_LOGIN: takes the question. */
void login_desk_on_answer(struct login_desk *, uint64_t number, struct login_question *);

#endif
