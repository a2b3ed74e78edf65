#include "common/wire/grpc.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/list.h"
#include "common/wire/h2.h"

static int check(const struct framer *f, uint8_t flag, uint32_t len)
{
	const struct deframer *d = container_of(f, const struct deframer, framer);

	if (flag > 1)
		return ERR_PROTOCOL;
	if (len > (d->message_max ? d->message_max : GRPC_MESSAGE_MAX))
		return ERR_TOO_BIG;
	return flag ? GRPC_COMPRESSED : 0;
}

struct deframer deframer_of(uint32_t message_max)
{
	return (struct deframer){ .framer.check = check, .message_max = message_max };
}

void deframer_done(struct deframer *d) { framer_done(&d->framer); }
bool deframer_is_between(const struct deframer *d) { return framer_is_between(&d->framer); }

int deframe_next(struct deframer *d, struct cursor *in, const uint8_t **msg_out, size_t *len_out)
{
	struct frame f;
	int rc = frame_next(&d->framer, in, &f);

	if (rc == 0) {
		*msg_out = f.p;
		*len_out = f.len;
	}
	return rc;
}

void grpc_put_prefix(uint8_t out[static GRPC_PREFIX_LEN], uint32_t len)
{
	frame_put_head(out, 0, len);
}

bool grpc_is_content_type(struct str value)
{
	static const char base[] = "application/grpc";
	size_t n = sizeof base - 1;

	return value.len >= n && memcmp(value.p, base, n) == 0 &&
	       (value.len == n || value.p[n] == '+' || value.p[n] == ';');
}

enum { BIN_MAX = 65536 / 4 * 3 }; /* the longest header list there may be, decoded */

bool grpc_is_bin(struct str value)
{
	uint8_t bytes[BIN_MAX];

	for (size_t at = 0; at <= value.len;) {
		const char *comma = at < value.len ? memchr(value.p + at, ',', value.len - at) :
		                                     NULL;
		size_t end = comma ? (size_t)(comma - value.p) : value.len, next = end + 1;
		while (at < end && value.p[at] == ' ') /* lists are joined by a comma and a space */
			at++;
		while (end > at && value.p[end - 1] == ' ')
			end--;
		struct str item = { value.p + at, end - at };
		if (crypto_base64_decode(item, bytes, sizeof bytes) < 0)
			return false;
		at = next;
	}
	return true;
}

int grpc_timeout(struct str value, uint64_t *ms_out)
{
	uint64_t v = 0;

	if (value.len < 2 || value.len > 9)
		return ERR_INVALID;
	for (size_t i = 0; i + 1 < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return ERR_INVALID;
		v = v * 10 + (uint64_t)(value.p[i] - '0');
	}
	switch (value.p[value.len - 1]) { /* at most 99999999 hours: no overflow */
	case 'H': v *= 3600000; break;
	case 'M': v *= 60000; break;
	case 'S': v *= 1000; break;
	case 'm': break;
	case 'u': v = (v + 999) / 1000; break;
	case 'n': v = (v + 999999) / 1000000; break;
	default: return ERR_INVALID;
	}
	*ms_out = v;
	return 0;
}

size_t grpc_message_encode(struct str text, char *out, size_t cap)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < text.len && n + 3 <= cap; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c >= 0x20 && c <= 0x7e && c != '%') {
			out[n++] = (char)c;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	return n;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_message_decode(struct str value, char *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < value.len && n + 1 < cap; i++) {
		int hi, lo;
		if (value.p[i] == '%' && i + 2 < value.len &&
		    (hi = hex_digit(value.p[i + 1])) >= 0 &&
		    (lo = hex_digit(value.p[i + 2])) >= 0 && (hi || lo)) {
			out[n++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			out[n++] = value.p[i] ? value.p[i] : '?';
		}
	}
	out[n] = 0;
}

static int decimal(struct str value, int max)
{
	int v = 0;

	if (value.len == 0 || value.len > 3 || (value.len > 1 && value.p[0] == '0'))
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return -1;
		v = v * 10 + value.p[i] - '0';
	}
	return v <= max ? v : -1;
}

int grpc_status_parse(struct str value)
{
	int v = decimal(value, 16);
	return v < 0 ? GRPC_UNKNOWN : v;
}

int grpc_status_of_http(struct str http_status)
{
	switch (decimal(http_status, 999)) {
	case 400: return GRPC_INTERNAL;
	case 401: return GRPC_UNAUTHENTICATED;
	case 403: return GRPC_PERMISSION_DENIED;
	case 404: return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504: return GRPC_UNAVAILABLE;
	case 431: return GRPC_INTERNAL;
	default: return GRPC_UNKNOWN;
	}
}

int grpc_status_of_rst(uint32_t h2_code)
{
	switch (h2_code) {
	case H2_REFUSED_STREAM: return GRPC_UNAVAILABLE;
	case H2_CANCEL: return GRPC_CANCELLED;
	case H2_ENHANCE_YOUR_CALM: return GRPC_RESOURCE_EXHAUSTED;
	case 12: /* INADEQUATE_SECURITY */ return GRPC_PERMISSION_DENIED;
	default: return GRPC_INTERNAL;
	}
}

enum close_why grpc_close_why(int status, const char *text)
{
	switch (status) {
	case GRPC_OK: return CLOSE_DONE;
	case GRPC_CANCELLED: return CLOSE_CANCELLED;
	case GRPC_INVALID_ARGUMENT: return CLOSE_INVALID;
	case GRPC_DEADLINE_EXCEEDED: return CLOSE_DEADLINE;
	case GRPC_PERMISSION_DENIED: return CLOSE_DENIED;
	case GRPC_RESOURCE_EXHAUSTED:
		return strncmp(text, "quota", 5) == 0   ? CLOSE_QUOTA :
		       strncmp(text, "tunnels", 7) == 0 ? CLOSE_TUNNELS :
		                                          CLOSE_UNAVAILABLE;
	case GRPC_FAILED_PRECONDITION: return CLOSE_ORDER;
	case GRPC_ABORTED:
		return strncmp(text, "superseded", 10) == 0 ? CLOSE_SUPERSEDED : CLOSE_UNAVAILABLE;
	case GRPC_UNIMPLEMENTED: return CLOSE_UNIMPLEMENTED;
	case GRPC_INTERNAL: return CLOSE_PROTOCOL;
	case GRPC_UNAVAILABLE:
		return strncmp(text, "several instances", 17) == 0 ? CLOSE_FIGHT :
		                                                     CLOSE_UNAVAILABLE;
	case GRPC_UNAUTHENTICATED: return CLOSE_UNAUTHENTICATED;
	default: return CLOSE_NOT_GRPC;
	}
}
