/* Open, listen, accept, data, write, end of file, close: the whole way once. */
#include "host.h"

#define LISTENER 77
#define CONN 88

static void echo(struct kloop_shared *k, int sqpoll)
{
	struct sockaddr_in at = { 0 };
	int listener = listen_on(&at);
	int64_t lid = kloop_listen(k, listener, LISTENER);
	CHECK(lid >= 0);
	int client = connect_to(&at);
	struct kloop_event e = await_event(k, KLOOP_EV_ACCEPTED, LISTENER);
	int fd = e.res;
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	int64_t id = kloop_conn(k, fd, CONN);
	CHECK(id >= 0);
	command(k, KLOOP_CMD_READ_RESUME, id, NULL, 0, 0);

	CHECK(write(client, "hello", 5) == 5);
	e = await_event(k, KLOOP_EV_DATA, CONN);
	CHECK(e.len == 5 && memcmp((void *)(uintptr_t)e.ptr, "hello", 5) == 0);
	command(k, KLOOP_CMD_WRITE, id, "one ", 4, 1001);
	command(k, KLOOP_CMD_WRITE, id, "two", 3, 1002);
	while (k->nreleased < 2)
		CHECK(kloop_poll(k, sqpoll ? SECOND : 0) >= 0);
	CHECK(k->nreleased == 2 && k->released[0] == 1001 && k->released[1] == 1002);
	k->nreleased = 0;
	char got[16];
	CHECK(recv(client, got, 7, MSG_WAITALL) == 7 && memcmp(got, "one two", 7) == 0);

	CHECK(shutdown(client, SHUT_WR) == 0);
	await_event(k, KLOOP_EV_EOF, CONN);
	command(k, KLOOP_CMD_CLOSE, id, NULL, 0, 0);
	e = await_event(k, KLOOP_EV_CLOSED, CONN);
	CHECK(e.res == 0);
	CHECK(close(fd) == 0);
	CHECK(read(client, got, 1) == 0);
	CHECK(kloop_unlisten(k, lid) == 0);
	CHECK(close(listener) == 0);
	CHECK(close(listen_on(&at)) == 0);  /* the port is free at once */
	close(client);

	kloop_stats_refresh(k);
	CHECK(k->stats.conns == 0 && k->stats.listeners == 0 && k->stats.owners_out == 0);
	/* Under SQPOLL nothing enters the kernel but to sleep or to wake the poller. */
	CHECK(!sqpoll || (k->stats.enters_submit == 0 &&
		k->stats.enters == k->stats.enters_wait + k->stats.enters_wakeup));
	CHECK(k->stats.bytes_received == 5 && k->stats.bytes_sent == 7 && k->stats.accepts == 1);
}

int main(void)
{
	struct kloop_shared *k = open_loop(NULL);
	CHECK(strcmp(k->driver, getenv("HOST_DRIVER") ? "epoll" : "io_uring") == 0);
	CHECK(kloop_enter_thread(k) == 0);
	echo(k, 0);
	CHECK(kloop_leave(k) == 0);
	CHECK(close_loop(k) == 0);

	struct kloop_options o = { .abi = KLOOP_ABI, .sqpoll = 1, .sqpoll_cpu = -1 };
	k = open_loop(&o);
	echo(k, 1);
	CHECK(close_loop(k) == 0);
	return 0;
}
