/*
 * Kinds of mail between the server's threads. `number` and `ptr` as said.
 */
#ifndef TUNN_SERVER_MAIL_H
#define TUNN_SERVER_MAIL_H

enum mail_kind {
	MAIL_AUTH, /* auth -> worker: number of the asking session, ptr struct identity (given) */
	MAIL_ACCOUNT, /* auth -> worker: the terms of ptr struct account (a reference, given; NULL:
	                 of all) have changed, or its volume is used up */
	MAIL_PERCENT, /* the same: so many percent of its volume are used */
	MAIL_REVOKED, /* auth -> worker: ends that came in by token ptr (its id, from malloc, given)
	                 go */
	MAIL_DERP,    /* auth -> worker: native DERP ends count for ptr struct account, as above */
	MAIL_CONFIG,  /* server -> worker: ptr struct worker_news (given) */
	MAIL_ALIVE,   /* server -> worker, and back with the same number: it reads its mail */
	MAIL_ENDED,   /* worker -> server: its thread ends */
	MAIL_DRAIN,   /* server -> worker: number is the time in ms that ends may take to leave */
	MAIL_EVICT,   /* worker -> worker: the newcomer `number` has to go (admit.h) */
	MAIL_JOIN,    /* worker -> worker: ptr struct presence (a reference, given) has its key */
	MAIL_LEAVE,   /* the same: it has it no more */
	MAIL_CLOSE,   /* the same: a mate of the mesh wants that native end closed */
	MAIL_SURVEY,  /* admin -> worker, and back: ptr struct survey (given) */
	MAIL_SHED, /* server -> worker: memory is short; number: so many ends may go (shortage.h) */
	MAIL_FIGHT, /* the same: instances fight for its key, which rests; whoever has it goes */
	MAIL_LOGIN, /* auth -> worker: number of the asking web, ptr struct login_question (given)
	             */
};

#endif
