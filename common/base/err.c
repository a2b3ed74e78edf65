#include "common/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

/* gRPC status codes, grpc/grpc doc/statuscodes.md */
enum {
	S_OK = 0,
	S_CANCELLED = 1,
	S_UNKNOWN = 2,
	S_INVALID_ARGUMENT = 3,
	S_DEADLINE_EXCEEDED = 4,
	S_PERMISSION_DENIED = 7,
	S_RESOURCE_EXHAUSTED = 8,
	S_FAILED_PRECONDITION = 9,
	S_ABORTED = 10,
	S_UNIMPLEMENTED = 12,
	S_INTERNAL = 13,
	S_UNAVAILABLE = 14,
	S_UNAUTHENTICATED = 16,
};

struct close_row {
	const char *label, *text;
	int status;
	enum verdict verdict;
	bool noteworthy;
};

static const struct close_row close_rows[] = {
	[CLOSE_NONE] = { "none", "no reason", S_OK, VERDICT_RETRY, false },
	[CLOSE_DONE] = { "done", "ended by the other side", S_OK, VERDICT_RETRY, false },
	[CLOSE_EOF] = { "eof", "the connection ended", S_UNAVAILABLE, VERDICT_RETRY, false },
	[CLOSE_RESET] = { "reset", "the connection was reset", S_UNAVAILABLE, VERDICT_RETRY,
	                  false },
	[CLOSE_NETWORK] = { "network", "the network failed", S_UNAVAILABLE, VERDICT_RETRY, false },
	[CLOSE_TIMEOUT] = { "timeout", "no sign of life", S_UNAVAILABLE, VERDICT_RETRY, true },
	[CLOSE_SLOW_START] = { "slow_start", "no answer in time while connecting",
	                       S_DEADLINE_EXCEEDED, VERDICT_RETRY, false },
	[CLOSE_CROWDED] = { "crowded", "made room for other new connections", S_UNAVAILABLE,
	                    VERDICT_RETRY, false },
	[CLOSE_SHED] = { "shed", "the relay is short of memory; try again later", S_UNAVAILABLE,
	                 VERDICT_RETRY, false },
	[CLOSE_PENALTY] = { "penalty", "its network is refused for a while", S_UNAVAILABLE,
	                    VERDICT_RETRY, false },
	[CLOSE_STALLED] = { "stalled", "stopped reading", S_UNAVAILABLE, VERDICT_RETRY, true },
	[CLOSE_TLS] = { "tls", "TLS failed", S_UNAVAILABLE, VERDICT_RETRY, false },
	[CLOSE_UNTRUSTED] = { "untrusted", "TLS failed", S_UNAVAILABLE, VERDICT_RETRY, false },
	[CLOSE_PROTOCOL] = { "protocol", "broke the protocol", S_INTERNAL, VERDICT_RETRY, true },
	[CLOSE_FLOOD] = { "flood", "sent more than a connection may", S_RESOURCE_EXHAUSTED,
	                  VERDICT_RETRY, true },
	[CLOSE_TOO_BIG] = { "too_big", "message larger than 66560 bytes", S_RESOURCE_EXHAUSTED,
	                    VERDICT_RETRY, true },
	[CLOSE_INVALID] = { "invalid", "a field is not acceptable", S_INVALID_ARGUMENT,
	                    VERDICT_FINAL, true },
	[CLOSE_ORDER] = { "order", "message not allowed at this point", S_FAILED_PRECONDITION,
	                  VERDICT_RETRY, true },
	[CLOSE_UNIMPLEMENTED] = { "unimplemented", "no such service, method or encoding",
	                          S_UNIMPLEMENTED, VERDICT_RETRY, true },
	[CLOSE_UNAUTHENTICATED] = { "unauthenticated", "the token is not valid here",
	                            S_UNAUTHENTICATED, VERDICT_FINAL, true },
	[CLOSE_DENIED] = { "denied", "the account may not do this", S_PERMISSION_DENIED,
	                   VERDICT_FINAL, true },
	[CLOSE_SUPERSEDED] = { "superseded", "another instance has taken this id", S_ABORTED,
	                       VERDICT_FINAL, true },
	[CLOSE_FIGHT] = { "fight", "the id is being fought over", S_UNAVAILABLE, VERDICT_RETRY,
	                  true },
	[CLOSE_TUNNELS] = { "tunnels", "tunnels of the account are all in use",
	                    S_RESOURCE_EXHAUSTED, VERDICT_RETRY, true },
	[CLOSE_QUOTA] = { "quota", "quota of the account's month is used up", S_RESOURCE_EXHAUSTED,
	                  VERDICT_WAIT, true },
	[CLOSE_DRAINING] = { "draining", "the relay is stopping", S_UNAVAILABLE, VERDICT_NOW,
	                     false },
	[CLOSE_UNAVAILABLE] = { "unavailable", "the relay cannot serve now", S_UNAVAILABLE,
	                        VERDICT_RETRY, true },
	[CLOSE_DEADLINE] = { "deadline", "the call's deadline passed", S_DEADLINE_EXCEEDED,
	                     VERDICT_RETRY, false },
	[CLOSE_CANCELLED] = { "cancelled", "cancelled by the other side", S_CANCELLED,
	                      VERDICT_RETRY, false },
	[CLOSE_NOT_GRPC] = { "not_grpc", "what answered is not a tunn relay", S_UNKNOWN,
	                     VERDICT_RETRY, true },
	[CLOSE_PROXY] = { "proxy", "the proxy refused", S_UNAVAILABLE, VERDICT_RETRY, true },
	[CLOSE_PROXY_DENIED] = { "proxy_denied", "the proxy refused for good", S_PERMISSION_DENIED,
	                         VERDICT_FINAL, true },
	[CLOSE_NOMEM] = { "nomem", "out of memory", S_RESOURCE_EXHAUSTED, VERDICT_RETRY, true },
	[CLOSE_INTERNAL] = { "internal", "internal error", S_INTERNAL, VERDICT_RETRY, true },
	[CLOSE_LOCAL] = { "local", "ended here", S_OK, VERDICT_NOW, false },
};
static_assert(sizeof close_rows / sizeof *close_rows == CLOSE_N, "a row for every close_why");

