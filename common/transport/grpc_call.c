#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/wire/datagram.h"

struct call *call_new(struct transport *t, struct h2_stream *stream, const struct method *method)
{
	struct call *c = calloc(1, sizeof *c + (method ? method->own_len : sizeof(struct answer)));

	if (!c)
		return NULL;
	c->chan.ops = &transport_grpc;
	c->chan.transport = t;
	c->stream = stream;
	c->method = method;
	c->deframer = deframer_of(method ? method->message_max : 0);
	c->opened_ms = t->now_ms;
	list_add_tail(&t->calls, &c->node);
	return c;
}

void call_retire(struct call *c)
{
	struct transport *t = c->chan.transport;

	if (c->state == CALL_OVER)
		return;
	c->state = CALL_OVER;
	t->halves -= c->half;
	if (c->stream)
		h2_set_user(c->stream, NULL);
	c->stream = NULL;
	list_del(&c->node);
	list_add_tail(&t->retired, &c->node);
	if (!t->inside)
		grpc_sweep(t);
}

void call_ended(struct call *c, enum close_why why, const char *text)
{
	struct transport *t = c->chan.transport;

	if (c->chan.up && c->state != CALL_OVER)
		t->events->ended(t->owner, &c->chan, why, text);
	call_retire(c);
}

/* ---- declared peers ---- */

int call_set_peers(struct call *c, struct str id, const struct str *names, unsigned n)
{
	size_t len = id.len;

	for (unsigned i = 0; i < n; i++)
		len += names[i].len;
	c->names = malloc(len ? len : 1);
	c->peers = calloc(n, sizeof *c->peers);
	c->by_name = calloc(2 * (size_t)n, sizeof *c->by_name);
	if (!c->names || !c->peers || !c->by_name)
		return -ENOMEM;
	c->by_key = c->by_name + n;
	char *p = c->names;
	if (id.len)
		memcpy(p, id.p, id.len);
	c->id = (struct str){ p, id.len };
	p += id.len;
	for (unsigned i = 0; i < n; i++) {
		memcpy(p, names[i].p, names[i].len);
		c->peers[i].name = (struct str){ p, names[i].len };
		p += names[i].len;
		c->by_name[i] = c->by_key[i] = (uint16_t)i;
	}
	c->n_peers = c->last_in = c->last_out = n;
	return 0;
}

static int compare_names(struct str a, struct str b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return memcmp(a.p, b.p, a.len);
}

static int order_names(const void *a, const void *b, void *arg)
{
	const struct call *c = arg;
	return compare_names(c->peers[*(const uint16_t *)a].name,
	                     c->peers[*(const uint16_t *)b].name);
}

static int order_keys(const void *a, const void *b, void *arg)
{
	const struct call *c = arg;
	return memcmp(&c->peers[*(const uint16_t *)a].key, &c->peers[*(const uint16_t *)b].key,
	              KEY_LEN);
}

int call_set_keys(struct call *c, const struct key *keys)
{
	for (unsigned i = 0; i < c->n_peers; i++)
		c->peers[i].key = keys[i];
	qsort_r(c->by_name, c->n_peers, sizeof *c->by_name, order_names, c);
	qsort_r(c->by_key, c->n_peers, sizeof *c->by_key, order_keys, c);
	return 0;
}

