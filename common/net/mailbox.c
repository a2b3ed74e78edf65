#include "common/net/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/err.h"

struct letter {
	struct letter *next;
	struct mail mail;
};

struct mailbox {
	pthread_mutex_t lock; /* guards first, last, n_packets, awake */
	struct letter *first, **last;
	unsigned n_packets;
	bool awake; /* a wake-up is underway or the owner is emptying the box */

	/* the owner's */
	int fd;
	struct watch *watch;
	void (*on_mail)(void *owner, struct mail *);
	void *owner;
};

/* Hands everything out, with the lock released while handlers run. */
static void deliver(struct mailbox *m)
{
	struct letter *batch;

	for (;;) {
		pthread_mutex_lock(&m->lock);
		batch = m->first;
		m->first = NULL;
		m->last = &m->first;
		m->n_packets = 0;
		m->awake = batch != NULL;
		pthread_mutex_unlock(&m->lock);
		if (!batch)
			return;
		while (batch) {
			struct letter *l = batch;
			batch = l->next;
			m->on_mail(m->owner, &l->mail);
			free(l);
		}
	}
}

static void on_wake(void *arg, unsigned what)
{
	struct mailbox *m = arg;
	uint64_t n;

	(void)what;
	if (read(m->fd, &n, sizeof n) < 0 && errno != EAGAIN)
		return;
	deliver(m);
}

int mailbox_new(struct loop *loop, void (*on_mail)(void *owner, struct mail *), void *owner,
                struct mailbox **mailbox_out)
{
	struct mailbox *m = calloc(1, sizeof *m);

	if (!m)
		return -ENOMEM;
	m->on_mail = on_mail;
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

int mailbox_post(struct mailbox *m, const struct mail *mail)
{
	struct letter *l = malloc(sizeof *l);
	bool wake;

	if (!l)
		return -ENOMEM;
	l->next = NULL;
	l->mail = *mail;
	pthread_mutex_lock(&m->lock);
	if (mail->is_packet && m->n_packets >= MAILBOX_PACKETS_MAX) {
		pthread_mutex_unlock(&m->lock);
		free(l);
		return ERR_AGAIN;
	}
	m->n_packets += mail->is_packet;
	*m->last = l;
	m->last = &l->next;
	wake = !m->awake;
	m->awake = true;
	pthread_mutex_unlock(&m->lock);
	if (wake) {
		uint64_t one = 1;
		while (write(m->fd, &one, sizeof one) < 0 && errno == EINTR)
			;
	}
	return 0;
}

void mailbox_free(struct mailbox *m)
{
	if (!m)
		return;
	deliver(m);
	watch_free(m->watch);
	close(m->fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
