/* Names of HTTP/2 frame types and flags (RFC 9113 section 6) for tests and fuzzers. */
#ifndef TUNN_TESTS_H2_FRAMES_H
#define TUNN_TESTS_H2_FRAMES_H

enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION
};
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8 };

#endif
