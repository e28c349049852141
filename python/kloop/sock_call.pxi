# SocketCall: what a sock_* method answers, and the queue of those that wait for a socket.

cdef enum:
    CALL_NEW            # not awaited yet
    CALL_WAITING
    CALL_DONE           # has its outcome, which nobody has taken
    CALL_OVER

cdef object _plain_socket = socket.socket
cdef object _CancelledError = asyncio.CancelledError
cdef object _InvalidStateError = asyncio.InvalidStateError


cdef class SocketCall:
    """A coroutine that is its own future: it yields itself, and wakes the task that awaits it.

    At most one receive and one send of a socket are the kernel's at a time. Others wait behind
    it, in the order in which they were awaited, so that bytes can't change places. The first of a
    queue stays there until the core has said DONE, also when it was cancelled: until then the
    kernel may look at its memory.
    """

    cdef kloop_op op
    cdef LoopCore loop
    cdef object sock
    cdef object value               # the outcome; if failed, an exception
    cdef object callback            # the first done callback, and its context
    cdef object context
    cdef list callbacks             # (callback, context) of the others
    cdef SocketCall behind          # the next one of this socket
    cdef int stage                  # CALL_
    cdef bint failed
    cdef bint called_off            # by cancel()
    cdef bint submitted             # the core has it, or will with the next poll
    cdef bint blocking
    cdef bint reset                 # a send that came later was told the reset that was this receive's to tell

    # ---- what each kind of call says

    cdef dict _queue(self):
        """The first ones, by socket."""
        return self.loop.receiving

    cdef int _prepare(self) except -1:
        """Checks the arguments; answers 1 if the outcome is there with that."""
        return 0

    cdef int _try(self) except -1:
        """For the first of a queue: answers 1 if it needs no operation."""
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        """Sets the outcome from the kernel's answer; answers 0 if another operation is needed."""
        raise NotImplementedError

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        """After a cancel: saves what the kernel had done before, for the next call."""
        return 0

    cdef int _untaken(self) except -1:
        """The outcome, a success, is in value, and nobody takes it: saves it for the next call."""
        return 0

    cdef int _release(self) except -1:
        """The kernel has given its last answer: lets go of the caller's memory."""
        return 0

    # ---- the coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def send(self, value):
        """Begins it, or ends with StopIteration or an exception when it is done."""
        if not self._step():
            return self
        value = self.value
        self.value = None
        raise StopIteration(value)

    cdef bint _step(self) except -1:
        """Answers whether it is over, with the result in value."""
        if self.stage == CALL_NEW:
            if not self._start():
                self.blocking = True
                return False
        elif self.stage == CALL_WAITING:
            raise RuntimeError("await wasn't used with future")
        elif self.stage == CALL_OVER:
            raise RuntimeError('cannot reuse already awaited coroutine')
        self.stage = CALL_OVER
        if self.failed:
            value = self.value
            self.value = None
            raise value
        return True

    def throw(self, kind, value=None, traceback=None):
        self._abandon()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        self._abandon()

    def __del__(self):
        if self.stage == CALL_NEW:
            warnings.warn(f'coroutine {self.__qualname__!r} was never awaited', RuntimeWarning,
                          source=self)

    @property
    def __name__(self):
        return _CALL_NAMES[type(self)]

    @property
    def __qualname__(self):
        return f'Loop.{_CALL_NAMES[type(self)]}'

    def __repr__(self):
        stage = ('created', 'pending', 'finished', 'closed')[self.stage]
        return f'<{self.__name__} {stage} fd={self.op.fd}>'

    cdef int _abandon(self) except -1:
        """Nobody waits for the outcome any more. A collector that runs in another thread may say so."""
        cdef int stage = self.stage
        if stage != CALL_NEW and _is_elsewhere(self.loop):
            return self.loop._defer(_abandon_call, (self,))
        self.stage = CALL_OVER
        self.callback = None
        self.callbacks = None
        if stage == CALL_WAITING:
            self._cancel_operation()
        elif stage == CALL_DONE and not self.failed:
            self._untaken()
        self.value = None
        return 0

    # ---- the queue of a socket

    cdef bint _start(self) except -1:
        """Begins; answers whether the outcome is there already."""
        cdef dict queue
        cdef SocketCall last
        self.stage = CALL_OVER          # until it waits, an exception ends it
        self.loop._check_core()
        if type(self.sock) is not _plain_socket:
            asyncio.base_events._check_ssl_socket(self.sock)
        if self.loop._debug and self.sock.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        self.op.fd = self.sock.fileno()
        if self._prepare():
            return True
        queue = self._queue()
        last = queue.get(self.sock)
        try:
            if last is None and self._try():
                self._release()
                return True
            self.loop._check_descriptor(self.op.fd)
        except BaseException:
            self._release()
            raise
        self.stage = CALL_WAITING
        if last is None:
            queue[self.sock] = self
            self._submit()
            return False
        while last.behind is not None:
            last = last.behind
        last.behind = self
        return False

    cdef int _submit(self) except -1:
        """Hands the operation to the core, with the next poll."""
        cdef kloop_cmd *command = self.loop._command(KLOOP_CMD_OP, 0)
        self.op.state = KLOOP_OP_NEW
        self.op.user = <uint64_t><PyObject *>self
        command.ptr = <uint64_t>&self.op
        self.submitted = True
        return 0

    cdef int _cancel_operation(self) except -1:
        """Has the kernel end it; or, if it is not the first, leaves the queue."""
        cdef SocketCall before
        if self.loop.k is NULL or self.loop.generation != _fork_generation:
            return 0
        if self.submitted:
            if self.op.state == KLOOP_OP_NEW:
                self.op.state = KLOOP_OP_DROPPED
            elif self.op.state == KLOOP_OP_TAKEN:
                self.loop._command(KLOOP_CMD_OP_CANCEL, self.op.id)
            return 0
        before = self._queue()[self.sock]
        while before.behind is not self:
            before = before.behind
        before.behind = self.behind
        self.behind = None
        return self._release()

    cdef int _on_done(self, int res, char *data, uint64_t size) except -1:
        """The kernel's answer, in the walk of the events."""
        cdef SocketCall held = self         # the queue's reference may be the last one
        self.submitted = False
        if self.reset and res == 0 and size == 0:
            res = ECONNRESET
        if self.stage != CALL_WAITING:
            self._completed_late(res, data, size)
        elif not self._completed(res, data, size):
            self._submit()
            return 0
        self._release()
        self._go_on()
        if self.stage == CALL_WAITING:
            self.stage = CALL_DONE
            self._wake()
        return 0

    cdef int _go_on(self) except -1:
        """Gives the first place, which is ours, to the next one that needs the kernel."""
        cdef dict queue = self._queue()
        cdef SocketCall first = self.behind, done
        self.behind = None
        while first is not None:
            queue[self.sock] = first
            try:
                if not first._try():
                    first._submit()
                    return 0
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                first._fail(exc)
            done = first
            first = first.behind
            done.behind = None
            done._release()
            done.stage = CALL_DONE
            done._schedule()
        del queue[self.sock]
        return 0

    cdef int _loop_closed(self) except -1:
        """The core is gone, and with it every operation; nobody will be woken."""
        self.stage = CALL_OVER
        self.submitted = False
        self.callback = None
        self.callbacks = None
        self._release()
        return 0

    # ---- the future, as far as a task needs one, and those who look at what a task waits for

    cdef int _set(self, object value) except -1:
        self.value = value
        return 1

    cdef int _fail(self, object exc) except -1:
        self.value = exc
        self.failed = True
        return 1

    cdef int _wake(self) except -1:
        """Runs the callback now, which is a task's next step: events are dispatched where handles run."""
        callback = self.callback
        if callback is None:
            return 0
        if self.loop._debug or self.callbacks is not None:
            return self._schedule()
        context = self.context
        self.callback = None
        self.context = None
        PyContext_Enter(context)
        try:
            PyObject_CallOneArg(callback, self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler({
                'message': f'Exception in callback {callback!r}',
                'exception': exc,
            })
        finally:
            PyContext_Exit(context)
        return 0

    cdef int _schedule(self) except -1:
        """Runs the callbacks in the next iteration."""
        cdef list others = self.callbacks
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
        self.callback = None
        self.context = None
        self.callbacks = None
        if others is not None:
            for callback, context in others:
                self.loop.call_soon(callback, self, context=context)
        return 0

    @property
    def _asyncio_future_blocking(self):
        """None, which says that this is no future, until it is awaited."""
        return None if self.stage == CALL_NEW else self.blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.blocking = value

    def get_loop(self):
        return self.loop

    def done(self):
        return self.stage == CALL_DONE or self.stage == CALL_OVER

    def cancelled(self):
        return self.called_off

    def add_done_callback(self, callback, *, context=None):
        if context is None:
            context = PyContext_CopyCurrent()
        if self.stage != CALL_WAITING:
            self.loop.call_soon(callback, self, context=context)
        elif self.callback is None:
            self.callback = callback
            self.context = context
        else:
            if self.callbacks is None:
                self.callbacks = []
            self.callbacks.append((callback, context))

    def result(self):
        """Raises what a task throws into its coroutine; the value itself comes from send()."""
        if self.stage == CALL_WAITING:
            raise _InvalidStateError('Result is not set.')
        if self.failed and self.value is not None:
            raise self.value

    def cancel(self, msg=None):
        """Cancels the operation. The task goes on in the next iteration, the kernel's answer may come later."""
        if KLOOP_FREE_THREADED and _is_elsewhere(self.loop):    # where nothing is to be looked at
            self.loop._defer(self.cancel, () if msg is None else (msg,))
            return True
        if self.stage != CALL_WAITING:
            return False
        if _is_elsewhere(self.loop):
            self.loop._defer(self.cancel, () if msg is None else (msg,))
            return True
        self.stage = CALL_DONE
        self.called_off = True
        self._fail(_CancelledError() if msg is None else _CancelledError(msg))
        self._cancel_operation()
        self._schedule()
        return True


def _abandon_call(SocketCall call):
    call._abandon()


cdef int _end_calls(LoopCore loop) except -1:
    """After the core has ended."""
    cdef SocketCall call
    for queue in (loop.receiving, loop.sending):
        for first in queue.values():
            call = first
            while call is not None:
                call._loop_closed()
                call = call.behind
        queue.clear()
    return _drop_kept(loop)


# The slots that `await` calls. A __next__ of the class would raise StopIteration, and Cython
# adds a traceback to what is raised: that took over 1 µs of a 1 KiB echo's 7.

cdef extern from *:
    """
    static PyObject *kloop_call_next(PyObject *call)
    {
        PyObject *result, *stop;
        switch (Py_TYPE(call)->tp_as_async->am_send(call, NULL, &result)) {
        case PYGEN_NEXT:
            return result;
        case PYGEN_RETURN:
            if (result != Py_None) {    /* no exception at all means None */
                stop = PyObject_CallOneArg(PyExc_StopIteration, result);
                if (stop) {
                    PyErr_SetObject(PyExc_StopIteration, stop);
                    Py_DECREF(stop);
                }
            }
            Py_DECREF(result);
            return NULL;
        default:
            return NULL;
        }
    }

    static void kloop_set_slots(PyObject *type, int (*send)(PyObject *, PyObject *, PyObject **))
    {
        PyTypeObject *t = (PyTypeObject *)type;
        t->tp_iternext = kloop_call_next;
        t->tp_as_async->am_send = (sendfunc)(void *)send;
        PyType_Modified(t);
    }

    /* Has inspect.iscoroutinefunction() say so, as of asyncio's own method. Nothing runs this code
     * object: it is what the function shows of itself. */
    static int kloop_mark_coroutine(PyObject *function)
    {
        PyObject *code = PyObject_GetAttrString(function, "__code__");
        if (!code)
            return -1;
        ((PyCodeObject *)code)->co_flags |= CO_COROUTINE;
        Py_DECREF(code);
        return 0;
    }
    """
    enum:
        PYGEN_RETURN, PYGEN_NEXT
    void kloop_set_slots(object type, int (*send)(PyObject *, PyObject *, PyObject **) except -1)
    int kloop_mark_coroutine(object function) except -1


cdef int _call_send(PyObject *call, PyObject *value, PyObject **result) except -1:
    """am_send (PyIter_Send): PYGEN_NEXT, PYGEN_RETURN, or an exception and PYGEN_ERROR, which is -1."""
    cdef object given
    if not (<SocketCall>call)._step():
        Py_INCREF(<object>call)
        result[0] = call
        return PYGEN_NEXT
    given = (<SocketCall>call).value
    (<SocketCall>call).value = None
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return PYGEN_RETURN
