#include "server/requests.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/table.h"

struct shown {
	struct str code, address, host, id;
	int64_t age_s;
};

static struct shown read_back(const struct json *request)
{
	struct shown s = { STR(""), STR(""), STR(""), STR(""), 0 };

	json_as_text(json_get(request, "code"), &s.code);
	json_as_text(json_get(request, "address"), &s.address);
	json_as_text(json_get(request, "host"), &s.host);
	json_as_text(json_get(request, "id"), &s.id);
	json_as_int(json_get(request, "age_s"), &s.age_s);
	return s;
}

void requests_print(const struct json *answer)
{
	static const char *const head[] = { "CODE", "ADDRESS", "MACHINE", "ID", "AGE", NULL };
	struct table t;
	int64_t waiting = 0, n = 0;

	table_init(&t, head);
	for (struct json_walk w = json_walk(json_get(answer, "requests")); json_next(&w); n++) {
		struct shown s = read_back(w.value);
		table_add(&t, s.code);
		table_add(&t, s.address);
		table_add(&t, s.host);
		table_add(&t, s.id);
		table_addf(&t, "%" PRId64 "s", s.age_s);
	}
	table_print(&t, stdout);
	table_done(&t);
	json_as_int(json_get(answer, "waiting"), &waiting);
	if (waiting > n)
		printf("and %" PRId64 " more\n", waiting - n);
}

void requests_decided(const struct json *answer)
{
	struct shown s = read_back(json_get(answer, "request"));
	struct str account = STR("");
	bool approved = json_as_text(json_get(answer, "account"), &account) == JSON_READ;

	fprintf(stderr, "tunn: login %s: machine %.*s at %.*s, tunnel id %.*s",
	        approved ? "approved" : "denied", (int)s.host.len, s.host.p, (int)s.address.len,
	        s.address.p, (int)s.id.len, s.id.p);
	if (approved)
		fprintf(stderr, ", account %.*s", (int)account.len, account.p);
	fprintf(stderr, "\n");
}
