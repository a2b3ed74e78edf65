#include "client/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/retry.h"
#include "common/base/bucket.h"
#include "common/base/token.h"

enum {
	LINE_LEN = 1024,
	REASON_LEN = 400,
	LINES_PER_PEER = 2, /* with more peers the start tells how many are up */
	WHERE_SHOWN = 8,
	NEWS_BURST = 40, /* lines about what changes, which the relay can make happen */
	NEWS_PER_S = 1,
};

struct report_seen { /* what was last said of a peer */
	enum peer_state state;
	enum role role;
	bool known;     /* counted in the summary */
	bool over_told; /* since it came up: a rate is crossed often */
};

struct report {
	struct report_conf conf;
	enum role role;
	const struct way *way;     /* last told as the one in use */
	char where[ADDR_TEXT_LEN]; /* of the first peer */
	char id[PEER_MAX_LEN + 1], account[NAME_MAX_LEN + 1], node[128];
	char reason[REASON_LEN]; /* last told, "" when connected */
	char turned[REASON_LEN]; /* the same, of a way that failed */
	uint64_t turned_ms;
	uint64_t reason_ms;
	int64_t resets_unix_s;
	uint32_t percent;
	unsigned n_known, n_up, n_undeclared;
	const char *undeclared; /* one of those peers */
	bool next_told;
	struct bucket news, ways; /* of peers and account; of the connection */
	unsigned n_left_out;
	struct report_seen peer[];
};

/* One line; what comes from outside must not move the cursor, and may hold what
 * we sent. */
