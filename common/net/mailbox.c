#include "common/net/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	PACKETS_PER_TURN = 256,
	EMPTIES_MAX = 512, /* more are not worth keeping */
};

struct letter {
	struct letter *next;
	struct mail mail;
};

struct mailbox {
	pthread_mutex_t lock; /* guards first, last, packets, empties, awake */
	struct letter *first, **last;
	struct pktq packets;
	struct pktq empties; /* for the next who brings packets */
	bool awake;          /* a wake-up is underway or the owner is emptying the box */

	/* the owner's */
	int fd;
	struct watch *watch;
	void (*on_mail)(void *owner, struct mail *);
	void (*on_packet)(void *owner, struct pkt *);
	void *owner;
};

static void move(struct pktq *to, struct pktq *from, unsigned n)
{
	while (n-- && from->head)
		pktq_push(to, pktq_pop(from));
}

/* Hands out what is there, with the lock released while handlers run. True:
 * more came meanwhile. False: the next post wakes the owner. */
static bool deliver(struct mailbox *m)
{
	struct pktq packets = { 0 }, empties = { 0 };
	struct letter *batch;
	struct pkt *p;
	bool more;

	pthread_mutex_lock(&m->lock);
	batch = m->first;
	m->first = NULL;
	m->last = &m->first;
	move(&packets, &m->packets, PACKETS_PER_TURN);
	pthread_mutex_unlock(&m->lock);
	while (batch) {
		struct letter *l = batch;
		batch = l->next;
		m->on_mail(m->owner, &l->mail);
		free(l);
	}
	unsigned n = packets.n;
	while ((p = pktq_pop(&packets)) != NULL)
		m->on_packet(m->owner, p);
	pkt_pool_spare(&empties, n);
	pthread_mutex_lock(&m->lock);
	if (m->empties.n < EMPTIES_MAX)
		move(&m->empties, &empties, n);
	more = m->awake = m->first || m->packets.n;
	pthread_mutex_unlock(&m->lock);
	pkt_pool_add(&empties);
	return more;
}

static void wake(struct mailbox *m)
{
	uint64_t one = 1;

	while (write(m->fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void on_wake(void *arg, unsigned what)
{
	struct mailbox *m = arg;
	uint64_t n;

	(void)what;
	if (read(m->fd, &n, sizeof n) < 0 && errno != EAGAIN)
		return;
	/* It waits a turn: a busy poster must not keep the loop from all else. */
	if (deliver(m))
		wake(m);
}

int mailbox_new(struct loop *loop, void (*on_mail)(void *owner, struct mail *),
                void (*on_packet)(void *owner, struct pkt *), void *owner,
                struct mailbox **mailbox_out)
{
	struct mailbox *m = calloc(1, sizeof *m);

	if (!m)
		return -ENOMEM;
	m->on_mail = on_mail;
	m->on_packet = on_packet;
	m->owner = owner;
	m->last = &m->first;
	pthread_mutex_init(&m->lock, NULL);
	m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (m->fd >= 0)
		m->watch = watch_new(loop, m->fd, on_wake, m);
	if (m->fd < 0 || !m->watch || watch_want(m->watch, WATCH_READ) < 0) {
		int rc = m->fd < 0 ? -errno : -ENOMEM;
		watch_free(m->watch);
		if (m->fd >= 0)
			close(m->fd);
		pthread_mutex_destroy(&m->lock);
		free(m);
		return rc;
	}
	*mailbox_out = m;
	return 0;
}

struct letter *letter_new(void) { return malloc(sizeof(struct letter)); }
void letter_free(struct letter *l) { free(l); }

void mailbox_post_letter(struct mailbox *m, struct letter *l, const struct mail *mail)
{
	bool asleep;

	l->next = NULL;
	l->mail = *mail;
	pthread_mutex_lock(&m->lock);
	*m->last = l;
	m->last = &l->next;
	asleep = !m->awake;
	m->awake = true;
	pthread_mutex_unlock(&m->lock);
	if (asleep)
		wake(m);
}

int mailbox_post(struct mailbox *m, const struct mail *mail)
{
	struct letter *l = letter_new();

	if (!l)
		return -ENOMEM;
	mailbox_post_letter(m, l, mail);
	return 0;
}

void mailbox_post_packets(struct mailbox *m, struct pktq *q)
{
	struct pktq empties;
	struct pkt *p;
	bool asleep;

	pthread_mutex_lock(&m->lock);
	move(&m->packets, q, MAILBOX_PACKETS_MAX - m->packets.n);
	empties = m->empties;
	m->empties = (struct pktq){ 0 };
	asleep = !m->awake;
	m->awake = true;
	pthread_mutex_unlock(&m->lock);
	if (asleep)
		wake(m);
	while ((p = pktq_pop(q)) != NULL)
		pkt_drop(p, DROP_QUEUE_FULL);
	pkt_pool_add(&empties);
}

void mailbox_free(struct mailbox *m)
{
	if (!m)
		return;
	while (deliver(m))
		;
	pkt_pool_add(&m->empties);
	watch_free(m->watch);
	close(m->fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
