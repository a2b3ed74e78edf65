#include "client/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHECKS_AFTER_CHANGE = 5, /* wg-quick needs a moment for its rules */
	WG_QUICK_MARK = 51820,   /* wg-quick's own packets, which pass its tunnel by */
};

struct path {
	struct loop *loop;
	struct path_conf conf;
	const struct path_events *events;
	void *owner;
	struct route_watch *watch; /* NULL: this kernel gives none */
	struct addr peer;          /* len 0: never connected */
	char device[ROUTE_DEVICE_LEN];
	bool held;
	unsigned checks;
};

enum path_verdict path_judge(const char *device, bool held, const struct route_info *now)
{
	if (held)
		return now->is_tunnel ? PATH_STAY : PATH_FREE;
	if (!device[0] || !now->is_tunnel || strcmp(device, now->device) == 0)
		return PATH_STAY;
	return PATH_HOLD;
}

static void set_device(struct path *p, const char *device)
{
	snprintf(p->device, sizeof p->device, "%s", device);
}

static bool is_gone(const char *device)
{
	struct route_info ignored;

	return route_device(device, &ignored) != 0;
}

/* The way that wg-quick's own packets take, if it leads past the tunnel. */
static bool find_way_past(struct path *p)
{
	struct route_info way;

	if (route_lookup(&p->peer, WG_QUICK_MARK, &way) || way.is_tunnel)
		return false;
	set_device(p, way.device);
	return true;
}

static void hold(struct path *p, const struct route_info *now)
{
	if (is_gone(p->device) && !find_way_past(p)) {
		set_device(p, now->device); /* nothing to hold on to: go with the tunnel */
		return;
	}
	p->held = true;
	p->events->device(p->owner, p->device, now->device);
}

static void let_go(struct path *p, const struct route_info *now)
{
	p->held = false;
	set_device(p, now->device);
	p->events->device(p->owner, "", NULL);
}

/* Held, but the laptop moved from cable to radio meanwhile. */
static void hold_another(struct path *p, const struct route_info *now)
{
	if (!is_gone(p->device))
		return;
	if (find_way_past(p))
		p->events->device(p->owner, p->device, now->device);
	else
		let_go(p, now);
}

static void check(struct path *p)
{
	struct route_info now;

	if (p->conf.is_fixed || !p->peer.len || route_lookup(&p->peer, p->conf.fwmark, &now))
		return;
	switch (path_judge(p->device, p->held, &now)) {
	case PATH_HOLD: hold(p, &now); break;
	case PATH_FREE: let_go(p, &now); break;
	case PATH_STAY:
		if (p->held)
			hold_another(p, &now);
		else
			set_device(p, now.device);
	}
}

static void on_changed(void *owner)
{
	struct path *p = owner;

	p->checks = CHECKS_AFTER_CHANGE;
	check(p);
	p->events->changed(p->owner);
}

void path_tick(struct path *p)
{
	if (p->checks) {
		p->checks--;
		check(p);
	}
}

void path_connected(struct path *p, const struct addr *peer)
{
	struct route_info now;

	p->peer = *peer;
	/* A tunnel that carries the connection is not the one we carry. */
	if (!p->conf.is_fixed && !p->held && !route_lookup(peer, p->conf.fwmark, &now))
		set_device(p, now.device);
}

const char *path_held(const struct path *p) { return p->held ? p->device : ""; }

struct path *path_new(struct loop *loop, const struct path_conf *conf,
                      const struct path_events *events, void *owner)
{
	struct path *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->loop = loop;
	p->conf = *conf;
	p->events = events;
	p->owner = owner;
	if (route_watch_open(loop, on_changed, p, &p->watch))
		p->watch = NULL;
	return p;
}

void path_free(struct path *p)
{
	if (!p)
		return;
	if (p->watch)
		route_watch_close(p->watch);
	free(p);
}
