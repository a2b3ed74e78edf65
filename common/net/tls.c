#include "common/net/tls_impl.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "common/base/bytes.h"
#include "common/base/den.h"
#include "common/base/err.h"
#include "common/base/words.h"
#include "common/net/tls_meta.h"

/* A registration is at most one gRPC message with its frames. */
enum { EARLY_BYTES = 128 * 1024 };
/* Of the blocks of a connection only its SSL is as large as this before it has a record
 * to read or write; in 3.0 it has 7.6 kB, mostly zeros. */
enum { DEN_BYTES = 8192, LARGE = 4096 };
enum { RECORD_BLOCK = 16896, SPARES_MAX = 16 };

struct tls {
	struct tls_ctx *ctx;
	SSL *ssl;          /* by awake() */
	struct den den;    /* its memory */
	const uint8_t *in; /* fed and not yet read: borrowed */
	size_t in_len;
	struct buf *out;   /* during a call */
	bool secured;      /* the handshake is over, the peer is who it must be */
	bool is_untrusted; /* its certificate was refused */
	unsigned n_late;
	size_t early_left; /* bytes to read that are wiped behind the reader */
	struct words error;
};

/* ---- the library's memory ---- */

static _Thread_local struct den *den; /* of the connection that is being made or freed */

/* With SSL_MODE_RELEASE_BUFFERS the library wants a buffer for each record and gives it
 * back behind it. Those of a thread go round here. */
struct spare {
	struct spare *next;
};
static _Thread_local struct spare *spare;
static _Thread_local unsigned n_spare;

static bool is_record(size_t n) { return n > TLS_RECORD_MAX && n <= RECORD_BLOCK; }

static void *record_take(void)
{
	struct spare *s = spare;

	if (!s)
		return malloc(RECORD_BLOCK);
	spare = s->next;
	n_spare--;
	return s;
}

/* False: not one, or there are enough. */
static bool record_give(void *p)
{
	struct spare *s = p;
	size_t n = n_spare < SPARES_MAX && p ? malloc_usable_size(p) : 0;

	if (n < RECORD_BLOCK || n >= RECORD_BLOCK + 64)
		return false;
	s->next = spare;
	spare = s;
	n_spare++;
	return true;
}

void tls_thread_done(void)
{
	struct spare *next;

	for (; spare; spare = next) {
		next = spare->next;
		free(spare);
	}
	n_spare = 0;
}

static void *mem_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	void *p = den && n >= LARGE ? den_take(den, n) : NULL;
	return p || n == 0 ? p : is_record(n) ? record_take() : malloc(n);
}

static void mem_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	if ((!den || !den_has(den, p)) && !record_give(p))
		free(p);
}

static void *mem_realloc(void *p, size_t n, const char *file, int line)
{
	if (!p)
		return mem_malloc(n, file, line);
	assert(!den || !den_has(den, p)); /* nobody makes an SSL longer */
	if (n)
		return realloc(p, n);
	free(p);
	return NULL;
}

bool tls_take_memory(void)
{
	CRYPTO_malloc_fn took;
	CRYPTO_realloc_fn more;
	CRYPTO_free_fn gave;

	CRYPTO_get_mem_functions(&took, &more, &gave);
	return took == mem_malloc ||
	       (took == CRYPTO_malloc &&
	        CRYPTO_set_mem_functions(mem_malloc, mem_realloc, mem_free) == 1);
}

static SSL *awake(const struct tls *t)
{
	den_wake((struct den *)(uintptr_t)&t->den);
	return t->ssl;
}

SSL *tls_ssl(const struct tls *t) { return awake(t); }

/* ---- our own BIO: reads what was fed, writes into a buf ---- */

static int bio_write(BIO *bio, const char *data, int len)
{
	struct tls *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (len <= 0 || !t->out || buf_add(t->out, data, (size_t)len) < 0)
		return -1;
	return len;
}

