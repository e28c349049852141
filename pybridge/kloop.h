/*
 * kloop.h: the C ABI between the Go core (libkloop.so) and a host program,
 * which for now is the Python extension kloop._core.
 *
 * Style: polled. The host runs callbacks; while they run, writes are appended
 * to an array of commands in memory that both sides share, without a call.
 * Once per iteration the host calls kloop_poll(), which hands the commands to
 * the core, enters the kernel at most once, and fills an array of events.
 * The core never calls the host and knows nothing of its locks.
 *
 * Threads: all functions but kloop_wake() are for one thread at a time: the
 * one that runs the loop, or, while the loop is not running, any one thread.
 *
 * Errors: functions that return int answer a negative errno. Nothing here
 * ends the process: a Go panic becomes a KLOOP_EV_PANIC event with its trace.
 *
 * File descriptors: the host owns every fd it passes in, and every fd an
 * accept event gives it. It closes one after KLOOP_EV_CLOSED said that no
 * operation of the core is left on it.
 */
#ifndef KLOOP_H
#define KLOOP_H

#include <stdint.h>
#include <time.h>

#define KLOOP_ABI 4u

/* See kloop_shared.look_every_ns. A storm of callbacks then looks every so often, others always. */
#define KLOOP_IDLE_LOOKS 16u

/* Commands: {op, id, ptr, len, owner}. */
enum {
	/* Queue len bytes at ptr behind what the connection has queued. The
	 * memory stays valid until owner comes back in released[]. */
	KLOOP_CMD_WRITE = 1,
	KLOOP_CMD_WRITE_EOF,    /* shutdown(SHUT_WR) behind what is queued */
	KLOOP_CMD_READ_PAUSE,   /* stop receiving; what had completed still comes as DATA */
	KLOOP_CMD_READ_RESUME,  /* start receiving (a new connection starts paused) */
	KLOOP_CMD_CLOSE,        /* stop receiving, send what is queued, then CLOSED */
	KLOOP_CMD_ABORT,        /* stop receiving, drop what is queued, then CLOSED */
	/* Queue a datagram of len bytes that kloop_endpoint_send() refused with EAGAIN, or
	 * behind such: ptr is a struct kloop_datagram. Of the commands above, endpoints take
	 * READ_PAUSE, READ_RESUME, CLOSE and ABORT. */
	KLOOP_CMD_SENDTO,
	KLOOP_CMD_OP,           /* ptr: a struct kloop_op; start it */
	KLOOP_CMD_OP_CANCEL,    /* id: of a kloop_op that is taken; end it; its DONE still comes */
	/* Of a connection whose records kloop_tls_start() has taken over: */
	KLOOP_CMD_TLS_CLOSE,    /* close_notify, which CLOSE does not send, behind what is queued; receiving goes on, EOF tells of the peer's */
	KLOOP_CMD_TLS_RETURN,   /* after TLS_RETURNED: from here on WRITE's bytes are records of the host's TLS */
	KLOOP_CMD_TLS_EMITTED,  /* ptr, len, owner as WRITE's: what the host's TLS has sent after a TLS_MESSAGE */
	KLOOP_CMD_TLS_SENT,     /* the host itself has sent len bytes, as by sendfile(2), which the kernel sealed */
};

struct kloop_cmd {              /* 32 bytes */
	uint32_t op;
	uint32_t id;            /* the connection, as kloop_conn() gave it */
	uint64_t ptr;
	uint64_t len;           /* bytes */
	uint64_t owner;         /* opaque, not 0; given back once, in released[] */
};

