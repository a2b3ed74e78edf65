#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/nodekey.h"

/* Puts the name before the words. */
static int blame(const char *path, int rc, const char *why, char *error_out)
{
	char words[NODEKEY_ERROR_LEN];

	snprintf(words, sizeof words, "%s", why);
	snprintf(error_out, NODEKEY_ERROR_LEN, "%.100s: %.250s",
	         strcmp(path, "-") == 0 ? "standard input" : path, words);
	return rc;
}

static int take_file(const char *path, char *text, size_t cap, bool *is_private_out,
                     char *error_out)
{
	const char *why;
	int fd = file_open(path, is_private_out, &why);

	if (fd < 0)
		return blame(path, fd, why, error_out);
	int len = file_read(fd, false, text, cap);
	close(fd);
	return len;
}

static int read_checked(const char *path, char *text, size_t cap, enum nodekey_kind wanted,
                        struct nodekey *k, char *error_out)
{
	bool is_private = true;
	int len;

	error_out[0] = 0;
	if (strcmp(path, "-") == 0)
		len = file_ask("key", text, cap);
	else
		len = take_file(path, text, cap, &is_private, error_out);
	if (len == ERR_TOO_BIG)
		return blame(path, ERR_INVALID, "it is far too long for a key", error_out);
	if (len < 0)
		return error_out[0] ? len : blame(path, len, err_text(len), error_out);
	int rc = nodekey_read((struct str){ text, (size_t)len }, wanted, k, error_out);
	if (rc < 0)
		return blame(path, rc, error_out, error_out);
	if (k->kind != NODEKEY_PUBLIC && !is_private)
		return blame(path, ERR_INVALID, FILE_IS_OPEN_TO_OTHERS, error_out);
	return 0;
}

int nodekey_read_file(const char *path, enum nodekey_kind wanted, struct nodekey *key_out,
                      char error_out[static NODEKEY_ERROR_LEN])
{
	char text[NODEKEY_CONTENT_MAX + 1];
	struct nodekey k;
	int rc = read_checked(path, text, sizeof text, wanted, &k, error_out);

	if (rc == 0)
		*key_out = k;
	crypto_wipe(text, sizeof text);
	crypto_wipe(&k, sizeof k);
	return rc;
}

int nodekey_create_file(const char *path, const struct nodekey *k, enum nodekey_form form,
                        char error_out[static NODEKEY_ERROR_LEN])
{
	char text[NODEKEY_WRITTEN_MAX];
	int n = nodekey_write(k, form, text);
	int rc = n < 0 ? n : file_create(path, (struct str){ text, (size_t)n });

	crypto_wipe(text, sizeof text);
	if (rc == -EEXIST)
		return blame(path, rc, "it exists and is not replaced", error_out);
	return rc < 0 ? blame(path, rc, err_text(rc), error_out) : 0;
}

static int make_dir_of(const char *path, char *error_out)
{
	const char *slash = strrchr(path, '/');
	char dir[1024];

	if (!slash || slash == path)
		return 0;
	if ((size_t)(slash - path) >= sizeof dir)
		return blame(path, -ENAMETOOLONG, err_text(-ENAMETOOLONG), error_out);
	snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
	int rc = file_make_dir(dir);
	return rc < 0 ? blame(dir, rc, err_text(rc), error_out) : 0;
}

int nodekey_load_or_create(const char *path, struct nodekey *secret_out, bool *created_out,
                           char error_out[static NODEKEY_ERROR_LEN])
{
	struct nodekey k;

	*created_out = false;
	int rc = nodekey_read_file(path, NODEKEY_SECRET, secret_out, error_out);
	if (rc != -ENOENT)
		return rc;
	rc = make_dir_of(path, error_out);
	if (rc < 0)
		return rc;
	nodekey_new(&k);
	rc = nodekey_create_file(path, &k, NODEKEY_JSON, error_out);
	if (rc == 0) {
		*secret_out = k;
		*created_out = true;
	}
	crypto_wipe(&k, sizeof k);
	if (rc == -EEXIST) /* somebody else was first */
		rc = nodekey_read_file(path, NODEKEY_SECRET, secret_out, error_out);
	return rc;
}
