#include "server/accounts/terms.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"

#define MBIT      125000ull
#define TBIT      125000000000ull
#define EB        1000000000000000000ull
#define UNLIMITED "unlimited"

/* The bounds keep rate * burst and every sum of volumes far below 2^63. */
static const struct row {
	const char *name, *json;
	int (*read)(const char *text, uint64_t *n_out);
	uint64_t least, most;
	bool may_be_unlimited;
	const char *words;
} rows[TERM_N] = {
	[TERM_RELAY] = { "relay", "relay", NULL, 0, 0, false, "must be yes or no" },
	[TERM_TUNNELS] = { "tunnels", "tunnels", units_number, 1, 1000000, true,
	                   "must be 1 to 1000000, or unlimited" },
	[TERM_RATE] = { "rate", "rate_bits_per_s", units_rate, MBIT, TBIT, true,
	                "must be 1Mbit to 1000Gbit per second (unit: kbit, Mbit, Gbit), or "
	                "unlimited" },
	[TERM_BURST] = { "burst", "burst_ms", units_duration, 100, 3600000, false,
	                 "must be a time from 100ms to 1h with its unit (ms, s, m, h)" },
	[TERM_VOLUME] = { "volume", "volume_bytes", units_size, 1, EB, true,
	                  "must be 1 to 10^18 bytes a month (unit: B, kB, KiB, MB, MiB, GB, GiB, "
	                  "TB, TiB), or unlimited" },
};

const char *term_name(enum term t) { return rows[t].name; }

bool term_of_name(const char *name, enum term *term_out)
{
	for (unsigned i = 0; i < TERM_N; i++) {
		if (strcmp(name, rows[i].name) == 0) {
			*term_out = (enum term)i;
			return true;
		}
	}
	return false;
}

uint64_t terms_number(const struct account_terms *t, enum term term)
{
	switch (term) {
	case TERM_RELAY: return t->relay;
	case TERM_TUNNELS: return t->tunnels;
	case TERM_RATE: return t->rate;
	case TERM_BURST: return t->burst_ms;
	case TERM_VOLUME: return t->volume;
	case TERM_N: break;
	}
	return 0;
}

void terms_put(struct account_terms *t, enum term term, uint64_t number)
{
	switch (term) {
	case TERM_RELAY: t->relay = number; break;
	case TERM_TUNNELS: t->tunnels = (uint32_t)number; break;
	case TERM_RATE: t->rate = number; break;
	case TERM_BURST: t->burst_ms = (uint32_t)number; break;
	case TERM_VOLUME: t->volume = number; break;
	case TERM_N: break;
	}
}

static bool read_number(const struct row *row, const char *value, uint64_t *n_out)
{
	if (row->may_be_unlimited && strcmp(value, UNLIMITED) == 0) {
		*n_out = 0;
		return true;
	}
	if (!row->read) {
		*n_out = strcmp(value, "yes") == 0;
		return *n_out || strcmp(value, "no") == 0;
	}
	return row->read(value, n_out) == 0 && *n_out >= row->least && *n_out <= row->most;
}

const char *terms_read(struct account_overrides *o, enum term t, const char *value)
{
	uint64_t n;

	if (!read_number(&rows[t], value, &n))
		return rows[t].words;
	terms_put(&o->terms, t, n);
	o->has |= 1u << t;
	return NULL;
}

const char *term_check(enum term t, const char *value)
{
	struct account_overrides unused;

	memset(&unused, 0, sizeof unused);
	return terms_read(&unused, t, value);
}

const char *terms_text(const struct account_terms *terms, enum term t, char out[static UNITS_LEN])
{
	uint64_t n = terms_number(terms, t);

	if (t == TERM_RELAY)
		snprintf(out, UNITS_LEN, "%s", n ? "yes" : "no");
	else if (n == 0)
		snprintf(out, UNITS_LEN, "%s", t == TERM_BURST ? "-" : UNLIMITED);
	else if (t == TERM_TUNNELS)
		snprintf(out, UNITS_LEN, "%" PRIu64, n);
	else if (t == TERM_RATE)
		units_rate_text(n, out);
	else if (t == TERM_BURST)
		units_duration_text(n, out);
	else
		units_size_text(n, out);
	return out;
}

static struct json *value_of(const struct account_terms *terms, enum term t)
{
	uint64_t n = terms_number(terms, t);

	if (t == TERM_RELAY)
		return json_new_bool(n != 0);
	if (n == 0)
		return json_new_null();
	return json_new_int((int64_t)(t == TERM_RATE ? n * 8 : n));
}

struct json *terms_json(const struct account_terms *terms, const struct account_overrides *only)
{
	struct json *o = json_new_object();

	for (unsigned i = 0; o && i < TERM_N; i++) {
		if (only && !terms_have(only, (enum term)i))
			continue;
		if (json_put(o, rows[i].json, value_of(terms, (enum term)i)) < 0) {
			json_free(o);
			return NULL;
		}
	}
	return o;
}

void terms_of_json(const struct json *o, struct account_overrides *out)
{
	struct account_overrides found = { 0 };

	for (unsigned i = 0; i < TERM_N; i++) {
		const struct json *value = json_get(o, rows[i].json);
		int64_t n = 0;
		bool truth = false;
		enum json_read r = i == TERM_RELAY ? json_as_bool(value, &truth) :
		                                     json_as_int(value, &n);
		if (r != JSON_READ && r != JSON_IS_NULL)
			continue;
		uint64_t number = i == TERM_RELAY ? truth : (uint64_t)n;
		terms_put(&found.terms, (enum term)i, i == TERM_RATE ? number / 8 : number);
		found.has |= 1u << i;
	}
	*out = found;
}
