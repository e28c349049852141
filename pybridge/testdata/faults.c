/* What goes wrong is told and contained. */
#include "host.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void a_panic_is_an_event(void)
{
	struct kloop_shared *k = open_loop(NULL);
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	int64_t id = kloop_conn(k, fds[0], 1);
	CHECK(kloop_poll(k, 0) == 0);
	command(k, 99, id, NULL, 0, 0);
	CHECK(kloop_poll(k, 0) == 1);
	CHECK(k->events[0].kind == KLOOP_EV_PANIC);
	char *text = (char *)(uintptr_t)k->events[0].ptr;
	CHECK(strlen(text) == k->events[0].len);
	CHECK(strstr(text, "command of unknown kind 99") && strstr(text, "takeCommands"));
	/* The loop is of no use any more, and says so. */
	CHECK(kloop_poll(k, -1) == -ENOTRECOVERABLE);
	CHECK(kloop_conn(k, fds[0], 1) == -ENOTRECOVERABLE);
	CHECK(kloop_take(k) == -ENOTRECOVERABLE);
	CHECK(kloop_send_now(k, id) == -ENOTRECOVERABLE);
	CHECK(kloop_unlisten(k, 0) == -ENOTRECOVERABLE);
	kloop_stats_refresh(k);
	CHECK(close_loop(k) == 0);

	/* In a call without events it comes with the next poll. */
	k = open_loop(NULL);
	id = kloop_conn(k, fds[0], 1);
	command(k, 98, id, NULL, 0, 0);
	CHECK(kloop_take(k) == -ENOTRECOVERABLE);
	CHECK(kloop_poll(k, -1) == 1);
	CHECK(k->events[0].kind == KLOOP_EV_PANIC);
	CHECK(close_loop(k) == 0);
	close(fds[0]);
	close(fds[1]);
}

static void stale_ids_are_harmless(void)
{
	struct kloop_shared *k = open_loop(NULL);
	CHECK(kloop_cancel(k, 12345) == -ENOENT);
	CHECK(kloop_unlisten(k, 12345) == -ENOENT);
	CHECK(kloop_listen_resume(k, 12345) == -ENOENT);
	CHECK(kloop_send_now(k, 12345) == 0);
	command(k, KLOOP_CMD_WRITE, 12345, "x", 1, 7);
	command(k, KLOOP_CMD_ABORT, 12345, NULL, 0, 0);
	CHECK(kloop_poll(k, 0) == 0);
	CHECK(k->nreleased == 1 && k->released[0] == 7);
	k->nreleased = 0;
	CHECK(kloop_connect(k, 0, "x", 1, 1) == -EINVAL);
	CHECK(kloop_connect(k, 0, "x", 100000, 1) == -EINVAL);
	CHECK(close_loop(k) == 0);
}

static int refused(const struct kloop_options *o, char *reason)
{
	struct kloop_shared *k = NULL;
	int result = kloop_open(o, &k, reason, 256);
	CHECK(result < 0 && k == NULL);
	CHECK(strlen(reason) > 0 && strlen(reason) < 256 && !strchr(reason, '\n'));
	return result;
}

static void other_abi_is_refused(void)
{
	struct kloop_options o = { .abi = KLOOP_ABI + 1 };
	char reason[256];
	CHECK(refused(&o, reason) == -EINVAL);
	CHECK(strstr(reason, "reinstall"));
}

static void bad_options_are_refused(void)
{
	struct kloop_options o = { .abi = KLOOP_ABI, .sqpoll_cpu = -1, .buffers = 3 };
	char reason[256];
	CHECK(refused(&o, reason) == -EINVAL);
	o = (struct kloop_options){ .abi = KLOOP_ABI, .driver = 99 };
	CHECK(refused(&o, reason) == -EINVAL);
}

static void no_descriptor_is_told(void)
{
	struct kloop_options o = { .abi = KLOOP_ABI, .sqpoll_cpu = -1 };
	struct rlimit limit, none = { 0 };
	char reason[256];
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	none.rlim_max = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	int result = refused(&o, reason);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(result == -EMFILE);
	CHECK(strstr(reason, "RLIMIT_NOFILE"));
}

/* As container runtimes do it. */
static void seccomp_is_told(void)
{
	struct kloop_options o = { .abi = KLOOP_ABI, .sqpoll_cpu = -1, .driver = KLOOP_DRIVER_IO_URING };
	struct kloop_options automatic = { .abi = KLOOP_ABI, .sqpoll_cpu = -1 };
	struct kloop_shared *k;
	char reason[256];
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	CHECK(refused(&o, reason) == -EPERM);
	CHECK(strstr(reason, "seccomp"));
	CHECK(kloop_open(&automatic, &k, reason, sizeof(reason)) == 0);
	CHECK(strcmp(k->driver, "epoll") == 0 && strstr(k->driver_reason, "seccomp"));
	CHECK(close_loop(k) == 0);
}

int main(void)
{
	a_panic_is_an_event();
	stale_ids_are_harmless();
	other_abi_is_refused();
	bad_options_are_refused();
	no_descriptor_is_told();
	seccomp_is_told();
	return 0;
}
