#include "server/admin/page.h"

#include "common/base/crypto.h"

enum { DIGEST_LEN = 16 };
_Static_assert(PAGE_ETAG_LEN == 2 * DIGEST_LEN + 3, "hex, two quotes and a NUL");

/* A file of the tree between two labels; paths are from the root, where make runs. */
#define EMBED(name, file)                                                                          \
	__asm__(".pushsection .rodata\n" #name "_begin:\n.incbin \"server/admin/page/" file        \
	        "\"\n" #name "_end:\n.byte 0\n.popsection\n");                                     \
	extern const char name##_begin[], name##_end[]

#define FILES(X)                                                                                   \
	X(page_html, "/", "index.html", "text/html; charset=utf-8")                                \
	X(page_css, "/page.css", "page.css", "text/css; charset=utf-8")                            \
	X(page_js, "/page.js", "page.js", "text/javascript; charset=utf-8")                        \
	X(page_api, "/api.js", "api.js", "text/javascript; charset=utf-8")                         \
	X(page_chart, "/chart.js", "chart.js", "text/javascript; charset=utf-8")                   \
	X(page_tables, "/tables.js", "tables.js", "text/javascript; charset=utf-8")                \
	X(page_words, "/words.js", "words.js", "text/javascript; charset=utf-8")

#define FILE_EMBED(name, path, file, type) EMBED(name, file);
FILES(FILE_EMBED)
#undef FILE_EMBED

static struct page_file files[] = {
#define FILE_ROW(name, path_, file, type_) { .path = path_, .type = type_ },
	FILES(FILE_ROW)
#undef FILE_ROW
};
enum { N_FILES = sizeof files / sizeof *files };

static void set_etag(struct page_file *f)
{
	uint8_t digest[DIGEST_LEN];

	crypto_digest(&f->body, 1, digest, sizeof digest);
	f->etag[0] = '"';
	hex_encode(digest, sizeof digest, f->etag + 1);
	f->etag[PAGE_ETAG_LEN - 2] = '"';
	f->etag[PAGE_ETAG_LEN - 1] = 0;
}

void page_start(void)
{
	static const char *const ends[][2] = {
#define FILE_ENDS(name, path, file, type) { name##_begin, name##_end },
		FILES(FILE_ENDS)
#undef FILE_ENDS
	};

	for (unsigned i = 0; i < N_FILES; i++) {
		files[i].body = (struct str){ ends[i][0], (size_t)(ends[i][1] - ends[i][0]) };
		set_etag(&files[i]);
	}
}

const struct page_file *page_find(struct str path)
{
	for (unsigned i = 0; i < N_FILES; i++)
		if (str_eq(path, str_of(files[i].path)))
			return &files[i];
	return NULL;
}

/* A list, `*`, weak marks: the weak comparison of RFC 9110 13.1.2. No tag has a comma. */
bool page_has(const struct page_file *f, struct str list)
{
	struct str tag = str_of(f->etag);

	if (str_eq(list, STR("*")))
		return true;
	for (size_t i = 0; i + tag.len <= list.len; i++)
		if (str_eq((struct str){ list.p + i, tag.len }, tag))
			return true;
	return false;
}
