/*
 * Node keys (Curve25519) in every form that DERP and WireGuard software writes them:
 *
 *   privkey    privkey: and 64 hex digits         secret
 *   json       {"PrivateKey":"privkey:..."}       secret, the file of derper
 *   nodekey    nodekey: and 64 hex digits         public
 *   np         np and 32 bytes                    public
 *   hex        64 hex digits                      either
 *   wireguard  44 characters of base64            either
 *   raw        32 bytes                           either
 *
 * Read as the original reads: hex digits in either case, a secret whether clamped or not
 * (every use of it clamps, its public key is the same) and kept as it is. Refused: all
 * zeros, and a public key with bit 255 set, which is never canonical (and marks the keys
 * of named tunnels, product.md section 4). Any thread; files block.
 */
#ifndef TUNN_BASE_NODEKEY_H
#define TUNN_BASE_NODEKEY_H

#include <stdbool.h>

#include "common/base/bytes.h"
#include "common/base/key.h"

enum nodekey_form {
	NODEKEY_PRIVKEY,
	NODEKEY_JSON,
	NODEKEY_NODEKEY,
	NODEKEY_NP,
	NODEKEY_HEX,
	NODEKEY_WIREGUARD,
	NODEKEY_RAW,
	NODEKEY_FORM_N
};
enum nodekey_kind { NODEKEY_EITHER, NODEKEY_SECRET, NODEKEY_PUBLIC };

enum {
	NODEKEY_ERROR_LEN = 384,
	NODEKEY_WRITTEN_MAX = 128,
	NODEKEY_CONTENT_MAX = 4096, /* JSON may hold more than the key */
};

struct nodekey { /* wipe it after use, unless it is public */
	struct key key;
	enum nodekey_form form; /* as it was read */
	enum nodekey_kind kind; /* as was wanted, else as the form says: may be either */
};

const char *nodekey_form_name(enum nodekey_form);
int nodekey_form_of(const char *name, enum nodekey_form *form_out); /* 0 or ERR_INVALID */
enum nodekey_kind nodekey_kind_of(enum nodekey_form);               /* what the form says */
bool nodekey_form_is_binary(enum nodekey_form);

/* Finds out the form; blanks around text do not count. 0; ERR_INVALID (or -ENOMEM) with
 * what is wrong in words, which never contain the key. */
int nodekey_read(struct str content, enum nodekey_kind wanted, struct nodekey *key_out,
                 char error_out[static NODEKEY_ERROR_LEN]);
/* Length in out, which holds NODEKEY_WRITTEN_MAX (wipe it): text ends with a line break,
 * and a NUL stands behind everything. Or ERR_INVALID: the form says another kind than the
 * key has; -ENOMEM. */
int nodekey_write(const struct nodekey *, enum nodekey_form, char *out);

void nodekey_new(struct nodekey *secret_out);
/* The public key of a secret one, or of what may be one. */
void nodekey_public(const struct nodekey *secret, struct nodekey *public_out);

/* Path "-": standard input, at a terminal without showing it. A file is refused if others
 * may read it, unless it holds a public key and says so or is wanted to. 0 or negative
 * (ERR_INVALID, -errno) with words that name the path. */
int nodekey_read_file(const char *path, enum nodekey_kind wanted, struct nodekey *key_out,
                      char error_out[static NODEKEY_ERROR_LEN]);
/* A new file of mode 0600; -EEXIST rather than replacing one. Makes no directory. */
int nodekey_create_file(const char *path, const struct nodekey *, enum nodekey_form,
                        char error_out[static NODEKEY_ERROR_LEN]);
/* The secret of a program: of the file, or where there is none a new one, stored as
 * derper stores it (the directory is made too). Two that start at once get the same. */
int nodekey_load_or_create(const char *path, struct nodekey *secret_out, bool *created_out,
                           char error_out[static NODEKEY_ERROR_LEN]);

#endif