enum {
	KLOOP_EV_ACCEPTED = 1,  /* user: listener; res: the new fd (non-blocking, close-on-exec) */
	KLOOP_EV_ACCEPT_ERROR,  /* user: listener; res: errno; accepting has stopped: kloop_listen_resume() */
	KLOOP_EV_CONNECTED,     /* user: connect; res: 0 or errno; the operation is over */
	KLOOP_EV_DATA,          /* user: connection; ptr, len: payload, valid until the next kloop_poll() */
	KLOOP_EV_EOF,           /* user: connection; the peer has shut down its side; res 1: by close_notify */
	KLOOP_EV_BACKLOG,       /* user: connection; the kernel did not take all: len bytes are queued now */
	KLOOP_EV_SENT,          /* user: connection with a backlog; the kernel took len bytes more; res 1: all, the backlog is over */
	KLOOP_EV_CLOSED,        /* user: connection; last event of it; res: 0 or errno, len: 1 read, 2 write failed */
	KLOOP_EV_READY,         /* user: watch; res: poll(2) revents, or negative errno: the watch is over */
	KLOOP_EV_UNWATCHED,     /* user: watch or connect that was cancelled; last event of it */
	KLOOP_EV_PANIC,         /* ptr, len: text of a Go panic and its trace */
	KLOOP_EV_DATAGRAM,      /* user: endpoint; ptr: struct kloop_datagram, len: its payload's bytes; valid as DATA's */
	KLOOP_EV_DATAGRAM_SENT, /* user: endpoint; res datagrams of len bytes left the queue */
	KLOOP_EV_DATAGRAM_ERROR,/* user: endpoint; res: errno, len: 1 of receiving, 2 of a datagram that left the queue */
	KLOOP_EV_DATAGRAM_CLOSED,/* user: endpoint; last event of it */
	KLOOP_EV_DONE,          /* user: operation, which is over; res: 0 or errno; len: bytes, or poll(2) revents;
	                         * ptr: what KLOOP_OP_RECEIVE received, valid until the next kloop_poll() */
	KLOOP_EV_TLS_MESSAGE,   /* user: connection with records; ptr, len: records for the host's TLS, valid as DATA's */
	KLOOP_EV_TLS_FAILED,    /* user: connection with records; res: the alert, with KLOOP_TLS_FROM_PEER if it is the
	                         * peer's; ptr, len: text of what has ended them, valid as DATA's; CLOSED follows */
	KLOOP_EV_TLS_RETURNED,  /* user: connection with records; from here on DATA are records for the host's TLS, which
	                         * goes on: the peer wants another handshake */
	KLOOP_EV_TLS_MOVED,     /* user: connection with records; res: who seals and opens them now, tx | rx << 8;
	                         * ptr, len: text of why it is not the kernel, valid as DATA's */
	KLOOP_EV_ANSWER,        /* user: a lookup, which is over; ptr, len: its answer, valid as DATA's; see kloop_lookup() */
	KLOOP_EV_OPENED,        /* user: operation KLOOP_OP_OPEN, which is over; res: 0 or errno; len: the new fd, which is the host's */
	KLOOP_EV_ANSWERS,       /* user: many lookups; ptr, len: res answers, valid as DATA's; see kloop_lookup_many() */
	KLOOP_EV_ANSWERS_OVER,  /* user: many lookups that were cancelled; last event of them */
};

/* A datagram in memory, with its payload behind it. Receiving, address is the sender's;
 * sending, the receiver's. */
struct kloop_datagram {         /* 144 bytes: io_uring_recvmsg_out, and room for an address */
	uint32_t address_size;  /* bytes of the sockaddr; 0: a sender without, the peer of a connected socket */
	uint32_t control_size;  /* 0 */
	uint32_t size;          /* bytes of the datagram, even if not all were received */
	uint32_t flags;         /* received: of recvmsg(2), such as MSG_TRUNC; sending: 0 */
	uint8_t address[128];   /* sockaddr */
};

struct kloop_event {            /* 32 bytes */
	uint32_t kind;
	int32_t res;
	uint64_t user;          /* what the host gave when it made the object */
	uint64_t ptr;
	uint64_t len;
};

/* What kloop_pipe() is given, hence how it reads or writes. */
enum {
	KLOOP_PIPE_SOCKET_READER = 1,
	KLOOP_PIPE_SOCKET_WRITER,
	KLOOP_PIPE_READER,      /* pipe or FIFO */
	KLOOP_PIPE_WRITER,
	KLOOP_PIPE_DEVICE_READER, /* character device, such as a terminal */
	KLOOP_PIPE_DEVICE_WRITER,
};

/* One receive, send, poll, or call on a file, asked for once: exactly one KLOOP_EV_DONE follows (OPENED, of
 * an open), and the memory of the struct, at ptr and at ptr2 must stay until then. */
