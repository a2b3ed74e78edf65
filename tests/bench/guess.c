/*
 * What a guesser could learn from the time of an answer (T15, A02): how long it takes to look up
 * a token whose id nobody has, and one with the id of a real token and a wrong secret, in turn.
 * Prints both means, their difference and Welch's t; over a network the difference drowns, and
 * ids are no secret: docs/TESTING.md says what to make of it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "server/accounts/accounts.h"

enum {
	ROUNDS = 12960 /* as many as the penalty box leaves a network in a day */,
	OUTLIER_NS = 100000,
	ACCOUNTS = 1000
};

struct sample {
	double n, mean, m2;
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* Welford; what an interrupt made long is left out. */
static void add(struct sample *s, double ns)
{
	if (ns > OUTLIER_NS)
		return;
	double d = ns - s->mean;
	s->mean += d / ++s->n;
	s->m2 += d * (ns - s->mean);
}

static double error_of(const struct sample *s) { return s->m2 / (s->n - 1) / s->n; }

static double ask(struct accounts *a, const char *token)
{
	struct identity who;
	double start = now_ns();

	accounts_authenticate(a, str_of(token), 1000, &who);
	return who.why == CLOSE_UNAUTHENTICATED ? now_ns() - start : NAN;
}

static char real[ACCOUNTS][TOKEN_LEN + 1];

static int open_with_accounts(const char *dir, struct accounts **a)
{
	char words[ACCOUNTS_ERROR_LEN], name[32];
	int rc = accounts_open(dir, a, words);

	if (rc == 0)
		rc = accounts_begin(*a, words);
	for (unsigned i = 0; i < ACCOUNTS && rc == 0; i++) {
		snprintf(name, sizeof name, "account-%u", i);
		rc = accounts_add(*a, name, NULL, words);
		rc = rc < 0 ? rc : accounts_token_new(*a, name, NULL, 0, real[i], words);
	}
	if (rc == 0)
		rc = accounts_commit(*a, words);
	if (rc < 0)
		fprintf(stderr, "%s\n", words);
	return rc;
}

int main(void)
{
	char dir[] = "/tmp/tunn-guess-XXXXXX", command[64];
	struct sample unknown = { 0 }, wrong = { 0 };
	struct accounts *a;

	if (crypto_start() < 0 || !mkdtemp(dir) || open_with_accounts(dir, &a) < 0)
		return 1;
	for (unsigned i = 0; i < ROUNDS; i++) {
		char guess[TOKEN_LEN + 1], half[TOKEN_LEN + 1];
		token_new(guess);
		memcpy(half, guess, sizeof half);
		memcpy((char *)token_id(str_of(half)).p,
		       token_id(str_of(real[crypto_random_below(ACCOUNTS)])).p, TOKEN_ID_LEN);
		for (unsigned k = 0; k < 2; k++) /* who is first changes */
			if ((i + k) % 2)
				add(&unknown, ask(a, guess));
			else
				add(&wrong, ask(a, half));
	}
	accounts_close(a);
	double t = (wrong.mean - unknown.mean) / sqrt(error_of(&wrong) + error_of(&unknown));
	printf("unknown id %.0f ns, wrong secret %.0f ns, difference %.0f ns, t %.1f, n %.0f\n",
	       unknown.mean, wrong.mean, wrong.mean - unknown.mean, t, unknown.n);
	snprintf(command, sizeof command, "rm -r %s", dir);
	return system(command) ? 1 : 0;
}
