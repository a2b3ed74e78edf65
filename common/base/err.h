/*
 * Error codes, and the two tables of reasons: why a link or channel ended,
 * why a packet was dropped. Every close and every drop names one of these.
 *
 * Functions return 0 or a negative code: -errno, or one of enum err, which
 * begins far below any errno. Any thread; everything here is constant.
 */
#ifndef TUNN_BASE_ERR_H
#define TUNN_BASE_ERR_H

#include <stdbool.h>

enum err {
	ERR_PROTOCOL = -10000, /* the other side broke the protocol */
	ERR_FLOOD = -10001,    /* the other side exceeded a budget */
	ERR_TLS = -10002,      /* handshake or record layer failed */
	ERR_INVALID = -10003,  /* a value is outside its grammar */
	ERR_TOO_BIG = -10004,  /* a message or packet exceeds its limit */
	ERR_AGAIN = -10005,    /* not now: the operation ends by an event */
	ERR_NOT_FOUND = -10006,
	ERR_CLOSED = -10007,
	ERR_CONFIG = -10008,    /* usage or configuration: exit code 2 */
	ERR_SLOW = -10009,      /* the other side missed a deadline */
	ERR_UNTRUSTED = -10010, /* TLS showed a certificate that we do not accept */
};

/* Text of a code from this file or of a negative errno. Never NULL; the text
 * of an errno is only good until the thread's next call. */
const char *err_text(int err);

/* Why a link or channel ended. One row per value in err.c: text, metric
 * label, log level, the gRPC status the other side sees, and what a client
 * does when it hears it. */
enum close_why {
	CLOSE_NONE,
	CLOSE_DONE,          /* the other side ended its conversation in order */
	CLOSE_EOF,           /* the connection ended without a goodbye */
	CLOSE_RESET,         /* the connection was reset */
	CLOSE_NETWORK,       /* another error of the network */
	CLOSE_TIMEOUT,       /* no life within the heartbeat's bound */
	CLOSE_SLOW_START,    /* a deadline of connecting or greeting passed */
	CLOSE_CROWDED,       /* a newcomer had to make room for the next */
	CLOSE_SHED,          /* the relay is short of memory */
	CLOSE_PENALTY,       /* tokens are guessed from its network, or it floods */
	CLOSE_STALLED,       /* the other side stopped reading */
	CLOSE_TLS,           /* TLS failed */
	CLOSE_UNTRUSTED,     /* its certificate is not accepted */
	CLOSE_PROTOCOL,      /* the other side broke the protocol */
	CLOSE_FLOOD,         /* the other side exceeded a budget */
	CLOSE_TOO_BIG,       /* a message longer than the limit */
	CLOSE_INVALID,       /* a field outside its grammar */
	CLOSE_ORDER,         /* right message, wrong moment; unknown version */
	CLOSE_UNIMPLEMENTED, /* unknown service, method or encoding */
	CLOSE_UNAUTHENTICATED,
	CLOSE_DENIED,       /* authenticated, but not allowed */
	CLOSE_SUPERSEDED,   /* another instance has the id now */
	CLOSE_FIGHT,        /* two instances keep taking one id from each other */
	CLOSE_TUNNELS,      /* the account has no tunnel left */
	CLOSE_QUOTA,        /* the account's volume is used up */
	CLOSE_DRAINING,     /* the relay stops or moves its ends */
	CLOSE_UNAVAILABLE,  /* the relay cannot serve now */
	CLOSE_DEADLINE,     /* the caller's own deadline passed */
	CLOSE_CANCELLED,    /* the caller cancelled */
	CLOSE_NOT_GRPC,     /* what answered does not speak gRPC */
	CLOSE_PROXY,        /* the proxy refused for now */
	CLOSE_PROXY_DENIED, /* the proxy refused for good */
	CLOSE_NOMEM,
	CLOSE_INTERNAL,
	CLOSE_LOCAL, /* we chose to end it: shutdown, new network */
	CLOSE_N
};

/* What a client does after a close. */
enum verdict {
	VERDICT_RETRY, /* back off, connect again */
	VERDICT_FINAL, /* refused for good: exit code 3 */
	VERDICT_WAIT,  /* quota: wait for the reset time */
	VERDICT_NOW,   /* connect again without backing off */
};

const char *close_text(enum close_why why);  /* a sentence for people */
const char *close_label(enum close_why why); /* a word for metrics and logs */
int close_grpc_status(enum close_why why);   /* grpc statuscodes.md */
enum verdict close_verdict(enum close_why why);
bool close_is_noteworthy(enum close_why why); /* log above debug level? */
/* The reason behind a negative code of a lower layer. */
enum close_why close_of_err(int err);

/* Why a packet was dropped. The label is the metric's `reason`. */
enum drop_why {
	DROP_NO_ROUTE,     /* nobody has the destination */
	DROP_NOT_DECLARED, /* the sender has not declared the destination */
	DROP_NOT_MUTUAL,   /* the destination has not declared the sender */
	DROP_ONE_WAY,      /* the destination registered bidirectional=false */
	DROP_QUEUE_FULL,   /* oldest of a full queue */
	DROP_STALE,        /* waited longer than it is worth */
	DROP_LINK_CLOSED,  /* its channel ended before it was sent */
	DROP_NOT_READY,    /* no channel to the relay at the moment */
	DROP_TOO_BIG,
	DROP_OVER_LIMIT, /* the destination's account is over its rate */
	DROP_FLOW_LIMIT, /* flow table full */
	DROP_UDP_SEND,   /* the kernel refused the datagram */
	DROP_UDP_TRUNC,  /* a datagram larger than the buffer */
	DROP_NOMEM,
	DROP_N
};

const char *drop_text(enum drop_why why);
const char *drop_label(enum drop_why why);

#endif
