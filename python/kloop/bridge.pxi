# The C ABI of the Go core, and loading it.

cdef extern from "Python.h":
    object PyObject_CallNoArgs(object callable)
    object PyObject_CallOneArg(object callable, object arg)
    object PyContext_CopyCurrent()
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t PyTuple_GET_SIZE(object)
    Py_ssize_t Py_REFCNT(object)
    void PyObject_GC_Track(PyObject *)
    void PyObject_GC_UnTrack(PyObject *)
    bint PyObject_GC_IsTracked(PyObject *)
    ctypedef struct PyThreadState:
        PyObject *context
    PyThreadState *PyThreadState_Get()
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)
    unsigned long PyThread_get_thread_ident() nogil

cdef extern from *:
    """
    /* Guards what several Python threads touch, for a few instructions without a call of Python.
     * Under the GIL they are alone anyway. */
    #ifdef Py_GIL_DISABLED
    #include <pthread.h>
    #define KLOOP_FREE_THREADED 1
    typedef pthread_mutex_t kloop_lock;
    #define kloop_lock_init(l) pthread_mutex_init((l), NULL)
    #define kloop_lock_take(l) pthread_mutex_lock(l)
    #define kloop_lock_give(l) pthread_mutex_unlock(l)
    #define kloop_lock_end(l) pthread_mutex_destroy(l)
    #define kloop_lock_reset(l) ((void)memset((l), 0, sizeof(*(l))))
    #else
    #define KLOOP_FREE_THREADED 0
    typedef char kloop_lock;
    #define kloop_lock_init(l) ((void)(l))
    #define kloop_lock_take(l) ((void)(l))
    #define kloop_lock_give(l) ((void)(l))
    #define kloop_lock_end(l) ((void)(l))
    #define kloop_lock_reset(l) ((void)(l))
    #endif

    /* Guards the key log. It needs no kloop_lock_init(): all zero is a mutex that is free. */
    static kloop_lock kloop_key_log_lock;

    /* Whether the caller's reference is the only one. Without the GIL a count of 1 may be another thread's. */
    static inline int kloop_is_unique(PyObject *object)
    {
    #if !KLOOP_FREE_THREADED
        return Py_REFCNT(object) == 1;
    #elif PY_VERSION_HEX >= 0x030E0000
        return PyUnstable_Object_IsUniquelyReferenced(object);
    #else
        return 0;
    #endif
    }

    /* Words that other threads read or write too. */
    static inline size_t kloop_load_size(const size_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void kloop_store_size(size_t *p, size_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    static inline void kloop_add_size(size_t *p, size_t v) { __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
    static inline void kloop_take_size(size_t *p, size_t v) { __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }
    static inline size_t kloop_peek_size(const size_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline unsigned long kloop_load_thread(const unsigned long *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void kloop_store_thread(unsigned long *p, unsigned long v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    /* For another thread than the one that writes: what it answers may be old. */
    __attribute__((no_sanitize_thread, noinline))
    static uint64_t kloop_glance(const uint64_t *p) { return *(const volatile uint64_t *)p; }
    __attribute__((no_sanitize_thread, noinline))
    static int kloop_glance_flag(const unsigned char *p) { return *(const volatile unsigned char *)p; }
    static inline int kloop_load_flag(const int *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void kloop_store_flag(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    """
    bint KLOOP_FREE_THREADED
    bint kloop_is_unique(object)
    size_t kloop_load_size(const size_t *) nogil
    void kloop_store_size(size_t *, size_t) nogil
    void kloop_add_size(size_t *, size_t) nogil
    void kloop_take_size(size_t *, size_t) nogil
    size_t kloop_peek_size(const size_t *) nogil
    unsigned long kloop_load_thread(const unsigned long *) nogil
    void kloop_store_thread(unsigned long *, unsigned long) nogil
    uint64_t kloop_glance(const uint64_t *) nogil
    bint kloop_glance_flag(const unsigned char *) nogil
    bint kloop_load_flag(const int *) nogil
    void kloop_store_flag(int *, int) nogil
    ctypedef struct kloop_lock:
        pass
    void kloop_lock_init(kloop_lock *)
    void kloop_lock_take(kloop_lock *)
    void kloop_lock_give(kloop_lock *)
    void kloop_lock_end(kloop_lock *)
    void kloop_lock_reset(kloop_lock *)
    kloop_lock kloop_key_log_lock

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int getpeername(int fd, sockaddr *address, socklen_t *size)
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL
    int getsockname(int fd, sockaddr *address, socklen_t *size)

