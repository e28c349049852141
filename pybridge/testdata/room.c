/* More events and owners than there is room for: none is lost, none comes twice. */
#include "host.h"
#include <sys/resource.h>

#define PAIRS 6000
#define WRITES 20000

static int ours[PAIRS], theirs[PAIRS], events[PAIRS];
static int64_t ids[PAIRS];

static void raise_limit(void)
{
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(limit.rlim_cur > 2 * PAIRS + 100);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Polls until each connection had one event of this kind. */
static void one_each(struct kloop_shared *k, uint32_t kind)
{
	int total = 0;
	uint32_t largest = 0;
	memset(events, 0, sizeof(events));
	for (int polls = 0; total < PAIRS; polls++) {
		int n = kloop_poll(k, 10 * SECOND);
		/* 0: receives were armed again, because all buffers were in use */
		CHECK(n >= 0 && polls < PAIRS);
		largest = k->nevents > largest ? k->nevents : largest;
		for (int i = 0; i < n; i++) {
			CHECK(k->events[i].kind == kind);
			CHECK(events[k->events[i].user - 1]++ == 0);
			total++;
		}
	}
	CHECK(largest <= k->max_events);
	CHECK(kloop_poll(k, 0) == 0);
}

static void events_spill(struct kloop_shared *k)
{
	for (int i = 0; i < PAIRS; i++) {
		int fds[2];
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
		ours[i] = fds[0];
		theirs[i] = fds[1];
		ids[i] = kloop_conn(k, ours[i], i + 1);
		CHECK(ids[i] >= 0);
		command(k, KLOOP_CMD_READ_RESUME, ids[i], NULL, 0, 0);
		CHECK(write(theirs[i], "x", 1) == 1);
	}
	one_each(k, KLOOP_EV_DATA);
	for (int i = 0; i < PAIRS; i++)
		command(k, KLOOP_CMD_ABORT, ids[i], NULL, 0, 0);
	one_each(k, KLOOP_EV_CLOSED);
	/* Those that never received close without an answer of the kernel. */
	for (int i = 0; i < PAIRS; i++)
		ids[i] = kloop_conn(k, ours[i], i + 1);
	for (int i = 0; i < PAIRS; i++)
		command(k, KLOOP_CMD_ABORT, ids[i], NULL, 0, 0);
	one_each(k, KLOOP_EV_CLOSED);
}

static char owned[WRITES];

static void owners_spill(struct kloop_shared *k)
{
	int64_t id = kloop_conn(k, ours[0], 1);
	uint64_t total = 0;
	static char released[WRITES];
	CHECK(id >= 0);
	for (int i = 0; i < WRITES; i++)
		command(k, KLOOP_CMD_WRITE, id, owned + i, 1, i + 1);
	command(k, KLOOP_CMD_ABORT, id, NULL, 0, 0);
	for (int tries = 0; tries < 100 && total < WRITES; tries++) {
		CHECK(kloop_poll(k, 0) >= 0);
		CHECK(k->nreleased <= k->max_released);
		for (uint32_t i = 0; i < k->nreleased; i++)
			CHECK(released[k->released[i] - 1]++ == 0);
		total += k->nreleased;
		k->nreleased = 0;
	}
	CHECK(total == WRITES);
}

int main(void)
{
	struct kloop_shared *k;
	int64_t id;
	raise_limit();
	k = open_loop(NULL);
	events_spill(k);
	owners_spill(k);

	/* Owners of writes that were never taken come back when the loop is closed. */
	id = kloop_conn(k, ours[1], 2);
	for (int i = 0; i < WRITES; i++)
		command(k, KLOOP_CMD_WRITE, id, owned, 1, i + 1);
	kloop_stats_refresh(k);
	CHECK(k->stats.owners_out == WRITES - k->ncmds);
	CHECK(close_loop(k) == WRITES);
	return 0;
}
