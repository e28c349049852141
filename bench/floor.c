/*
 * floor.c: the least that an echo server on io_uring costs here: C, no Python, no Go, no copy, no error paths
 * beyond ending. What `make bench` measures of it is the floor under every loop on io_uring, kloop among them.
 *
 * One ring with the flags that kloop uses; multishot accept and receive; buffers filled piece by piece
 * (IOU_PBUF_RING_INC, Linux 6.12), which are sent from where they are received; sends without a completion when they
 * succeed. Listens on any port of 127.0.0.1, or on the unix socket whose path it is given; prints which, and ends on
 * SIGTERM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Newer than the headers of some distributions. */
#define SETUP_NO_SQARRAY (1u << 16)
#define BUFFERS_INCREMENTAL 2
#define CQE_BUFFER_MORE (1u << 4)

enum {
	SQ_ENTRIES = 4096,
	CQ_ENTRIES = 16384,
	BUFFERS = 64,           /* a power of two */
	GIVEN = 4,              /* of these, in use: few stay in the cache */
	BUFFER_SIZE = 512 * 1024,
	BACKLOG = 4096,
	ACCEPT = 1, RECEIVE = 2, SEND = 3,      /* above the fd in user_data */
};

static int ring;
static unsigned *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask, tail, submitted;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *buffers;
static unsigned short buffers_tail;
static char *memory;
static unsigned filled[BUFFERS];

static volatile sig_atomic_t stopped;
static void stop(int number) { (void)number; stopped = 1; }

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static struct io_uring_sqe *next_sqe(unsigned opcode, uint64_t kind, int fd)
{
	struct io_uring_sqe *sqe = &sqes[tail++ & sq_mask];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->user_data = kind << 32 | (uint32_t)fd;
	return sqe;
}

static void receive(int fd)
{
	struct io_uring_sqe *sqe = next_sqe(IORING_OP_RECV, RECEIVE, fd);

	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->ioprio = IORING_RECV_MULTISHOT;
}

static void give(unsigned id)
{
	struct io_uring_buf *buffer = &buffers->bufs[buffers_tail++ & (BUFFERS - 1)];

	filled[id] = 0;
	buffer->addr = (uintptr_t)memory + (size_t)id * BUFFER_SIZE;
	buffer->len = BUFFER_SIZE;
	buffer->bid = id;
	__atomic_store_n(&buffers->tail, buffers_tail, __ATOMIC_RELEASE);
}

static int open_ring(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN
			| IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | SETUP_NO_SQARRAY,
		.cq_entries = CQ_ENTRIES,
	};
	char *rings;

	ring = syscall(__NR_io_uring_setup, SQ_ENTRIES, &p);
	if (ring < 0)
		return -1;
	rings = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*cqes), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED)
		return -1;
	sq_tail = (void *)(rings + p.sq_off.tail);
	cq_head = (void *)(rings + p.cq_off.head);
	cq_tail = (void *)(rings + p.cq_off.tail);
	cqes = (void *)(rings + p.cq_off.cqes);
	sq_mask = p.sq_entries - 1;
	cq_mask = p.cq_entries - 1;
	return 0;
}

static int open_buffers(void)
{
	size_t size = BUFFERS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = {.ring_entries = BUFFERS};
	uint16_t flags = BUFFERS_INCREMENTAL;

	buffers = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory = mmap(NULL, (size_t)BUFFERS * BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED || memory == MAP_FAILED)
		return -1;
	reg.ring_addr = (uintptr_t)buffers;
	/* `flags` is called `pad` in older headers; it follows bgid in both. */
	memcpy((char *)&reg.bgid + sizeof(reg.bgid), &flags, sizeof(flags));
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
		return -1;
	for (unsigned id = 0; id < GIVEN; id++)
		give(id);
	return 0;
}

static int listen_anywhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, BACKLOG)
	    || getsockname(fd, (struct sockaddr *)&address, &size))
		return -1;
	printf("%d\n", ntohs(address.sin_port));
	return fd;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG))
		return -1;
	printf("%s\n", path);
	return fd;
}

/* Sends back what a receive brought. Its buffer is given back once the sends of this turn have been made. */
static unsigned echo(const struct io_uring_cqe *cqe, int fd, unsigned *full)
{
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	struct io_uring_sqe *sqe = next_sqe(IORING_OP_SEND, SEND, fd);

	sqe->addr = (uintptr_t)memory + (size_t)id * BUFFER_SIZE + filled[id];
	sqe->len = cqe->res;
	sqe->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	filled[id] += cqe->res;
	if (cqe->flags & CQE_BUFFER_MORE)
		return 0;
	*full = id;
	return 1;
}

int main(int argc, char **argv)
{
	unsigned full[CQ_ENTRIES], fulls = 0;
	int one = 1, listener;

	signal(SIGTERM, stop);
	if (open_ring() || open_buffers())
		return fail("io_uring with incremental buffers (Linux 6.12)");
	listener = argc > 1 ? listen_at(argv[1]) : listen_anywhere();
	if (listener < 0)
		return fail("listen");
	next_sqe(IORING_OP_ACCEPT, ACCEPT, listener)->ioprio = IORING_ACCEPT_MULTISHOT;
	fflush(stdout);
	while (!stopped) {
		__atomic_store_n(sq_tail, tail, __ATOMIC_RELEASE);
		int taken = syscall(__NR_io_uring_enter, ring, tail - submitted, 1, IORING_ENTER_GETEVENTS, NULL, 0);
		if (taken < 0 && errno != EINTR)
			return fail("io_uring_enter");
		if (taken > 0)
			submitted += taken;
		while (fulls)
			give(full[--fulls]);
		unsigned head = *cq_head, end = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
		/* Each completion asks for two SQEs at most: what finds no room waits for the next turn. */
		for (; head != end && tail - submitted < SQ_ENTRIES - 2; head++) {
			const struct io_uring_cqe *cqe = &cqes[head & cq_mask];
			int kind = cqe->user_data >> 32, fd = (int)cqe->user_data;

			if (kind == ACCEPT && cqe->res >= 0) {
				setsockopt(cqe->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				receive(cqe->res);
			} else if (kind == RECEIVE && cqe->res > 0) {
				fulls += echo(cqe, fd, &full[fulls]);
				if (!(cqe->flags & IORING_CQE_F_MORE))
					receive(fd);
			} else if (kind == RECEIVE && cqe->res == -ENOBUFS) {
				receive(fd);
			} else if (kind == RECEIVE) {
				close(fd);
			} else {        /* a short or refused send: the load must not ask for more than sockets hold */
				fprintf(stderr, "kind %d: %s\n", kind, strerror(-cqe->res));
				return 1;
			}
		}
		__atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
	}
	return 0;
}
