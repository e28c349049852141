# Handle and TimerHandle: what call_soon, call_later and call_at answer, with the
# attributes and texts of asyncio.Handle.


cdef enum:
    NO_THREAD = 0       # pthread_self(3) is the address of a thread's block, never 0


cdef object _run_failed(object handle, object exc):
    """Reports an exception of a callback as asyncio.Handle._run does."""
    callback = _format_callback(handle)
    context = {
        'message': f'Exception in callback {callback}',
        'exception': exc,
        'handle': handle,
    }
    if handle._source_traceback:
        context['source_traceback'] = handle._source_traceback
    handle._loop.call_exception_handler(context)


cdef object _format_callback(object handle):
    if _FORMAT_TAKES_DEBUG:
        return format_helpers._format_callback_source(
            handle._callback, handle._args, debug=handle._loop.get_debug())
    return format_helpers._format_callback_source(handle._callback, handle._args)


@cython.freelist(512)
cdef class Handle:
    """A callback that is scheduled; duck-typed as asyncio.Handle."""

    cdef readonly LoopCore _loop
    cdef readonly object _callback
    cdef readonly object _args
    cdef object context
    cdef bint context_shared        # a snapshot, to be copied before anything runs in it
    cdef readonly object _source_traceback
    cdef object _repr
    cdef int gone                   # _cancelled
    cdef object __weakref__

    @property
    def _cancelled(self):
        return kloop_load_flag(&self.gone) != 0

    @_cancelled.setter
    def _cancelled(self, bint value):
        kloop_store_flag(&self.gone, value)

    @property
    def _context(self):
        return _own_context(self)

    def __repr__(self):
        if self._repr is not None:
            return self._repr
        return '<{}>'.format(' '.join(self._repr_info()))

    def _repr_info(self):
        return events.Handle._repr_info(self)

    def get_context(self):
        return _own_context(self)

    def cancel(self):
        if KLOOP_FREE_THREADED and _is_elsewhere(self._loop):
            _cancel_elsewhere(self)
        else:
            _cancel_handle(self)

    def cancelled(self):
        return kloop_load_flag(&self.gone) != 0

    def _run(self):
        if not kloop_load_flag(&self.gone):
            _run_handle(self)


cdef class TimerHandle(Handle):
    """A callback that is scheduled for a time; duck-typed as asyncio.TimerHandle."""

    cdef double _at
    cdef bint _whole        # it was given as an int, and is answered as one
    cdef public bint _scheduled
    cdef bint counted       # among the cancelled ones of the heap

    @property
    def _when(self):
        return int(self._at) if self._whole else self._at

    def when(self):
        """The time of the call, in seconds of loop.time()."""
        return int(self._at) if self._whole else self._at

    def cancel(self):
        if kloop_load_flag(&self.gone):
            return
        if KLOOP_FREE_THREADED and _is_elsewhere(self._loop):
            _cancel_elsewhere(self)
            self._loop._defer(self._loop._count_cancelled, (self,))
            return
        if self._scheduled:
            self._loop._timer_cancelled(self)
        _cancel_handle(self)

    def _repr_info(self):
        info = events.Handle._repr_info(self)
        info.insert(2 if self.gone else 1, f'when={self._when}')
        return info

    def __hash__(self):
        return hash(self._at)

    def __lt__(self, other):
        if isinstance(other, TimerHandle):
            return self._at < (<TimerHandle>other)._at
        return NotImplemented

    def __le__(self, other):
        if isinstance(other, TimerHandle):
            return self._at < (<TimerHandle>other)._at or self == other
        return NotImplemented

    def __gt__(self, other):
        if isinstance(other, TimerHandle):
            return self._at > (<TimerHandle>other)._at
        return NotImplemented

    def __ge__(self, other):
        if isinstance(other, TimerHandle):
            return self._at > (<TimerHandle>other)._at or self == other
        return NotImplemented

    def __eq__(self, other):
        if isinstance(other, TimerHandle):
            return (self._at == (<TimerHandle>other)._at
                    and self._callback == (<TimerHandle>other)._callback
                    and self._args == (<TimerHandle>other)._args
                    and self.gone == (<TimerHandle>other).gone)
        return NotImplemented


cdef int _cancel_handle(Handle handle) except -1:
    if handle.gone:
        return 0
    kloop_store_flag(&handle.gone, True)
    if handle._loop._debug:
        # Kept, so that a late warning can still name the callback.
        handle._repr = repr(handle)
    handle._callback = None
    handle._args = None
    return 0


@cython.critical_section
cdef int _cancel_elsewhere(Handle handle) except -1:
    """For another thread than the loop's, which may be about to call it: what it would call stays."""
    if not handle.gone:
        if handle._loop._debug:
            handle._repr = repr(handle)
        kloop_store_flag(&handle.gone, True)
    return 0


