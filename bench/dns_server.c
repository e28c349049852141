/*
 * dns_server.c: the name server of the rows names. Answers every question of type A with 192.0.2.1 and any other with
 * nothing, over UDP, in batches: what is measured is who asks. Prints its port, ends with its standard input.
 *
 *     bench-dns_server [PORT]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define ROOM 1024
#define HEADER 12
#define RECEIVE_BUFFER (1 << 20)

/* A pointer to the question's name, A, IN, an hour, 192.0.2.1: RFC 1035 section 4.1.3. */
static const uint8_t record[] = { 0xc0, HEADER, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1 };

static uint8_t packets[BATCH][ROOM];
static struct sockaddr_in senders[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Makes a response of a query, in place; answers its size, 0 if it is none. */
static size_t answer(uint8_t *p, size_t size)
{
	size_t end = HEADER;
	while (end < size && p[end])
		end += 1 + p[end];
	end += 5;
	if (end > size || end + sizeof(record) > ROOM)
		return 0;
	p[2] = 0x80 | (p[2] & 1); /* a response; recursion is desired if it was */
	p[3] = 0x80;
	memset(p + 6, 0, HEADER - 6);
	if (p[end - 4] == 0 && p[end - 3] == 1) {
		p[7] = 1;
		memcpy(p + end, record, sizeof(record));
		end += sizeof(record);
	}
	return end;
}

static void serve(int fd)
{
	int count, i, sent;
	for (i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ packets[i], ROOM };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &senders[i], .msg_namelen = sizeof(senders[i]),
						       .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
	if (count < 0 && errno != EAGAIN && errno != EINTR)
		die("recvmmsg");
	for (i = 0; i < count; i++)
		parts[i].iov_len = answer(packets[i], messages[i].msg_len);
	for (sent = 0; sent < count; ) {
		int done = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);
		sent += done > 0 ? done : 1; /* one that nobody waits for any more */
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(argc > 1 ? (uint16_t)atoi(argv[1]) : 0),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(at);
	int room = RECEIVE_BUFFER, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) || bind(fd, (struct sockaddr *)&at, sizeof(at))
	    || getsockname(fd, (struct sockaddr *)&at, &size))
		die("bench-dns_server");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		struct pollfd wait[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait[1].revents)
			return 0;
		serve(fd);
	}
}
