/*
 * Kinds of mail between the server's threads. `number` and `ptr` as said.
 */
#ifndef TUNN_SERVER_MAIL_H
#define TUNN_SERVER_MAIL_H

enum mail_kind {
	MAIL_AUTH,   /* auth -> worker: number of the asking session, ptr struct identity (given) */
	MAIL_CONFIG, /* server -> worker: ptr struct worker_news (given) */
	MAIL_ALIVE,  /* server -> worker: tell the service manager, if you still read your mail */
	MAIL_ENDED,  /* worker -> server: its thread ends */
	MAIL_DRAIN,  /* server -> worker: number is the time in ms that ends may take to leave */
};

#endif