static void say_line(FILE *to, const char *fmt, va_list ap)
{
	char line[LINE_LEN];

	vsnprintf(line, sizeof line, fmt, ap);
	token_redact(line);
	for (char *c = line; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	fprintf(to, "tunn: %s\n", line);
	fflush(to);
}

static void say(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(FILE *to, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_line(to, fmt, ap);
	va_end(ap);
}

/* A line that the relay can cause again and again. */
static void say_news(struct report *, struct bucket *, const char *fmt, ...)
                __attribute__((format(printf, 3, 4)));
static void say_news(struct report *r, struct bucket *from, const char *fmt, ...)
{
	uint64_t now_ms = r->conf.now_ms ? r->conf.now_ms(r->conf.arg) : 0;
	va_list ap;

	if (!bucket_take(from, 1, now_ms)) {
		r->n_left_out++;
		return;
	}
	if (r->n_left_out)
		say(r->conf.out, "%u lines were left out, they came too fast", r->n_left_out);
	r->n_left_out = 0;
	va_start(ap, fmt);
	say_line(r->conf.out, fmt, ap);
	va_end(ap);
}

static void keep(char *dst, size_t cap, struct str s)
{
	snprintf(dst, cap, "%.*s", (int)s.len, s.len ? s.p : "");
}

struct report *report_new(const struct report_conf *conf)
{
	struct report *r = calloc(1, sizeof *r + conf->n_peers * sizeof r->peer[0]);

	if (!r)
		return NULL;
	r->conf = *conf;
	bucket_init(&r->news, NEWS_BURST, NEWS_PER_S, conf->now_ms ? conf->now_ms(conf->arg) : 0);
	r->ways = r->news;
	return r;
}

void report_free(struct report *r) { free(r); }

/* -- at start */

static void list_where(const struct report *r, const struct report_port *port, char *out,
                       size_t cap)
{
	char text[ADDR_TEXT_LEN];
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < r->conf.n_peers && i < WHERE_SHOWN && n < cap; i++)
		n += (size_t)snprintf(out + n, cap - n, "%s%s for %s", i ? ", " : "",
		                      addr_text(port->where(port->arg, i), text), r->conf.peers[i]);
	if (r->conf.n_peers > WHERE_SHOWN && n < cap)
		snprintf(out + n, cap - n, " and so on for %u more", r->conf.n_peers - WHERE_SHOWN);
}

static void say_listening(const struct report *r, const struct report_port *port)
{
	char where[LINE_LEN / 2], text[ADDR_TEXT_LEN];

	list_where(r, port, where, sizeof where);
	if (r->conf.n_peers > 1)
		say(r->conf.out, "listening on %s; in WireGuard that is each peer's Endpoint",
		    where);
	else
		say(r->conf.out, "listening on %s%s%s; in WireGuard: Endpoint = %s", where,
		    port->too ? ", also on " : "", port->too ? addr_text(port->too, text) : "",
		    r->where);
}

static void say_forwarding(const struct report *r, const struct report_port *port)
{
	char whose[LINE_LEN / 4] = "the peers";

	if (r->conf.n_peers == 1)
		snprintf(whose, sizeof whose, "%s", r->conf.peers[0]);
	if (port->chosen)
		say(r->conf.out,
		    "port %u is in use here, so datagrams from %s go to %s; in WireGuard: "
		    "ListenPort = %u",
		    r->conf.port, whose, r->where, r->conf.port);
	else
		say(r->conf.out,
		    "forwarding datagrams from %s to %s; in WireGuard: ListenPort = %u", whose,
		    r->where, r->conf.port);
}

void report_port(struct report *r, const struct report_port *port)
{
	r->role = port->role;
	addr_text(port->where(port->arg, 0), r->where);
	if (port->role == ROLE_LISTEN)
		say_listening(r, port);
	else
		say_forwarding(r, port);
}

void report_relay(struct report *r, const struct way *way, const char *choice)
{
	const struct proxy_conf *proxy = &way->dial.proxy;

	r->way = way;
	say(r->conf.out, "relay %s over %s%s%s%s%s%s", way->relay, way->ops->name,
	    choice ? " (" : "", choice ? choice : "", choice ? ")" : "",
	    proxy->used ? ", through the proxy " : "", proxy->used ? proxy->host : "");
}

void report_way(struct report *r, const struct way *way)
{
	if (way != r->way)
		say_news(r, &r->ways, "relay %s over %s from now on", way->relay, way->ops->name);
	r->way = way;
}

/* -- connected */

static bool is_of_other_account(const struct report *r, const char *peer)
{
	const char *slash = strchr(peer, '/');
	size_t len = slash ? (size_t)(slash - peer) : 0;

	return slash && !(strlen(r->account) == len && memcmp(peer, r->account, len) == 0);
}

static bool has_peer_of_other_account(const struct report *r)
{
	for (unsigned i = 0; i < r->conf.n_peers; i++)
		if (is_of_other_account(r, r->conf.peers[i]))
			return true;
	return false;
}

static void say_first_ready(const struct report *r)
{
	bool across = r->account[0] && has_peer_of_other_account(r);

	if (r->id[0])
		say(r->conf.out, "connected as %s; the other side needs --peer %s%s%s", r->id,
		    across ? r->account : "", across ? "/" : "", r->id);
	else
		say(r->conf.out,
		    "connected with the id that your token is bound to; the other side "
		    "names it with --peer");
}

void report_ready(struct report *r, unsigned n, struct str id, struct str account, struct str node)
{
	char before[sizeof r->node];

	memcpy(before, r->node, sizeof before);
	keep(r->id, sizeof r->id, id);
	keep(r->account, sizeof r->account, account);
	keep(r->node, sizeof r->node, node);
	r->reason[0] = 0;
	if (n == 1)
		say_first_ready(r);
	else if (before[0] && r->node[0] && strcmp(before, r->node) != 0)
		say_news(r, &r->ways, "connected again, now to the relay node %s", r->node);
	else
		say_news(r, &r->ways, "connected again");
}

/* -- peers */

/* The command that the other side must run, or "" for ends that are no tunn. */
static void other_side(const struct report *r, const char *peer, char *out, size_t cap)
{
	const char *slash = strchr(peer, '/');
	bool across = is_of_other_account(r, peer) && r->account[0];

	out[0] = 0;
	if (strchr(peer, ':'))
		return;
	snprintf(out, cap, "; it must run: tunn relay %u --id %s --peer %s%s%s", r->conf.port,
	         slash ? slash + 1 : peer, across ? r->account : "", across ? "/" : "",
	         r->id[0] ? r->id : "ID (the one your token is bound to)");
}

static void say_up(struct report *r, const char *peer)
{
	if (r->next_told) {
		say_news(r, &r->news, "%s is up", peer);
		return;
	}
	r->next_told = true;
	if (r->role == ROLE_LISTEN)
		say_news(r, &r->news,
		         "%s is up; next: start what sends to %s, for WireGuard: wg-quick up wg0",
		         peer, r->where);
	else
		say_news(r, &r->news, "%s is up; its datagrams arrive at %s", peer, r->where);
}

static void say_state(struct report *r, const char *peer, enum peer_state state)
{
	char command[LINE_LEN / 2];

	other_side(r, peer, command, sizeof command);
	switch (state) {
	case PEER_UP: say_up(r, peer); break;
	case PEER_ABSENT:
		say_news(r, &r->news, "%s is not there%s, waiting%s", peer,
		         is_of_other_account(r, peer) ? " or has not declared us" : "", command);
		break;
	case PEER_NOT_MUTUAL:
		say_news(r, &r->news, "%s is there but has not declared us%s", peer, command);
		break;
	case PEER_OVER_LIMIT:
		say_news(r, &r->news,
		         "%s: its account is over its rate, some datagrams to it are dropped",
		         peer);
		break;
	case PEER_GONE: say_news(r, &r->news, "%s left, waiting", peer); break;
	case PEER_UNSPECIFIED:
	case PEER_STATE_N: break;
	}
}

static void say_role(struct report *r, const char *peer, enum role role)
{
	if (role == ROLE_UNKNOWN || role != r->role)
		return;
	if (role == ROLE_LISTEN)
		say_news(r, &r->news,
		         "both ends listen: where the program owns port %u (the WireGuard that %s "
		         "or this end is reached at), run tunn with --forward",
		         r->conf.port, peer);
	else
		say_news(r, &r->news,
		         "both ends forward: on the one that calls (the laptop) remove ListenPort "
		         "from WireGuard and start tunn again, so that it can listen on %u",
		         r->conf.port);
}

static bool is_news(struct report_seen *seen, enum peer_state state)
{
	if (seen->state == PEER_GONE && state == PEER_ABSENT)
		return false;
	if (seen->state == PEER_OVER_LIMIT && state == PEER_UP)
		return false;
	if (state == PEER_OVER_LIMIT && seen->over_told)
		return false;
	seen->over_told = state == PEER_OVER_LIMIT || (seen->over_told && state == PEER_UP);
	return seen->state != state;
}

static void say_summary(struct report *r)
{
	if (r->n_undeclared)
		say_news(r, &r->news, "%u of %u peers are up; %u did not declare us, %s is one",
		         r->n_up, r->conf.n_peers, r->n_undeclared, r->undeclared);
	else
		say_news(r, &r->news, "%u of %u peers are up", r->n_up, r->conf.n_peers);
}

/* With many peers the first round is one line. True: told, or not yet complete. */
static bool is_in_summary(struct report *r, unsigned peer, enum peer_state state)
{
	struct report_seen *seen = &r->peer[peer];

	if (r->conf.n_peers <= LINES_PER_PEER || seen->known)
		return false;
	seen->known = true;
	r->n_up += state == PEER_UP;
	if (state == PEER_NOT_MUTUAL) {
		r->n_undeclared++;
		r->undeclared = r->conf.peers[peer];
	}
	if (++r->n_known == r->conf.n_peers)
		say_summary(r);
	return true;
}

void report_peer(struct report *r, unsigned peer, const struct peer_status *status)
{
	struct report_seen *seen = &r->peer[peer];
	const char *name = r->conf.peers[peer];

	if (!is_in_summary(r, peer, status->state) && is_news(seen, status->state))
		say_state(r, name, status->state);
	seen->state = status->state;
	if (status->state != PEER_UP || status->role == seen->role)
		return;
	seen->role = status->role;
	say_role(r, name, status->role);
}

/* -- trouble */

static void reset_text(int64_t unix_s, char *out, size_t cap)
{
	time_t t = (time_t)unix_s;
	struct tm tm;

	out[0] = 0;
	if (unix_s > 0 && gmtime_r(&t, &tm))
		strftime(out, cap, ", the next begins on %Y-%m-%d %H:%M UTC", &tm);
}

void report_notice(struct report *r, const struct notice *n)
{
	char until[64];

	if (n->kind == NOTICE_TOO_MANY_PINGS)
		say_news(r, &r->news,
		         "the relay finds our signs of life too many: every %u s from now on",
		         n->beat_ms / 1000);
	if (n->kind == NOTICE_HEALTH && n->text.len)
		say_news(r, &r->news, "the relay says that it is not well: %.*s", (int)n->text.len,
		         n->text.p);
	else if (n->kind == NOTICE_HEALTH)
		say_news(r, &r->news, "the relay says that it is well again");
	if (n->kind != NOTICE_QUOTA)
		return;
	r->resets_unix_s = n->resets_unix_s;
	reset_text(n->resets_unix_s, until, sizeof until);
	if (n->percent != r->percent)
		say_news(r, &r->news, "%u %% of the account's volume of this month is used%s",
		         n->percent, until);
	r->percent = n->percent;
}

static void reason_of(enum close_why why, const char *text, char *out, size_t cap)
{
	const char *sentence = close_text(why), *label = close_label(why);

	/* "quota ...", "superseded ...": it says it all. */
	if (text[0] && (why == CLOSE_LOCAL || strncmp(text, label, strlen(label)) == 0))
		snprintf(out, cap, "%s", text);
	else if (!text[0] || strcmp(text, sentence) == 0)
		snprintf(out, cap, "%s", sentence);
	else
		snprintf(out, cap, "%s: %s", sentence, text);
}

static void delay_text(uint32_t ms, char *out, size_t cap)
{
	if (ms < 100)
		snprintf(out, cap, "now");
	else if (ms < 10000)
		snprintf(out, cap, "in %u.%u s", ms / 1000, ms % 1000 / 100);
	else if (ms < 120000)
		snprintf(out, cap, "in %u s", ms / 1000);
	else
		snprintf(out, cap, "in %u min", ms / 60000);
}

void report_lost(struct report *r, enum close_why why, const char *text, uint32_t delay_ms,
                 uint64_t now_ms)
{
	char reason[REASON_LEN], delay[32], until[64] = "";

	reason_of(why, text, reason, sizeof reason);
	if (strcmp(reason, r->reason) == 0 && now_ms - r->reason_ms < REPORT_AGAIN_MS)
		return;
	memcpy(r->reason, reason, sizeof reason);
	r->reason_ms = now_ms;
	delay_text(delay_ms, delay, sizeof delay);
	if (why == CLOSE_QUOTA && !text[0])
		reset_text(r->resets_unix_s, until, sizeof until);
	say_news(r, &r->ways, "reconnecting %s because: %s%s", delay, reason, until);
}

/* Told like the end of a connection: when it is new, or a minute old. */
void report_turned(struct report *r, const struct way *way, enum close_why why, const char *text,
                   uint64_t now_ms)
{
	char reason[REASON_LEN];

	reason_of(why, text, reason, sizeof reason);
	if (strcmp(reason, r->turned) == 0 && now_ms - r->turned_ms < REPORT_AGAIN_MS)
		return;
	memcpy(r->turned, reason, sizeof reason);
	r->turned_ms = now_ms;
	say_news(r, &r->ways, "%s over %s does not work, trying the next way: %s", way->relay,
	         way->ops->name, reason);
}

void report_held(struct report *r, const char *device, const char *tunnel)
{
	say(r->conf.out,
	    "the route to the relay leads into %s now; staying on %s. Say so at start: "
	    "--bind-device %s, or --fwmark 51820 with FwMark = 51820 in wg-quick's file",
	    tunnel, device, device);
}

static const char *way_out(enum close_why why)
{
	switch (why) {
	case CLOSE_UNAUTHENTICATED:
		return " (tunn login gets one, or tunn token new on the relay; give it with "
		       "--token-file or TUNN_TOKEN)";
	case CLOSE_SUPERSEDED: return " (stop the other one, or give each its own --id)";
	case CLOSE_PROXY_DENIED: return " (see --proxy)";
	default: return "";
	}
}

void report_over(struct report *r, int exit_code, enum close_why why, const char *text)
{
	char reason[REASON_LEN];

	reason_of(why, text, reason, sizeof reason);
	if (exit_code == EXIT_UNREACHABLE)
		say(r->conf.err, "cannot reach the relay: %s", reason);
	else if (exit_code)
		say(r->conf.err, "ended: %s%s", reason, way_out(why));
}
