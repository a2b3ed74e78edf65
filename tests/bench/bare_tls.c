/*
 * The baseline of memory figures: a server that does nothing but hold TLS
 * connections, with OpenSSL's buffers released when idle.
 *
 *   bare_tls CERT KEY     prints `port N`, then `ready N` for each connection
 */
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>

static int listen_on_loopback(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -1;
	printf("port %u\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	unsigned n = 0;

	if (argc != 3 || !ctx || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1)
		return 1;
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	int fd = listen_on_loopback();
	if (fd < 0)
		return 1;
	for (;;) {
		int conn = accept(fd, NULL, NULL);
		SSL *ssl = SSL_new(ctx);
		if (conn < 0 || !ssl || SSL_set_fd(ssl, conn) != 1 || SSL_accept(ssl) != 1)
			return 1;
		printf("ready %u\n", ++n);
		fflush(stdout);
	}
}