enum {
	KLOOP_OP_RECEIVE = 1,   /* at most len bytes, into memory of the core */
	KLOOP_OP_RECEIVE_INTO,  /* into len bytes at ptr */
	KLOOP_OP_SEND,          /* all of len bytes at ptr */
	KLOOP_OP_POLL,          /* until one of events holds */
	/* Of files. Paths are len (len2) bytes with a final NUL, relative to the folder fd (fd2) or AT_FDCWD. DONE's len
	 * is what the manual page says that the call answers. */
	KLOOP_OP_FILE_READ,     /* len bytes to ptr, at offset (-1: the file's own); fewer are no error. events 1: poll(2) tells of fd */
	KLOOP_OP_FILE_WRITE,    /* and from ptr */
	KLOOP_OP_OPEN,          /* path at ptr; events: O_*; offset: mode. Cancelled, it leaves no fd */
	KLOOP_OP_CLOSE,         /* fd; can't be cancelled */
	KLOOP_OP_STAT,          /* path at ptr; events: AT_*; struct statx to ptr2 */
	KLOOP_OP_SYNC,          /* fd; events: IORING_FSYNC_DATASYNC or 0 */
	KLOOP_OP_TRUNCATE,      /* fd, to offset bytes */
	KLOOP_OP_RENAME,        /* path at ptr, to path at ptr2; events: RENAME_* */
	KLOOP_OP_UNLINK,        /* path at ptr; events: AT_REMOVEDIR or 0 */
	KLOOP_OP_MKDIR,         /* path at ptr; offset: mode */
	KLOOP_OP_LINK,          /* path at ptr, also at ptr2; events: AT_* */
	KLOOP_OP_SYMLINK,       /* path at ptr2, in fd2, points to the path at ptr */
	KLOOP_OP_READ_DIR,      /* struct linux_dirent64 of fd, to len bytes at ptr */
	KLOOP_OP_READ_LINK,     /* path at ptr, to len2 bytes at ptr2 */
	KLOOP_OP_COPY_RANGE,    /* len bytes from fd to fd2, at the positions of both */
	KLOOP_OP_SEEK,          /* fd, by offset; events: whence */
	KLOOP_OP_CHMOD,         /* fd; offset: mode */
	KLOOP_OP_ALLOCATE,      /* fd: len bytes from offset on; events: FALLOC_FL_* */
	KLOOP_OP_CLONE,         /* fd2 is to share the blocks of fd */
};

enum {
	KLOOP_OP_NEW = 0,
	KLOOP_OP_TAKEN,         /* by the core: id is valid */
	KLOOP_OP_DROPPED,       /* by the host, while it is not taken: its DONE says ECANCELED */
};

struct kloop_op {               /* 72 bytes */
	uint32_t code;          /* KLOOP_OP_ */
	int32_t fd;             /* closing it ends no operation: cancel */
	uint64_t ptr;
	uint64_t len;           /* bytes, more than 0 */
	uint32_t events;        /* poll(2) */
	uint32_t id;            /* core's */
	uint32_t state;
	int32_t fd2;
	uint64_t user;
	uint64_t offset;        /* what follows is for files alone */
	uint64_t ptr2;
	uint64_t len2;
};

/* Who seals and opens the records of a connection. */
enum {
	KLOOP_TLS_HOST = 0,     /* the host's own TLS */
	KLOOP_TLS_GO,           /* the core */
	KLOOP_TLS_KERNEL,       /* kTLS; while it has TX the host may use sendfile(2), once nothing is queued */
	KLOOP_TLS_AUTO,         /* the kernel if it can, else the core */
};

/* Beside an alert, in KLOOP_EV_TLS_FAILED. */
enum { KLOOP_TLS_FROM_PEER = 0x100 };

/* Hints for the kernel, which are dropped where it knows them not. */
enum {
	KLOOP_TLS_ZEROCOPY = 1,   /* TLS_TX_ZEROCOPY_RO: files that are sent do not change */
	KLOOP_TLS_NO_PADDING = 2, /* TLS_RX_EXPECT_NO_PAD */
};

