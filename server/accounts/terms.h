/*
 * The limits of an account in words: what people write in the config file (`rate:
 * 500Mbit`) and on the command line (`--rate 500Mbit`), and what they are shown. One
 * table for tiers, for accounts' own limits, and for both directions. Any thread.
 */
#ifndef TUNN_SERVER_TERMS_H
#define TUNN_SERVER_TERMS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "common/base/units.h"
#include "server/accounts/account.h"

enum term { TERM_RELAY, TERM_TUNNELS, TERM_RATE, TERM_BURST, TERM_VOLUME, TERM_N };

/* Some of an account's terms: its own limits, which win over its tier's; or a tier's, all of
 * them. Zero: none. */
struct account_overrides {
	unsigned has; /* 1 << enum term, or-ed */
	struct account_terms terms;
};

const char *term_name(enum term); /* "relay", as option and key */
bool term_of_name(const char *name, enum term *term_out);

/* NULL, or what is allowed, which follows the name: "must be ...". `unlimited` stands for
 * no limit; 0 for nothing (C22). */
const char *terms_read(struct account_overrides *, enum term, const char *value);
const char *term_check(enum term, const char *value); /* without taking it; an opt_check */
static inline bool terms_have(const struct account_overrides *o, enum term t)
{
	return o->has & 1u << t;
}
static inline void terms_forget(struct account_overrides *o, enum term t) { o->has &= ~(1u << t); }

/* The word that terms_read() takes. */
const char *terms_text(const struct account_terms *, enum term, char out[static UNITS_LEN]);
/* As a number for tables and JSON: 0 or 1 for relay, tunnels, bytes per second, ms,
 * bytes; 0 else means without limit. */
uint64_t terms_number(const struct account_terms *, enum term);
void terms_put(struct account_terms *, enum term, uint64_t number);
/* {relay: bool, tunnels, rate_bits_per_s, burst_ms, volume_bytes: number or null for
 * unlimited}; with `only` just those. NULL: out of memory. */
struct json *terms_json(const struct account_terms *, const struct account_overrides *only);
/* What terms_json() wrote; what is missing is not among `has`. */
void terms_of_json(const struct json *, struct account_overrides *out);

#endif
