/*
 * Mail between threads: small structs by value, and packets, which move. The
 * mutex of the packet path is in mailbox.c. Posting from any thread, all else
 * from the owner's.
 *
 * Senders wake the owner only if it may be asleep. Control mail is never
 * dropped; packets are bounded and counted (DROP_QUEUE_FULL). Who brings full
 * packets takes the owner's empty ones home: where all flows go one way, the
 * pools of both threads stay level and nobody asks the heap.
 */
#ifndef TUNN_NET_MAILBOX_H
#define TUNN_NET_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/pkt.h"
#include "common/net/loop.h"

enum { MAILBOX_PACKETS_MAX = 4096 };

struct mail {
	unsigned kind; /* meaning is the users'; server/relay/mail.h */
	void *ptr;     /* moves with the mail */
	uint64_t number;
};

struct mailbox;

/* on_mail runs in the loop's thread, before timers, in order of posting; what is
 * posted meanwhile comes in the next turn. on_packet (takes; NULL: there never
 * are any) behind the mail, at most 256 packets a turn. 0 or -errno. */
int mailbox_new(struct loop *, void (*on_mail)(void *owner, struct mail *),
                void (*on_packet)(void *owner, struct pkt *), void *owner,
                struct mailbox **mailbox_out);
/* 0, or -ENOMEM: ptr stays the caller's then (the one place where it does: the
 * caller knows how to dispose of it). */
int mailbox_post(struct mailbox *, const struct mail *);
/* Takes all of the queue; what is beyond the bound is dropped and counted. */
void mailbox_post_packets(struct mailbox *, struct pktq *);
/* Room for one mail, made while there is memory for it: posting it cannot fail. */
struct letter;
struct letter *letter_new(void);   /* NULL: out of memory */
void letter_free(struct letter *); /* NULL allowed */
void mailbox_post_letter(struct mailbox *, struct letter *, const struct mail *); /* takes */
/* After every poster has stopped; undelivered mail is handed to on_mail first. */
void mailbox_free(struct mailbox *);

#endif
