#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/base/err.h"
#include "common/base/sandbox.h"

enum { SERVER = SANDBOX_FILES, CLIENT = SANDBOX_SOCKETS | SANDBOX_THREADS | SANDBOX_NSS };

/* What became of a child that entered the sandbox and then did `act`: the exit code, or
 * minus the signal. 77: no filter here. */
static int fate_of(int (*act)(void), enum sandbox_mode mode, unsigned needs)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int rc = sandbox_enter(mode, needs);
		_exit(rc == -ENOSYS ? 77 : rc < 0 ? 99 : act());
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static bool has_filter(void)
{
#ifdef TUNN_SANITIZED
	return false;
#else
	return true;
#endif
}

/* A sanitizer build has no filter, and says so. */
#define assert_killed(act, needs)                                                                  \
	assert_int_equal(fate_of(act, SANDBOX_KILL, needs), has_filter() ? -SIGSYS : 77)
#define assert_fate(act, needs, expected)                                                          \
	assert_int_equal(fate_of(act, SANDBOX_KILL, needs), has_filter() ? (expected) : 77)

static int run_a_program(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	execv("/bin/true", argv);
	return 1;
}

static int make_a_process(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return 1;
}

static int look_into_another(void) { return ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0; }

static int open_socket(int domain, int type)
{
	int fd = socket(domain, type, 0);
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static int open_raw(void) { return open_socket(AF_PACKET, SOCK_RAW); }
static int open_tcp(void) { return open_socket(AF_INET6, SOCK_STREAM); }
static int open_netlink(void) { return open_socket(AF_NETLINK, SOCK_RAW); }

static int map(int prot)
{
	void *p = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p != MAP_FAILED ? 0 : errno == EPERM ? 2 : 1;
}

static int map_data(void) { return map(PROT_READ | PROT_WRITE); }
static int map_code(void) { return map(PROT_READ | PROT_WRITE | PROT_EXEC); }

static int make_code_of_data(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 ? 0 : errno == EPERM ? 2 : 1;
}

static char written[300];

static int write_a_file(void) { return open(written, O_WRONLY | O_CREAT, 0600) < 0; }
static int truncate_a_file(void) { return open("/dev/null", O_RDONLY | O_TRUNC) < 0; }
static int read_a_file(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC) < 0; }

static int ask_a_limit(void) { return sysconf(_SC_OPEN_MAX) < 1; }
static int set_a_limit(void)
{
	struct rlimit none = { 0, 0 };
	return setrlimit(RLIMIT_NOFILE, &none) == 0;
}

static int signal_another(void) { return kill(getppid(), 0) != 0; }

static void *look_up_a_name(void *arg)
{
	struct addrinfo *list;

	(void)arg;
	if (getaddrinfo("localhost", NULL, NULL, &list) != 0)
		return (void *)look_up_a_name;
	freeaddrinfo(list);
	return NULL;
}

static int resolve_on_a_thread(void)
{
	pthread_t thread;
	void *answer;

	if (pthread_create(&thread, NULL, look_up_a_name, NULL) != 0)
		return 1;
	pthread_join(thread, &answer);
	return answer != NULL;
}

static void T39_what_an_intruder_wants_kills_the_process(void **state)
{
	static int (*const acts[])(void) = { run_a_program, make_a_process,  look_into_another,
		                             open_raw,      truncate_a_file, signal_another,
		                             set_a_limit };

	(void)state;
	snprintf(written, sizeof written, "%s", file_path("written"));
	for (unsigned i = 0; i < sizeof acts / sizeof *acts; i++)
		if (acts[i] != truncate_a_file)
			assert_killed(acts[i], SERVER);
	for (unsigned i = 0; i < sizeof acts / sizeof *acts; i++)
		assert_killed(acts[i], CLIENT);
}

static void T39_no_page_becomes_code(void **state)
{
	(void)state;
	assert_killed(map_code, SERVER);
	assert_killed(make_code_of_data, SERVER);
	assert_fate(map_code, CLIENT, 2); /* a module of the name service fails, nobody dies */
	assert_fate(make_code_of_data, CLIENT, 2);
	assert_fate(map_data, SERVER, 0);
	assert_fate(map_data, CLIENT, 0);
}

static void each_gets_what_it_needs_and_not_what_the_other_needs(void **state)
{
	(void)state;
	snprintf(written, sizeof written, "%s", file_path("written"));
	assert_fate(open_tcp, CLIENT, 0);
	assert_fate(open_netlink, CLIENT, 0);
	assert_fate(resolve_on_a_thread, CLIENT, 0);
	assert_fate(read_a_file, CLIENT, 0);
	assert_killed(write_a_file, CLIENT);
	assert_fate(write_a_file, SERVER, 0);
	assert_fate(read_a_file, SERVER, 0);
	assert_fate(ask_a_limit, SERVER, 0);
	assert_fate(ask_a_limit, CLIENT, 0);
	assert_killed(open_tcp, SERVER);
	assert_killed(resolve_on_a_thread, SERVER);
}

static void *run_a_program_when_told(void *arg)
{
	char c;

	if (read(*(int *)arg, &c, 1) == 1)
		run_a_program();
	return NULL;
}

static void the_filter_reaches_threads_that_run_already(void **state)
{
	int status, pipe_fd[2];
	pthread_t thread;

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (pthread_create(&thread, NULL, run_a_program_when_told, pipe_fd) != 0)
			_exit(98);
		if (sandbox_enter(SANDBOX_KILL, CLIENT) == -ENOSYS)
			_exit(77);
		if (write(pipe_fd[1], "", 1) == 1)
			pthread_join(thread, NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(has_filter() ? WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS :
	                           WIFEXITED(status) && WEXITSTATUS(status) == 77);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

static void log_and_off_let_everything_pass(void **state)
{
	(void)state;
	assert_int_equal(fate_of(run_a_program, SANDBOX_OFF, CLIENT), 0);
	assert_int_equal(fate_of(run_a_program, SANDBOX_LOG, SERVER), has_filter() ? 0 : 77);
}

static void modes_have_names(void **state)
{
	enum sandbox_mode m;

	(void)state;
	assert_int_equal(sandbox_mode_of("kill", &m), 0);
	assert_int_equal(m, SANDBOX_KILL);
	assert_int_equal(sandbox_mode_of("log", &m), 0);
	assert_int_equal(m, SANDBOX_LOG);
	assert_int_equal(sandbox_mode_of("off", &m), 0);
	assert_int_equal(m, SANDBOX_OFF);
	assert_int_equal(sandbox_mode_of("on", &m), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(T39_what_an_intruder_wants_kills_the_process),
		cmocka_unit_test(T39_no_page_becomes_code),
		cmocka_unit_test(each_gets_what_it_needs_and_not_what_the_other_needs),
		cmocka_unit_test(the_filter_reaches_threads_that_run_already),
		cmocka_unit_test(log_and_off_let_everything_pass),
		cmocka_unit_test(modes_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
