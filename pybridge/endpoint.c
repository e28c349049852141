/*
 * endpoint.c: datagram endpoints. A send is a system call of its own, made at once and
 * without Go: on loopback neither the ring nor sendmmsg(2) makes a batch of them cheaper
 * (see core.Datagram), and its error is the caller's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>

#include "private.h"
#include "_cgo_export.h"

int64_t kloop_endpoint(struct kloop_shared *k, int fd, uint64_t user)
{
	return kloop_go_endpoint(((struct kloop *)k)->handle, fd, user);
}

int64_t kloop_endpoint_send(struct kloop_shared *k, int fd, const void *payload, uint64_t len,
			    const void *address, uint32_t address_size)
{
	struct kloop *p = (struct kloop *)k;
	ssize_t n = sendto(fd, payload, len, MSG_DONTWAIT | MSG_NOSIGNAL, address, address_size);
	p->datagram_sends++;
	if (n < 0)
		return -errno;
	p->datagram_bytes += (uint64_t)n;
	return n;
}
