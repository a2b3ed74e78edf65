/*
 * What `tunn relay` was asked to do: command line, then TUNN_* environment,
 * then config file, then defaults. Read once at start.
 */
#ifndef TUNN_CLIENT_OPTIONS_H
#define TUNN_CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/key.h"
#include "common/base/opts.h"
#include "common/net/tls.h"

enum { RELAY_PATH_LEN = 1024 };

struct relay_options {
	uint16_t port;         /* the positional PORT, 1 to 65535 */
	const char *id;        /* NULL: that of the token, else of the host */
	struct opt_list peers; /* --peer, 1 to PEERS_MAX, grammar checked, no doubles */
	bool one_way;          /* --one-way: bidirectional=false */
	const char *relay;     /* as given or the default */
	bool relay_is_default;
	const char *transport;    /* "auto" or a name of transports[] */
	bool listen;              /* --listen [ADDR] */
	const char *listen_addr;  /* NULL: loopback */
	bool forward;             /* --forward [HOST] */
	const char *forward_host; /* NULL: 127.0.0.1 */
	const char *proxy;        /* --proxy URL|none */
	const char *ca_file;
	bool has_pin, pin_is_raw; /* of the certificate, not of its key */
	uint8_t pin[TLS_PIN_LEN];
	const char *token_file;
	const char *key_file;    /* own node key, of a native DERP end; NULL: the stored one */
	const char *derp_map;    /* file or URL; NULL: --relay counts */
	const char *derp_region; /* id or code of the only region to use */
	uint32_t fwmark;
	const char *bind_device;
	bool once;             /* end with 4 when the first connection fails */
	const char *log_level; /* error, warn, info, debug */
	const char *user;      /* --user: NULL: "tunn" where it exists */
	const char *seccomp;   /* a name that sandbox_mode_of() knows */
};

/* The table that parses, prints --help and is compared with the man page. */
extern const struct opt relay_opts[];

/* 0, or ERR_CONFIG after the error was printed; rc 0 with *help_out when --help
 * was printed. opts_out's strings live until the process ends. */
int relay_options_read(int argc, char **argv, struct relay_options *opts_out, bool *help_out);

/* Is it a native DERP end, with a node key of its own in place of id and token: by a DERP
 * map, or by `--transport derp` without --id and with node keys as all its peers. */
bool relay_options_are_native(const struct relay_options *);

/* Where the user's file of that name is: $XDG_CONFIG_HOME/tunn/NAME, else
 * ~/.config/tunn/NAME. False: there is no such place, or its path is too long. */
bool relay_options_place(const char *name, char path_out[static RELAY_PATH_LEN]);

/* The token for this relay: --token-file (`-` is standard input), TUNN_TOKEN
 * (wiped from the environment), else the file stored for the relay (token_file.h). Empty
 * string when there is none and none was asked for, and of a native end, which has
 * nobody to tell it to. token_out holds TOKEN_MAX_LEN + 1. 0 or ERR_CONFIG after
 * printing (never the token). */
int relay_options_token(const struct relay_options *, const char *authority, char *token_out,
                        size_t cap);

#endif