int call_peer_by_name(const struct call *c, struct str name)
{
	unsigned lo = 0, hi = c->n_peers;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		int cmp = compare_names(name, c->peers[c->by_name[mid]].name);
		if (cmp == 0)
			return c->by_name[mid];
		if (cmp < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}

int call_peer_by_key(const struct call *c, const struct key *key)
{
	unsigned lo = 0, hi = c->n_peers;

	if (c->last_out < c->n_peers && key_eq(&c->peers[c->last_out].key, key))
		return (int)c->last_out;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		int cmp = memcmp(key->b, c->peers[c->by_key[mid]].key.b, KEY_LEN);
		if (cmp == 0)
			return c->by_key[mid];
		if (cmp < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}

/* ---- messages in ---- */

/* False: all of them together have too much. A method with a limit of its own is apart. */
static bool count_half(struct call *c)
{
	struct transport *t = c->chan.transport;
	bool counts = c->state == CALL_AWAIT && !c->deframer.message_max;
	size_t half = counts ? buf_len(&c->deframer.framer.partial) : 0;

	t->halves = t->halves - c->half + half;
	c->half = half;
	return t->halves <= HALVES_MAX;
}

void call_data(struct call *c, const uint8_t *data, size_t len,
               void (*on_message)(struct call *, const uint8_t *msg, size_t len),
               void (*on_broken)(struct call *, int err))
{
	struct cursor in = cursor_of(data, len);
	const uint8_t *msg;
	size_t msg_len;
	int rc;

	while ((rc = deframe_next(&c->deframer, &in, &msg, &msg_len)) == 0) {
		c->partial_ms = 0; /* it is whole: the next has its own time */
		on_message(c, msg, msg_len);
		if (c->state == CALL_OVER)
			return;
	}
	if (rc == ERR_AGAIN && !count_half(c))
		rc = ERR_FLOOD;
	if (rc != ERR_AGAIN) {
		on_broken(c, rc);
		return;
	}
	if (!c->partial_ms && !deframer_is_between(&c->deframer))
		c->partial_ms = c->chan.transport->now_ms;
}

static void ignore(struct call *c, enum drop_why why)
{
	c->chan.n_ignored++;
	metric_drop(why);
}

static void take_packet(struct call *c, const struct datagram *d)
{
	struct transport *t = c->chan.transport;
	bool server = t->side == SIDE_SERVER;
	struct str name = server ? d->peer_id : d->tunnel_id;
	int i = name.p ? call_peer_by_name(c, name) : (int)c->last_in;

	if (i < 0 || (unsigned)i >= c->n_peers) {
		c->last_in = c->n_peers; /* "the same again" is nobody either */
		ignore(c, DROP_NOT_DECLARED);
		return;
	}
	c->last_in = (unsigned)i;
	if (d->data.len > PAYLOAD_MAX) {
		ignore(c, DROP_TOO_BIG);
		return;
	}
	if (t->now_ms < t->stale_until_ms) {
		ignore(c, DROP_STALE);
		return;
	}
	struct pkt *p = pkt_new(d->data.len);
	if (!p) {
		ignore(c, DROP_NOMEM);
		return;
	}
	if (d->data.len)
		memcpy(p->data, d->data.p, d->data.len);
	p->flow = d->flow;
	p->born_ms = t->now_ms;
	*(server ? &p->dst : &p->src) = c->peers[i].key;
	memset(server ? &p->src : &p->dst, 0, sizeof p->src);
	t->events->packet(t->owner, &c->chan, p);
}

/* One message of an open tunnel: nearly always a datagram. */
void call_datagram(struct call *c, const uint8_t *msg, size_t len,
                   void (*on_other)(struct call *, const struct msg *),
                   void (*on_broken)(struct call *, int err))
{
	struct transport *t = c->chan.transport;
	struct datagram d;
	struct msg m;
	int rc = datagram_decode(msg, len, &d);

	if (rc == 0) {
		take_packet(c, &d);
		return;
	}
	if (rc == ERR_NOT_FOUND)
		rc = msg_decode(&t->arena, msg, len, &m);
	if (rc < 0) {
		on_broken(c, rc);
	} else if (m.kind == MSG_UDP) {
		d = (struct datagram){ .tunnel_id = m.tunnel_id,
			               .peer_id = m.peer_id,
			               .data = m.data,
			               .flow = m.flow };
		if (d.tunnel_id.len == 0)
			d.tunnel_id.p = NULL;
		if (d.peer_id.len == 0)
			d.peer_id.p = NULL;
		take_packet(c, &d);
	} else {
		on_other(c, &m);
	}
	arena_clear(&t->arena);
}

void call_answer_health(struct call *c, const struct msg *m)
{
	struct msg answer = { .kind = MSG_HEALTH_ANSWER,
		              .timestamp = m->timestamp,
		              .response_timestamp = clock_unix_ms() };
	call_say(c, &answer);
}

/* ---- messages out ---- */

int call_say(struct call *c, const struct msg *m)
{
	if (!c->stream)
		return ERR_CLOSED;
	struct h2 *h2 = c->chan.transport->h2;
	/* Datagrams keep to the window; what waits beyond it is our talk. */
	c->deaf |= buf_len(h2_outgoing(c->stream)) > UNREAD_MAX && h2_window(h2, c->stream) == 0;
	if (c->deaf)
		return ERR_FLOOD; /* the next tick ends it */
	int rc = msg_encode(m, h2_outgoing(c->stream));
	if (rc == 0)
		h2_resume(h2, c->stream);
	else if (rc == -ENOMEM) /* control is never dropped: nobody would say it again */
		h2_starve(h2);
	return rc;
}

size_t call_window(const struct chan *chan)
{
	const struct call *c = call_of(chan);

	if (c->state != CALL_OPEN || !c->stream)
		return 0;
	return h2_window(chan->transport->h2, c->stream);
}

int call_send(struct chan *chan, struct pkt *p)
{
	struct call *c = call_of(chan);
	bool server = chan->transport->side == SIDE_SERVER;
	int i = call_peer_by_key(c, server ? &p->src : &p->dst);

	if (i < 0 || c->state != CALL_OPEN || !c->stream) {
		pkt_drop(p, i < 0 ? DROP_NOT_DECLARED : DROP_LINK_CLOSED);
		return 0;
	}
	struct datagram d = { .data = { (const char *)p->data, p->len }, .flow = p->flow };
	bool repeat = (unsigned)i == c->last_out && (!server || c->version >= 1);
	if (!repeat)
		*(server ? &d.tunnel_id : &d.peer_id) = c->peers[i].name;
	size_t n = datagram_size(&d);
	struct buf *out = h2_outgoing(c->stream);
	uint8_t *to = buf_room(out, n);
	if (!to) {
		pkt_drop(p, DROP_NOMEM);
		return -ENOMEM;
	}
	datagram_encode(&d, to);
	buf_added(out, n);
	c->last_out = (unsigned)i;
	pkt_free(p);
	h2_resume(chan->transport->h2, c->stream);
	return 0;
}

void call_end_deaf(struct call *c)
{
	if (c->stream)
		h2_reset(c->chan.transport->h2, c->stream, H2_ENHANCE_YOUR_CALM);
	call_ended(c, CLOSE_STALLED, "the answers that it asks for are not read");
}

bool call_is_late(const struct call *c)
{
	const struct transport *t = c->chan.transport;

	return c->partial_ms && t->now_ms - c->partial_ms > t->conf->limits->message_ms;
}
