#include "common/base/units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"

struct unit {
	const char *name; /* NULL: last row */
	uint64_t each;
};

static const struct unit sizes[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "KiB", 1ull << 10 },
	{ "MiB", 1ull << 20 },
	{ "GiB", 1ull << 30 },
	{ "TiB", 1ull << 40 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ "TB", 1000000000000 },
	{ NULL, 0 },
};
static const struct unit rates[] = {
	{ "kbit", 125 }, { "Mbit", 125000 }, { "Gbit", 125000000 }, { NULL, 0 }
};
static const struct unit times[] = { { "ms", 1 },      { "s", 1000 },     { "m", 60000 },
	                             { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 } };
static const struct unit bare[] = { { "", 1 }, { NULL, 0 } };

/* Digits of base 10 up to the unit. */
static int digits_of(const char *text, uint64_t *n_out, const char **unit_out)
{
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return ERR_INVALID;
	*n_out = n;
	*unit_out = p;
	return p == text ? ERR_INVALID : 0;
}

static int read_with(const char *text, const struct unit *units, uint64_t *n_out)
{
	const char *unit;
	uint64_t n;

	if (digits_of(text, &n, &unit) < 0)
		return ERR_INVALID;
	for (; units->name; units++)
		if (strcmp(unit, units->name) == 0)
			return __builtin_mul_overflow(n, units->each, n_out) ? ERR_INVALID : 0;
	return ERR_INVALID;
}

int units_number(const char *text, uint64_t *n_out) { return read_with(text, bare, n_out); }
int units_size(const char *text, uint64_t *bytes_out) { return read_with(text, sizes, bytes_out); }
int units_rate(const char *text, uint64_t *per_s_out) { return read_with(text, rates, per_s_out); }
int units_duration(const char *text, uint64_t *ms_out) { return read_with(text, times, ms_out); }

static const char *write_with(uint64_t n, const struct unit *units, char out[static UNITS_LEN])
{
	const struct unit *best = units;

	for (; n && units->name; units++)
		if (n % units->each == 0 && units->each > best->each)
			best = units;
	snprintf(out, UNITS_LEN, "%" PRIu64 "%s", n / best->each, best->name);
	return out;
}

const char *units_size_text(uint64_t bytes, char out[static UNITS_LEN])
{
	static const struct unit si[] = {
		{ "B", 1 },           { "kB", 1000 },          { "MB", 1000000 },
		{ "GB", 1000000000 }, { "TB", 1000000000000 }, { NULL, 0 }
	};

	return write_with(bytes, bytes % 1000 == 0 ? si : sizes + 1, out);
}

const char *units_rate_text(uint64_t per_s, char out[static UNITS_LEN])
{
	if (per_s % 125 == 0)
		return write_with(per_s, rates, out);
	snprintf(out, UNITS_LEN, "%" PRIu64 "B/s", per_s);
	return out;
}

const char *units_duration_text(uint64_t ms, char out[static UNITS_LEN])
{
	return write_with(ms, times, out);
}

const char *units_brief(uint64_t number, const char *unit, char out[static UNITS_LEN])
{
	static const char *const prefixes[] = { "", "k", "M", "G", "T", "P", "E" };
	double n = (double)number;
	unsigned i = 0;

	for (; n >= 999.5 && i + 1 < sizeof prefixes / sizeof *prefixes; i++)
		n /= 1000;
	snprintf(out, UNITS_LEN, "%.*f %s%s",
	         i == 0 || n >= 99.95 ? 0 :
	         n >= 9.995           ? 1 :
	                                2,
	         n, prefixes[i], unit);
	return out;
}

const char *units_size_brief(uint64_t bytes, char out[static UNITS_LEN])
{
	return units_brief(bytes, "B", out);
}