/* What kloop_tls_start() is given of a handshake that the host has made, and its answer. */
struct kloop_tls {              /* 312 bytes */
	uint32_t client;        /* 1: the host's role */
	uint32_t offload;       /* KLOOP_TLS_GO, _KERNEL or _AUTO */
	uint32_t workers;       /* goroutines that seal one large write */
	uint32_t threshold;     /* what is large, in bytes */
	uint32_t background;    /* from so many bytes on, io_uring's threads send what the kernel seals; 0: never */
	uint32_t hints;         /* for the kernel: KLOOP_TLS_ZEROCOPY, KLOOP_TLS_NO_PADDING */
	uint64_t sent;          /* all that this side's handshake has sent, which ends with a whole record */
	uint64_t sent_len;
	uint64_t received;      /* all that the handshake was given, likewise */
	uint64_t received_len;
	uint64_t sent_records;  /* that the host's TLS has sent since */
	uint64_t last_sent;     /* the last of them; 0: there is none */
	uint64_t last_sent_len;
	uint64_t received_records; /* that it has been given since */
	uint64_t last_received;
	uint64_t last_received_len;
	uint64_t behind;        /* what has come behind all that */
	uint64_t behind_len;
	uint64_t log;           /* lines of a key log (RFC 9850); the host wipes them */
	uint64_t log_len;
	uint32_t tx, rx;        /* answer: KLOOP_TLS_; the kernel may follow later, see TLS_MOVED */
	char reason[168];       /* answer: why not otherwise, with a final 0 */
};

/* What is looked up. */
enum {
	KLOOP_LOOKUP_ADDRINFO = 1, /* host, service, family, socktype, protocol, flags: getaddrinfo(3) */
	KLOOP_LOOKUP_NAMEINFO,  /* host: an address as text; port, scope, flags: getnameinfo(3) */
	KLOOP_LOOKUP_RECORDS,   /* host, type: the records of one type (RFC 1035 section 3.2.2) */
	KLOOP_LOOKUP_IP,        /* host, family: its addresses */
	KLOOP_LOOKUP_ADDR,      /* host: an address as text; its names */
};

/* How a lookup ended: the first four bytes of its answer. With all but ANSWER_OK a text follows,
 * up to the answer's end. */
enum {
	KLOOP_ANSWER_OK = 0,
	KLOOP_ANSWER_GAI,       /* an int32_t EAI_ of netdb.h stands before the text */
	KLOOP_ANSWER_ASK_LIBC,  /* libc knows a source of names that the core is not */
	KLOOP_ANSWER_NOT_FOUND,
	KLOOP_ANSWER_NO_DATA,
	KLOOP_ANSWER_SERVER,
	KLOOP_ANSWER_TIMEOUT,
	KLOOP_ANSWER_NAME,
	KLOOP_ANSWER_BUSY,
	KLOOP_ANSWER_CLOSED,
	KLOOP_ANSWER_CANCELED,
	KLOOP_ANSWER_OTHER,
};

/* One of ADDRINFO's results. Before them stand the canonical name, with its size in bytes in a
 * uint32_t before it, and their number, a uint32_t. */
struct kloop_addrinfo {         /* 36 bytes */
	int32_t family;
	int32_t socktype;
	int32_t protocol;
	uint32_t port;
	uint32_t scope;
	uint8_t address[16];    /* IPv4: the first four */
};

/* Answers but ADDRINFO's are one value: a byte that says of what kind it is, and what follows. */
enum {
	KLOOP_VALUE_NONE = 'n',
	KLOOP_VALUE_FALSE = 'f',
	KLOOP_VALUE_TRUE = 't',
	KLOOP_VALUE_INT = 'i',  /* int64_t */
	KLOOP_VALUE_FLOAT = 'd',/* double */
	KLOOP_VALUE_TEXT = 's', /* uint32_t bytes, UTF-8 */
	KLOOP_VALUE_BYTES = 'b',/* likewise, any */
	KLOOP_VALUE_LIST = 'l', /* uint32_t values */
};

struct kloop_lookup {           /* 96 bytes */
	uint64_t resolver;      /* as kloop_resolver_open() gave it */
	uint64_t user;
	uint64_t host, host_len;/* host 0: NULL */
	uint64_t service, service_len;
	uint64_t out, out_size; /* room for an answer that is known at once */
	uint32_t kind;          /* KLOOP_LOOKUP_ */
	uint32_t id;            /* core's answer, for kloop_lookup_cancel() */
	int32_t family, socktype, protocol, flags;
	uint16_t type;          /* of records */
	uint16_t port;
	uint32_t scope;
};