static int bio_read(BIO *bio, char *to, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = t->in_len < (size_t)len ? t->in_len : (size_t)len;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(to, t->in, n);
	t->in += n;
	t->in_len -= n;
	return (int)n;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio, (void)num, (void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method; /* made once, shared by all threads */
static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;

static void make_method(void)
{
	method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "tunn memory");
	if (!method)
		return;
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_ctrl(method, bio_ctrl);
}

static BIO_METHOD *bio_method(void)
{
	CRYPTO_THREAD_run_once(&method_once, make_method);
	return method;
}

/* ---- life ---- */

static bool is_ip(const char *name)
{
	unsigned char bin[16];
	return inet_pton(AF_INET, name, bin) == 1 || inet_pton(AF_INET6, name, bin) == 1;
}

static bool set_verified(struct tls *t, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(awake(t));

	if (is_ip(name))
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
}

static bool set_name(struct tls *t, const char *name)
{
	/* RFC 6066 section 3: addresses are not sent */
	return set_verified(t, t->ctx->verify_name ? t->ctx->verify_name : name) &&
	       (is_ip(name) || SSL_set_tlsext_host_name(awake(t), name) == 1);
}

static void on_message(int written, int version, int type, const void *data, size_t len, SSL *ssl,
                       void *arg)
{
	struct tls *t = arg;

	(void)version, (void)data, (void)len, (void)ssl;
	if (!written && type == SSL3_RT_HANDSHAKE && t->secured)
		t->n_late++;
}

int tls_new(struct tls_ctx *ctx, const char *server_name, struct tls **tls_out)
{
	struct tls *t = calloc(1, sizeof *t);
	BIO *bio = NULL;

	if (!t)
		return -ENOMEM;
	t->ctx = tls_ctx_ref(ctx);
	t->den.cap = DEN_BYTES;
	den = &t->den;
	t->ssl = SSL_new(ctx->ssl);
	den = NULL;
	if (t->ssl && bio_method())
		bio = BIO_new(bio_method());
	if (!bio || (server_name && !set_name(t, server_name)) || !SSL_set_app_data(awake(t), t)) {
		BIO_free(bio);
		tls_free(t);
		ERR_clear_error();
		return -ENOMEM;
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(awake(t), bio, bio);
	SSL_set_msg_callback(awake(t), on_message);
	SSL_set_msg_callback_arg(awake(t), t);
	if (ctx->server) {
		SSL_set_accept_state(awake(t));
		SSL_set_options(awake(t), SSL_OP_CLEANSE_PLAINTEXT);
		t->early_left = EARLY_BYTES;
	}
	if (!ctx->server)
		SSL_set_connect_state(awake(t));
	*tls_out = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL *ssl = awake(t);
	den = &t->den;
	SSL_free(ssl);
	den = NULL;
	den_done(&t->den);
	words_done(&t->error);
	tls_ctx_unref(t->ctx);
	free(t);
}

/* ---- errors in words ---- */

void tls_common_name(const X509_NAME *name, char *out, size_t cap)
{
	if (!name || X509_NAME_get_text_by_NID((X509_NAME *)(uintptr_t)name, NID_commonName, out,
	                                       (int)cap) <= 0)
		snprintf(out, cap, "?");
}

static void explain_chain(struct tls *t, X509 *cert, int verify)
{
	char subject[48], issuer[48], what[512];
	const char *wanted = verify == X509_V_ERR_HOSTNAME_MISMATCH ?
	                                     X509_VERIFY_PARAM_get0_host(SSL_get0_param(awake(t)),
	                                                                 0) :
	                                     NULL;

	tls_common_name(cert ? X509_get_subject_name(cert) : NULL, subject, sizeof subject);
	tls_common_name(cert ? X509_get_issuer_name(cert) : NULL, issuer, sizeof issuer);
	snprintf(what, sizeof what, "certificate of %s issued by %s not trusted: %s%s%s", subject,
	         issuer, X509_verify_cert_error_string(verify), wanted ? ", wanted " : "",
	         wanted ? wanted : "");
	if (t->ctx->ca_option)
		words_say(&t->error, "%s; %s FILE names authorities to trust", what,
		          t->ctx->ca_option);
	else
		words_say(&t->error,
		          "%s; a private relay needs --pin sha256:HEX (it prints it) or --ca FILE; "
		          "where TLS is intercepted by %s, use --ca with its certificate",
		          what, issuer);
}

/* OpenSSL forgets the certificate it refuses: its names are taken here. */
int tls_on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);

	t->is_untrusted |= !ok;
	if (!ok && !words_said(&t->error))
		explain_chain(t, X509_STORE_CTX_get0_cert(store), X509_STORE_CTX_get_error(store));
	return ok;
}

