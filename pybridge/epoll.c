/*
 * epoll.c: waiting with the epoll driver, for poll.c. The events go into memory of the
 * driver's, which serves them with the next kloop_go_reap(). See epoll.Words.
 *
 * See epoll_wait(2); kernel 5.11 for timeouts in nanoseconds (epoll_pwait2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "private.h"

#ifndef SYS_epoll_pwait2        /* headers before 5.11 */
#define SYS_epoll_pwait2 441
#endif

#define NS_PER_S 1000000000
#define NS_PER_MS 1000000

/* struct __kernel_timespec, which older headers lack. */
struct wait_time { int64_t sec; long long nsec; };

/* Atomic: set by any thread's loop, once. */
static int no_pwait2;

static int wait_coarse(struct kloop *p, int64_t timeout_ns)
{
	int timeout_ms = -1;
	if (timeout_ns >= 0) /* rounded up, so that nobody wakes before it is time */
		timeout_ms = timeout_ns / NS_PER_MS < INT_MAX ? (int)((timeout_ns + NS_PER_MS - 1) / NS_PER_MS) : INT_MAX;
	return (int)syscall(SYS_epoll_pwait, p->s.ring_fd, p->set.events, p->set.max, timeout_ms, NULL, 0);
}

static int wait_fine(struct kloop *p, int64_t timeout_ns)
{
	struct wait_time t = { timeout_ns / NS_PER_S, timeout_ns % NS_PER_S };
	int n;
	/* For ever and not at all need no fine timeout. */
	if (timeout_ns <= 0 || __atomic_load_n(&no_pwait2, __ATOMIC_RELAXED))
		return wait_coarse(p, timeout_ns);
	n = (int)syscall(SYS_epoll_pwait2, p->s.ring_fd, p->set.events, p->set.max, &t, NULL, 0);
	/* EPERM: a seccomp filter that is older than the call. */
	if (n < 0 && (errno == ENOSYS || errno == EPERM)) {
		__atomic_store_n(&no_pwait2, 1, __ATOMIC_RELAXED);
		return wait_coarse(p, timeout_ns);
	}
	return n;
}

/* Says when the next look is due. How long a tick is the looks tell that were made one after the
 * other. Where this thread loses its CPU between two readings, ticks seem to be longer than they are,
 * and the next look comes too early, never too late. */
static void looked_in_vain(struct kloop *p)
{
	struct kloop_shared *k = &p->s;
	uint64_t ticks, ns;
	if (k->idle_looks == 0) {
		p->idle_ns = kloop_now_ns();
		p->idle_ticks = kloop_ticks();
		k->idle_looks = 1;
		return;
	}
	if (k->idle_looks < KLOOP_IDLE_LOOKS)
		k->idle_looks++;
	ticks = kloop_ticks();
	ns = kloop_now_ns() - p->idle_ns;
	k->looked_ticks = ticks;
	k->look_ticks = (uint64_t)((double)(ticks - p->idle_ticks) / (double)(ns + 1) * k->look_every_ns);
}

/* Takes events, if the last ones have all been served; answers 0 or a negative errno. */
int kloop_epoll_wait(struct kloop *p, int64_t timeout_ns)
{
	struct kloop_set *set = &p->set;
	int n;
	(*set->turn)++;
	if (*set->next != *set->count)
		return 0;
	p->enters++;
	p->enters_wait += timeout_ns != 0;
	n = wait_fine(p, timeout_ns);
	if (n < 0)
		return -errno;
	*set->next = 0;
	*set->count = (uint32_t)n;
	*set->produced += (uint32_t)n;
	if (n || timeout_ns)
		p->s.idle_looks = 0;
	else
		looked_in_vain(p);
	return 0;
}
