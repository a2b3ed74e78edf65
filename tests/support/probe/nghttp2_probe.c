/*
 * Does this nghttp2 abort when bytes follow nghttp2_session_terminate_session()
 * called from inside a callback (CVE-2026-27135)? Debian's 1.52.0-1+deb12u2
 * does, deb12u3 does not, and both say 1.52.0. The abort is replayed in a
 * child process. Exit 0: safe; 1: refuse to build.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	(void)arg;
	if (f->hd.type == NGHTTP2_PING)
		nghttp2_session_terminate_session(s, NGHTTP2_ENHANCE_YOUR_CALM);
	return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame_hd *hd, void *arg)
{
	(void)arg;
	if (hd->type == NGHTTP2_PRIORITY || hd->type == NGHTTP2_HEADERS || hd->type == 0x10 ||
	    hd->type == 0xa || hd->type == 0xc)
		nghttp2_session_terminate_session(s, NGHTTP2_NO_ERROR);
	return 0;
}

static void replay(const unsigned char *extra, size_t len)
{
	static const unsigned char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	                                     "\0\0\0\4\0\0\0\0\0"           /* SETTINGS */
	                                     "\0\0\10\6\0\0\0\0\0ABCDEFGH"; /* PING */
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	nghttp2_session *s;

	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_header);
	nghttp2_option_new(&opt);
	nghttp2_option_set_builtin_recv_extension_type(opt, NGHTTP2_ALTSVC);
	nghttp2_option_set_builtin_recv_extension_type(opt, NGHTTP2_ORIGIN);
	nghttp2_session_server_new2(&s, cb, NULL, opt);
	nghttp2_session_mem_recv(s, start, sizeof start - 1);
	nghttp2_session_mem_recv(s, extra, len);
	nghttp2_session_del(s);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
}

/* Frames that pass through the state nghttp2 had forgotten. */
static const unsigned char frames[][64] = {
	"\0\0\5\2\0\0\0\0\1\0\0\0\0\0",        /* PRIORITY */
	"\0\0\5\x10\0\0\0\0\0\0\0\0\0\0",      /* PRIORITY_UPDATE */
	"\0\0\4\xa\0\0\0\0\1\0\0\0\0",         /* ALTSVC */
	"\0\0\2\xc\0\0\0\0\0\0\0",             /* ORIGIN */
	"\0\0\1\1\4\0\0\0\1\x82",              /* HEADERS */
	"\0\0\1\0\0\0\0\0\1x",                 /* DATA */
	"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1",      /* SETTINGS */
	"\0\0\4\3\0\0\0\0\1\0\0\0\0",          /* RST_STREAM */
	"\0\0\4\x8\0\0\0\0\0\0\0\0\1",         /* WINDOW_UPDATE */
	"\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0", /* GOAWAY */
	"\0\0\1\x9\4\0\0\0\1\x82",             /* CONTINUATION */
	"\0\0\1\xfa\0\0\0\0\0x",               /* unknown */
};

int main(void)
{
	const struct rlimit no_core = { 0, 0 };

	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			setrlimit(RLIMIT_CORE, &no_core);
			if (!freopen("/dev/null", "w", stderr))
				_exit(2);
			for (size_t cut = 1; cut < 24; cut++)
				replay(frames[i], cut);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return 1;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			fprintf(stderr,
			        "This libnghttp2 can be aborted from afar (CVE-2026-27135).\n"
			        "On Debian 12 install libnghttp2-14 1.52.0-1+deb12u3 or later:\n"
			        "  apt-get update && apt-get install --only-upgrade libnghttp2-14\n");
			return 1;
		}
	}
	return 0;
}