struct drop_row {
	const char *label, *text;
};

static const struct drop_row drop_rows[] = {
	[DROP_NO_ROUTE] = { "no_route", "nobody has the destination" },
	[DROP_NOT_DECLARED] = { "not_declared", "the sender has not declared the destination" },
	[DROP_NOT_MUTUAL] = { "not_mutual", "the destination has not declared the sender" },
	[DROP_ONE_WAY] = { "one_way", "the destination takes no datagrams" },
	[DROP_QUEUE_FULL] = { "queue_full", "oldest of a full queue" },
	[DROP_STALE] = { "stale", "waited too long" },
	[DROP_LINK_CLOSED] = { "link_closed", "its link ended" },
	[DROP_NOT_READY] = { "not_ready", "no connection to the relay" },
	[DROP_TOO_BIG] = { "too_big", "larger than 65507 bytes" },
	[DROP_OVER_LIMIT] = { "over_limit", "the destination's account is over its rate" },
	[DROP_FLOW_LIMIT] = { "flow_limit", "too many local programs" },
	[DROP_UDP_SEND] = { "udp_send", "the kernel refused the datagram" },
	[DROP_UDP_TRUNC] = { "udp_trunc", "datagram larger than the buffer" },
	[DROP_NOMEM] = { "nomem", "out of memory" },
};
static_assert(sizeof drop_rows / sizeof *drop_rows == DROP_N, "a row for every drop_why");

const char *err_text(int err)
{
	switch (err) {
	case 0: return "ok";
	case ERR_PROTOCOL: return "protocol error";
	case ERR_FLOOD: return "flood";
	case ERR_TLS: return "TLS error";
	case ERR_UNTRUSTED: return "certificate not accepted";
	case ERR_INVALID: return "invalid value";
	case ERR_TOO_BIG: return "too big";
	case ERR_AGAIN: return "not yet";
	case ERR_NOT_FOUND: return "not found";
	case ERR_CLOSED: return "closed";
	case ERR_CONFIG: return "usage or configuration error";
	case ERR_SLOW: return "too slow";
	default: return strerror(err < 0 ? -err : err);
	}
}

static const struct close_row *close_row(enum close_why why)
{
	return &close_rows[(unsigned)why < CLOSE_N ? why : CLOSE_INTERNAL];
}

const char *close_text(enum close_why why) { return close_row(why)->text; }
const char *close_label(enum close_why why) { return close_row(why)->label; }
int close_grpc_status(enum close_why why) { return close_row(why)->status; }
enum verdict close_verdict(enum close_why why) { return close_row(why)->verdict; }
bool close_is_noteworthy(enum close_why why) { return close_row(why)->noteworthy; }

enum close_why close_of_err(int err)
{
	switch (err) {
	case 0: return CLOSE_DONE;
	case ERR_PROTOCOL: return CLOSE_PROTOCOL;
	case ERR_FLOOD: return CLOSE_FLOOD;
	case ERR_TLS: return CLOSE_TLS;
	case ERR_UNTRUSTED: return CLOSE_UNTRUSTED;
	case ERR_INVALID: return CLOSE_INVALID;
	case ERR_TOO_BIG: return CLOSE_TOO_BIG;
	case ERR_CLOSED: return CLOSE_EOF;
	case ERR_SLOW: return CLOSE_SLOW_START;
	case -ENOMEM: return CLOSE_NOMEM;
	case -ECONNRESET:
	case -EPIPE: return CLOSE_RESET;
	case -ETIMEDOUT: return CLOSE_TIMEOUT;
	case -ENETUNREACH:
	case -EHOSTUNREACH:
	case -ENETDOWN:
	case -ECONNREFUSED: return CLOSE_NETWORK;
	default: return err < -4095 ? CLOSE_INTERNAL : CLOSE_NETWORK;
	}
}

const char *drop_text(enum drop_why why)
{
	return (unsigned)why < DROP_N ? drop_rows[why].text : "?";
}

const char *drop_label(enum drop_why why)
{
	return (unsigned)why < DROP_N ? drop_rows[why].label : "?";
}
