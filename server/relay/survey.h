/*
 * A survey: what the admin thread asks a worker, and what comes back by the same mail
 * (MAIL_SURVEY): how many links and sessions it has and, if rows were asked for, a page of
 * its tunnels. The worker looks at a hundred sessions in a turn of its loop, so that
 * no datagram waits for it; nothing is allocated there.
 *
 * Made and freed by the asker; in between it belongs to the worker.
 */
#ifndef TUNN_SERVER_SURVEY_H
#define TUNN_SERVER_SURVEY_H

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/list.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/mailbox.h"
#include "common/transport/transport.h"

struct links;
struct sessions;

enum { SURVEY_PEERS_MAX = 8, SURVEY_QUERY_MAX = 64, SURVEY_ROWS_MAX = 1000 };

struct survey_peer {
	struct key key;
	enum peer_state state;
	char account[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1]; /* "": declared by key */
};

struct survey_row {     /* a tunnel */
	uint64_t place; /* in the order of rows */
	char account[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1], address[ADDR_TEXT_LEN];
	const char *transport; /* a constant */
	enum role role;
	bool native;
	uint64_t for_ms; /* since it joined */
	int64_t rtt_us;  /* -1: not known */
	uint64_t packets_in, bytes_in, packets_out, bytes_out;
	uint64_t drops[DROP_N]; /* of what it sent, and of what was for it */
	uint64_t n_ignored;
	unsigned queue_packets;
	size_t queue_bytes;
	unsigned n_peers; /* the first SURVEY_PEERS_MAX of them in peers */
	struct survey_peer peers[SURVEY_PEERS_MAX];
};

struct survey {
	/* the question */
	uint64_t query; /* the asker's */
	unsigned worker;
	uint64_t after;                  /* sessions of a later place */
	char text[SURVEY_QUERY_MAX + 1]; /* in id, account or address; "": all */
	unsigned cap;                    /* rows wanted */
	/* the answer */
	unsigned n_links, n_tunnels;
	unsigned n;
	bool more; /* the page is full, and there are further sessions */
	bool gone; /* the worker ends: it is not whole */
	/* on the way */
	struct mailbox *reply;
	struct letter *letter, *back;
	struct list node; /* in sessions.surveys */
	struct list *at;  /* where it goes on, in ... */
	struct list *of;  /* ... this list of sessions */
	struct sessions *sessions;
	struct task task;
	struct survey_row rows[];
};

struct survey *survey_new(struct mailbox *reply, unsigned n_rows); /* NULL: out of memory */
void survey_free(struct survey *);                                 /* NULL allowed */
void survey_send(struct survey *, struct mailbox *worker);         /* cannot fail; it comes back */

/* ---- the worker's ---- */

/* Takes. links NULL: it has ended. */
void survey_take(struct survey *, struct sessions *, const struct links *);
/* A session goes: nobody goes on there. */
void surveys_pass(struct sessions *, struct list *session_node);
void surveys_end(struct sessions *); /* what is not finished goes back as it is */

#endif
