/*
 * pool.c: what the driver can't do with files is done here by system calls that wait, in
 * a few threads that all loops of the process share.
 *
 * They are no goroutines: the loop's thread is in C nearly always, and Go's scheduler would
 * take its context away for each goroutine that becomes ready, and start threads; an operation took
 * three times as long so. An answer is told by the loop's eventfd, which its driver polls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

#define STATX_MASK 0xfffu       /* STATX_BASIC_STATS | STATX_BTIME */
#define DATASYNC 1u             /* IORING_FSYNC_DATASYNC */
/* The most that one call moves, in bytes (MAX_RW_COUNT). */
#define MOVE_MAX 0x7ffff000ul
/* A thread that has had nothing to do for so long ends. */
#define IDLE_S 10

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t more;
	struct kloop_job *first;
	struct kloop_job **last;
	uint32_t threads;
	uint32_t idle;
	uint32_t queued; /* jobs that no thread has taken */
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .last = &pool.first };

static int64_t answer(long result)
{
	return result < 0 ? -errno : result;
}

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* Whether an open waits for another process. */
static int is_fifo(const struct kloop_op *op)
{
	struct stat st;
	int flags = (int)op->events;
	if ((flags & (O_NONBLOCK | O_PATH)) || (flags & O_ACCMODE) == O_RDWR)
		return 0;
	return fstatat(op->fd, at(op->ptr), &st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) == 0 && S_ISFIFO(st.st_mode);
}

static int64_t call_on_bytes(const struct kloop_op *op)
{
	size_t len = op->len < MOVE_MAX ? op->len : MOVE_MAX;
	int current = op->offset == UINT64_MAX;
	switch (op->code) {
	case KLOOP_OP_FILE_READ:
		return answer(current ? read(op->fd, at(op->ptr), len) : pread(op->fd, at(op->ptr), len, (off_t)op->offset));
	case KLOOP_OP_FILE_WRITE:
		return answer(current ? write(op->fd, at(op->ptr), len) : pwrite(op->fd, at(op->ptr), len, (off_t)op->offset));
	case KLOOP_OP_READ_DIR:
		return answer(syscall(SYS_getdents64, op->fd, at(op->ptr), len));
	case KLOOP_OP_COPY_RANGE:
		return answer(syscall(SYS_copy_file_range, op->fd, NULL, op->fd2, NULL, len, 0));
	default:
		return -ENOSYS;
	}
}

static int64_t call(const struct kloop_op *op)
{
	const char *path = at(op->ptr), *second = at(op->ptr2);
	switch (op->code) {
	case KLOOP_OP_OPEN:
		return is_fifo(op) ? KLOOP_POOL_FIFO : answer(openat(op->fd, path, (int)op->events, (mode_t)op->offset));
	case KLOOP_OP_CLOSE:
		return answer(close(op->fd));
	case KLOOP_OP_STAT:
		return answer(syscall(SYS_statx, op->fd, path, op->events, STATX_MASK, at(op->ptr2)));
	case KLOOP_OP_SYNC:
		return answer(op->events & DATASYNC ? fdatasync(op->fd) : fsync(op->fd));
	case KLOOP_OP_TRUNCATE:
		return answer(ftruncate(op->fd, (off_t)op->offset));
	case KLOOP_OP_RENAME:
		return answer(syscall(SYS_renameat2, op->fd, path, op->fd2, second, op->events));
	case KLOOP_OP_UNLINK:
		return answer(unlinkat(op->fd, path, (int)op->events));
	case KLOOP_OP_MKDIR:
		return answer(mkdirat(op->fd, path, (mode_t)op->offset));
	case KLOOP_OP_LINK:
		return answer(linkat(op->fd, path, op->fd2, second, (int)op->events));
	case KLOOP_OP_SYMLINK:
		return answer(symlinkat(path, op->fd2, second));
	case KLOOP_OP_READ_LINK:
		return answer(readlinkat(op->fd, path, at(op->ptr2), op->len2));
	case KLOOP_OP_SEEK:
		return answer(lseek(op->fd, (off_t)op->offset, (int)op->events));
	case KLOOP_OP_ALLOCATE:
		return answer(fallocate(op->fd, (int)op->events, (off_t)op->offset, (off_t)op->len));
	case KLOOP_OP_CLONE:
		return answer(ioctl(op->fd2, FICLONE, op->fd));
	case KLOOP_OP_CHMOD:
		return answer(fchmod(op->fd, (mode_t)op->offset));
	default:
		return call_on_bytes(op);
	}
}