cdef extern from "<errno.h>":
    enum:
        ECANCELED       # which Cython's libc.errno lacks

cdef extern from "<poll.h>":
    enum:
        POLLIN, POLLOUT

cdef extern from "<netinet/in.h>":
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>":
    enum:
        TCP_NODELAY

cdef extern from *:
    """
    #include "library.h"

    /* Sequentially consistent, since wakers and the sleeper look at each other's word. */
    static inline void kloop_set_sleeping(struct kloop_shared *k, uint32_t v)
    { __atomic_store_n(&k->sleeping, v, __ATOMIC_SEQ_CST); }
    static inline uint32_t kloop_is_sleeping(struct kloop_shared *k)
    { return __atomic_load_n(&k->sleeping, __ATOMIC_SEQ_CST); }

    /* How often this thread has gone to sleep: voluntary context switches. */
    static inline long kloop_sleeps(void)
    {
        struct rusage usage;
        return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
    }

    /* Whether to look at an epoll set, which has no words in shared memory. */
    static inline int kloop_look_is_due(const struct kloop_shared *k)
    {
        return k->idle_looks < KLOOP_IDLE_LOOKS || kloop_ticks() - k->looked_ticks >= k->look_ticks;
    }

    /* Whether kloop_poll(k, 0) could find anything. */
    static inline int kloop_has_work(const struct kloop_shared *k)
    {
        return k->ncmds || k->pending || __atomic_load_n(&k->answered, __ATOMIC_ACQUIRE)
            || __atomic_load_n(k->cq_tail, __ATOMIC_ACQUIRE) != *k->cq_head
            || (__atomic_load_n(k->sq_flags, __ATOMIC_RELAXED) & k->poll_mask)
            || (k->look_every_ns && kloop_look_is_due(k));
    }
    static inline void memset_options(struct kloop_options *o) { memset(o, 0, sizeof(*o)); }
    static inline int kloop_ring_fd(const struct kloop_shared *k) { return k->ring_fd; }
    static inline int kloop_wake_fd(const struct kloop_shared *k) { return k->wake_fd; }
    """
    struct kloop_cmd:
        uint32_t op
        uint32_t id
        uint64_t ptr
        uint64_t len
        uint64_t owner
    struct kloop_event:
        uint32_t kind
        int32_t res
        uint64_t user
        uint64_t ptr
        uint64_t len
    struct kloop_datagram:
        uint32_t address_size
        uint32_t size
        unsigned char address[128]
    struct kloop_op:
        uint32_t code
        int32_t fd
        uint64_t ptr
        uint64_t len
        uint32_t events
        uint32_t id
        uint32_t state
        int32_t fd2
        uint64_t user
        uint64_t offset
        uint64_t ptr2
        uint64_t len2
    struct kloop_options:
        uint32_t abi
        uint32_t sqpoll
        uint32_t sqpoll_idle_ms
        int32_t sqpoll_cpu
        uint32_t spin_us
        uint32_t entries
        uint32_t buffers
        uint32_t buffer_size
        uint32_t debug
        uint32_t driver
    struct kloop_stats:
        uint64_t enters, enters_submit, enters_wait, enters_wakeup, submitted, completions, overflows
        uint64_t bytes_received, bytes_sent, rearms, nobufs, short_sends, direct_sends, wakes, accepts
        uint64_t polls, spins, conns, listeners, watches, buffers_out, owners_out, operations, go_heap
    struct kloop_shared:
        kloop_cmd *cmds
        uint32_t ncmds, max_cmds
        kloop_event *events
        uint32_t nevents, max_events
        uint64_t *released
        uint32_t nreleased, max_released
        const char *driver
        const char *driver_reason
        kloop_stats stats
    struct kloop_tls:
        uint32_t client, offload, workers, threshold, background, hints
        uint64_t sent, sent_len, received, received_len
        uint64_t sent_records, last_sent, last_sent_len, received_records, last_received, last_received_len
        uint64_t behind, behind_len, log, log_len
        uint32_t tx, rx
        char reason[168]
    struct kloop_addrinfo:
        int32_t family, socktype, protocol
        uint32_t port, scope
        unsigned char address[16]
    struct kloop_lookup:
        uint64_t resolver, user, host, host_len, service, service_len, out, out_size
        uint32_t kind, id
        int32_t family, socktype, protocol, flags
        uint16_t type, port
        uint32_t scope
    struct kloop_library:
        int (*open)(const kloop_options *, kloop_shared **, char *, uint64_t) noexcept nogil
        int (*close)(kloop_shared *) noexcept nogil
        int (*enter_thread)(kloop_shared *) noexcept nogil
        int (*leave)(kloop_shared *) noexcept nogil
        int (*poll)(kloop_shared *, int64_t) noexcept nogil
        int (*take)(kloop_shared *) noexcept nogil
        int64_t (*send_now)(kloop_shared *, uint32_t) noexcept nogil
        int64_t (*conn)(kloop_shared *, int, uint64_t) noexcept nogil
        int64_t (*listen)(kloop_shared *, int, uint64_t) noexcept nogil
        int (*listen_resume)(kloop_shared *, uint32_t) noexcept nogil
        int (*unlisten)(kloop_shared *, uint32_t) noexcept nogil
        int64_t (*connect)(kloop_shared *, int, const void *, uint32_t, uint64_t) noexcept nogil
        int64_t (*watch)(kloop_shared *, int, uint32_t, uint64_t) noexcept nogil
        int (*cancel)(kloop_shared *, uint32_t) noexcept nogil
        int64_t (*pipe)(kloop_shared *, int, uint32_t, uint64_t) noexcept nogil
        void (*wake)(kloop_shared *) noexcept nogil
        void (*stats_refresh)(kloop_shared *) noexcept nogil
        int64_t (*endpoint)(kloop_shared *, int, uint64_t) noexcept nogil
        int (*endpoint_end)(kloop_shared *, uint32_t) noexcept nogil
        int64_t (*endpoint_send)(kloop_shared *, int, const void *, uint64_t, const void *, uint32_t) noexcept nogil
        int (*tls_start)(kloop_shared *, uint32_t, kloop_tls *) noexcept nogil
        int64_t (*lookup)(kloop_shared *, kloop_lookup *) noexcept nogil
        int64_t (*lookup_many)(kloop_shared *, kloop_lookup *, uint32_t) noexcept nogil
        int (*lookup_cancel)(kloop_shared *, uint32_t) noexcept nogil
        int64_t (*resolver_open)(const char *, uint64_t, char *, uint64_t) noexcept nogil
        int (*resolver_close)(uint64_t) noexcept nogil
        int (*resolver_reload)(uint64_t, char *, uint64_t) noexcept nogil
        int64_t (*resolver_cache_len)(uint64_t) noexcept nogil
        int (*resolver_cache_clear)(uint64_t) noexcept nogil
        int64_t (*resolver_tell)(uint64_t, int, char **) noexcept nogil
        void (*close_background)() noexcept nogil
    kloop_library kloop_lib
    int kloop_library_load(const char *path, int copy, char *reason, size_t size) nogil
    void kloop_library_restore() nogil
    void kloop_set_sleeping(kloop_shared *, uint32_t) nogil
    bint kloop_is_sleeping(kloop_shared *) nogil
    long kloop_sleeps() nogil
    bint kloop_has_work(const kloop_shared *) nogil
    void memset_options(kloop_options *) nogil
    int kloop_ring_fd(const kloop_shared *) nogil
    int kloop_wake_fd(const kloop_shared *) nogil
    enum:
        KLOOP_ABI
        KLOOP_DRIVER_AUTO, KLOOP_DRIVER_IO_URING, KLOOP_DRIVER_EPOLL
        KLOOP_CMD_WRITE, KLOOP_CMD_WRITE_EOF, KLOOP_CMD_READ_PAUSE, KLOOP_CMD_READ_RESUME
        KLOOP_CMD_CLOSE, KLOOP_CMD_ABORT, KLOOP_CMD_SENDTO, KLOOP_CMD_OP, KLOOP_CMD_OP_CANCEL
        KLOOP_CMD_TLS_CLOSE, KLOOP_CMD_TLS_RETURN, KLOOP_CMD_TLS_EMITTED, KLOOP_CMD_TLS_SENT
        KLOOP_OP_RECEIVE, KLOOP_OP_RECEIVE_INTO, KLOOP_OP_SEND, KLOOP_OP_POLL
        KLOOP_OP_FILE_READ, KLOOP_OP_FILE_WRITE, KLOOP_OP_OPEN, KLOOP_OP_CLOSE, KLOOP_OP_STAT, KLOOP_OP_SYNC
        KLOOP_OP_TRUNCATE, KLOOP_OP_RENAME, KLOOP_OP_UNLINK, KLOOP_OP_MKDIR, KLOOP_OP_LINK, KLOOP_OP_SYMLINK
        KLOOP_OP_READ_DIR, KLOOP_OP_READ_LINK, KLOOP_OP_COPY_RANGE, KLOOP_OP_SEEK, KLOOP_OP_CHMOD
        KLOOP_OP_ALLOCATE, KLOOP_OP_CLONE
        KLOOP_OP_NEW, KLOOP_OP_TAKEN, KLOOP_OP_DROPPED
        KLOOP_EV_ACCEPTED, KLOOP_EV_ACCEPT_ERROR, KLOOP_EV_CONNECTED, KLOOP_EV_DATA, KLOOP_EV_EOF
        KLOOP_EV_BACKLOG, KLOOP_EV_SENT, KLOOP_EV_CLOSED, KLOOP_EV_READY, KLOOP_EV_UNWATCHED
        KLOOP_EV_PANIC
        KLOOP_EV_DATAGRAM, KLOOP_EV_DATAGRAM_SENT, KLOOP_EV_DATAGRAM_ERROR, KLOOP_EV_DATAGRAM_CLOSED
        KLOOP_EV_DONE, KLOOP_EV_TLS_MESSAGE, KLOOP_EV_TLS_FAILED, KLOOP_EV_TLS_RETURNED, KLOOP_EV_TLS_MOVED
        KLOOP_EV_OPENED
        KLOOP_EV_ANSWER, KLOOP_EV_ANSWERS, KLOOP_EV_ANSWERS_OVER
        KLOOP_LOOKUP_ADDRINFO, KLOOP_LOOKUP_NAMEINFO, KLOOP_LOOKUP_RECORDS, KLOOP_LOOKUP_IP, KLOOP_LOOKUP_ADDR
        KLOOP_ANSWER_OK, KLOOP_ANSWER_GAI, KLOOP_ANSWER_ASK_LIBC, KLOOP_ANSWER_NOT_FOUND, KLOOP_ANSWER_NO_DATA
        KLOOP_ANSWER_SERVER, KLOOP_ANSWER_TIMEOUT, KLOOP_ANSWER_NAME, KLOOP_ANSWER_BUSY, KLOOP_ANSWER_CLOSED
        KLOOP_ANSWER_CANCELED, KLOOP_ANSWER_OTHER
        KLOOP_VALUE_NONE, KLOOP_VALUE_FALSE, KLOOP_VALUE_TRUE, KLOOP_VALUE_INT, KLOOP_VALUE_FLOAT
        KLOOP_VALUE_TEXT, KLOOP_VALUE_BYTES, KLOOP_VALUE_LIST
        KLOOP_TLS_FROM_PEER, KLOOP_TLS_ZEROCOPY, KLOOP_TLS_NO_PADDING, KLOOP_TLS_HOST, KLOOP_TLS_GO, KLOOP_TLS_KERNEL, KLOOP_TLS_AUTO

