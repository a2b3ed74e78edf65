#include "common/net/route.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { SETTLE_MS = 200, ANSWER_LEN = 16384 };

/* ---- asking ---- */

struct request {
	struct nlmsghdr head;
	union {
		struct rtmsg route;
		struct ifinfomsg link;
	} body;
	uint8_t attrs[64];
};

static void add_attr(struct request *r, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (void *)((uint8_t *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = (unsigned)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

/* One request, one answer into `answer`. Its length or -errno. */
static int ask(const struct request *r, uint8_t *answer, size_t cap)
{
	struct timeval limit = { .tv_sec = 1 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	rc = send(fd, r, r->head.nlmsg_len, 0) < 0 ? -1 : (int)recv(fd, answer, cap, 0);
	if (rc < 0)
		rc = -errno;
	close(fd);
	if (rc >= 0 && !NLMSG_OK((struct nlmsghdr *)(void *)answer, (unsigned)rc))
		return -EIO;
	if (rc >= 0 && ((struct nlmsghdr *)(void *)answer)->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA((struct nlmsghdr *)(void *)answer);
		return e->error ? e->error : -EIO;
	}
	return rc;
}

/* ---- devices ---- */

static bool kind_is_tunnel(const struct rtattr *linkinfo)
{
	int len = (int)RTA_PAYLOAD(linkinfo);

	for (const struct rtattr *a = RTA_DATA(linkinfo); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		const char *kind = RTA_DATA(a);
		size_t n = RTA_PAYLOAD(a);
		if (a->rta_type == IFLA_INFO_KIND &&
		    ((n >= 9 && memcmp(kind, "wireguard", 9) == 0) ||
		     (n >= 3 && memcmp(kind, "tun", 3) == 0)))
			return true;
	}
	return false;
}

static int read_link(const uint8_t *answer, int len, struct route_info *info)
{
	const struct nlmsghdr *h = (const void *)answer;
	const struct ifinfomsg *link = NLMSG_DATA(h);
	int left = len - (int)NLMSG_LENGTH(sizeof *link);

	if (h->nlmsg_type != RTM_NEWLINK || left < 0)
		return -EIO;
	info->if_index = link->ifi_index;
	info->is_tunnel = link->ifi_type == ARPHRD_NONE || link->ifi_type == ARPHRD_TUNNEL;
	for (const struct rtattr *a = IFLA_RTA(link); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			strncpy(info->device, RTA_DATA(a), sizeof info->device - 1);
		else if (a->rta_type == IFLA_LINKINFO && kind_is_tunnel(a))
			info->is_tunnel = true;
	}
	return 0;
}

static int ask_link(int index, const char *name, struct route_info *info)
{
	uint8_t answer[ANSWER_LEN] __attribute__((aligned(8)));
	struct request r = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof r.body.link),
		                       .nlmsg_type = RTM_GETLINK,
		                       .nlmsg_flags = NLM_F_REQUEST } };

	r.body.link.ifi_index = index;
	if (name)
		add_attr(&r, IFLA_IFNAME, name, strlen(name) + 1);
	int n = ask(&r, answer, sizeof answer);
	return n < 0 ? n : read_link(answer, n, info);
}

int route_device(const char *name, struct route_info *info_out)
{
	struct route_info info = { 0 };

	if (strlen(name) >= ROUTE_DEVICE_LEN)
		return -ENODEV;
	int rc = ask_link(0, name, &info);
	if (rc == 0)
		*info_out = info;
	return rc;
}

/* ---- routes ---- */

static const void *ip_of(const struct addr *a, size_t *len_out)
{
	if (a->ss.ss_family == AF_INET6) {
		*len_out = 16;
		return &((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_addr;
	}
	*len_out = 4;
	return &((const struct sockaddr_in *)(const void *)&a->ss)->sin_addr;
}

static void take_source(struct route_info *info, int family, const struct rtattr *a)
{
	info->source.ss.ss_family = (sa_family_t)family;
	if (family == AF_INET6) {
		info->source.len = sizeof(struct sockaddr_in6);
		memcpy(&((struct sockaddr_in6 *)(void *)&info->source.ss)->sin6_addr, RTA_DATA(a),
		       16);
	} else {
		info->source.len = sizeof(struct sockaddr_in);
		memcpy(&((struct sockaddr_in *)(void *)&info->source.ss)->sin_addr, RTA_DATA(a), 4);
	}
}

static int read_route(const uint8_t *answer, int len, struct route_info *info)
{
	const struct nlmsghdr *h = (const void *)answer;
	const struct rtmsg *route = NLMSG_DATA(h);
	int left = len - (int)NLMSG_LENGTH(sizeof *route);

	if (h->nlmsg_type != RTM_NEWROUTE || left < 0)
		return -EIO;
	for (const struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_OIF)
			memcpy(&info->if_index, RTA_DATA(a), sizeof info->if_index);
		else if (a->rta_type == RTA_PREFSRC)
			take_source(info, route->rtm_family, a);
	}
	return info->if_index ? 0 : -ENETUNREACH;
}

int route_lookup(const struct addr *dst, uint32_t fwmark, struct route_info *info_out)
{
	uint8_t answer[ANSWER_LEN] __attribute__((aligned(8)));
	struct route_info info = { 0 };
	struct request r = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof r.body.route),
		                       .nlmsg_type = RTM_GETROUTE,
		                       .nlmsg_flags = NLM_F_REQUEST } };
	size_t len;
	const void *ip = ip_of(dst, &len);

	r.body.route.rtm_family = (unsigned char)dst->ss.ss_family;
	r.body.route.rtm_dst_len = (unsigned char)(8 * len);
	add_attr(&r, RTA_DST, ip, len);
	if (fwmark)
		add_attr(&r, RTA_MARK, &fwmark, sizeof fwmark);
	int n = ask(&r, answer, sizeof answer);
	if (n >= 0)
		n = read_route(answer, n, &info);
	if (n >= 0)
		n = ask_link(info.if_index, NULL, &info);
	if (n >= 0)
		*info_out = info;
	return n < 0 ? n : 0;
}