/* The loop is woken under the mutex: afterwards it may be gone. */
static void tell(struct kloop_job *job)
{
	struct kloop_answers *a = job->to;
	uint64_t one = 1;
	job->next = NULL;
	pthread_mutex_lock(&a->mutex);
	*a->last = job;
	a->last = &job->next;
	if (a->first == job) {
		__atomic_store_n(&a->waiting, 1, __ATOMIC_RELEASE);
		if (write(a->wake_fd, &one, sizeof(one)) < 0) {
			/* EAGAIN: the counter is full, so it is readable anyway. */
		}
	}
	pthread_mutex_unlock(&a->mutex);
}

/* The next job, or NULL after IDLE_S without one. */
static struct kloop_job *next_job(void)
{
	struct kloop_job *job;
	struct timespec until;
	int waited = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_S;
	pthread_mutex_lock(&pool.mutex);
	while (!pool.first && waited != ETIMEDOUT) {
		pool.idle++;
		waited = pthread_cond_timedwait(&pool.more, &pool.mutex, &until);
		pool.idle--;
	}
	job = pool.first;
	if (job) {
		pool.queued--;
		pool.first = job->next;
		if (!pool.first)
			pool.last = &pool.first;
	} else {
		pool.threads--;
	}
	pthread_mutex_unlock(&pool.mutex);
	return job;
}

static void *work(void *unused)
{
	struct kloop_job *job;
	while ((job = next_job())) {
		job->result = call(&job->op);
		tell(job);
	}
	return unused;
}

/* A thread that no signal of the host's goes to. With the mutex held. */
static int add_thread(void)
{
	pthread_t thread;
	pthread_attr_t attributes;
	sigset_t all, old;
	int error;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, work, NULL);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!error)
		pool.threads++;
	return -error;
}

int kloop_pool_start(struct kloop_answers *a, const struct kloop_op *op, uint32_t max_threads)
{
	struct kloop_job *job = malloc(sizeof(*job));
	int error = 0;
	if (!job)
		return -ENOMEM;
	job->next = NULL;
	job->to = a;
	job->op = *op;
	pthread_mutex_lock(&pool.mutex);
	/* A thread that was woken for a job before is idle until it runs. */
	if (pool.queued >= pool.idle && pool.threads < max_threads)
		error = add_thread();
	if (error && pool.threads) /* those that there are will do it */
		error = 0;
	if (!error) {
		*pool.last = job;
		pool.last = &job->next;
		pool.queued++;
		pthread_cond_signal(&pool.more);
	}
	pthread_mutex_unlock(&pool.mutex);
	if (error)
		free(job);
	else
		a->out++;
	return error;
}

void kloop_pool_cancel(struct kloop_answers *a, uint32_t id)
{
	struct kloop_job **link, *job;
	pthread_mutex_lock(&pool.mutex);
	for (link = &pool.first; (job = *link); link = &job->next)
		if (job->to == a && job->op.id == id)
			break;
	if (job) {
		pool.queued--;
		*link = job->next;
		if (!*link)
			pool.last = link;
	}
	pthread_mutex_unlock(&pool.mutex);
	if (job) {
		job->result = -ECANCELED;
		tell(job);
	}
}

int kloop_pool_take(struct kloop_answers *a, uint32_t *id, int64_t *result)
{
	struct kloop_job *job;
	pthread_mutex_lock(&a->mutex);
	job = a->first;
	if (job) {
		a->first = job->next;
		if (!a->first) {
			a->last = &a->first;
			__atomic_store_n(&a->waiting, 0, __ATOMIC_RELAXED);
		}
	}
	pthread_mutex_unlock(&a->mutex);
	if (!job)
		return 0;
	a->out--;
	*id = job->op.id;
	*result = job->result;
	free(job);
	return 1;
}

void kloop_answers_init(struct kloop_answers *a, int wake_fd)
{
	memset(a, 0, sizeof(*a));
	pthread_mutex_init(&a->mutex, NULL);
	a->last = &a->first;
	a->wake_fd = wake_fd;
}

void kloop_answers_end(struct kloop_answers *a)
{
	pthread_mutex_destroy(&a->mutex);
}
