#include "server/stun_start.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"

enum { EXIT_RUNTIME = 1 };

static const char *why(int rc)
{
	return rc == -EADDRINUSE ? " (another STUN server has the port)" : "";
}

static int start_where_asked(struct stun *st, const struct opt_list *asked)
{
	for (unsigned i = 0; i < asked->n; i++) {
		struct addr addr, bound;
		char text[ADDR_TEXT_LEN];
		bool any;
		addr_of_listen(asked->v[i], &addr, &any); /* checked when read */
		int rc = stun_listen(st, &addr, any, &bound);
		if (rc < 0) {
			fprintf(stderr, "tunn server: cannot answer STUN on %s: %s%s\n",
			        asked->v[i], strerror(-rc), why(rc));
			return EXIT_RUNTIME;
		}
		printf("tunn: answering STUN on %s\n", addr_text(&bound, text));
	}
	return 0;
}

/* A socket for the port where the one is takes what is meant for the other too. */
static bool covers(const struct place *one, const struct place *other)
{
	struct addr a = one->addr, b = other->addr;

	addr_set_port(&a, 0);
	addr_set_port(&b, 0);
	if (addr_is_special(&a)) /* unspecified, since it could be bound to */
		return one->is_dual || a.ss.ss_family == b.ss.ss_family;
	return addr_eq(&a, &b);
}

static bool is_spare(const struct places *listening, unsigned i)
{
	const struct place *p = listening->v;

	for (unsigned k = 0; k < listening->n; k++)
		if (k != i && covers(&p[k], &p[i]) && (k < i || !covers(&p[i], &p[k])))
			return true;
	return false;
}

/* Nobody asked for it, so where it cannot be the relay does without. */
static void start_beside(struct stun *st, const struct places *listening)
{
	for (unsigned i = 0; i < listening->n; i++) {
		struct addr addr = listening->v[i].addr, bound;
		char text[ADDR_TEXT_LEN];

		if (is_spare(listening, i))
			continue;
		addr_set_port(&addr, STUN_PORT);
		int rc = stun_listen(st, &addr, listening->v[i].is_dual, &bound);
		if (rc < 0)
			log_warn("no STUN on %s: %s%s; --stun ADDR:PORT puts it elsewhere, --stun "
			         "off does without: Tailscale clients choose their relay by it",
			         addr_text(&addr, text), strerror(-rc), why(rc));
	}
}

int stun_start(struct loop *loop, const struct server_options *opts, const struct places *listening,
               struct stun **stun_out)
{
	if (server_options_no_stun(opts))
		return 0;
	*stun_out = stun_new(loop);
	if (!*stun_out) {
		fprintf(stderr, "tunn server: out of memory\n");
		return EXIT_RUNTIME;
	}
	if (opts->stun.n)
		return start_where_asked(*stun_out, &opts->stun);
	start_beside(*stun_out, listening);
	return 0;
}
