/*
 * STUN as Tailscale's software speaks it, both sides: RFC 5389's binding request in one
 * exact form, and its answer. No socket, no clock. Any thread.
 */
#ifndef TUNN_WIRE_STUN_H
#define TUNN_WIRE_STUN_H

#include <stddef.h>
#include <stdint.h>

enum {
	STUN_TXID_LEN = 12,
	STUN_REQUEST_LEN = 40,
	STUN_ANSWER_MAX = 44, /* for IPv6; 32 for IPv4 */
};

/* Always 16 bytes: an IPv4 address is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that one that
 * came through an IPv6 socket is no other than one that did not. */
struct stun_addr {
	uint8_t ip[16];
	uint16_t port;
};

/* RFC 5389, 15.2: that of the request carries SOFTWARE "tailnode", then FINGERPRINT; a
 * server answers what carries both and nothing else. */
void stun_write_request(const uint8_t txid[static STUN_TXID_LEN],
                        uint8_t out[static STUN_REQUEST_LEN]);
/* 0, or ERR_PROTOCOL: leave it unanswered. All of the datagram counts; what the header
 * says of its length does not. */
int stun_read_request(const void *p, size_t len, uint8_t txid_out[static STUN_TXID_LEN]);

/* XOR-MAPPED-ADDRESS alone. Gives the length. */
size_t stun_write_answer(const uint8_t txid[static STUN_TXID_LEN], const struct stun_addr *seen,
                         uint8_t out[static STUN_ANSWER_MAX]);
/* 0 or ERR_PROTOCOL. Whether the transaction is one of ours is the caller's question. */
int stun_read_answer(const void *p, size_t len, uint8_t txid_out[static STUN_TXID_LEN],
                     struct stun_addr *seen_out);

#endif
