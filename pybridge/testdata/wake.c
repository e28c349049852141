/* Waits end when they should: by a wake-up, a signal or a timeout, and not before. */
#include "host.h"
#include <signal.h>

#define WAKES 20000

static struct kloop_shared *k;
static uint32_t pushed;         /* stands for a host's own queue */

static void *waker(void *unused)
{
	(void)unused;
	for (int i = 0; i < WAKES; i++) {
		__atomic_add_fetch(&pushed, 1, __ATOMIC_SEQ_CST);
		kloop_wake(k);
		if (i % 64 == 0)
			usleep(100);    /* so that the loop sleeps now and then */
	}
	return NULL;
}

/* A lost wake-up makes this hang: the last push is waited for without a limit. */
static void wakes_are_not_lost(void)
{
	pthread_t thread;
	uint32_t seen = 0;
	CHECK(pthread_create(&thread, NULL, waker, NULL) == 0);
	while (seen < WAKES) {
		CHECK(kloop_poll(k, -1) == 0);
		seen = __atomic_load_n(&pushed, __ATOMIC_SEQ_CST);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	kloop_poll(k, 0);
	kloop_stats_refresh(k);
	CHECK(k->stats.wakes > 0 && k->stats.wakes <= WAKES);
	CHECK(!k->sleeping);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void timeouts_are_kept(void)
{
	for (int i = 0; i < 20; i++) {
		uint64_t start = now();
		CHECK(kloop_poll(k, 2000000) == 0);
		CHECK(now() - start >= 2000000);
	}
	CHECK(kloop_poll(k, 0) == 0);
}

static void on_signal(int number) { (void)number; }

static void *signaller(void *loop_thread)
{
	/* Again and again, since the first may come before the loop sleeps. */
	for (int i = 0; i < 10000 && !__atomic_load_n(&pushed, __ATOMIC_SEQ_CST); i++) {
		CHECK(pthread_kill(*(pthread_t *)loop_thread, SIGUSR1) == 0);
		usleep(1000);
	}
	return NULL;
}

static void a_signal_ends_a_wait(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t thread, self = pthread_self();
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	pushed = 0;
	CHECK(pthread_create(&thread, NULL, signaller, &self) == 0);
	CHECK(kloop_poll(k, 30 * SECOND) == -EINTR);
	__atomic_store_n(&pushed, 1, __ATOMIC_SEQ_CST);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void wake_in_handler(int number)
{
	(void)number;
	kloop_wake(k);
}

static void a_signal_handler_may_wake(void)
{
	struct sigaction action = { .sa_handler = wake_in_handler };
	CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
	CHECK(raise(SIGUSR2) == 0);
	CHECK(kloop_poll(k, 30 * SECOND) == 0);
}

static void run(const struct kloop_options *o)
{
	k = open_loop(o);
	pushed = 0;
	wakes_are_not_lost();
	timeouts_are_kept();
	a_signal_ends_a_wait();
	a_signal_handler_may_wake();
	CHECK(close_loop(k) == 0);
}

int main(void)
{
	struct kloop_options plain = { .abi = KLOOP_ABI, .sqpoll_cpu = -1 };
	struct kloop_options spinning = { .abi = KLOOP_ABI, .sqpoll_cpu = -1, .spin_us = 30 };
	struct kloop_options sqpoll = { .abi = KLOOP_ABI, .sqpoll_cpu = -1, .sqpoll = 1, .sqpoll_idle_ms = 5 };
	run(&plain);
	run(&spinning);
	run(&sqpoll);
	return 0;
}
