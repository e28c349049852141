/* What the test hosts share: checks, loopback sockets and a loop's life. */
#ifndef HOST_H
#define HOST_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../kloop.h"

#define CHECK(what) do { \
	if (!(what)) { \
		fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #what, errno); \
		exit(1); \
	} \
} while (0)

#define SECOND 1000000000ll

static struct kloop_shared *open_loop(const struct kloop_options *given)
{
	struct kloop_options o = { .abi = KLOOP_ABI, .sqpoll_cpu = -1 };
	struct kloop_shared *k;
	char reason[512] = "";
	if (given)
		o = *given;
	/* Every host runs on each driver. A submission thread is io_uring's. */
	if (getenv("HOST_DRIVER") && !o.sqpoll)
		o.driver = KLOOP_DRIVER_EPOLL;
	int result = kloop_open(&o, &k, reason, sizeof(reason));
	if (result < 0) {
		fprintf(stderr, "kloop_open: %d: %s\n", result, reason);
		exit(1);
	}
	return k;
}

static inline int listen_on(struct sockaddr_in *at)
{
	socklen_t size = sizeof(*at);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	if (at->sin_family == 0) {
		at->sin_family = AF_INET;
		at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
	CHECK(bind(fd, (struct sockaddr *)at, sizeof(*at)) == 0);
	CHECK(listen(fd, 128) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)at, &size) == 0);
	return fd;
}

static inline int connect_to(const struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	CHECK(connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0);
	return fd;
}

static inline void command(struct kloop_shared *k, uint32_t op, uint32_t id, const void *p, uint64_t len, uint64_t owner)
{
	if (k->ncmds == k->max_cmds)
		CHECK(kloop_take(k) == 0);
	k->cmds[k->ncmds++] = (struct kloop_cmd){ op, id, (uint64_t)(uintptr_t)p, len, owner };
}

/* Polls until an event of this kind comes, for this object if user is not 0. */
static inline struct kloop_event await_event(struct kloop_shared *k, uint32_t kind, uint64_t user)
{
	for (int tries = 0; tries < 1000; tries++) {
		int n = kloop_poll(k, 10 * SECOND);
		CHECK(n >= 0 || n == -EINTR);
		for (int i = 0; i < n; i++) {
			struct kloop_event e = k->events[i];
			if (e.kind == KLOOP_EV_PANIC) {
				fprintf(stderr, "panic: %.*s\n", (int)e.len, (const char *)(uintptr_t)e.ptr);
				exit(1);
			}
			if (e.kind == kind && (user == 0 || e.user == user))
				return e;
		}
	}
	fprintf(stderr, "event %u of %llu does not come\n", kind, (unsigned long long)user);
	exit(1);
}

/* Closes the loop; answers how many owners came back meanwhile. */
static inline uint64_t close_loop(struct kloop_shared *k)
{
	uint64_t owners = 0;
	int result;
	while ((result = kloop_close(k)) == 1) {
		owners += k->nreleased;
		k->nreleased = 0;
	}
	CHECK(result == 0);
	return owners;
}

#endif
