/* The corpus of a fuzz target, each file again and again, the n-th allocation failing. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "tests/nomem/scene.h"

enum { FILES_MAX = 2000, FILE_LEN_MAX = 1 << 20, FOR_MS = 150 };

struct file {
	char name[300];
	uint8_t *data;
	size_t len;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct file files[FILES_MAX];
static struct scene scenes[FILES_MAX];

static void play(void *arg)
{
	const struct file *f = arg;

	scene_short_of_memory();
	LLVMFuzzerTestOneInput(f->data, f->len);
	scene_enough();
}

static void read_file(const char *dir, const char *name, struct file *f)
{
	char path[1024];

	snprintf(f->name, sizeof f->name, "%s", name);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *in = fopen(path, "rb");
	f->data = malloc(FILE_LEN_MAX);
	if (!in || !f->data)
		exit(1);
	f->len = fread(f->data, 1, FILE_LEN_MAX, in);
	f->data = realloc(f->data, f->len + 1);
	fclose(in);
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *e;
	unsigned n = 0;

	if (crypto_start() < 0)
		return 1;
	while (dir && n < FILES_MAX && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		read_file(argv[1], e->d_name, &files[n]);
		scenes[n] = (struct scene){ files[n].name, play, &files[n] };
		n++;
	}
	if (dir)
		closedir(dir);
	return n ? scenes_play(argv[1], scenes, n, FOR_MS) : 1;
}
