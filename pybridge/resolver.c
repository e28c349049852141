/*
 * resolver.c: the functions of kloop.h that look names up, which are short calls into Go.
 */
#include "private.h"
#include "_cgo_export.h"

/* Set once, when the background loop begins to run. */
static int32_t background_fds[2] = { -1, -1 };

void kloop_set_background_fds(int32_t ring, int32_t wake)
{
	background_fds[0] = ring;
	background_fds[1] = wake;
}

void kloop_background_fds(int32_t fds[2])
{
	fds[0] = background_fds[0];
	fds[1] = background_fds[1];
}

int64_t kloop_lookup(struct kloop_shared *k, struct kloop_lookup *q)
{
	return kloop_go_lookup(((struct kloop *)k)->handle, q);
}

int kloop_lookup_cancel(struct kloop_shared *k, uint32_t id)
{
	return kloop_go_lookup_cancel(((struct kloop *)k)->handle, id);
}

int64_t kloop_resolver_open(const char *config, uint64_t len, char *reason, uint64_t reason_size)
{
	return kloop_go_resolver_open((char *)config, len, reason, reason_size);
}

int kloop_resolver_close(uint64_t resolver)
{
	return kloop_go_resolver_close(resolver);
}

int kloop_resolver_reload(uint64_t resolver, char *reason, uint64_t reason_size)
{
	return kloop_go_resolver_reload(resolver, reason, reason_size);
}

int64_t kloop_resolver_cache_len(uint64_t resolver)
{
	return kloop_go_resolver_cache_len(resolver);
}

int kloop_resolver_cache_clear(uint64_t resolver)
{
	return kloop_go_resolver_cache_clear(resolver);
}

int64_t kloop_resolver_tell(uint64_t resolver, int what, char **out)
{
	return kloop_go_resolver_tell(resolver, what, out);
}
