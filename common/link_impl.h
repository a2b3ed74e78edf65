/*
 * The inside of a link, shared by its files only:
 *   link.c        life: states, deadlines, what transport and conn tell
 *   link_pump.c   the way out: records, the pump
 *   link_queue.c  what waits for one lane, and whose turn it is
 *   link_web.c    requests of plain HTTP that the owner answers
 *   link_time.c   deadlines, and what to do after this process was stopped
 */
#ifndef TUNN_LINK_IMPL_H
#define TUNN_LINK_IMPL_H

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/words.h"
#include "common/link.h"
#include "common/link_queue.h"
#include "common/net/conn.h"

struct lane {
	struct list node;
	struct link *link;
	struct chan *chan;
	struct link_queue queue;
	enum link_sharing sharing;
	void *user;
	bool open; /* admitted or ready */
};

struct link {
	struct list node;
	struct links *links;
	enum side side;
	enum link_state state;
	struct conn *conn;
	const struct transport_ops *ops;
	struct transport_conf conf;
	const struct limits *limits;
	struct transport *transport;
	const struct link_events *events;
	void *owner;
	struct list lanes, dead_lanes, webs;
	unsigned n_lanes;
	size_t queued; /* bytes in the lanes' queues */
	void *user;
	bool greeted, is_health;
	uint64_t since_ms;
	struct addr peer, local;
	char peer_text[ADDR_TEXT_LEN];
	enum close_why why;
	struct words text;
	bool inside;        /* a transport call runs: lanes are freed later */
	bool admitted_late; /* not from inside hello: what came before waits in the transport */
	bool dirty;         /* in links->dirty */
	bool busy;          /* bytes came or were to go since the last tick */
	bool drowsy;        /* no datagram since it napped: after what wakes it, it naps again */
	struct list dirty_node;
	bool narrow;    /* lane_narrow() */
	bool conn_gone; /* the conn told `closed`: its pointer is dead */
	uint64_t stalled_since_ms;
	uint64_t rests_until_ms;
	uint64_t moved_ms; /* when the transport last got a packet */
};

struct links {
	struct loop *loop;
	struct list all, dirty, dead;
	struct timer *tick;
	uint64_t ticked_ms;
	uint64_t ticked_thread_ms; /* at the same moment, by clock_thread_ms() */
	char date[sizeof "Sun, 06 Nov 1994 08:49:37 GMT"]; /* then */
	struct task pump, sweep;
	struct buf out;
	unsigned n;
};

/* link.c: after a transport call, whose failure is the link's; the second also
 * lets out what there is to say. */
void link_settle(struct link *, int rc);
void link_settle_and_say(struct link *, int rc);
void link_close_with(struct link *, enum close_why, const char *text);

/* link_web.c */
int link_on_request(void *link, struct web *, const struct web_request *);
void link_on_unasked(void *link, struct web *);
void link_on_exposed(void *link, const char *token_id);
void link_forget_webs(struct link *, bool tell);

/* link_time.c */
int links_start_ticking(struct links *); /* -ENOMEM */
/* Before bytes are looked at: was this process stopped just now? */
void links_notice_stop(struct links *);

void link_nap(struct link *);
void link_rest(struct link *, uint32_t ms); /* as lane_rest(), whoever else is on it */
void link_widen(struct link *);             /* a lane comes or goes: lane_narrow() is over */

/* link_pump.c */
void link_mark_dirty(struct link *); /* pumped at the end of the turn */
bool link_has_packets(const struct link *);
void link_pump_dirty(struct task *); /* LOOP_PUMP */
void lane_drop_queues(struct lane *, enum drop_why);

#endif