/* Which driver: AUTO is io_uring where this process can have it and it is quick, else epoll. */
enum {
	KLOOP_DRIVER_AUTO = 0,
	KLOOP_DRIVER_IO_URING,
	KLOOP_DRIVER_EPOLL,     /* no system call of io_uring is made */
};

struct kloop_options {          /* 64 bytes */
	uint32_t abi;           /* KLOOP_ABI */
	uint32_t sqpoll;        /* 1: kernel thread submits */
	uint32_t sqpoll_idle_ms;/* 0: default */
	int32_t sqpoll_cpu;     /* -1: any */
	uint32_t spin_us;       /* 0: sleep at once; else spin this long before a sleep, when recent waits were short */
	uint32_t entries;       /* SQ entries; 0: default */
	uint32_t buffers;       /* receive buffers, a power of two; 0: default */
	uint32_t buffer_size;   /* bytes each; 0: default */
	uint32_t debug;         /* 1: write a trace of operations to standard error */
	uint32_t driver;        /* KLOOP_DRIVER_ */
	uint32_t reserved[6];
};

struct kloop_stats {            /* 192 bytes: counters since the loop was made */
	uint64_t enters;        /* io_uring_enter(2), or epoll_wait(2), calls */
	uint64_t enters_submit; /* of these, with something to submit and no wait */
	uint64_t enters_wait;   /* of these, that could sleep */
	uint64_t enters_wakeup; /* of these, only to wake the SQPOLL thread */
	uint64_t submitted;     /* SQEs, or what the epoll driver has for them */
	uint64_t completions;   /* CQEs, likewise */
	uint64_t overflows;     /* times the CQ overflow flag was seen */
	uint64_t bytes_received;
	uint64_t bytes_sent;
	uint64_t rearms;        /* multishot operations armed again after they ended */
	uint64_t nobufs;        /* of these, because no receive buffer was free */
	uint64_t short_sends;   /* quick sends that the kernel took only in part, or not */
	uint64_t direct_sends;  /* sendmsg(2) calls for large writes, sendto(2) for datagrams, writev(2) for pipes */
	uint64_t wakes;         /* wake-ups by other threads */
	uint64_t accepts;
	uint64_t polls;         /* kloop_poll() calls */
	uint64_t spins;         /* waits that ended while spinning */
	uint64_t conns;         /* gauge: live connections and datagram endpoints */
	uint64_t listeners;     /* gauge */
	uint64_t watches;       /* gauge: watches and connects under way */
	uint64_t buffers_out;   /* gauge: receive buffers not in the kernel's hands */
	uint64_t owners_out;    /* gauge: owners not yet released */
	uint64_t operations;    /* gauge: struct kloop_op under way */
	uint64_t go_heap;       /* bytes of Go heap, of all loops of the process, alive at its last collection */
};

/* Shared memory of one loop. The host may read all of it at any time in the
 * loop's thread, and writes only where it says so. */
struct kloop_shared {
	/* Host -> core: host appends at ncmds and counts up; kloop_poll() and
	 * kloop_send_now() take all and set ncmds to 0. When ncmds == max_cmds the host
	 * calls kloop_take() first. */
	struct kloop_cmd *cmds;
	uint32_t ncmds;
	uint32_t max_cmds;
	/* Core -> host: valid until the next kloop_poll(). */
	struct kloop_event *events;
	uint32_t nevents;
	uint32_t max_events;
	/* Core -> host: owners the core has let go; the host takes all and sets
	 * nreleased to 0 after kloop_poll(), kloop_send_now() or kloop_leave(). */
	uint64_t *released;
	uint32_t nreleased;
	uint32_t max_released;
	/* The kernel's words, to see without a call whether kloop_poll(0) would find
	 * anything: *cq_head != *cq_tail, or *sq_flags & poll_mask. With the epoll driver they are
	 * that driver's and tell of what it has, not of what the kernel has: see look_every_ns. */
	const uint32_t *cq_head;
	const uint32_t *cq_tail;
	const uint32_t *sq_flags;
	uint32_t poll_mask;
	uint32_t pending;       /* not 0: the core has work of its own: poll even if the words above say no */
	int32_t wake_fd;        /* eventfd; kloop_wake() writes to it */
	uint32_t sleeping;      /* 1 while kloop_poll() may sleep (atomic, sequentially consistent) */
	const char *driver;     /* "io_uring" or "epoll" */
	const char *driver_reason; /* one line */
	/* With the epoll driver look_every_ns is not 0: nothing but a look tells what the kernel has.
	 * So kloop_poll(0) is due when idle_looks is below KLOOP_IDLE_LOOKS, or when look_ticks of
	 * kloop_ticks() have passed since looked_ticks. */
	uint32_t answered;      /* atomic: goroutines have left answers: poll even if the words above say no */
	uint32_t look_every_ns;
	uint32_t idle_looks;    /* in a row, up to KLOOP_IDLE_LOOKS, that found nothing */
	uint64_t looked_ticks;
	uint64_t look_ticks;
	uint64_t handle;        /* the core's own */
	/* Private to the core */
	int32_t ring_fd;        /* or the epoll set's */
	uint32_t to_submit;
	uint64_t recent_wait_ns;
	struct kloop_stats stats;
};

