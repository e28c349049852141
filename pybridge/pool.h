/* pool.h: the threads that make calls on files which wait. Of pool.c; neither the host nor Go's
 * scheduler has a part in them. */
#ifndef KLOOP_POOL_H
#define KLOOP_POOL_H

#include <pthread.h>
#include <stdint.h>

#include "kloop.h"

struct kloop_job {
	struct kloop_job *next;
	struct kloop_answers *to;
	struct kloop_op op;     /* a copy; what it names stays until the answer is taken */
	int64_t result;         /* what the call answers, or a negative errno */
};

/* The answers for one loop, not yet taken, in order. */
struct kloop_answers {
	pthread_mutex_t mutex;
	struct kloop_job *first;
	struct kloop_job **last;
	uint32_t waiting;       /* atomic: whether there are any */
	int wake_fd;
	uint32_t out;           /* jobs whose answer is not taken; of the loop's thread */
};

/* The result of a job that opens a FIFO: the open was not made, since nobody could cancel it. */
#define KLOOP_POOL_FIFO INT64_MIN

void kloop_answers_init(struct kloop_answers *a, int wake_fd);
void kloop_answers_end(struct kloop_answers *a);
/* Has op done by at most max_threads threads of the process. Answers 0, or -ENOMEM, or -EAGAIN: no thread can be had. */
int kloop_pool_start(struct kloop_answers *a, const struct kloop_op *op, uint32_t max_threads);
/* Takes the job of the op with this id off the queue, if no thread has it yet: its answer is then -ECANCELED. */
void kloop_pool_cancel(struct kloop_answers *a, uint32_t id);
/* Takes the oldest answer; 0: there is none. */
int kloop_pool_take(struct kloop_answers *a, uint32_t *id, int64_t *result);

#endif
