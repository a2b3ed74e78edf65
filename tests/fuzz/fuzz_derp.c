/* DERP frames of both roles, and the JSON of ClientInfo and ServerInfo: however a stream is
 * cut, its frames are the same; what is read and written again reads the same. The first
 * byte says which, the second where to cut. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/wire/derp.h"
#include "common/wire/derp_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef int checker(const struct framer *, uint8_t, uint32_t);

static void get_all(const struct frame *f)
{
	struct derp_present present;
	struct key a, b;
	struct str rest;
	uint32_t x, y;
	uint8_t reason;
	bool marked;

	if (derp_get_packet(f, &a, &rest) == 0)
		assert(rest.len == f->len - KEY_LEN);
	if (derp_get_forward(f, &a, &b, &rest) == 0)
		assert(rest.len == f->len - 2 * KEY_LEN);
	derp_get_client_info(f, &a, &rest);
	if (derp_get_flow(f, &a, &x, &rest) == 0)
		assert(rest.len == f->len - KEY_LEN - 4);
	derp_get_server_key(f, &a, &marked);
	derp_get_gone(f, &a, &reason);
	derp_get_restarting(f, &x, &y);
	if (derp_get_present(f, &present) == 0 && f->len == 51) {
		struct buf again = { 0 };
		if (derp_put_present(&again, &present) == 0)
			assert(memcmp(buf_data(&again) + FRAME_HEAD_LEN, f->p, f->len) == 0);
		buf_done(&again);
	}
}

static int read_all(checker *first, checker *then, const uint8_t *data, size_t len, size_t chunk,
                    struct buf *seen)
{
	struct framer framer = { .check = first };
	struct frame f;
	int rc = ERR_AGAIN;

	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		struct cursor in = cursor_of(data + at, len - at < chunk ? len - at : chunk);
		while ((rc = frame_next(&framer, &in, &f)) == 0) {
			get_all(&f);
			framer.check = then;
			if ((rc = derp_put(seen, (enum derp_type)f.kind, f.p, f.len)) < 0)
				break;
		}
	}
	framer_done(&framer);
	return rc;
}

static void streams(checker *first, checker *then, const uint8_t *data, size_t len, size_t chunk)
{
	struct buf whole = { 0 }, cut = { 0 };
	int a = read_all(first, then, data, len, len ? len : 1, &whole);
	int b = read_all(first, then, data, len, chunk, &cut);

	if (a != -ENOMEM && b != -ENOMEM) {
		assert(a == b && buf_len(&whole) == buf_len(&cut) && buf_len(&whole) <= len);
		assert(buf_len(&whole) == 0 ||
		       (memcmp(buf_data(&whole), buf_data(&cut), buf_len(&cut)) == 0 &&
		        memcmp(buf_data(&whole), data, buf_len(&whole)) == 0));
	}
	buf_done(&whole);
	buf_done(&cut);
}

static void client_info(const uint8_t *data, size_t len)
{
	struct derp_client_info a, b;
	struct derp_info_doc *doc, *again;
	struct buf text = { 0 };

	if (derp_client_info_read((struct str){ (const char *)data, len }, &a, &doc) < 0)
		return;
	if (derp_client_info_write(&a, &text) == 0 &&
	    derp_client_info_read((struct str){ (const char *)buf_data(&text), buf_len(&text) }, &b,
	                          &again) == 0) {
		assert(a.is_named == b.is_named && a.has_mesh_key == b.has_mesh_key &&
		       a.can_ack_pings == b.can_ack_pings);
		assert(!a.is_named || (str_eq(a.id, b.id) && str_eq(a.token, b.token) &&
		                       a.n_peers == b.n_peers && a.role == b.role));
		for (unsigned i = 0; a.is_named && i < a.n_peers; i++)
			assert(str_eq(a.peers[i], b.peers[i]));
		derp_info_free(again);
	}
	buf_done(&text);
	derp_info_free(doc);
}

static void server_info(const uint8_t *data, size_t len)
{
	struct derp_server_info a, b;
	struct derp_info_doc *doc, *again;
	struct buf text = { 0 };

	if (derp_server_info_read((struct str){ (const char *)data, len }, &a, &doc) < 0)
		return;
	if (derp_server_info_write(&a, &text) == 0 &&
	    derp_server_info_read((struct str){ (const char *)buf_data(&text), buf_len(&text) }, &b,
	                          &again) == 0) {
		assert(a.is_named == b.is_named && a.version == b.version);
		assert(!a.is_named || (str_eq(a.account, b.account) && a.n_keys == b.n_keys &&
		                       memcmp(a.keys, b.keys, a.n_keys * sizeof *a.keys) == 0));
		derp_info_free(again);
	}
	buf_done(&text);
	derp_info_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int started;

	if (!started) {
		started = crypto_start() == 0;
		json_start();
	}
	if (len < 2)
		return 0;
	size_t chunk = 1 + (size_t)data[1];
	switch (data[0] % 4) {
	case 0:
		streams(derp_check_first_of_client, derp_check_client, data + 2, len - 2, chunk);
		break;
	case 1:
		streams(derp_check_first_of_server, derp_check_server, data + 2, len - 2, chunk);
		break;
	case 2: client_info(data + 2, len - 2); break;
	default: server_info(data + 2, len - 2);
	}
	return 0;
}
