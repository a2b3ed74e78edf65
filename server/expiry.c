#include "server/expiry.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"

enum { LOOK_MS = 60000, DAY_S = 86400 };

static const int warn_at_days[] = { 14, 7, 1, 0 };

/* Whole days, the last one being 0; negative: expired. */
static int64_t days_until(int64_t then_unix_s, int64_t now_unix_s)
{
	return then_unix_s < now_unix_s ? -1 : (then_unix_s - now_unix_s) / DAY_S;
}

static void warn(int64_t days)
{
	if (days < 0)
		log_error("the certificate has expired: new connections fail; renew it and send SIGHUP");
	else
		log_warn("the certificate expires in %lld day%s: renew it and send SIGHUP",
		         (long long)days, days == 1 ? "" : "s");
}

void expiry_look(struct expiry *e, int64_t now_unix_s)
{
	int64_t days = days_until(e->not_after_unix_s, now_unix_s);
	unsigned due = 0;

	while (due < sizeof warn_at_days / sizeof *warn_at_days && days < warn_at_days[due])
		due++;
	if (due > e->told)
		warn(days);
	e->told = due;
	metric_add(METRIC_CERT_DAYS_LEFT, days - e->days_told);
	e->days_told = days;
}

static void on_look(void *arg)
{
	struct expiry *e = arg;

	timer_set(e->timer, LOOK_MS);
	expiry_look(e, clock_unix_ms() / 1000);
}

int expiry_start(struct expiry *e, struct loop *loop)
{
	*e = (struct expiry){ .timer = timer_new(loop, on_look, e) };
	if (!e->timer)
		return -ENOMEM;
	timer_set(e->timer, LOOK_MS);
	return 0;
}

void expiry_stop(struct expiry *e)
{
	timer_free(e->timer);
	e->timer = NULL;
}

void expiry_of(struct expiry *e, int64_t not_after_unix_s)
{
	e->not_after_unix_s = not_after_unix_s;
	e->told = 0;
	expiry_look(e, clock_unix_ms() / 1000);
}
