/* Whose are the living blocks of a process? OWNERS=FILE with LD_PRELOAD: the file has a count of
 * bytes, the allocator's own included, for each of enum owner. A block is the library's that asked
 * for it, also when it did so through a function of the program; else the program's. */
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum owner { PROGRAM, OPENSSL, NGHTTP2, LIBEVENT, OWNERS };
enum { BLOCKS = 1 << 21, FRAMES = 6, HEAD = 8 /* glibc's, of each block */ };

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void free(void *p);

static struct range { /* of code */
	uintptr_t from, to;
	enum owner owner;
} ranges[OWNERS * 4];
static unsigned n_ranges;
static struct block {
	uintptr_t p; /* 0: never used; 1: free again */
	enum owner owner;
} * blocks;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool inside;
static atomic_llong *bytes;

static int add_range(struct dl_phdr_info *info, size_t size, void *arg)
{
	static const struct {
		const char *name;
		enum owner owner;
	} known[] = { { "libssl", OPENSSL },
		      { "libcrypto", OPENSSL },
		      { "libnghttp2", NGHTTP2 },
		      { "libevent", LIBEVENT } };

	(void)size, (void)arg;
	for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
		if (!strstr(info->dlpi_name, known[k].name) ||
		    n_ranges == sizeof ranges / sizeof *ranges)
			continue;
		for (int i = 0; i < info->dlpi_phnum; i++) {
			const ElfW(Phdr) *h = &info->dlpi_phdr[i];
			if (h->p_type == PT_LOAD && h->p_flags & PF_X)
				ranges[n_ranges++] = (struct range){ info->dlpi_addr + h->p_vaddr,
					                             info->dlpi_addr + h->p_vaddr +
					                                             h->p_memsz,
					                             known[k].owner };
		}
	}
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("OWNERS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *frames[FRAMES];

	if (fd < 0)
		return;
	dl_iterate_phdr(add_range, NULL);
	backtrace(frames, FRAMES); /* loads what it needs while files may be opened */
	blocks = mmap(NULL, BLOCKS * sizeof *blocks, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *shared = mmap(NULL, OWNERS * sizeof *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	                    0);
	close(fd);
	if (blocks == MAP_FAILED || shared == MAP_FAILED)
		abort();
	bytes = shared;
}

static enum owner owner_of(const void *address)
{
	for (unsigned i = 0; i < n_ranges; i++)
		if ((uintptr_t)address >= ranges[i].from && (uintptr_t)address < ranges[i].to)
			return ranges[i].owner;
	return PROGRAM;
}

/* Who asked: the caller, or who called the caller (the libraries' doors to our allocators). */
__attribute__((noinline)) static enum owner asker(void)
{
	enum { CALLER = 3 }; /* behind asker, note, and malloc */
	void *frames[FRAMES];
	int n = backtrace(frames, FRAMES);

	for (int i = CALLER; i < n && i < CALLER + 2; i++)
		if (owner_of(frames[i]) != PROGRAM)
			return owner_of(frames[i]);
	return PROGRAM;
}

static size_t hash(const void *p)
{
	return (size_t)((uintptr_t)p / 16 * UINT64_C(0x9e3779b97f4a7c15) >> 43) % BLOCKS;
}

__attribute__((noinline)) static void note(void *p)
{
	if (!p || !bytes || inside)
		return;
	inside = true;
	struct block b = { (uintptr_t)p, asker() };
	pthread_mutex_lock(&mutex);
	size_t i = hash(p);
	while (blocks[i].p > 1)
		i = (i + 1) % BLOCKS;
	blocks[i] = b;
	pthread_mutex_unlock(&mutex);
	atomic_fetch_add(&bytes[b.owner], (long long)malloc_usable_size(p) + HEAD);
	inside = false;
}

static void forget(void *p)
{
	if (!p || !bytes || inside)
		return;
	inside = true;
	pthread_mutex_lock(&mutex);
	size_t i = hash(p);
	while (blocks[i].p && blocks[i].p != (uintptr_t)p)
		i = (i + 1) % BLOCKS;
	if (blocks[i].p) { /* else it is older than we are */
		atomic_fetch_sub(&bytes[blocks[i].owner], (long long)malloc_usable_size(p) + HEAD);
		blocks[i].p = 1;
	}
	pthread_mutex_unlock(&mutex);
	inside = false;
}

void *malloc(size_t n)
{
	void *p = __libc_malloc(n);

	note(p);
	return p;
}

void *calloc(size_t n, size_t size)
{
	void *p = __libc_calloc(n, size);

	note(p);
	return p;
}

void *realloc(void *p, size_t n)
{
	forget(p); /* it stays ours when there is no memory: that is not measured */
	void *grown = __libc_realloc(p, n);

	note(grown);
	return grown;
}

void free(void *p)
{
	forget(p);
	__libc_free(p);
}
