/*
 * Limits of one connection and of those who have not yet said who they are: the
 * table behind the constants, the keys under `limits:` in the server's config
 * file, and the man page. Each row says what it protects (robustness.md 2.3,
 * 2.4, 7). Constant data; any thread.
 *
 * LIMITS(X): X(field, kind, key, default, least, most, words)
 *   kind NUMBER: a count; DURATION: milliseconds; SIZE: bytes.
 */
#ifndef TUNN_BASE_LIMITS_H
#define TUNN_BASE_LIMITS_H

#include <stdint.h>

/* clang-format off */
#define LIMITS(X) \
	X(handshake_ms, DURATION, "handshake", 10000, 100, 600000, \
	  "TLS handshake; bytes that trickle in do not extend it (T02)") \
	X(preface_ms, DURATION, "preface", 5000, 100, 600000, \
	  "from TLS to the client's HTTP/2 preface and SETTINGS (T02)") \
	X(register_ms, DURATION, "register", 10000, 100, 600000, \
	  "from TLS to the first admitted end, and from a request to register_client (T02)") \
	X(header_block_ms, DURATION, "header-block", 5000, 100, 600000, \
	  "a header block from its first to its last byte (T02, T07)") \
	X(message_ms, DURATION, "message", 10000, 100, 600000, \
	  "a gRPC message from its first to its last byte (T02)") \
	X(frame_ms, DURATION, "frame", 30000, 100, 600000, \
	  "a DERP frame or a request of HTTP/1.1 from its first to its last byte (T02)") \
	X(settings_ack_ms, DURATION, "settings-ack", 5000, 100, 600000, \
	  "acknowledgement of our SETTINGS: who never does is bound by none of them (T06)") \
	X(stalled_ms, DURATION, "stalled", 5000, 500, 600000, \
	  "bytes wait and the other side takes none: memory of its queues (T10)") \
	X(newcomers, NUMBER, "newcomers", 1024, 1, 1000000, \
	  "connections without an admitted end; from half of it on some are dropped at random (T01)") \
	X(newcomers_per_net, NUMBER, "newcomers-per-network", 16, 1, 1000000, \
	  "connections without an admitted end from one IPv4 /24 or IPv6 /64 (T01)") \
	X(accepts_burst, NUMBER, "accept-burst", 10000, 1, 1000000, \
	  "connections accepted at once, by all workers: CPU of TLS handshakes (T01)") \
	X(accepts_per_s, NUMBER, "accept-rate", 5000, 1, 1000000, \
	  "the same per second, sustained") \
	X(health_conns, NUMBER, "health-connections", 64, 0, 1000000, \
	  "connections that only ask for health and are left alone (load balancers)") \
	X(idle_ms, DURATION, "idle", 300000, 1000, 86400000, \
	  "a connection without any call: memory of connections (S21)") \
	X(streams, NUMBER, "streams", 100, 1, 10000, \
	  "ends on one connection: memory of sessions") \
	X(streams_burst, NUMBER, "streams-burst", 200, 1, 1000000, \
	  "requests opened at once: CPU (T04); then reading rests 100 ms, at twice it they are refused") \
	X(streams_per_s, NUMBER, "streams-rate", 50, 1, 1000000, \
	  "requests opened per second, sustained") \
	X(header_list, SIZE, "header-list", 8192, 1024, 65536, \
	  "header fields of a request, 32 bytes added for each: HPACK expansion (T08)") \
	X(resets_in_burst, NUMBER, "resets-received-burst", 200, 1, 1000000, \
	  "streams the other side cancels at once: rapid reset (T04)") \
	X(resets_in_per_s, NUMBER, "resets-received-rate", 20, 1, 1000000, \
	  "the same per second, sustained") \
	X(resets_out_burst, NUMBER, "resets-sent-burst", 50, 1, 1000000, \
	  "resets the other side provokes at once: MadeYouReset (T05)") \
	X(resets_out_per_s, NUMBER, "resets-sent-rate", 1, 1, 1000000, \
	  "the same per second, sustained") \
	X(glitches_burst, NUMBER, "glitches-burst", 1000, 1, 1000000, \
	  "empty DATA, PRIORITY, unknown frames, needless WINDOW_UPDATE at once: CPU for nothing") \
	X(glitches_per_s, NUMBER, "glitches-rate", 50, 1, 1000000, \
	  "the same per second, sustained") \
	X(controls_burst, NUMBER, "control-burst", 500, 1, 1000000, \
	  "frames but DATA and WINDOW_UPDATE at once; then reading rests 100 ms, at twice it all ends") \
	X(controls_per_s, NUMBER, "control-rate", 100, 1, 1000000, \
	  "the same per second, sustained") \
	X(ping_ms, DURATION, "ping-interval", 10000, 0, 600000, \
	  "least time between PINGs while nothing is sent to the other side (gRPC A8; S20, T03)") \
	X(ping_strikes, NUMBER, "ping-strikes", 2, 0, 1000000, \
	  "PINGs earlier than that which are forgiven; the next is too_many_pings") \
	X(reflections_burst, NUMBER, "reflection-burst", 500, 1, 1000000, \
	  "questions to the reflection service at once: the answers are much longer (G21)") \
	X(reflections_per_s, NUMBER, "reflection-rate", 50, 1, 1000000, \
	  "the same per second, sustained") \
	X(key_updates, NUMBER, "key-updates", 32, 1, 1000000, \
	  "TLS 1.3 messages after the handshake (KeyUpdate) in one minute: CPU (H32)") \
	X(queued_frames, NUMBER, "queued-frames", 512, 16, 1000000, \
	  "answers the other side provokes but does not read (T06)") \
	X(queued_bytes, SIZE, "queued-bytes", 1048576, 262144, 1073741824, \
	  "what waits for one connection, datagrams and sealed bytes each (T10)") \
	X(turn_bytes, SIZE, "turn-bytes", 262144, 65536, 16777216, \
	  "read from one connection before the others have their turn")
/* clang-format on */

struct limits {
#define LIMITS_FIELD(field, kind, key, value, least, most, words) uint32_t field;
	LIMITS(LIMITS_FIELD)
#undef LIMITS_FIELD
};

extern const struct limits limits_default;

#endif
