/*
 * calls.c: the functions of kloop.h that are short calls into Go, and the memory
 * of a loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"
#include "_cgo_export.h"

/* 4096 commands are 128 KiB: the host calls kloop_take() when they are used up. */
#define MAX_CMDS 4096
/* 4096 events are 128 KiB, of which a batch touches what it needs: one of a thousand
 * connections takes 32 KiB. More wait in the core, and in the kernel. */
#define MAX_EVENTS 4096
#define MAX_RELEASED 4096

static void free_memory(struct kloop *p)
{
	if (!p)
		return;
	free(p->s.cmds);
	free(p->s.events);
	free(p->s.released);
	free(p);
}

static struct kloop *new_memory(void)
{
	struct kloop *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->s.max_cmds = MAX_CMDS;
	p->s.max_events = MAX_EVENTS;
	p->s.max_released = MAX_RELEASED;
	p->s.cmds = calloc(MAX_CMDS, sizeof(*p->s.cmds));
	p->s.events = calloc(MAX_EVENTS, sizeof(*p->s.events));
	p->s.released = calloc(MAX_RELEASED, sizeof(*p->s.released));
	if (!p->s.cmds || !p->s.events || !p->s.released) {
		free_memory(p);
		return NULL;
	}
	return p;
}

static int refuse(int error, const char *text, char *reason, uint64_t size)
{
	if (size)
		snprintf(reason, size, "%s", text);
	return -error;
}

int kloop_open(const struct kloop_options *o, struct kloop_shared **out, char *reason, uint64_t reason_size)
{
	struct kloop *p;
	int result;
	*out = NULL;
	if (o->abi != KLOOP_ABI)
		return refuse(EINVAL, "host and libkloop.so are of different versions: reinstall kloop-go", reason, reason_size);
	p = new_memory();
	if (!p)
		return refuse(ENOMEM, "no memory for a loop", reason, reason_size);
	p->sqpoll = o->sqpoll;
	p->spin_ns = (uint64_t)o->spin_us * 1000;
	result = kloop_go_open((struct kloop_options *)o, p, reason, reason_size);
	if (result < 0) {
		free_memory(p);
		return result;
	}
	*out = &p->s;
	return 0;
}

int kloop_close(struct kloop_shared *k)
{
	struct kloop *p = (struct kloop *)k;
	int result = kloop_go_close(p->handle);
	if (result == 0)
		free_memory(p);
	return result;
}

int kloop_enter_thread(struct kloop_shared *k)
{
	return kloop_go_attach(((struct kloop *)k)->handle);
}

int kloop_leave(struct kloop_shared *k)
{
	int result;
	k->nevents = 0;
	result = kloop_go_leave(((struct kloop *)k)->handle);
	return result < 0 ? result : 0;
}

int kloop_take(struct kloop_shared *k)
{
	return kloop_go_take(((struct kloop *)k)->handle);
}

int64_t kloop_send_now(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_send_now(((struct kloop *)k)->handle, id);
}

int64_t kloop_conn(struct kloop_shared *k, int fd, uint64_t user)
{
	return kloop_go_conn(((struct kloop *)k)->handle, fd, user);
}

int64_t kloop_pipe(struct kloop_shared *k, int fd, uint32_t kind, uint64_t user)
{
	return kloop_go_pipe(((struct kloop *)k)->handle, fd, kind, user);
}

int64_t kloop_listen(struct kloop_shared *k, int fd, uint64_t user)
{
	return kloop_go_listen(((struct kloop *)k)->handle, fd, user);
}

int kloop_listen_resume(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_listen_resume(((struct kloop *)k)->handle, id);
}

int kloop_unlisten(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_unlisten(((struct kloop *)k)->handle, id);
}

int64_t kloop_connect(struct kloop_shared *k, int fd, const void *sockaddr, uint32_t len, uint64_t user)
{
	return kloop_go_connect(((struct kloop *)k)->handle, fd, (void *)sockaddr, len, user);
}

int64_t kloop_watch(struct kloop_shared *k, int fd, uint32_t events, uint64_t user)
{
	return kloop_go_watch(((struct kloop *)k)->handle, fd, events, user);
}

int kloop_cancel(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_cancel(((struct kloop *)k)->handle, id);
}

int kloop_tls_start(struct kloop_shared *k, uint32_t id, struct kloop_tls *t)
{
	return kloop_go_tls_start(((struct kloop *)k)->handle, id, t);
}
