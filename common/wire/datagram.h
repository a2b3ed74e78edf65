/*
 * The one hot message: TunnelMessage{udp_packet: UdpPacket}, by an exact codec
 * of its own, equal to protobuf-c (unit tests and a differential fuzz target).
 * Pure, no allocation. Any thread.
 */
#ifndef TUNN_WIRE_DATAGRAM_H
#define TUNN_WIRE_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

struct datagram {                      /* borrows the message */
	struct str tunnel_id, peer_id; /* p NULL: absent */
	struct str data;               /* len 0: empty datagram */
	uint32_t flow;
};

/* 0; ERR_NOT_FOUND: not a TunnelMessage that holds one udp_packet and nothing
 * else (let msg.h decode it); ERR_PROTOCOL: malformed; ERR_INVALID: flow beyond
 * 32 bits; ERR_TOO_BIG: more unknown fields than anybody needs. */
int datagram_decode(const uint8_t *msg, size_t len, struct datagram *datagram_out);

/* Size of the message with its gRPC prefix, and writing it. Absent ids are left
 * out, so is data of length zero and flow 0 (proto3). */
size_t datagram_size(const struct datagram *);
void datagram_encode(const struct datagram *, uint8_t *out /* datagram_size() */);

#endif
