/*
 * library.h: loads libkloop.so, the Go core, into this process.
 *
 * A Go runtime changes the process it is loaded into: it raises the soft limit of
 * open files to the hard one (programs that use select(2) break), SIGPIPE is no
 * longer ignored, and a SIGURG handler is replaced. All three are put back, after the
 * first call into Go: the runtime starts on a thread of its own, which dlopen(3) does not
 * wait for but calls do.
 *
 * A Go runtime doesn't survive fork(2): its threads are gone in the child. A child
 * therefore loads a second copy of the library, with a fresh runtime, from a memfd;
 * dlopen(3) knows libraries by device and inode, and by path.
 */
#ifndef KLOOP_LIBRARY_H
#define KLOOP_LIBRARY_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kloop.h"

struct kloop_library {
	int (*open)(const struct kloop_options *, struct kloop_shared **, char *, uint64_t);
	int (*close)(struct kloop_shared *);
	int (*enter_thread)(struct kloop_shared *);
	int (*leave)(struct kloop_shared *);
	int (*poll)(struct kloop_shared *, int64_t);
	int (*take)(struct kloop_shared *);
	int64_t (*send_now)(struct kloop_shared *, uint32_t);
	int64_t (*conn)(struct kloop_shared *, int, uint64_t);
	int64_t (*listen)(struct kloop_shared *, int, uint64_t);
	int (*listen_resume)(struct kloop_shared *, uint32_t);
	int (*unlisten)(struct kloop_shared *, uint32_t);
	int64_t (*connect)(struct kloop_shared *, int, const void *, uint32_t, uint64_t);
	int64_t (*watch)(struct kloop_shared *, int, uint32_t, uint64_t);
	int (*cancel)(struct kloop_shared *, uint32_t);
	int64_t (*pipe)(struct kloop_shared *, int, uint32_t, uint64_t);
	void (*wake)(struct kloop_shared *);
	void (*stats_refresh)(struct kloop_shared *);
	int64_t (*endpoint)(struct kloop_shared *, int, uint64_t);
	int (*endpoint_end)(struct kloop_shared *, uint32_t);
	int64_t (*endpoint_send)(struct kloop_shared *, int, const void *, uint64_t, const void *, uint32_t);
	int (*tls_start)(struct kloop_shared *, uint32_t, struct kloop_tls *);
	int64_t (*lookup)(struct kloop_shared *, struct kloop_lookup *);
	int64_t (*lookup_many)(struct kloop_shared *, struct kloop_lookup *, uint32_t);
	int (*lookup_cancel)(struct kloop_shared *, uint32_t);
	int64_t (*resolver_open)(const char *, uint64_t, char *, uint64_t);
	int (*resolver_close)(uint64_t);
	int (*resolver_reload)(uint64_t, char *, uint64_t);
	int64_t (*resolver_cache_len)(uint64_t);
	int (*resolver_cache_clear)(uint64_t);
	int64_t (*resolver_tell)(uint64_t, int, char **);
	void (*close_background)(void);
};

static struct kloop_library kloop_lib;

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* Names in the order of struct kloop_library. */
static const char *const kloop_library_names[] = {
	"kloop_open", "kloop_close", "kloop_enter_thread", "kloop_leave", "kloop_poll", "kloop_take",
	"kloop_send_now", "kloop_conn", "kloop_listen", "kloop_listen_resume", "kloop_unlisten",
	"kloop_connect", "kloop_watch", "kloop_cancel", "kloop_pipe", "kloop_wake", "kloop_stats_refresh",
	"kloop_endpoint", "kloop_endpoint_end", "kloop_endpoint_send", "kloop_tls_start",
	"kloop_lookup", "kloop_lookup_many", "kloop_lookup_cancel", "kloop_resolver_open", "kloop_resolver_close",
	"kloop_resolver_reload", "kloop_resolver_cache_len", "kloop_resolver_cache_clear", "kloop_resolver_tell", "kloop_close_background",
};
#define KLOOP_LIBRARY_COUNT (sizeof(kloop_library_names) / sizeof(kloop_library_names[0]))
_Static_assert(sizeof(struct kloop_library) == KLOOP_LIBRARY_COUNT * sizeof(void *), "one name per function");

/* Copies the whole of a file; answers 0 or -errno. */
static int kloop_copy_file(int from, int to)
{
	struct stat st;
	off_t at = 0;
	if (fstat(from, &st) < 0)
		return -errno;
	while (at < st.st_size) {
		ssize_t n = sendfile(to, from, &at, (size_t)(st.st_size - at));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
	}
	return 0;
}

/* An unnamed executable copy of a file: a memfd, or, where vm.memfd_noexec forbids
 * to run one, a temporary file whose name is already gone. */
static int kloop_unnamed_copy(const char *path)
{
	int from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	int to = memfd_create("libkloop", MFD_CLOEXEC | MFD_EXEC);
	if (to < 0 && errno == EINVAL) /* before Linux 6.3 there is no MFD_EXEC, and none is needed */
		to = memfd_create("libkloop", MFD_CLOEXEC);
	if (to < 0) {
		char name[] = "/tmp/libkloop.XXXXXX";
		to = mkostemp(name, O_CLOEXEC);
		if (to >= 0)
			unlink(name);
	}
	int err = to < 0 ? -errno : kloop_copy_file(from, to);
	close(from);
	if (err < 0) {
		if (to >= 0)
			close(to);
		return err;
	}
	return to;
}

static int kloop_library_symbols(void *library, char *reason, size_t size)
{
	void *found[KLOOP_LIBRARY_COUNT];
	for (size_t i = 0; i < KLOOP_LIBRARY_COUNT; i++) {
		found[i] = dlsym(library, kloop_library_names[i]);
		if (!found[i]) {
			snprintf(reason, size, "%s", dlerror());
			return -1;
		}
	}
	memcpy(&kloop_lib, found, sizeof(found));
	return 0;
}

/* What the runtime changes, as it was before. */
static struct {
	int have_files;
	struct rlimit files;
	struct sigaction pipe_action, urg_action;
} kloop_before;

static void kloop_library_save(void)
{
	kloop_before.have_files = getrlimit(RLIMIT_NOFILE, &kloop_before.files) == 0;
	sigaction(SIGPIPE, NULL, &kloop_before.pipe_action);
	sigaction(SIGURG, NULL, &kloop_before.urg_action);
}

/* To be called once a first call into Go has returned. */
static void kloop_library_restore(void)
{
	if (kloop_before.have_files)
		setrlimit(RLIMIT_NOFILE, &kloop_before.files);
	sigaction(SIGPIPE, &kloop_before.pipe_action, NULL);
	sigaction(SIGURG, &kloop_before.urg_action, NULL);
}

/* Loads the library at path, or with copy a second instance of it. Answers 0, or -1
 * with the cause in reason. */
static int kloop_library_load(const char *path, int copy, char *reason, size_t size)
{
	char copied[64];
	int fd = -1;
	if (copy) {
		fd = kloop_unnamed_copy(path);
		if (fd < 0) {
			snprintf(reason, size, "cannot copy %s: %s", path, strerror(-fd));
			return -1;
		}
		/* With the pid, since glibc takes a second /proc/self/fd/N for the same library. */
		snprintf(copied, sizeof(copied), "/proc/%d/fd/%d", (int)getpid(), fd);
		path = copied;
	}
	kloop_library_save();
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		snprintf(reason, size, "%s", dlerror());
	if (fd >= 0)
		close(fd);
	int result = library ? kloop_library_symbols(library, reason, size) : -1;
	if (result < 0)
		kloop_library_restore();
	return result;
}

#endif
