/*
 * resolver.c: the functions of kloop.h that look names up, which are short calls into Go.
 */
#include <unistd.h>

#include "private.h"
#include "_cgo_export.h"

/* A bit for each descriptor that is the background loop's; those from DESCRIPTORS_MAX on are not told of. Set once it is open and
 * unset before it is closed: whatever moment a fork meets, no bit is another's. */
enum { DESCRIPTORS_MAX = 1 << 20, WORD_BITS = 64 };
static _Atomic uint64_t descriptors[DESCRIPTORS_MAX / WORD_BITS];
static _Atomic int32_t descriptors_end; /* above all that were ever told of */

void kloop_note_descriptor(int32_t fd, bool open)
{
	if (fd < 0 || fd >= DESCRIPTORS_MAX)
		return;
	uint64_t bit = UINT64_C(1) << fd % WORD_BITS;
	if (!open) {
		atomic_fetch_and(&descriptors[fd / WORD_BITS], ~bit);
		return;
	}
	int32_t end = atomic_load(&descriptors_end);
	while (end <= fd && !atomic_compare_exchange_weak(&descriptors_end, &end, fd + 1))
		;
	atomic_fetch_or(&descriptors[fd / WORD_BITS], bit);
}

void kloop_close_background(void)
{
	int32_t end = atomic_load(&descriptors_end);
	for (int32_t fd = 0; fd < end; fd++)
		if (atomic_load(&descriptors[fd / WORD_BITS]) >> fd % WORD_BITS & 1)
			close(fd);
}

int64_t kloop_lookup(struct kloop_shared *k, struct kloop_lookup *q)
{
	return kloop_go_lookup(((struct kloop *)k)->handle, q);
}

int64_t kloop_lookup_many(struct kloop_shared *k, struct kloop_lookup *q, uint32_t places)
{
	return kloop_go_lookup_many(((struct kloop *)k)->handle, q, places);
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
