/* What poll.c and the Go side share and the host does not see. */
#ifndef KLOOP_PRIVATE_H
#define KLOOP_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "kloop.h"

struct epoll_event;

/* Where the epoll driver's words are (epoll.Words); events is NULL with io_uring. */
struct kloop_set {
	struct epoll_event *events;
	uint32_t max;
	uint32_t *produced;
	uint32_t *count;
	uint32_t *next;
	uint32_t *turn;
};

struct kloop {
	struct kloop_shared s;  /* first: the host has its address */
	struct kloop_set set;

	/* Set by the Go side at the end of each of its calls. */
	const uint32_t *sq_head;        /* SQEs between head and tail are published and not consumed */
	const uint32_t *sq_tail;
	uint32_t need_flush;    /* kloop_go_flush has something to do */
	uint32_t unsettled;     /* quick sends wait for kloop_go_reap */
	uint32_t attached;      /* the driver belongs to a thread */
	uint32_t sqpoll;
	uint64_t spin_ns;
	uint64_t handle;

	/* Of epoll.c: when the idle looks in a row began. */
	uint64_t idle_ns;
	uint64_t idle_ticks;

	/* Of poll.c. */
	uint32_t wake_asked;    /* atomic: kloop_wake() was called since the last poll ended */
	uint64_t yield_ns;      /* when goroutines last had their turn */
	uint64_t go_ns;         /* when Go was last called by kloop_poll() */
	uint64_t wakes;         /* atomic */
	uint64_t polls;
	uint64_t spins;
	uint64_t enters;
	uint64_t enters_submit;
	uint64_t enters_wait;
	uint64_t enters_wakeup;

	/* Of endpoint.c. */
	uint64_t datagram_sends;
	uint64_t datagram_bytes;
};

uint64_t kloop_now_ns(void);
/* Of epoll.c. timeout_ns as kloop_poll()'s. */
int kloop_epoll_wait(struct kloop *p, int64_t timeout_ns);

/* Of resolver.c: for the Go side. */
void kloop_note_descriptor(int32_t fd, bool open);

#endif