cdef enum:
    REASON_SIZE = 1024

cdef object _library_lock = threading.Lock()
cdef object _loaded_in = None       # pid of the process whose threads the loaded library has
cdef object _loaded_generation = None   # and its _fork_generation
cdef object _fork_generation = 0    # counts forks between the first process and this one


def _after_fork_in_child():
    """Marks what the child has inherited as another process's."""
    global _fork_generation, _library_lock
    _fork_generation += 1
    _library_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


cdef int _load_library() except -1:
    """Loads the Go core once in each process, when the first loop is made; answers whether it did."""
    global _loaded_in, _loaded_generation
    cdef char reason[REASON_SIZE]
    cdef bytes path
    cdef int copy, result
    with _library_lock:
        if _loaded_in == os.getpid():
            return 0
        path = os.fsencode(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'libkloop.so'))
        copy = _loaded_in is not None
        reason[0] = 0
        result = kloop_library_load(path, copy, reason, REASON_SIZE)
        if result < 0:
            raise ImportError(
                f'kloop: cannot load the Go core: {reason.decode(errors="replace")}; '
                f'reinstall kloop-go for this platform')
        _loaded_in = os.getpid()
        _loaded_generation = _fork_generation
    return 1


cdef inline double _monotonic() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <double>at.tv_sec + <double>at.tv_nsec * 1e-9


cdef object _os_error(int code):
    return OSError(code, os.strerror(code))