static int failed(struct tls *t)
{
	unsigned long err = ERR_peek_error();
	const char *reason = ERR_reason_error_string(err);

	if (!words_said(&t->error) && !t->ctx->server &&
	    ERR_GET_REASON(err) == SSL_R_TLSV1_ALERT_UNKNOWN_CA)
		words_say(&t->error,
		          "TLS is intercepted on the way, by a box that does not trust the relay's "
		          "certificate itself (alert unknown_ca)");
	if (!words_said(&t->error))
		words_say(&t->error, "TLS: %s", reason ? reason : "connection failed");
	ERR_clear_error();
	return t->is_untrusted ? ERR_UNTRUSTED : ERR_TLS;
}

/* ---- records ---- */

int tls_handshake(struct tls *t, struct buf *out)
{
	t->out = out;
	ERR_clear_error();
	int rc = SSL_do_handshake(awake(t));
	int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(awake(t), rc);
	if (why == SSL_ERROR_WANT_READ)
		rc = ERR_AGAIN;
	else if (why != SSL_ERROR_NONE)
		rc = failed(t);
	else
		rc = t->secured ? 0 : tls_check_pins(t->ctx, awake(t), &t->error);
	t->secured = rc == 0;
	t->out = NULL;
	return rc;
}

const char *tls_alpn(const struct tls *t)
{
	static _Thread_local char name[32];
	const unsigned char *p;
	unsigned len;

	SSL_get0_alpn_selected(awake(t), &p, &len);
	if (len >= sizeof name)
		len = 0;
	if (len)
		memcpy(name, p, len);
	name[len] = 0;
	return name;
}

bool tls_peer_derp_key(const struct tls *t, uint8_t key_out[static 32])
{
	/* As the original: only where certificates travel encrypted. */
	return t->secured && SSL_version(awake(t)) >= TLS1_3_VERSION &&
	       tls_meta_find(SSL_get_peer_cert_chain(awake(t)), key_out);
}

void tls_feed(struct tls *t, const uint8_t *data, size_t len)
{
	assert(t->in_len == 0); /* the reader goes on until ERR_AGAIN: nothing is left over */
	t->in = data;
	t->in_len = len;
}

/* What comes early has secrets; later ones of the library's copies are not wiped. */
static void note_read(struct tls *t, size_t n)
{
	if (t->early_left == 0)
		return;
	t->early_left -= n < t->early_left ? n : t->early_left;
	if (t->early_left == 0)
		SSL_clear_options(awake(t), SSL_OP_CLEANSE_PLAINTEXT);
}

int tls_read(struct tls *t, uint8_t *dst, size_t cap, struct buf *out)
{
	size_t n;

	if (t->in_len == 0 && t->secured && !SSL_has_pending(awake(t)))
		return ERR_AGAIN; /* it would find out, but not as cheaply */
	t->out = out;
	int rc = SSL_read_ex(awake(t), dst, cap, &n);
	if (rc == 1) {
		t->out = NULL;
		note_read(t, n);
		return (int)n;
	}
	switch (SSL_get_error(awake(t), rc)) {
	case SSL_ERROR_WANT_READ: rc = ERR_AGAIN; break;
	case SSL_ERROR_ZERO_RETURN: rc = ERR_CLOSED; break;
	default: rc = failed(t); break;
	}
	t->out = NULL;
	return rc;
}

bool tls_is_early(const struct tls *t) { return t->early_left > 0; }
unsigned tls_late_messages(const struct tls *t) { return t->n_late; }

int tls_write(struct tls *t, const uint8_t *data, size_t len, struct buf *out)
{
	int rc = 0;

	t->out = out;
	while (len && rc == 0) {
		size_t n = len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX, written;
		if (SSL_write_ex(awake(t), data, n, &written) != 1) {
			rc = failed(t);
			break;
		}
		data += written;
		len -= written;
	}
	t->out = NULL;
	return rc;
}

void tls_shutdown(struct tls *t, struct buf *out)
{
	t->out = out;
	if (!SSL_in_init(awake(t)))
		SSL_shutdown(awake(t));
	ERR_clear_error();
	t->out = NULL;
}

void tls_nap(struct tls *t) { den_sleep(&t->den); }

const char *tls_error_text(const struct tls *t) { return words_text(&t->error); }
const char *tls_cipher(const struct tls *t) { return SSL_get_cipher_name(awake(t)); }
const char *tls_version(void) { return OpenSSL_version(OPENSSL_VERSION_STRING); }
