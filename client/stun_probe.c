#include "client/stun_probe.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/net/udp.h"
#include "common/wire/stun.h"

enum {
	TRIES = 3,
	TRY_MS = 100,
	ENOUGH = 3,    /* have answered: who is nearer than the slowest of them is waited for */
	LEAST_MS = 50, /* and so long at least */
};

struct target {
	struct addr addr;
	const void *place;
	uint8_t txid[TRIES][STUN_TXID_LEN];
	uint64_t sent_ms[TRIES];
};

struct stun_probe {
	struct loop *loop;
	struct udp *udp4, *udp6; /* NULL: not needed, or the machine has it not */
	struct timer *timer;
	void (*done)(void *arg, const uint32_t *latencies_ms, unsigned n);
	void *arg;
	struct target *targets;
	uint32_t *latencies_ms;
	unsigned n, n_answered, n_tries;
	unsigned n_places, n_heard; /* places, and those of which one has answered */
	uint32_t slowest_ms;
	uint64_t start_ms, end_ms, asked_ms; /* asked_ms: the last time */
	bool is_over;
};

/* The last thing that is done with it: the owner may free it. */
static void finish(struct stun_probe *p)
{
	p->is_over = true;
	timer_clear(p->timer);
	p->done(p->arg, p->latencies_ms, p->n);
}

/* ---- asking ---- */

static struct udp *udp_for(const struct stun_probe *p, const struct addr *to)
{
	return to->ss.ss_family == AF_INET6 ? p->udp6 : p->udp4;
}

static void ask(struct stun_probe *p, struct target *t)
{
	struct udp *udp = udp_for(p, &t->addr);
	struct pkt *packet = udp ? pkt_new(STUN_REQUEST_LEN) : NULL;

	crypto_random(t->txid[p->n_tries], STUN_TXID_LEN);
	t->sent_ms[p->n_tries] = loop_now_ms(p->loop);
	if (!packet)
		return;
	stun_write_request(t->txid[p->n_tries], packet->data);
	udp_queue(udp, &t->addr, packet);
}

static bool have_enough(const struct stun_probe *p)
{
	return p->n_answered >= ENOUGH || p->n_heard == p->n_places;
}

/* Whoever is silent now has had the time of those that answered. */
static void hurry(struct stun_probe *p)
{
	uint64_t end_ms = p->asked_ms + (p->slowest_ms > LEAST_MS ? p->slowest_ms : LEAST_MS);

	if (have_enough(p) && p->n_tries == TRIES && end_ms < p->end_ms)
		p->end_ms = end_ms;
}

static void wait_on(struct stun_probe *p)
{
	uint64_t now_ms = loop_now_ms(p->loop), next_ms = p->end_ms;

	if (p->n_tries < TRIES && p->start_ms + p->n_tries * TRY_MS < next_ms)
		next_ms = p->start_ms + p->n_tries * TRY_MS;
	timer_set(p->timer, next_ms > now_ms ? next_ms - now_ms : 0);
}

static void on_timer(void *arg)
{
	struct stun_probe *p = arg;
	uint64_t now_ms = loop_now_ms(p->loop);

	if (p->n_answered == p->n || now_ms >= p->end_ms) {
		finish(p);
		return;
	}
	if (p->n_tries < TRIES && now_ms >= p->start_ms + p->n_tries * TRY_MS) {
		for (unsigned i = 0; i < p->n; i++)
			if (p->latencies_ms[i] == STUN_PROBE_SILENT)
				ask(p, &p->targets[i]);
		p->n_tries++;
		p->asked_ms = now_ms;
		hurry(p);
	}
	wait_on(p);
}

/* ---- answers ---- */

/* Its target and try, if it is of ours: the transaction is more than anybody can guess. */
static bool find(const struct stun_probe *p, const uint8_t *txid, unsigned *target_out,
                 unsigned *try_out)
{
	for (unsigned i = 0; i < p->n; i++) {
		for (unsigned k = 0; k < p->n_tries; k++) {
			if (memcmp(p->targets[i].txid[k], txid, STUN_TXID_LEN) == 0) {
				*target_out = i;
				*try_out = k;
				return true;
			}
		}
	}
	return false;
}