/* ---- watching ---- */

struct route_watch {
	int fd;
	struct watch *watch;
	struct timer *settle;
	void (*changed)(void *owner);
	void *owner;
};

static void on_settled(void *arg)
{
	struct route_watch *w = arg;
	w->changed(w->owner);
}

/* What changed does not matter: everybody asks anew. */
static void on_news(void *arg, unsigned what)
{
	struct route_watch *w = arg;
	uint8_t ignored[ANSWER_LEN];

	(void)what;
	while (recv(w->fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
		;
	if (!timer_is_set(w->settle))
		timer_set(w->settle, SETTLE_MS);
}

static int open_news(void)
{
	static const int more[] = { RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE };
	struct sockaddr_nl sa = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
		             RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		int rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	for (size_t i = 0; i < sizeof more / sizeof *more; i++)
		setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &more[i], sizeof more[i]);
	return fd;
}

int route_watch_open(struct loop *loop, void (*changed)(void *owner), void *owner,
                     struct route_watch **watch_out)
{
	struct route_watch *w = calloc(1, sizeof *w);
	int fd = w ? open_news() : -ENOMEM;

	if (fd < 0) {
		free(w);
		return fd;
	}
	*w = (struct route_watch){ .fd = fd, .changed = changed, .owner = owner };
	w->watch = watch_new(loop, fd, on_news, w);
	w->settle = timer_new(loop, on_settled, w);
	if (!w->watch || !w->settle || watch_want(w->watch, WATCH_READ) < 0) {
		route_watch_close(w);
		return -ENOMEM;
	}
	*watch_out = w;
	return 0;
}

void route_watch_close(struct route_watch *w)
{
	if (!w)
		return;
	watch_free(w->watch);
	timer_free(w->settle);
	close(w->fd);
	free(w);
}
