/* The network around the uplink: addresses and routes that change, a machine that slept. */
#include <errno.h>

#include "client/uplink_impl.h"
#include "common/net/udp.h"

enum {
	GAP_MS = 5000, /* a tick this late: the machine slept */
	PROBE_MS = 2000,
	CALM_MS = 1000, /* attempts caused by network changes are this far apart */
};

static void never_heard(void *owner, const struct addr *from, struct pkt *p)
{
	(void)owner, (void)from;
	pkt_free(p);
}

/* A connection whose own address went away cannot come back. */
static bool is_own_address_gone(const struct uplink *u)
{
	struct addr own = *link_local(u->link);
	struct udp *udp;

	addr_set_port(&own, 0);
	int rc = udp_open(u->loop, &own, never_heard, NULL, &udp);
	if (rc == 0)
		udp_close(udp);
	return rc == -EADDRNOTAVAIL;
}

static void probe(struct uplink *u)
{
	uint64_t now_ms = loop_now_ms(u->loop);

	u->probe_wanted = now_ms - u->probed_ms < CALM_MS;
	if (u->probe_wanted)
		return; /* the next tick does it */
	u->probed_ms = now_ms;
	link_probe(u->link, PROBE_MS);
}

/* Brings the next attempt forward, but networks that flap are not followed
 * more often than once a second. */
static void hasten(struct uplink *u)
{
	uint64_t now_ms = loop_now_ms(u->loop), at_ms = u->attempt_ms + CALM_MS;

	if (u->held_off)
		return;
	backoff_reset(&u->backoff);
	if (at_ms < now_ms)
		at_ms = now_ms;
	if (at_ms < u->due_ms)
		uplink_wait(u, (uint32_t)(at_ms - now_ms));
}

static void on_network_changed(void *owner)
{
	struct uplink *u = owner;

	if (u->link && is_own_address_gone(u))
		uplink_begin_anew(u, "the network changed");
	else if (u->state == UPLINK_READY)
		probe(u);
	else if (u->state == UPLINK_WAITING)
		hasten(u);
	else if (u->state == UPLINK_DIALING && loop_now_ms(u->loop) - u->attempt_ms >= CALM_MS)
		uplink_begin_anew(u, "the network changed");
}

static void on_device(void *owner, const char *device, const char *tunnel)
{
	struct uplink *u = owner;

	if (u->state == UPLINK_ENDED)
		return;
	for (unsigned i = 0; i < u->ways.n; i++)
		dialler_set_device(u->diallers[i], device);
	if (!tunnel)
		return;
	u->events->held(u->owner, device, tunnel);
	/* What is connected would run through itself from now on. */
	if (u->state != UPLINK_IDLE && !u->held_off)
		uplink_begin_anew(u, "the route to the relay leads into a tunnel now");
}

const struct path_events uplink_path_events = { on_device, on_network_changed };

static void on_woken_up(struct uplink *u)
{
	if (u->state == UPLINK_READY)
		link_probe(u->link, PROBE_MS);
	else if (!u->held_off)
		uplink_begin_anew(u, "the machine slept");
}

void uplink_on_tick(void *arg)
{
	struct uplink *u = arg;
	uint64_t now_ms = loop_now_ms(u->loop), gap_ms = now_ms - u->ticked_ms;

	u->ticked_ms = now_ms;
	timer_set(u->tick, UPLINK_TICK_MS);
	path_tick(u->path);
	if (gap_ms > GAP_MS)
		on_woken_up(u);
	else if (u->probe_wanted && u->state == UPLINK_READY)
		probe(u);
}
