/*
 * poll.c: one iteration, and waking it.
 *
 * The kernel is entered here and not in Go. A thread that waits inside a Go call
 * makes Go's scheduler start other threads, and its monitor thread wake up, at
 * every timer of an idle loop; here a timeout with nothing to do never touches Go.
 * Go is called for two short steps: kloop_go_flush() turns commands into SQEs,
 * kloop_go_reap() turns CQEs into events.
 *
 * With the epoll driver kloop_go_flush() sends, kloop_go_reap() receives, and what is
 * waited for is its set (epoll.c). The words that say whether completions wait are the same.
 *
 * See io_uring_enter(2); kernel 5.11 for the timeout (IORING_ENTER_EXT_ARG).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "private.h"
#include "_cgo_export.h"

#ifndef IORING_SQ_TASKRUN       /* headers before 5.19 */
#define IORING_SQ_TASKRUN (1U << 2)
#endif

#define NS_PER_S 1000000000ull

/* Goroutines get a turn this often. When a thread has not done so for 10 ms, the Go
 * runtime's monitor thread takes its scheduling context away, again and again, and
 * looks every 20 us. On two cores shared with other work, 3 ms left the other threads
 * less CPU than 2, 4 or 5 ms did (0.03 to 0.05 us per message; never: 1 us). */
#define YIELD_EVERY_NS 3000000ull
/* Not after a pause as long as this, when that has happened already. */
#define YIELD_PAUSE_NS 9000000ull

/* A new wait counts for a quarter in the average of recent waits; one longer than
 * SPIN_WAITS times the spin says that spinning is of no use. */
#define WAIT_WEIGHT 4
#define SPIN_WAITS 4

/* struct kernel timespec and io_uring_getevents_arg, which older headers lack. */
struct wait_time { int64_t sec; long long nsec; };
struct wait_arg { uint64_t sigmask; uint32_t sigmask_size; uint32_t min_wait_us; uint64_t ts; };

uint64_t kloop_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline int completions_wait(const struct kloop *p)
{
	return load(p->s.cq_tail) != load(p->s.cq_head);
}

static inline uint32_t kernel_flags(const struct kloop *p)
{
	return load(p->s.sq_flags) & p->s.poll_mask;
}

/* Whether goroutines should have a turn in the next call into Go. */
static int yield_due(struct kloop *p)
{
	uint64_t now = kloop_now_ns(), pause = now - p->go_ns;
	p->go_ns = now;
	if (now - p->yield_ns < YIELD_EVERY_NS)
		return 0;
	p->yield_ns = now;
	return pause <= YIELD_PAUSE_NS;
}

/* Enters the kernel; answers 0 or a negative errno. */
static int enter(struct kloop *p, uint32_t submit, uint32_t wait, uint32_t flags, const struct wait_arg *arg)
{
	long n = syscall(__NR_io_uring_enter, p->s.ring_fd, submit, wait, flags, arg, arg ? sizeof(*arg) : 0);
	p->enters++;
	return n < 0 ? -errno : 0;
}

/* What is to be handed over: SQEs to submit, or a wake-up of the SQPOLL thread. */
static uint32_t to_hand_over(const struct kloop *p, uint32_t *flags)
{
	uint32_t waiting = load(p->sq_tail) - load(p->sq_head);
	if (!p->sqpoll)
		return waiting;
	/* The thread sets its flag before it looks at the tail a last time. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (waiting && (load(p->s.sq_flags) & IORING_SQ_NEED_WAKEUP))
		*flags |= IORING_ENTER_SQ_WAKEUP;
	return 0;
}

/* Hands over and has completions posted, without waiting. */
static int enter_now(struct kloop *p)
{
	uint32_t flags = 0, submit;
	if (p->set.events)
		return kloop_epoll_wait(p, 0);
	submit = to_hand_over(p, &flags);
	if (!submit && !flags && !kernel_flags(p))
		return 0;
	if (flags & IORING_ENTER_SQ_WAKEUP)
		p->enters_wakeup++;
	else if (submit)
		p->enters_submit++;
	return enter(p, submit, 0, flags | IORING_ENTER_GETEVENTS, NULL);
}

/* Hands over and sleeps until a completion, a signal or the timeout. */
static int enter_wait(struct kloop *p, int64_t timeout_ns)
{
	uint32_t flags = IORING_ENTER_GETEVENTS, submit;
	struct wait_time t = { timeout_ns / (int64_t)NS_PER_S, timeout_ns % (int64_t)NS_PER_S };
	struct wait_arg arg = { .ts = (uint64_t)(uintptr_t)&t };
	int result;

	if (p->set.events)
		return kloop_epoll_wait(p, timeout_ns);
	submit = to_hand_over(p, &flags);
	p->enters_wait++;
	if (timeout_ns < 0)
		return enter(p, submit, 1, flags, NULL);
	result = enter(p, submit, 1, flags | IORING_ENTER_EXT_ARG, &arg);
	return result == -ETIME ? 0 : result;
}

/* Looks for completions for a while before sleeping; answers whether there are any. */
static int spin(struct kloop *p, int64_t timeout_ns)
{
	uint64_t end = kloop_now_ns() + p->spin_ns;
	if (timeout_ns >= 0 && (uint64_t)timeout_ns < p->spin_ns)
		end = end - p->spin_ns + (uint64_t)timeout_ns;
	do {
		if (p->set.events && kloop_epoll_wait(p, 0) < 0)
			return 0; /* the sleep will tell */
		for (int i = 0; i < 16; i++) {
			if (completions_wait(p) || kernel_flags(p) || load(&p->wake_asked)) {
				p->spins++;
				return 1;
			}
#if defined(__x86_64__) || defined(__i386__)
			__builtin_ia32_pause();
#elif defined(__aarch64__)
			__asm__ __volatile__("yield");
#endif
		}
	} while (kloop_now_ns() < end);
	return 0;
}

/* Sleeps, unless a wake-up was asked for meanwhile: kloop_wake() sets wake_asked
 * before it looks at sleeping, we set sleeping before we look at wake_asked. */
static int sleep_in_kernel(struct kloop *p, int64_t timeout_ns)
{
	int result;
	__atomic_store_n(&p->s.sleeping, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&p->wake_asked, __ATOMIC_SEQ_CST))
		result = enter_now(p);
	else
		result = enter_wait(p, timeout_ns);
	__atomic_store_n(&p->s.sleeping, 0, __ATOMIC_SEQ_CST);
	return result;
}

