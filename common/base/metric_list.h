/*
 * Every counter, one line each: METRIC(enum suffix, exported name, help).
 * Included by metric.h and metric.c; adding a counter is adding a line.
 */
METRIC(PKT_ALLOCS, "packet_allocations_total", "packets taken from the heap, not from a pool")
METRIC(PKTS_IN, "packets_in_total", "datagrams received from ends (client: from local programs)")
METRIC(BYTES_IN, "bytes_in_total", "payload bytes of those")
METRIC(PKTS_OUT, "packets_out_total", "datagrams handed on (client: to local programs)")
METRIC(BYTES_OUT, "bytes_out_total", "payload bytes of those")
METRIC(PKTS_FORWARDED, "packets_forwarded_total", "datagrams passed on to another worker")
METRIC(CONNS_ACCEPTED, "connections_accepted_total", "TCP connections accepted")
METRIC(CONNS_OPEN, "connections_open", "TCP connections open now")
METRIC(CONNS_TURNED_AWAY, "connections_turned_away_total", "closed before TLS: too many newcomers")
METRIC(CONNS_PENALISED, "connections_penalised_total",
       "closed before TLS: their network guessed tokens or flooded")
METRIC(PENALTIES, "penalties_total", "networks that were refused for a while for that")
METRIC(MEMORY_BYTES, "memory_bytes", "resident memory that counts against limits.memory")
METRIC(MEMORY_LIMIT, "memory_limit_bytes", "limits.memory; 0: unlimited")
METRIC(MEMORY_SHORT, "memory_short",
       "1: newcomers are turned away for want of memory; 2: ends of the lowest tier go too")
METRIC(MEMORY_TURNED_AWAY, "memory_turned_away_total",
       "closed before TLS: the relay was short of memory")
METRIC(MEMORY_NEWCOMERS, "memory_newcomers_closed_total",
       "connections without a registered end that were closed for that")
METRIC(MEMORY_ENDS, "memory_ends_closed_total",
       "ends of the lowest tier that were sent away for that")
METRIC(SESSIONS_OPEN, "sessions_open", "ends registered now")
METRIC(REGISTRATIONS, "registrations_total", "ends admitted")
METRIC(REFUSALS, "refusals_total", "registrations refused")
METRIC(TAKEOVERS, "takeovers_total", "ids taken over by a newer session")
METRIC(RECONNECTS, "reconnects_total", "client: connections to the relay after the first")
METRIC(ACCEPT_ERRORS, "accept_errors_total", "accept(2) failures")
METRIC(NO_TE, "requests_without_te_total",
       "gRPC requests without te: trailers, which a proxy has stripped")
METRIC(CERT_DAYS_LEFT, "certificate_days_left", "whole days until the certificate expires")
METRIC(RELOAD_FAILURES, "reload_failures_total", "reloads refused, old configuration kept")
METRIC(TLS_BYTES_IN, "tls_bytes_in_total", "bytes read from sockets, TLS records included")
METRIC(TLS_BYTES_OUT, "tls_bytes_out_total", "bytes written to sockets, TLS records included")
METRIC(UDP_ERRORS, "udp_errors_total", "ICMP errors told by local UDP sockets")
METRIC(UDP_OVERFLOWS, "udp_overflows_total",
       "datagrams the kernel dropped, its buffer was full (of coalesced ones: an estimate)")
METRIC(DERP_ACCEPTS, "derp_accepts_total", "DERP conversations begun, before their handshake")
METRIC(DERP_WEBSOCKETS, "derp_websocket_accepts_total", "of those by WebSocket")
METRIC(DERP_OPEN, "derp_connections_open", "native DERP ends registered now")
METRIC(DERP_HOME, "derp_home_connections", "of those, whose home this relay is")
METRIC(DERP_NOT_IDEAL, "derp_not_ideal_connections",
       "of those, who wanted another node of the region")
METRIC(DERP_HOME_MOVES_IN, "derp_home_moves_in_total",
       "native ends that made this their home later than 5 s after they came")
METRIC(DERP_HOME_MOVES_OUT, "derp_home_moves_out_total", "native ends that took it away")
METRIC(DERP_KEYS, "derp_clients", "node keys known: of ends here and at other relays")
METRIC(DERP_KEYS_REMOTE, "derp_clients_remote", "of those only at other relays")
METRIC(DERP_DUP_KEYS, "derp_duplicate_keys", "node keys with more than one connection")
METRIC(DERP_DUP_CONNS, "derp_duplicate_connections", "connections of those keys")
METRIC(DERP_DUP_CONNS_TOTAL, "derp_duplicate_connections_total",
       "connections of a key that had one")
METRIC(DERP_WATCHERS, "derp_watchers", "relays that watch our native ends")
METRIC(DERP_DISCO_IN, "derp_disco_packets_in_total", "path finding packets from native ends")
METRIC(DERP_PEER_GONE, "derp_peer_gone_disconnected_frames_total", "PeerGone frames, peer left")
METRIC(DERP_PEER_NOT_HERE, "derp_peer_gone_not_here_frames_total", "PeerGone frames, unknown peer")
METRIC(DERP_PINGS, "derp_pings_total", "Ping frames received")
METRIC(DERP_PONGS, "derp_pongs_total", "Pong frames sent")
METRIC(DERP_UNKNOWN_FRAMES, "derp_unknown_frames_total", "frames that were skipped")
METRIC(DERP_FORWARDED_IN, "derp_packets_forwarded_in_total",
       "packets from other relays of the mesh")
METRIC(DERP_FORWARDED_OUT, "derp_packets_forwarded_out_total",
       "packets to other relays of the mesh")
METRIC(DERP_FORGED, "derp_forwards_refused_total",
       "packets of other relays in the name of a tunnel of ours")
METRIC(DERP_MULTI_FORWARDERS, "derp_multiforwarder_created_total",
       "keys that a second relay of the mesh has")
METRIC(MESH_LINKS, "mesh_links_up", "relays of the mesh whose native ends we are told of")
METRIC(ADMIN_2XX, "admin_answers_2xx_total", "requests to the admin listener that were served")
METRIC(ADMIN_4XX, "admin_answers_4xx_total", "of those refused: the asker's fault")
METRIC(ADMIN_5XX, "admin_answers_5xx_total", "of those not served: ours, or not ready")
METRIC(ADMIN_WRONG_TOKENS, "admin_wrong_tokens_total",
       "requests to the admin listener without its token")
METRIC(LOG_LINES_LOST, "log_lines_lost_total", "log lines that standard error did not take")
METRIC(SOCKET_WRITES, "socket_writes_total", "write calls on TCP sockets")
METRIC(DENS_ASLEEP, "dens_asleep", "parts of idle connections that are packed, two of each")
METRIC(DENS_PACKED_BYTES, "dens_packed_bytes", "what is left of them in memory")
METRIC(USAGE_FAILURES, "usage_write_failures_total",
       "times that usage could not be put into its journal or into the database")
METRIC(STUN_SUCCESS, "stun_success_total", "STUN requests answered")
METRIC(STUN_NOT_STUN, "stun_not_stun_total",
       "datagrams on the STUN port that are no request of Tailscale's form, left unanswered")
METRIC(STUN_READ_ERRORS, "stun_read_errors_total", "errors in reading on the STUN port")
METRIC(STUN_WRITE_ERRORS, "stun_write_errors_total", "answers to STUN that the kernel refused")
METRIC(STUN_IPV4, "stun_ipv4_total", "STUN requests by IPv4")
METRIC(STUN_IPV6, "stun_ipv6_total", "STUN requests by IPv6")