static bool is_heard(const struct stun_probe *p, const void *place)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->targets[i].place == place && p->latencies_ms[i] != STUN_PROBE_SILENT)
			return true;
	return false;
}

static void note(struct stun_probe *p, unsigned target, unsigned try)
{
	uint32_t ms = (uint32_t)(loop_now_ms(p->loop) - p->targets[target].sent_ms[try]);

	p->n_heard += !is_heard(p, p->targets[target].place);
	p->latencies_ms[target] = ms;
	if (ms > p->slowest_ms)
		p->slowest_ms = ms;
	p->n_answered++;
	hurry(p);
}

static void on_packet(void *owner, const struct addr *from, struct pkt *packet)
{
	struct stun_probe *p = owner;
	uint8_t txid[STUN_TXID_LEN];
	struct stun_addr seen;
	unsigned target, try;

	(void)from; /* a server with several addresses may answer from another */
	int rc = stun_read_answer(packet->data, packet->len, txid, &seen);
	pkt_free(packet);
	if (rc < 0 || p->is_over || !find(p, txid, &target, &try) ||
	    p->latencies_ms[target] != STUN_PROBE_SILENT)
		return;
	note(p, target, try);
	if (p->n_answered == p->n)
		finish(p);
	else
		wait_on(p);
}

/* ---- life ---- */

static bool has_family(const struct stun_probe_conf *conf, int family)
{
	for (unsigned i = 0; i < conf->n; i++)
		if (conf->targets[i].ss.ss_family == family)
			return true;
	return false;
}

/* A family that the machine has not is no error. */
static int open_family(struct stun_probe *p, const struct stun_probe_conf *conf, int family,
                       struct udp **udp_out)
{
	struct addr any;

	if (!has_family(conf, family))
		return 0;
	addr_of_ip(family == AF_INET6 ? "::" : "0.0.0.0", 0, &any);
	int rc = udp_open(p->loop, &any, on_packet, p, udp_out);
	if (rc == 0)
		return udp_set_way(*udp_out, conf->fwmark, conf->bind_device);
	return rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL ? 0 : rc;
}

static void add_target(struct stun_probe *p, const struct addr *addr, const void *place)
{
	bool is_new = true;

	for (unsigned i = 0; i < p->n; i++)
		is_new = is_new && p->targets[i].place != place;
	p->n_places += is_new;
	p->targets[p->n].addr = *addr;
	p->targets[p->n].place = place;
	p->latencies_ms[p->n++] = STUN_PROBE_SILENT;
}

static int open_all(struct stun_probe *p, const struct stun_probe_conf *conf)
{
	p->targets = calloc(conf->n + 1, sizeof *p->targets);
	p->latencies_ms = calloc(conf->n + 1, sizeof *p->latencies_ms);
	p->timer = timer_new(p->loop, on_timer, p);
	if (!p->targets || !p->latencies_ms || !p->timer)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->n; i++)
		add_target(p, &conf->targets[i], conf->places ? conf->places[i] : &p->targets[i]);
	int rc = open_family(p, conf, AF_INET, &p->udp4);
	return rc ? rc : open_family(p, conf, AF_INET6, &p->udp6);
}

int stun_probe_start(struct loop *loop, const struct stun_probe_conf *conf,
                     void (*done)(void *arg, const uint32_t *latencies_ms, unsigned n), void *arg,
                     struct stun_probe **probe_out)
{
	struct stun_probe *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	*p = (struct stun_probe){ .loop = loop, .done = done, .arg = arg };
	int rc = open_all(p, conf);
	if (rc < 0) {
		stun_probe_free(p);
		return rc;
	}
	p->start_ms = loop_now_ms(loop);
	p->end_ms = p->start_ms + conf->timeout_ms;
	timer_set(p->timer, 0);
	*probe_out = p;
	return 0;
}

void stun_probe_free(struct stun_probe *p)
{
	if (!p)
		return;
	udp_close(p->udp4);
	udp_close(p->udp6);
	timer_free(p->timer);
	free(p->targets);
	free(p->latencies_ms);
	free(p);
}
