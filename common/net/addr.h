/*
 * Socket addresses: IPv4 and IPv6, their text, and the grammar of what users
 * write. Any thread.
 */
#ifndef TUNN_NET_ADDR_H
#define TUNN_NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr { /* value type */
	struct sockaddr_storage ss;
	socklen_t len;
};

enum { ADDR_TEXT_LEN = 80, ADDR_NET_LEN = 9 };

/* "192.0.2.1:443", "[2001:db8::1]:443" */
const char *addr_text(const struct addr *, char out[static ADDR_TEXT_LEN]);
/* Without port and brackets; IPv4-mapped IPv6 as IPv4; "" for none. */
const char *addr_ip_text(const struct addr *, char out[static ADDR_TEXT_LEN]);
uint16_t addr_port(const struct addr *);
void addr_set_port(struct addr *, uint16_t port);
bool addr_eq(const struct addr *, const struct addr *); /* family, address, port */
bool addr_is_loopback(const struct addr *);
/* Multicast or broadcast or unspecified: never a place to forward to. */
bool addr_is_special(const struct addr *);

/* What is held against one holder of addresses: the family, then IPv4's /24 or IPv6's /64;
 * IPv4-mapped IPv6 is IPv4. */
void addr_net(const struct addr *, uint8_t out[static ADDR_NET_LEN]);
/* Its text, "192.0.2.0/24". */
const char *addr_net_text(const uint8_t net[static ADDR_NET_LEN], char out[static ADDR_TEXT_LEN]);

/* A numeric address without port. 0 or ERR_INVALID. IPv4-mapped IPv6 becomes IPv4. */
int addr_of_ip(const char *ip, uint16_t port, struct addr *addr_out);
/* `ADDR:PORT`, `[V6]:PORT`, `:PORT`, `PORT`; port 0 to 65535. An empty ADDR
 * gives any_out = true and the IPv6 unspecified address (bind both families).
 * `::1:443` is ERR_INVALID, it needs brackets. */
int addr_of_listen(const char *text, struct addr *addr_out, bool *any_out);
/* `host`, `host:port`, `[v6]:port`, each also behind `https://`, with an
 * optional trailing slash. host_out without brackets. 0 or ERR_INVALID (also
 * for labels over 63, hosts over 253, characters outside letters, digits, -, .). */
int addr_split_host(const char *text, uint16_t default_port, char *host_out, size_t host_cap,
                    uint16_t *port_out);

#endif
