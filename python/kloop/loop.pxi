# LoopCore: the iteration of the loop, and the methods that run per callback.

cdef enum:
    NS_PER_S = 1000000000
    # Hiding handles from the collector costs more than it saves while only few are ready.
    SHOWN_HANDLES = 256
    # A longer sleep is cut into pieces; asyncio.base_events has the same day.
    MAX_SLEEP_S = 24 * 3600
    # While another thread competes for the GIL, giving it up costs that thread's whole turn (5 ms by
    # default): then look for completions this long before giving it up.
    HOLD_GIL_NS = 100000
# A wait for the GIL longer than this, in seconds, means that another thread was computing.
cdef double CONTENDED_S = 0.001
cdef double CLOCK_RESOLUTION_S = 1e-9

cdef object _Future = asyncio.Future

STATS = ('enters', 'enters_submit', 'enters_wait', 'enters_wakeup', 'submitted', 'completions',
         'overflows', 'bytes_received', 'bytes_sent', 'rearms', 'nobufs', 'short_sends',
         'direct_sends', 'wakes', 'accepts', 'polls', 'spins', 'conns', 'listeners', 'watches',
         'buffers_out', 'owners_out', 'operations', 'go_heap')


cdef inline bint _is_elsewhere(LoopCore loop) noexcept:
    """Whether this thread must leave what belongs to the loop's thread alone, and call _defer() instead.

    Under the GIL that is while the loop's thread is in the core, which has no lock; without the GIL,
    whenever the loop runs in another thread.
    """
    cdef unsigned long runs_in
    if not KLOOP_FREE_THREADED:
        return loop.in_core
    runs_in = kloop_load_thread(&loop.runs_in)
    return runs_in != NO_THREAD and runs_in != PyThread_get_thread_ident()


cdef struct Deferred:
    # Of one transport; see transport_methods.pxi.
    size_t calls        # of other threads, that wait for the loop's thread
    size_t size         # bytes that these will write
    bint running        # the loop's thread is in one of them


cdef dict _DRIVERS = {'auto': KLOOP_DRIVER_AUTO, 'io_uring': KLOOP_DRIVER_IO_URING, 'epoll': KLOOP_DRIVER_EPOLL}


