/* Operations: each has one DONE, and a gauge that counts those under way. */
#include "host.h"

static void submit(struct kloop_shared *k, struct kloop_op *op)
{
	op->state = KLOOP_OP_NEW;
	op->user = (uint64_t)(uintptr_t)op;
	command(k, KLOOP_CMD_OP, 0, op, 0, 0);
}

static struct kloop_event done(struct kloop_shared *k, struct kloop_op *op)
{
	return await_event(k, KLOOP_EV_DONE, (uint64_t)(uintptr_t)op);
}

static void cancel(struct kloop_shared *k, struct kloop_op *op)
{
	CHECK(op->state == KLOOP_OP_TAKEN);
	command(k, KLOOP_CMD_OP_CANCEL, op->id, NULL, 0, 0);
}

static void each_kind(struct kloop_shared *k, int ours, int theirs)
{
	char into[3], text[5];
	struct kloop_op receive = { .code = KLOOP_OP_RECEIVE, .fd = ours, .len = 3 };
	struct kloop_op receive_into = { .code = KLOOP_OP_RECEIVE_INTO, .fd = ours, .ptr = (uint64_t)(uintptr_t)into, .len = 3 };
	struct kloop_op send = { .code = KLOOP_OP_SEND, .fd = ours, .ptr = (uint64_t)(uintptr_t)"hello", .len = 5 };
	struct kloop_op poll = { .code = KLOOP_OP_POLL, .fd = ours, .events = POLLIN };
	struct kloop_event e;

	submit(k, &poll);
	CHECK(kloop_poll(k, 0) == 0);
	CHECK(write(theirs, "abcdef", 6) == 6);
	e = done(k, &poll);
	CHECK(e.res == 0 && e.len == POLLIN);
	submit(k, &receive);
	e = done(k, &receive);
	CHECK(e.res == 0 && e.len == 3 && memcmp((char *)(uintptr_t)e.ptr, "abc", 3) == 0);
	submit(k, &receive_into);
	e = done(k, &receive_into);
	CHECK(e.res == 0 && e.len == 3 && memcmp(into, "def", 3) == 0);
	submit(k, &send);
	e = done(k, &send);
	CHECK(e.res == 0 && e.len == 5);
	CHECK(read(theirs, text, 5) == 5 && memcmp(text, "hello", 5) == 0);
}

static void refused(struct kloop_shared *k)
{
	struct kloop_op empty = { .code = KLOOP_OP_SEND, .fd = 0 };
	struct kloop_op closed = { .code = KLOOP_OP_RECEIVE, .fd = -1, .len = 1 };
	submit(k, &empty);
	CHECK(done(k, &empty).res == EINVAL);
	submit(k, &closed);
	CHECK(done(k, &closed).res == EBADF);
}

static void cancelled(struct kloop_shared *k, int ours)
{
	struct kloop_op early = { .code = KLOOP_OP_RECEIVE, .fd = ours, .len = 1 };
	struct kloop_op late = early;
	submit(k, &early);
	early.state = KLOOP_OP_DROPPED; /* before it is taken */
	CHECK(done(k, &early).res == ECANCELED);
	submit(k, &late);
	CHECK(kloop_poll(k, 0) == 0);
	kloop_stats_refresh(k);
	CHECK(k->stats.operations == 1);
	cancel(k, &late);
	CHECK(done(k, &late).res == ECANCELED);
	cancel(k, &late); /* of what is over: nothing happens */
	CHECK(kloop_poll(k, 0) == 0);
	kloop_stats_refresh(k);
	CHECK(k->stats.operations == 0);
}

int main(void)
{
	struct kloop_shared *k = open_loop(NULL);
	struct kloop_op left;
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	each_kind(k, fds[0], fds[1]);
	refused(k);
	cancelled(k, fds[0]);
	/* Closing the loop ends what is under way. */
	left = (struct kloop_op){ .code = KLOOP_OP_RECEIVE, .fd = fds[0], .len = 1 };
	submit(k, &left);
	CHECK(kloop_poll(k, 0) == 0);
	CHECK(close_loop(k) == 0);
	CHECK(write(fds[1], "x", 1) == 1);
	CHECK(read(fds[0], &(char){ 0 }, 1) == 1);
	return 0;
}