#define KLOOP_EXPORT __attribute__((visibility("default")))

/* A clock of unknown unit that is read in a third of the time that clock_gettime(2) takes, of
 * which an iteration with a single callback would notice the rest. */
static inline uint64_t kloop_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;
	__asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

#ifndef KLOOP_NO_PROTOTYPES
/* Makes a loop. On failure answers a negative errno and writes one line of text that
 * names the cause and the remedy to reason (cut to reason_size, with a final 0). */
int kloop_open(const struct kloop_options *o, struct kloop_shared **out, char *reason, uint64_t reason_size);
/* Cancels everything, waits for the kernel's answers, releases every owner (take
 * released[] until kloop_close answers 0; it answers 1 while there are more),
 * then frees the shared memory. Valid in any thread. */
int kloop_close(struct kloop_shared *k);

/* To be called when the host starts to run the loop: makes the ring anew if this is
 * another thread than before. */
int kloop_enter_thread(struct kloop_shared *k);
/* To be called when the host stops running the loop: flushes commands, finishes or
 * cancels operations with effects, waits until closing connections are closed as far as
 * that needs no peer. It may leave events: the host takes them. */
int kloop_leave(struct kloop_shared *k);

/* One iteration. timeout_ns < 0: wait until something happens; 0: do not wait.
 * Answers the number of events (0 after a timeout or a wake-up), or -EINTR when a
 * signal ended the wait. Any other negative errno is fatal for the loop. */
int kloop_poll(struct kloop_shared *k, int64_t timeout_ns);
/* Takes the commands without entering the kernel. */
int kloop_take(struct kloop_shared *k);
/* Takes the commands, then sends what this connection has queued at once with sendmsg(2) if no
 * send is under way. Answers the bytes still queued, or the negative errno of a failed send, after
 * which KLOOP_EV_CLOSED follows. */
int64_t kloop_send_now(struct kloop_shared *k, uint32_t id);

/* Each answers an id >= 0, or a negative errno. */
int64_t kloop_conn(struct kloop_shared *k, int fd, uint64_t user);
int64_t kloop_listen(struct kloop_shared *k, int fd, uint64_t user);
int kloop_listen_resume(struct kloop_shared *k, uint32_t id);
/* Ends accepting before it returns, so that the port is free once the host closes
 * fd. No event of this listener follows. */
int kloop_unlisten(struct kloop_shared *k, uint32_t id);
int64_t kloop_connect(struct kloop_shared *k, int fd, const void *sockaddr, uint32_t len, uint64_t user);
/* Polls fd again and again until cancelled (level-triggered as select is: READY is
 * given again while fd stays ready). events: poll(2). */
int64_t kloop_watch(struct kloop_shared *k, int fd, uint32_t events, uint64_t user);
/* Ends a watch or a connect; KLOOP_EV_UNWATCHED follows, unless its CONNECTED came first. */
int kloop_cancel(struct kloop_shared *k, uint32_t id);

/* A datagram socket, which starts paused. Answers an id or a negative errno, as those above. */
int64_t kloop_endpoint(struct kloop_shared *k, int fd, uint64_t user);
/* sendto(2) at once, without waiting (address NULL: to the peer). Answers bytes, or a negative
 * errno: EAGAIN: queue it with KLOOP_CMD_SENDTO, and what follows, until all that have left. */