# Python 3.14 made handles of call_soon_threadsafe thread-safe; before, they are plain ones.
cdef object _StockThreadSafeHandle = getattr(events, '_ThreadSafeHandle', None)
cdef bint _HANDLES_THREAD_SAFE = _StockThreadSafeHandle is not None


cdef class ThreadSafeHandle(Handle):
    """A Handle that other threads may cancel; duck-typed as asyncio's class of Python 3.14.

    While the callback runs, ``cancel`` and ``cancelled`` wait in other threads until it has ended.
    The GIL, or a critical section, guards the attributes, so that only a thread that has to wait needs a lock.
    """

    cdef unsigned long runner       # the thread in the callback, or NO_THREAD
    cdef object ended               # an Event that somebody waits for, or None

    def __cinit__(self):
        self.runner = NO_THREAD

    @property
    def __class__(self):
        # isinstance() of the stock class holds.
        return _StockThreadSafeHandle

    cdef int _ask(self, bint cancel) except -1:
        """Waits for the callback if that runs in another thread, cancels on demand, and answers whether it is cancelled."""
        event = None
        while True:
            with cython.critical_section(self):
                if self.runner == NO_THREAD or self.runner == PyThread_get_thread_ident():
                    if cancel:
                        _cancel_handle(self)
                    return self.gone
                if event is not None and self.ended is None:
                    self.ended = event
                ended = self.ended
            if ended is not None:
                ended.wait()
            event = threading.Event()       # while it was made the callback may have ended

    def cancel(self):
        self._ask(True)

    def cancelled(self):
        return self._ask(False) != 0

    def _run(self):
        _run_thread_safe(self)


cdef int _run_thread_safe(ThreadSafeHandle handle) except -1:
    with cython.critical_section(handle):
        if handle.gone:
            return 0
        handle.runner = PyThread_get_thread_ident()
    try:
        _run_handle(handle)
    finally:
        with cython.critical_section(handle):
            handle.runner = NO_THREAD
            event = handle.ended
            handle.ended = None
        if event is not None:
            event.set()
    return 0


cdef inline object _call_in_context(object context, object callback, object args):
    """context.run(callback, *args), without the attribute look-up and the argument copy."""
    PyContext_Enter(context)
    try:
        if PyTuple_GET_SIZE(args) == 0:
            return PyObject_CallNoArgs(callback)
        return PyObject_Call(callback, args, <object>NULL)
    finally:
        PyContext_Exit(context)


cdef int _run_handle(Handle handle) except -1:
    cdef object context = handle.context
    cdef bint borrowed = handle.context_shared
    if borrowed:
        context = _borrow_runner(handle._loop, context)
    try:
        _call_in_context(context, handle._callback, handle._args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        handle.context = context        # the exception handler runs in it
        handle.context_shared = False
        _run_failed(handle, exc)
        return 0
    if borrowed:
        _return_runner(handle._loop, handle, context)
    return 0


cdef inline int _fill_handle(Handle handle, LoopCore loop, object callback, object args,
                             object context) except -1:
    handle._loop = loop
    handle._callback = callback
    handle._args = args
    if context is None:
        _take_context(handle, loop)
    else:
        handle.context = context
    if loop._debug:
        handle._source_traceback = format_helpers.extract_stack(sys._getframe(0))
    return 0


# While the loop holds a handle, the cyclic collector need not know it: it is reachable, and
# the collector's visits were a quarter of what scheduling costs.

cdef inline void _hide_from_gc(Handle handle) noexcept:
    PyObject_GC_UnTrack(<PyObject *>handle)


cdef inline void _show_to_gc(Handle handle) noexcept:
    """To be called when the loop lets go of a handle; only if somebody else holds it, else it goes now."""
    if Py_REFCNT(handle) > 1 and not PyObject_GC_IsTracked(<PyObject *>handle):
        PyObject_GC_Track(<PyObject *>handle)


cdef inline Handle _new_handle(LoopCore loop, object callback, object args, object context):
    cdef Handle handle = Handle.__new__(Handle)
    _fill_handle(handle, loop, callback, args, context)
    return handle


cdef inline Handle _new_foreign_handle(LoopCore loop, object callback, object args, object context):
    """For call_soon_threadsafe."""
    cdef Handle handle
    if KLOOP_FREE_THREADED and context is None:     # snapshots are the loop's thread's, if it has one yet
        context = PyContext_CopyCurrent()
    if _HANDLES_THREAD_SAFE:
        handle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    else:
        handle = Handle.__new__(Handle)
    _fill_handle(handle, loop, callback, args, context)
    return handle
