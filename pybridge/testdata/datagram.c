/* Datagram endpoints: receiving with addresses, sends at once, refused ones queued, the end. */
#include "host.h"

#include <sys/un.h>

#define UDP 11
#define UNIX 22

static int bound(struct sockaddr_in *at)
{
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK(bind(fd, (struct sockaddr *)at, size) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)at, &size) == 0);
	return fd;
}

static void receives(struct kloop_shared *k)
{
	struct sockaddr_in ours, peers;
	int fd = bound(&ours), peer = bound(&peers);
	char got[16];
	int64_t id = kloop_endpoint(k, fd, UDP);
	CHECK(id >= 0);
	command(k, KLOOP_CMD_READ_RESUME, id, NULL, 0, 0);
	for (int i = 0; i < 3; i++) {
		uint64_t len = i; /* the first is empty */
		CHECK(sendto(peer, "abc", len, 0, (struct sockaddr *)&ours, sizeof(ours)) == (ssize_t)len);
		struct kloop_event e = await_event(k, KLOOP_EV_DATAGRAM, UDP);
		struct kloop_datagram *d = (void *)(uintptr_t)e.ptr;
		CHECK(e.len == len && d->size == len && d->flags == 0 && memcmp(d + 1, "abc", len) == 0);
		CHECK(d->address_size == sizeof(peers) && memcmp(d->address, &peers, sizeof(peers)) == 0);
		CHECK(kloop_endpoint_send(k, fd, "reply", 5, d->address, d->address_size) == 5);
		CHECK(recv(peer, got, sizeof(got), 0) == 5 && memcmp(got, "reply", 5) == 0);
	}
	static char huge[70000];
	CHECK(kloop_endpoint_send(k, fd, huge, sizeof(huge), &peers, sizeof(peers)) == -EMSGSIZE);
	/* An error of the network does not end it. */
	CHECK(connect(fd, (struct sockaddr *)&peers, sizeof(peers)) == 0);
	close(peer);
	CHECK(kloop_endpoint_send(k, fd, "x", 1, NULL, 0) == 1);
	struct kloop_event e = await_event(k, KLOOP_EV_DATAGRAM_ERROR, UDP);
	CHECK(e.res == ECONNREFUSED && e.len == 1);
	command(k, KLOOP_CMD_CLOSE, id, NULL, 0, 0);
	await_event(k, KLOOP_EV_DATAGRAM_CLOSED, UDP);
	close(fd);
}

static struct { struct kloop_datagram head; char payload[4]; } queued[40];

static void queues(struct kloop_shared *k)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(at);
	int peer = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char got[16];
	CHECK(bind(peer, (struct sockaddr *)&at, sizeof(at.sun_family)) == 0); /* a name of the kernel's choice */
	CHECK(getsockname(peer, (struct sockaddr *)&at, &size) == 0);
	int64_t id = kloop_endpoint(k, fd, UNIX), result;
	CHECK(id >= 0);
	uint32_t taken = 0, n;
	while ((result = kloop_endpoint_send(k, fd, &taken, 4, &at, size)) == 4)
		taken++;
	CHECK(result == -EAGAIN && taken > 0);
	for (n = 0; n < 40; n++) {
		uint32_t number = taken + n;
		queued[n].head = (struct kloop_datagram){ .address_size = size, .size = 4 };
		memcpy(queued[n].head.address, &at, size);
		memcpy(queued[n].payload, &number, 4);
		command(k, KLOOP_CMD_SENDTO, id, &queued[n], 4, 100 + n);
	}
	uint32_t read = 0, sent = 0;
	while (read < taken + 40 || sent < 40) {
		uint32_t number;
		while (recv(peer, got, sizeof(got), 0) == 4) {
			memcpy(&number, got, 4);
			CHECK(number == read);
			read++;
		}
		CHECK(kloop_poll(k, 0) >= 0);
		for (uint32_t i = 0; i < k->nevents; i++) {
			CHECK(k->events[i].kind == KLOOP_EV_DATAGRAM_SENT && k->events[i].user == UNIX);
			CHECK(k->events[i].len == 4 * (uint64_t)k->events[i].res);
			sent += k->events[i].res;
		}
	}
	CHECK(sent == 40 && k->nreleased == 40);
	for (n = 0; n < 40; n++)
		CHECK(k->released[n] == 100 + n);
	k->nreleased = 0;
	command(k, KLOOP_CMD_ABORT, id, NULL, 0, 0);
	await_event(k, KLOOP_EV_DATAGRAM_CLOSED, UNIX);
	CHECK(kloop_endpoint_end(k, id) == -ENOENT);
	/* For what has ended, the memory comes back all the same. */
	command(k, KLOOP_CMD_SENDTO, id, &queued[0], 4, 7);
	CHECK(kloop_poll(k, 0) >= 0);
	CHECK(k->nreleased == 1 && k->released[0] == 7);
	k->nreleased = 0;
	close(fd);
	close(peer);
}

/* The address is free when the end has returned, whatever was under way. */
static void ends(struct kloop_shared *k)
{
	struct sockaddr_in at, peers;
	int fd = bound(&at), peer = bound(&peers);
	int64_t id = kloop_endpoint(k, fd, UDP);
	CHECK(id >= 0);
	command(k, KLOOP_CMD_READ_RESUME, id, NULL, 0, 0);
	CHECK(kloop_poll(k, 0) == 0);
	CHECK(sendto(peer, "abc", 3, 0, (struct sockaddr *)&at, sizeof(at)) == 3);
	CHECK(kloop_endpoint_end(k, id) == 0);
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(kloop_poll(k, 0) == 0); /* no event of it */
	close(fd);
	close(peer);
}

int main(void)
{
	struct kloop_shared *k = open_loop(NULL);
	CHECK(kloop_enter_thread(k) == 0);
	receives(k);
	queues(k);
	ends(k);
	kloop_stats_refresh(k);
	CHECK(k->stats.conns == 0 && k->stats.owners_out == 0);
	CHECK(k->stats.bytes_received == 3);
	CHECK(k->stats.bytes_sent > 16 + 160);
	CHECK(kloop_leave(k) == 0);
	CHECK(close_loop(k) == 0);
	return 0;
}