static int wait_spinning(struct kloop *p, int64_t timeout_ns)
{
	uint64_t start = kloop_now_ns(), took;
	int result;
	if (p->s.recent_wait_ns < SPIN_WAITS * p->spin_ns) {
		result = enter_now(p);
		if (result == 0 && spin(p, timeout_ns))
			result = enter_now(p);
		else if (result == 0)
			result = sleep_in_kernel(p, timeout_ns);
	} else {
		result = sleep_in_kernel(p, timeout_ns);
	}
	took = kloop_now_ns() - start;
	if (took > 2 * SPIN_WAITS * p->spin_ns) /* one long wait does not count for ever */
		took = 2 * SPIN_WAITS * p->spin_ns;
	p->s.recent_wait_ns = ((WAIT_WEIGHT - 1) * p->s.recent_wait_ns + took) / WAIT_WEIGHT;
	return result;
}

static int hand_over_and_wait(struct kloop *p, int64_t timeout_ns)
{
	if (timeout_ns == 0 || completions_wait(p) || kernel_flags(p))
		return enter_now(p);
	if (p->spin_ns)
		return wait_spinning(p, timeout_ns);
	return sleep_in_kernel(p, timeout_ns);
}

static int iterate(struct kloop *p, int64_t timeout_ns)
{
	struct kloop_shared *k = &p->s;
	int go_called = 0, result, reaped;

	if (k->ncmds || k->pending || p->need_flush || load(&k->answered)) {
		result = kloop_go_flush(p->handle, yield_due(p));
		if (result != 0) /* a panic: its event, then errors */
			return result < 0 ? result : (int)k->nevents;
		go_called = 1;
		if (k->nevents || k->pending)
			timeout_ns = 0;
	}
	result = hand_over_and_wait(p, timeout_ns);
	/* EAGAIN, EBUSY: the kernel wants completions taken, or has no memory now; what
	 * it did not take is handed over with the next poll. */
	if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
		return result;
	if (completions_wait(p) || p->unsettled || k->pending || load(&k->answered) || (load(k->sq_flags) & IORING_SQ_CQ_OVERFLOW)) {
		reaped = kloop_go_reap(p->handle, go_called ? 0 : yield_due(p));
		if (reaped < 0)
			return reaped;
	}
	if (result == -EINTR && k->nevents == 0)
		return -EINTR;
	return (int)k->nevents;
}

int kloop_poll(struct kloop_shared *k, int64_t timeout_ns)
{
	struct kloop *p = (struct kloop *)k;
	int result = 0;
	k->nevents = 0;
	p->polls++;
	if (!p->attached)
		result = kloop_enter_thread(k);
	if (result == 0)
		result = iterate(p, timeout_ns);
	/* The host looks at its own queue after this. */
	__atomic_store_n(&p->wake_asked, 0, __ATOMIC_SEQ_CST);
	return result;
}

void kloop_wake(struct kloop_shared *k)
{
	struct kloop *p = (struct kloop *)k;
	uint64_t one = 1;
	int saved = errno; /* of a signal handler's victim */
	__atomic_store_n(&p->wake_asked, 1, __ATOMIC_SEQ_CST);
	/* One write is enough for a sleep: the rest of a flood finds it ended. */
	if (__atomic_load_n(&k->sleeping, __ATOMIC_SEQ_CST)
	    && __atomic_exchange_n(&k->sleeping, 0, __ATOMIC_SEQ_CST)) {
		__atomic_add_fetch(&p->wakes, 1, __ATOMIC_RELAXED);
		/* EAGAIN: the counter is full, so it is readable anyway. */
		if (write(k->wake_fd, &one, sizeof(one)) < 0)
			errno = saved;
	}
	errno = saved;
}

void kloop_stats_refresh(struct kloop_shared *k)
{
	struct kloop *p = (struct kloop *)k;
	struct kloop_stats *t = &k->stats;
	if (kloop_go_stats(p->handle) < 0)
		return;
	/* The Go side enters the kernel too, where it must not wait for kloop_poll(). */
	t->enters += p->enters;
	t->enters_submit += p->enters_submit;
	t->enters_wait += p->enters_wait;
	t->enters_wakeup += p->enters_wakeup;
	t->wakes += __atomic_load_n(&p->wakes, __ATOMIC_RELAXED);
	t->direct_sends += p->datagram_sends;
	t->bytes_sent += p->datagram_bytes;
	t->polls = p->polls;
	t->spins = p->spins;
}
