/* A loop set up in main, run in one thread, then in another, with bytes in flight,
 * and closed in main. */
#include "host.h"

#define SIZE (12 << 20)

static struct kloop_shared *k;
static char sent[SIZE], got[SIZE];
static int64_t id;
static uint64_t left;           /* bytes the core told to be queued */

static void in_thread(void *(*f)(void *))
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, f, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void count(struct kloop_event e)
{
	CHECK(e.kind != KLOOP_EV_CLOSED && e.kind != KLOOP_EV_PANIC);
	if (e.kind == KLOOP_EV_BACKLOG)
		left = e.len;
	if (e.kind == KLOOP_EV_SENT)
		left -= e.len;
}

static void leave(void)
{
	CHECK(kloop_leave(k) == 0);
	for (uint32_t i = 0; i < k->nevents; i++)
		count(k->events[i]);
}

static void *first(void *unused)
{
	CHECK(kloop_enter_thread(k) == 0);
	command(k, KLOOP_CMD_WRITE, id, sent, SIZE, 1);
	command(k, KLOOP_CMD_READ_RESUME, id, NULL, 0, 0);
	struct kloop_event e = await_event(k, KLOOP_EV_BACKLOG, 0);
	count(e);
	leave();
	CHECK(left > 0 && left < SIZE);
	return unused;
}

static void *second(void *unused)
{
	int data = 0;
	CHECK(kloop_enter_thread(k) == 0);
	while (left > 0 || !data) {
		int n = kloop_poll(k, 10 * SECOND);
		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			struct kloop_event e = k->events[i];
			count(e);
			if (e.kind == KLOOP_EV_DATA) {
				CHECK(e.len == 5 && memcmp((void *)(uintptr_t)e.ptr, "while", 5) == 0);
				data++;
			}
		}
	}
	CHECK(data == 1);
	leave();
	return unused;
}

static void *reader(void *peer)
{
	CHECK(recv(*(int *)peer, got, SIZE, MSG_WAITALL) == SIZE);
	return NULL;
}

int main(void)
{
	struct sockaddr_in at = { 0 };
	int listener = listen_on(&at), peer = connect_to(&at);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	pthread_t thread;
	CHECK(fd >= 0);
	for (int i = 0; i < SIZE; i++)
		sent[i] = (char)((uint64_t)i * 2654435761u >> 13);
	k = open_loop(NULL);
	id = kloop_conn(k, fd, 1);
	CHECK(id >= 0);
	in_thread(first);
	CHECK(write(peer, "while", 5) == 5);
	CHECK(pthread_create(&thread, NULL, reader, &peer) == 0);
	in_thread(second);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(memcmp(sent, got, SIZE) == 0);
	CHECK(k->nreleased == 1 && k->released[0] == 1);
	k->nreleased = 0;
	CHECK(close_loop(k) == 0);
	return 0;
}
