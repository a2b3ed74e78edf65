#include "common/link_impl.h"

int link_on_request(void *owner, struct web *web, const struct web_request *q)
{
	struct link *l = owner;

	if (!l->events->request)
		return ERR_NOT_FOUND;
	int rc = l->events->request(l->owner, l, web, q);
	if (rc == 0) {
		web->up = l;
		list_add_tail(&l->webs, &web->node);
	}
	return rc;
}

static void forget(struct web *web)
{
	web->up = NULL;
	list_del(&web->node);
}

void link_on_unasked(void *owner, struct web *web)
{
	struct link *l = owner;

	forget(web);
	l->events->unasked(l->owner, web);
}

void link_on_exposed(void *owner, const char *token_id)
{
	struct link *l = owner;

	if (l->events->exposed)
		l->events->exposed(l->owner, l, token_id);
}

/* Before the transport goes, and they with it. */
void link_forget_webs(struct link *l, bool tell)
{
	list_each(it, tmp, &l->webs) {
		struct web *web = container_of(it, struct web, node);
		forget(web);
		if (tell)
			l->events->unasked(l->owner, web);
	}
}

void link_answer(struct web *web, const struct web_answer *a)
{
	struct link *l = web->up;

	forget(web); /* first: answer() frees it */
	if (l->state == LINK_DEAD)
		return;
	web->ops->answer(web, a);
	link_mark_dirty(l);
}
