/*
 * Replays every file of the directories named: what fuzzing found stays found. Where
 * a target has a mutator of its own, each file is mutated some times too.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
                __attribute__((weak));

enum { MUTATIONS = 20, CAP = 1 << 16 };

static void mutate(const uint8_t *data, size_t len)
{
	static uint8_t work[CAP];

	if (!LLVMFuzzerCustomMutator || len > CAP)
		return;
	memcpy(work, data, len);
	for (unsigned seed = 1; seed <= MUTATIONS; seed++) {
		len = LLVMFuzzerCustomMutator(work, len, CAP, seed);
		uint8_t *copy = malloc(len ? len : 1);
		memcpy(copy, work, len);
		LLVMFuzzerTestOneInput(copy, len);
		free(copy);
	}
}

static int replay(const char *dir, const char *name)
{
	char path[1024];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "rb");
	static uint8_t data[1 << 20];

	if (!f)
		return 0;
	size_t n = fread(data, 1, sizeof data, f);
	fclose(f);
	/* An exact copy on the heap, so that a sanitizer sees one byte too many. */
	uint8_t *copy = malloc(n ? n : 1);
	for (size_t i = 0; i < n; i++)
		copy[i] = data[i];
	LLVMFuzzerTestOneInput(copy, n);
	mutate(copy, n);
	free(copy);
	return 1;
}

int main(int argc, char **argv)
{
	int n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		struct dirent *e;
		while (d && (e = readdir(d)) != NULL)
			if (e->d_name[0] != '.')
				n += replay(argv[i], e->d_name);
		if (d)
			closedir(d);
	}
	printf("%s: replayed %d inputs\n", argv[0], n);
	return n ? 0 : 1;
}