cdef class LoopCore:
    cdef kloop_shared *k
    cdef ReadyQueue ready
    cdef ReadyQueue foreign             # call_soon_threadsafe of other threads
    cdef size_t foreign_count           # of its handles, to be read without the lock
    cdef kloop_lock foreign_lock        # guards `foreign`, and that k is not freed under who wakes the loop
    cdef unsigned long runs_in          # the thread in which the loop runs, from _attach_core to _detach_core
    cdef TimerHeap timers
    cdef uint32_t next_event            # events before this one have been dispatched
    cdef list stashed                   # events that were left when the loop stopped
    cdef uint64_t turn                  # counts kloop_poll() calls
    cdef void *last_writer              # the stream that wrote last, only to be compared; see flow.pxi
    cdef uint64_t last_write_turn
    cdef bint suspect                   # the last wait for the GIL was long
    cdef bint contended                 # and so was the one before it, in which other threads had it
    cdef object snapshot                # the variables of the handles scheduled last, see context.pxi
    cdef object runner                  # a context that a callback may run in
    cdef bint in_core                   # the loop's thread is in the core without the GIL
    cdef TLSScratch tls                 # made for the first TLS connection
    cdef readonly uint32_t tls_offload, tls_workers, tls_threshold     # of TLSOptions
    cdef readonly uint64_t tls_after
    cdef readonly double tls_idle
    cdef public bint watches_key_log    # KeyLog.watch(): a look at it is scheduled
    cdef readonly uint32_t tls_background, tls_hints
    cdef uint64_t tls_kernel, tls_go, tls_ssl   # counts of connections by who has their records
    cdef object generation              # of the process that made this loop
    cdef dict streams                   # fd -> StreamCore, until its CLOSED event
    cdef set unlisted                   # streams not in `streams`: pipes, and those whose fd is another's now
    cdef dict endpoints                 # fd -> DatagramCore, until its DATAGRAM_CLOSED event
    cdef PeerTable peers                # None without datagrams
    cdef list retired                   # closed ones that undispatched events may name
    cdef dict receiving                 # socket -> the first SocketCall of those that receive, poll or accept
    cdef dict sending                   # and of those that send
    cdef PyObject *file_calls           # the first FileCall that the core has
    cdef object kept                    # socket -> what cancelled calls had from the kernel; or None
    cdef dict asyncio_transports        # fd -> transport that is not a stream of ours
    cdef Py_ssize_t receive_buffer      # bytes
    cdef set lookups                    # LookupCalls whose ANSWER has not come
    cdef set many_lookups               # ManyLookups whose ANSWERS_OVER has not come
    cdef set operations                 # listeners and watches the core refers to
    cdef object __weakref__
    # asyncio.BaseEventLoop reads and writes these: one copy for both. Three of them other threads look at.
    cdef int closed                     # _closed
    cdef int stopping                   # _stopping
    cdef unsigned long thread_id        # _thread_id, or NO_THREAD
    cdef public bint _debug
    cdef public object _current_handle
    cdef public object _resolver        # UNSET: the process's

    def __cinit__(self, *args, **kwargs):
        self.k = NULL
        self.streams = {}
        self.unlisted = set()
        self.endpoints = {}
        self.receiving = {}
        self.sending = {}
        self.operations = set()
        self.lookups = set()
        self.many_lookups = set()
        self.stashed = []
        self.retired = []
        self.generation = _fork_generation
        self.closed = True      # until asyncio's __init__ has run, so that a failed one is not closed again
        _queue_init(&self.ready)
        _queue_init(&self.foreign)
        kloop_lock_init(&self.foreign_lock)

    def __dealloc__(self):
        _queue_free(&self.ready)
        _queue_free(&self.foreign)
        _heap_free(&self.timers)
        kloop_lock_end(&self.foreign_lock)

    @property
    def _closed(self):
        return kloop_load_flag(&self.closed) != 0

    @_closed.setter
    def _closed(self, bint value):
        kloop_store_flag(&self.closed, value)

    @property
    def _stopping(self):
        return kloop_load_flag(&self.stopping) != 0

    @_stopping.setter
    def _stopping(self, bint value):
        kloop_store_flag(&self.stopping, value)

    @property
    def _thread_id(self):
        cdef unsigned long thread = kloop_load_thread(&self.thread_id)
        return None if thread == NO_THREAD else thread

    @_thread_id.setter
    def _thread_id(self, value):
        kloop_store_thread(&self.thread_id, NO_THREAD if value is None else value)

    # ---- life

    def _open_core(self, *, driver='auto', sqpoll=False, sqpoll_idle_ms=0, sqpoll_cpu=-1, spin_us=0,
                   entries=0, buffers=0, buffer_size=0, trace=False):
        """Makes the driver. Raises DriverUnavailable where the one that is asked for can't be had."""
        cdef kloop_options options
        cdef char reason[REASON_SIZE]
        cdef int result
        cdef int loaded
        if driver not in _DRIVERS:
            raise ValueError(f'driver={driver!r}: use one of {", ".join(map(repr, _DRIVERS))}')
        if sqpoll and driver == 'epoll':
            raise ValueError(
                "sqpoll=True is io_uring's, and driver='epoll' was asked for: leave one of them out")
        loaded = _load_library()
        memset_options(&options)
        options.abi = KLOOP_ABI
        options.driver = _DRIVERS[driver]
        options.sqpoll = 1 if sqpoll else 0
        options.sqpoll_idle_ms = sqpoll_idle_ms
        options.sqpoll_cpu = sqpoll_cpu
        options.spin_us = spin_us
        options.entries = entries
        options.buffers = buffers
        options.buffer_size = buffer_size
        options.debug = 1 if trace else 0
        self.receive_buffer = buffer_size if buffer_size else RECEIVE_BUFFER
        reason[0] = 0
        with nogil:
            result = kloop_lib.open(&options, &self.k, reason, REASON_SIZE)
            if loaded:
                kloop_library_restore()
        if result < 0:
            self.k = NULL
            text = reason.decode(errors='replace') or os.strerror(-result)
            if -result in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN):
                raise OSError(-result, text)
            raise DriverUnavailable(-result, text)

    def _close_core(self):
        """Cancels what the kernel still does for this loop and gives the ring back."""
        cdef kloop_shared *k = self.k
        cdef int more = 1
        if k is NULL:
            return
        kloop_lock_take(&self.foreign_lock)
        self.k = NULL
        kloop_lock_give(&self.foreign_lock)
        if self.generation == _fork_generation:
            while more > 0:
                with nogil:
                    more = kloop_lib.close(k)
                if more > 0:
                    _release_owners(k)
        self._take_foreign()            # so that they end without the lock: their ends may call us
        _queue_clear(&self.ready)
        _heap_free(&self.timers)
        for kind, res, size, _, _ in self.stashed:
            if kind == KLOOP_EV_ACCEPTED:
                posix_close(res)
            elif kind == KLOOP_EV_OPENED and res == 0:
                posix_close(size)
        self.stashed.clear()
        self.retired.clear()
        self.operations.clear()
        _end_calls(self)
        _end_lookups(self)
        _end_many(self)
        _end_file_calls(self)
        streams = [*self.streams.values(), *self.unlisted]
        self.streams.clear()
        self.unlisted.clear()
        for stream in streams:
            (<StreamCore>stream)._core_gone()
        endpoints = list(self.endpoints.values())
        self.endpoints.clear()
        for endpoint in endpoints:
            (<DatagramCore>endpoint)._core_gone()

    cdef int _check_core(self) except -1:
        """Every call into the core comes by here first."""
        self._check_open()
        if _is_elsewhere(self):
            raise RuntimeError(
                'Non-thread-safe operation invoked on an event loop other than the current one')
        return 0

    cdef int _check_open(self) except -1:
        if self.generation != _fork_generation:
            raise RuntimeError(
                'this event loop belongs to the parent process and cannot be used after fork(); '
                'make a new loop in the child, for example with asyncio.run() or kloop.run()')
        if self.k is NULL:
            raise RuntimeError('Event loop is closed')
        return 0

    def _close_inherited(self):
        """In a forked child: closes what it inherited, so that the parent's listeners end with the parent.

        Only in the first generation: in a child's child these numbers may be other files.
        """
        kloop_lock_init(&self.foreign_lock)     # a thread that is not here may have held it
        if self.k is not NULL and self.generation + 1 == _fork_generation:
            posix_close(kloop_ring_fd(self.k))
            posix_close(kloop_wake_fd(self.k))

    @property
    def driver(self):
        """What carries this loop's I/O: 'io_uring' or 'epoll'."""
        self._check_open()
        return self.k.driver.decode()

    @property
    def driver_reason(self):
        """Why this driver was chosen, in words."""
        self._check_open()
        return self.k.driver_reason.decode()

    def stats(self):
        """Counters since the loop was made, and gauges, by the names of ``struct kloop_stats``.

        ``conns``, ``listeners``, ``watches``, ``buffers_out`` and ``owners_out`` are gauges;
        ``enters`` counts io_uring_enter(2) calls, with epoll those of epoll_wait(2); ``go_heap`` is in
        bytes, as the process's last garbage collection of Go left it. ``tls_kernel``, ``tls_go`` and
        ``tls_ssl`` count TLS connections by who took over their records: the kernel, the core, or nobody,
        for a reason that get_extra_info('kloop_tls') tells. ``lookups`` is the gauge of names being looked up.
        """
        self._check_core()
        kloop_lib.stats_refresh(self.k)
        # The fields are uint64_t in the order of STATS.
        cdef uint64_t *values = <uint64_t *>&self.k.stats
        counters = {name: values[i] for i, name in enumerate(STATS)}
        return {**counters, 'tls_kernel': self.tls_kernel, 'tls_go': self.tls_go, 'tls_ssl': self.tls_ssl,
                'lookups': len(self.lookups) + _count_many(self)}

    def _set_tls_options(self, options):
        self.tls_offload = _OFFLOADS[options.offload]
        self.tls_workers = options.count_workers()
        self.tls_after = options.after
        self.tls_idle = options.idle
        self.tls_background = options.background
        self.tls_hints = ((KLOOP_TLS_ZEROCOPY if options.zerocopy else 0)
                          | (KLOOP_TLS_NO_PADDING if options.no_padding else 0))
        self.tls_threshold = options.threshold

    # ---- scheduling

    cdef inline int _push(self, object handle) except -1:
        if self.closed:
            self._check_closed()
        if KLOOP_FREE_THREADED and _is_elsewhere(self):
            return self._push_foreign(handle)
        if kloop_peek_size(&self.foreign_count):
            self._take_foreign()
        Py_INCREF(handle)
        return _queue_push(&self.ready, <PyObject *>handle)

    cdef int _take_foreign(self) except -1:
        """Moves what other threads have scheduled behind what is ready."""
        kloop_lock_take(&self.foreign_lock)
        try:
            _queue_append(&self.ready, &self.foreign)
        finally:
            kloop_store_size(&self.foreign_count, self.foreign.count)
            kloop_lock_give(&self.foreign_lock)
        return 0

    cdef int _push_foreign(self, object handle) except -1:
        Py_INCREF(handle)
        kloop_lock_take(&self.foreign_lock)
        try:
            _queue_push(&self.foreign, <PyObject *>handle)
            kloop_store_size(&self.foreign_count, self.foreign.count)
            # A forked child has no part in the parent's loop: its descriptors may be other files here.
            if self.k is not NULL and self.generation == _fork_generation and kloop_is_sleeping(self.k):
                kloop_lib.wake(self.k)
        finally:
            kloop_lock_give(&self.foreign_lock)
        return 0

    def call_soon(self, callback, *args, context=None):
        """Arranges for callback(*args) to be called in the next iteration; answers a Handle."""
        cdef Handle handle
        if self.closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, 'call_soon')
        handle = _new_handle(self, callback, args, context)
        if KLOOP_FREE_THREADED and _is_elsewhere(self):
            self._push_foreign(handle)
            return handle
        self._push(handle)
        if self.ready.count > SHOWN_HANDLES:
            _hide_from_gc(handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """As call_soon, from any thread."""
        cdef Handle handle
        if kloop_load_flag(&self.closed):
            self._check_closed()
        if self._debug:
            self._check_callback(callback, 'call_soon_threadsafe')
        handle = _new_foreign_handle(self, callback, args, context)
        _hide_from_gc(handle)
        self._push_foreign(handle)
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Arranges for callback(*args) to be called after delay seconds; answers a TimerHandle."""
        if delay is None:
            raise TypeError('delay must not be None')
        return self._schedule(_monotonic() + delay, callback, args, context, 'call_later')

    def call_at(self, when, callback, *args, context=None):
        """As call_later, at an absolute time in seconds of loop.time()."""
        if when is None:
            raise TypeError('when cannot be None')
        handle = self._schedule(when, callback, args, context, 'call_at')
        (<TimerHandle>handle)._whole = type(when) is int
        return handle

    cdef TimerHandle _schedule(self, double when, callback, tuple args, context, str method):
        cdef TimerHandle handle
        if self.closed:
            self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
        handle = TimerHandle.__new__(TimerHandle)
        _fill_handle(handle, self, callback, args, context)
        handle._at = when
        if KLOOP_FREE_THREADED and _is_elsewhere(self):
            self._defer(self._start_deferred_timer, (handle,))
        else:
            self._start_timer(handle)
        return handle

    cdef inline int _start_timer(self, TimerHandle handle) except -1:
        _heap_push(&self.timers, handle._at, handle)
        handle._scheduled = True
        _hide_from_gc(handle)
        return 0

    def _start_deferred_timer(self, TimerHandle handle):
        if not kloop_load_flag(&handle.gone):
            self._start_timer(handle)

    cdef int _timer_cancelled(self, TimerHandle handle) except -1:
        """A handle of the heap was cancelled."""
        cdef TimerHeap *heap = &self.timers
        handle.counted = True
        heap.cancelled += 1
        if heap.count > TIMERS_SWEEP_MIN and heap.cancelled * 2 > heap.count:
            _heap_sweep(heap)
        return 0

    def _count_cancelled(self, TimerHandle handle):
        """Another thread has cancelled the handle, which may have left the heap since."""
        if handle._scheduled:
            self._timer_cancelled(handle)

    def _timer_handle_cancelled(self, handle):
        """For asyncio's own TimerHandle, which none of our methods makes."""

    def _add_callback(self, handle):
        if not handle._cancelled:
            self._push(handle)

    def _run_now(self, handle):
        """Runs a handle inside an event: what it reads must be gone before the next poll looks."""
        if handle._cancelled:
            return
        if self._debug:
            self._run_timed(handle)
        else:
            handle._run()

    cdef int _defer(self, object function, tuple args) except -1:
        """Has the loop's thread call the function: for a thread to which _is_elsewhere says so."""
        return self._push_foreign(_new_handle(self, function, args, None))

    def _add_callback_signalsafe(self, handle):
        if not handle._cancelled:
            self._push_foreign(handle)

    def time(self):
        """Seconds of the monotonic clock."""
        return _monotonic()

    def create_future(self):
        """A Future of this loop."""
        return _Future(loop=self)

    # ---- running

    def _attach_core(self):
        """Before the loop runs: binds the ring to this thread."""
        cdef int result
        self._check_core()
        kloop_store_thread(&self.runs_in, PyThread_get_thread_ident())
        self.in_core = True
        with nogil:
            result = kloop_lib.enter_thread(self.k)
        self.in_core = False
        if result < 0:
            kloop_store_thread(&self.runs_in, NO_THREAD)
            raise _os_error(-result)

    def _detach_core(self):
        """After the loop ran: what was written is sent, what was closed is closed."""
        try:
            self._leave_core()
        finally:
            kloop_store_thread(&self.runs_in, NO_THREAD)

    cdef int _leave_core(self) except -1:
        cdef int result
        self.snapshot = self.runner = None
        if self.generation != _fork_generation or self.k is NULL:
            return 0
        _stash_events(self)
        if self.tls is not None:
            _flush_all(self.tls)
        self.in_core = True
        with nogil:
            result = kloop_lib.leave(self.k)
        self.in_core = False
        _release_owners(self.k)
        self.next_event = 0
        _stash_events(self)
        if result < 0:
            raise _os_error(-result)
        return 0

    def _run(self):
        while True:
            self._iterate()
            if kloop_load_flag(&self.stopping):
                break

    def _run_once(self):
        self._iterate()

    cdef int _iterate(self) except -1:
        """One iteration: wait if nothing is ready, dispatch events, run what was ready."""
        cdef int64_t timeout_ns
        if self.generation != _fork_generation or self.k is NULL:
            self._check_core()
        if self.stashed:
            _dispatch_stashed(self)
        if self.next_event < self.k.nevents:    # an exception had cut an earlier iteration short
            _dispatch(self)                    # and the next poll would reuse their memory
        if self.tls is not None and self.tls.unflushed:
            _flush_all(self.tls)
        if kloop_load_size(&self.foreign_count):
            self._take_foreign()
        timeout_ns = self._timeout_ns()
        if timeout_ns != 0 and (self.snapshot is not None or self.runner is not None):
            self.snapshot = self.runner = None      # no value lives on for a loop that sleeps,
            timeout_ns = self._timeout_ns()         # but its end may schedule something
        if timeout_ns != 0 or kloop_has_work(self.k):
            self._poll(timeout_ns)
            if self.k.nevents:
                _queue_push(&self.ready, EVENTS_HERE)
            if kloop_load_size(&self.foreign_count):
                self._take_foreign()
        if self.timers.count:
            self._collect_timers()
        self._run_ready()
        return 0

    cdef inline int64_t _timeout_ns(self) noexcept:
        cdef double left
        if self.ready.count or kloop_load_flag(&self.stopping):
            return 0
        while self.timers.count and kloop_load_flag(&(<TimerHandle>self.timers.items[0].handle).gone):
            self._drop_first_timer()
        if self.ready.count:    # by the end of what a dropped timer's context held
            return 0
        if self.timers.count == 0:
            return -1
        left = self.timers.items[0].when - _monotonic()
        if left <= 0:
            return 0
        if not left < MAX_SLEEP_S:      # so written, NaN is long too
            left = MAX_SLEEP_S
        return <int64_t>(left * NS_PER_S) + 1

    cdef void _drop_first_timer(self) noexcept:
        cdef PyObject *handle = _heap_pop(&self.timers)
        (<TimerHandle>handle)._scheduled = False
        if (<TimerHandle>handle).counted:
            self.timers.cancelled -= 1
        _drop_handle(handle)

    cdef int _collect_timers(self) except -1:
        cdef double now
        cdef PyObject *handle
        if self.timers.count == 0:
            return 0
        now = _monotonic() + CLOCK_RESOLUTION_S
        while self.timers.count and self.timers.items[0].when < now:
            if kloop_load_flag(&(<TimerHandle>self.timers.items[0].handle).gone):
                self._drop_first_timer()
                continue
            handle = _heap_pop(&self.timers)
            (<TimerHandle>handle)._scheduled = False
            _queue_push(&self.ready, handle)
        return 0

    cdef int _run_ready(self) except -1:
        """Runs what was ready at the start; what that schedules waits for the next iteration.

        Events are dispatched behind what was ready before them, and before timers: on asyncio
        too, a task that waits for create_connection() goes on before the first data arrive.
        """
        cdef size_t left = self.ready.count
        cdef object handle
        cdef PyObject *item
        while left:
            left -= 1
            if self.ready.count == 0:           # the loop was closed by a callback's exception path
                break
            item = _queue_pop(&self.ready)
            if item is EVENTS_HERE:
                _dispatch(self)
                continue
            handle = <object>item
            Py_DECREF(handle)
            if type(handle) is Handle or type(handle) is TimerHandle:
                _show_to_gc(<Handle>handle)
                if kloop_load_flag(&(<Handle>handle).gone):
                    continue
                if self._debug:
                    self._run_timed(handle)
                else:
                    _run_handle(<Handle>handle)
            elif type(handle) is ThreadSafeHandle:
                _show_to_gc(<Handle>handle)
                if self._debug:
                    self._run_timed(handle)
                else:
                    _run_thread_safe(<ThreadSafeHandle>handle)
            elif not handle._cancelled:
                if self._debug:
                    self._run_timed(handle)
                else:
                    handle._run()
        return 0

    cdef int _run_timed(self, object handle) except -1:
        cdef double start
        self._current_handle = handle
        try:
            start = _monotonic()
            handle._run()
            self._warn_if_slow(handle, _monotonic() - start)
        finally:
            self._current_handle = None
        return 0

    cdef int _warn_if_slow(self, object handle, double took) except -1:
        if took >= self.slow_callback_duration:
            # What an event calls is no handle; a stream says which transport it is.
            name = (asyncio.base_events._format_handle(handle) if hasattr(handle, '_callback')
                    else repr(handle))
            asyncio.base_events.logger.warning('Executing %s took %.3f seconds', name, took)
        return 0

    # ---- the kernel

    cdef int _poll(self, int64_t timeout_ns) except -1:
        cdef int result = 0
        cdef PyThreadState *state
        if self.retired:
            self.retired.clear()
        if timeout_ns == 0:
            result = kloop_lib.poll(self.k, 0)
        else:
            if self.contended:
                result = self._poll_holding_gil()
            if result == 0:
                # Set before the queue is looked at: whoever pushes later sees it and wakes us.
                kloop_set_sleeping(self.k, 1)
                if kloop_load_size(&self.foreign_count):
                    timeout_ns = 0
                self.in_core = True
                state = PyEval_SaveThread()
                result = kloop_lib.poll(self.k, timeout_ns)
                self._take_gil(state)
                self.in_core = False
                kloop_set_sleeping(self.k, 0)
        self.next_event = 0
        self.turn += 1
        _release_owners(self.k)
        if result < 0 and result != -EINTR:
            raise _os_error(-result)
        if result < 0 or timeout_ns != 0:
            # Not only after EINTR: a sleep that submitted something answers success.
            PyErr_CheckSignals()
        return 0

    cdef int _take_gil(self, PyThreadState *state) noexcept:
        """Takes the GIL back, and learns whether other threads compete for it.

        A long wait alone doesn't tell: this thread may have had no CPU, which holding the GIL would
        not mend. Who waits for the GIL sleeps, and the next long wait is looked at for that.
        """
        cdef double before
        cdef long sleeps = 0
        if KLOOP_FREE_THREADED:     # nobody competes; and who keeps the collector from stopping us should be short
            PyEval_RestoreThread(state)
            return 0
        before = _monotonic()
        if self.suspect:
            sleeps = kloop_sleeps()
        PyEval_RestoreThread(state)
        if _monotonic() - before <= CONTENDED_S:
            self.suspect = self.contended = False
            return 0
        self.contended = self.suspect and kloop_sleeps() != sleeps
        self.suspect = True
        return 0

    cdef int _poll_holding_gil(self) noexcept:
        """Looks for completions for a short while; answers the number of events."""
        cdef double end = _monotonic() + HOLD_GIL_NS * 1e-9
        cdef int result = kloop_lib.poll(self.k, 0)
        while result == 0 and _monotonic() < end:
            if kloop_has_work(self.k):
                result = kloop_lib.poll(self.k, 0)
            elif kloop_load_size(&self.foreign_count):
                break
        return result

    # ---- operations

    cdef inline kloop_cmd *_command(self, uint32_t op, uint32_t id) except NULL:
        """The next free command; its other fields are 0."""
        cdef kloop_shared *k = self.k
        cdef kloop_cmd *command
        if k is NULL or _is_elsewhere(self):
            self._check_core()
        if k.ncmds == k.max_cmds:
            self._check_core()
            kloop_lib.take(k)
        command = &k.cmds[k.ncmds]
        command.op = op
        command.id = id
        command.ptr = 0
        command.len = 0
        command.owner = 0
        k.ncmds += 1
        return command

    def _watch(self, int fd, uint32_t mask, callback):
        """Calls callback(revents) while fd is ready for mask (poll(2)); answers an Operation."""
        cdef Operation operation = Operation.__new__(Operation)
        self._check_open()
        operation.loop = self
        operation.callback = callback
        operation.fd = fd
        operation.mask = mask
        if _is_elsewhere(self):
            operation.deferred = True
            self._defer(operation._start_deferred, ())
        else:
            operation._start()
        return operation

    cdef int _check_descriptor(self, int fd) except -1:
        """Raises RuntimeError if a transport uses fd."""
        if self.asyncio_transports is None:
            self.asyncio_transports = self._transports.data
        if self.streams or self.endpoints or self.asyncio_transports:
            self._ensure_fd_no_transport(fd)
        return 0

    def _transport_of(self, fd):
        """The transport that uses fd, or None."""
        cdef StreamCore stream = self.streams.get(fd)
        cdef DatagramCore endpoint = self.endpoints.get(fd)
        if endpoint is not None:
            return endpoint.transport
        return None if stream is None else stream.transport