int64_t kloop_endpoint_send(struct kloop_shared *k, int fd, const void *p, uint64_t len,
			    const void *address, uint32_t address_size);
/* Ends an endpoint before it returns, so that its port is free once the host closes fd. No event
 * of it follows. -ENOENT: it has ended, and DATAGRAM_CLOSED was or will be given. */
int kloop_endpoint_end(struct kloop_shared *k, uint32_t id);

/* kloop_conn() for one direction of a non-blocking pipe, socket or character device;
 * kind: KLOOP_PIPE_*. For a writer READ_RESUME asks for the end of its reader, which
 * EOF tells; WRITE_EOF is CLOSE. */
int64_t kloop_pipe(struct kloop_shared *k, int fd, uint32_t kind, uint64_t user);

/* Protects what connection id receives and sends from now on by TLS records, whose keys
 * follow from the handshake. Takes the commands first: what is queued is sent as it is. Host events that
 * hold more of the stream must be part of t->behind. Answers 0, or a negative errno with t->reason:
 * nothing has changed then, and the host's own TLS has to go on. */
int kloop_tls_start(struct kloop_shared *k, uint32_t id, struct kloop_tls *t);

/* Looks something up. Answers the bytes of the answer at q->out if it is known at once, or
 * -EINPROGRESS: one KLOOP_EV_ANSWER follows, also after a cancel. -ENOENT: no such resolver. */
int64_t kloop_lookup(struct kloop_shared *k, struct kloop_lookup *q);
/* Looks many up: q->id 0 begins them, of q->kind, at most `places` at a time, and sets q->id; q with that id adds more.
 * host, host_len: their hosts, each behind a uint64_t, its ticket, and a uint32_t, its bytes. KLOOP_EV_ANSWERS give
 * answers in the same form, in the order in which they come: when there is a number of them, or after 5 ms. They are over
 * with kloop_lookup_cancel() alone. */
int64_t kloop_lookup_many(struct kloop_shared *k, struct kloop_lookup *q, uint32_t places);
/* Ends a lookup, and the work for it unless others wait for the same. Of many KLOOP_EV_ANSWERS_OVER follows. */
int kloop_lookup_cancel(struct kloop_shared *k, uint32_t id);

/* Resolvers are the process's, for all its loops and any thread. config: lines of "name value";
 * see pybridge/resolver.go. Answers a number above 0, or a negative errno with its reason. */
int64_t kloop_resolver_open(const char *config, uint64_t len, char *reason, uint64_t reason_size);
/* Ends it, and the lookups on it. */
int kloop_resolver_close(uint64_t resolver);
int kloop_resolver_reload(uint64_t resolver, char *reason, uint64_t reason_size);
int64_t kloop_resolver_cache_len(uint64_t resolver);
int kloop_resolver_cache_clear(uint64_t resolver);
/* what: 's' statistics, 'e' the cache's entries, 'c' what applies of resolv.conf, each a value.
 * Answers its bytes; free(3) *out. */
int64_t kloop_resolver_tell(uint64_t resolver, int what, char **out);
/* Closes the descriptors of the process's background loop, which does the resolvers' I/O, and of what it has open. For
 * a forked child, which inherits them: no Go is called. */
void kloop_close_background(void);

/* Ends a sleep of kloop_poll(). For any thread, and for signal handlers. */
void kloop_wake(struct kloop_shared *k);
/* Brings stats up to date; the host then reads k->stats. */
void kloop_stats_refresh(struct kloop_shared *k);
#endif

_Static_assert(sizeof(struct kloop_cmd) == 32, "kloop_cmd");
_Static_assert(sizeof(struct kloop_event) == 32, "kloop_event");
_Static_assert(sizeof(struct kloop_datagram) == 144, "kloop_datagram");
_Static_assert(sizeof(struct kloop_op) == 72, "kloop_op");
_Static_assert(sizeof(struct kloop_tls) == 312, "kloop_tls");
_Static_assert(sizeof(struct kloop_addrinfo) == 36, "kloop_addrinfo");
_Static_assert(sizeof(struct kloop_lookup) == 96, "kloop_lookup");
_Static_assert(sizeof(struct kloop_options) == 64, "kloop_options");
_Static_assert(sizeof(struct kloop_stats) == 192, "kloop_stats");

#endif
