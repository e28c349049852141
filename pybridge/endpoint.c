/*
 * endpoint.c: datagram endpoints. A send is a system call of its own, made at once and
 * without Go: on loopback neither the ring nor sendmmsg(2) makes a batch of them cheaper
 * (see core.Datagram), and its error is the caller's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "private.h"
#include "_cgo_export.h"

int64_t kloop_endpoint(struct kloop_shared *k, int fd, uint64_t user)
{
	return kloop_go_endpoint(((struct kloop *)k)->handle, fd, user);
}

int kloop_endpoint_end(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_endpoint_end(((struct kloop *)k)->handle, id);
}

int64_t kloop_endpoint_send(struct kloop_shared *k, int fd, const void *payload, uint64_t len,
			    const void *address, uint32_t address_size)
{
	struct kloop *p = (struct kloop *)k;
	/* Not sendto(): it is a cancellation point, which cost 2 % of an echo server's CPU. */
	long n = syscall(SYS_sendto, fd, payload, len, MSG_DONTWAIT | MSG_NOSIGNAL, address, address_size);
	p->datagram_sends++;
	if (n < 0)
		return -errno;
	p->datagram_bytes += (uint64_t)n;
	return n;
}
