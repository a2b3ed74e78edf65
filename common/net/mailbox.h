/*
 * Mail between threads: small structs by value. The one mutex of the program
 * is in mailbox.c. mailbox_post() from any thread, all else from the owner's.
 *
 * Senders wake the owner only if it may be asleep. Control mail is never
 * dropped; packet mail is bounded and counted (DROP_QUEUE_FULL).
 */
#ifndef TUNN_NET_MAILBOX_H
#define TUNN_NET_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/net/loop.h"

enum { MAIL_BODY_LEN = 64, MAILBOX_PACKETS_MAX = 4096 };

struct mail {
	unsigned kind;  /* meaning is the users'; server/mail.h */
	bool is_packet; /* counts against MAILBOX_PACKETS_MAX */
	void *ptr;      /* moves with the mail */
	uint64_t number;
	uint8_t body[MAIL_BODY_LEN];
};

struct mailbox;

/* on_mail runs in the loop's thread, before timers, in order of posting; what is
 * posted meanwhile comes in the next turn. */
int mailbox_new(struct loop *, void (*on_mail)(void *owner, struct mail *), void *owner,
                struct mailbox **mailbox_out); /* 0 or -errno */
/* 0, or ERR_AGAIN for a packet beyond the bound, -ENOMEM: ptr stays the caller's
 * then (the one place where it does: the caller knows how to dispose of it). */
int mailbox_post(struct mailbox *, const struct mail *);
/* Room for one mail, made while there is memory for it: posting it cannot fail. */
struct letter;
struct letter *letter_new(void);   /* NULL: out of memory */
void letter_free(struct letter *); /* NULL allowed */
/* Takes the letter. Control mail only. */
void mailbox_post_letter(struct mailbox *, struct letter *, const struct mail *);
/* After every poster has stopped; undelivered mail is handed to on_mail first. */
void mailbox_free(struct mailbox *);

#endif
