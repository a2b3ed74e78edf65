/*
 * Numbers with a unit, as people write them in options and in the config file, and as
 * they are printed. No sign, no fraction, no blank, and no number so large that it would
 * wrap: what does not fit is refused, not cut. Any thread.
 */
#ifndef TUNN_BASE_UNITS_H
#define TUNN_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* 0, or ERR_INVALID: not of that form, or beyond 64 bits. */
int units_number(const char *text, uint64_t *n_out);    /* 10 */
int units_size(const char *text, uint64_t *bytes_out);  /* 10, 10B, kB, KiB ... TB, TiB */
int units_rate(const char *text, uint64_t *per_s_out);  /* 10kbit, Mbit, Gbit; gives bytes */
int units_duration(const char *text, uint64_t *ms_out); /* 10ms, s, m, h, d; never bare */

/* The same back, with the largest unit that leaves nothing over (1500000 bytes is 1500kB). */
enum { UNITS_LEN = 32 };
const char *units_size_text(uint64_t bytes, char out[static UNITS_LEN]);
const char *units_rate_text(uint64_t per_s, char out[static UNITS_LEN]);
const char *units_duration_text(uint64_t ms, char out[static UNITS_LEN]);
/* For people, three digits and an SI prefix: "12.3 Mbit/s". unit: a few letters. */
const char *units_brief(uint64_t n, const char *unit, char out[static UNITS_LEN]);
/* "1.23 GB", "0 B". */
const char *units_size_brief(uint64_t bytes, char out[static UNITS_LEN]);

#endif
