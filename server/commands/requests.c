#include "server/commands/requests.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/table.h"
#include "server/commands/ask.h"

void requests_print(const struct json *answer)
{
	static const char *const head[] = { "CODE", "ADDRESS", "MACHINE", "ID", "AGE", NULL };
	static const char *const texts[] = { "code", "address", "host", "id" };
	struct table t;
	int64_t waiting = 0, n = 0;

	table_init(&t, head);
	for (struct json_walk w = json_walk(json_get(answer, "requests")); json_next(&w); n++) {
		int64_t age_s = 0;
		json_as_int(json_get(w.value, "age_s"), &age_s);
		for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
			table_add(&t, str_of(ask_text(w.value, texts[i]).s));
		table_addf(&t, "%" PRId64 "s", age_s);
	}
	table_print(&t, stdout);
	table_done(&t);
	json_as_int(json_get(answer, "waiting"), &waiting);
	if (waiting > n)
		printf("and %" PRId64 " more\n", waiting - n);
}

void requests_decided(const struct json *answer)
{
	const struct json *request = json_get(answer, "request");
	struct ask_text account = ask_text(answer, "account");

	fprintf(stderr, "tunn: login %s: machine %s at %s, tunnel id %s%s%s\n",
	        account.s[0] ? "approved" : "denied", ask_text(request, "host").s,
	        ask_text(request, "address").s, ask_text(request, "id").s,
	        account.s[0] ? ", account " : "", account.s);
}
