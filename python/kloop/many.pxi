# ManyAnswers: what Resolver.resolve_many() gives, an asynchronous iterator whose lookups are made in the core, and whose answers
# come in batches. While a batch lasts, the next one is there without a future, and without a turn of the loop.

cdef extern from "Python.h":
    PyObject *PyIter_Next(object iterator) except? NULL
    Py_ssize_t PyList_GET_SIZE(object list) noexcept

cdef enum:
    TICKET_SIZE = 12        # before each question and answer: a uint64_t, and a uint32_t, the size of what follows
    # How many answers are taken in a row before the loop has a turn, and names before any is asked for.
    BREATH = 256
    GULP = 1024
    # Names that are taken before their answers are wanted, to those that are looked up at a time.
    AHEAD = 2
    FIRST_TICKETS = 64

cdef object _ResolveError = ResolveError


@cython.final
cdef class ManyLookups:
    """What the core does for a ManyAnswers; the loop keeps it until the core has said that it is over."""

    cdef LoopCore loop
    cdef kloop_lookup query
    cdef list batches           # of answers, which nobody has taken
    cdef object waiter          # a future: until there is one
    cdef Py_ssize_t under_way   # names
    cdef bint over

    cdef int _add(self, const char *packed, uint64_t size, Py_ssize_t count, uint32_t places) except -1:
        """Hands names to the core, which packed holds."""
        cdef int64_t result
        self.query.host = <uint64_t>packed
        self.query.host_len = size
        self.query.user = <uint64_t><PyObject *>self
        result = kloop_lib.lookup_many(self.loop.k, &self.query, places)
        if result < 0:
            raise RuntimeError(f'kloop: the core looks nothing up: {os.strerror(<int>-result)}')
        self.loop.many_lookups.add(self)
        self.under_way += count
        return 0

    cdef int _on_answers(self, int32_t count, const char *data, uint64_t size) except -1:
        """In the walk of the events."""
        if self.over:
            return 0
        self.under_way -= count
        self.batches.append(PyBytes_FromStringAndSize(data, size))
        return self._wake()

    cdef int _on_over(self) except -1:
        self.loop.many_lookups.discard(self)
        return 0

    cdef int _wake(self) except -1:
        waiter = self.waiter
        self.waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return 0

    cdef int _end(self) except -1:
        """Ends what is under way. A collector that runs in another thread may say so."""
        if self.over:
            return 0
        if _is_elsewhere(self.loop):
            return self.loop._defer(_end_lookups_of, (self,))
        self._forget()
        if self.query.id and self.loop.k is not NULL and self.loop.generation == _fork_generation:
            kloop_lib.lookup_cancel(self.loop.k, self.query.id)
        return 0

    cdef int _forget(self) except -1:
        self.over = True
        self.under_way = 0
        self.batches.clear()
        return 0


def _end_lookups_of(ManyLookups work):
    work._end()


cdef Py_ssize_t _count_many(LoopCore loop) except -1:
    """Names that are being looked up."""
    cdef Py_ssize_t count = 0
    for work in loop.many_lookups:
        count += (<ManyLookups>work).under_way
    return count


cdef int _end_many(LoopCore loop) except -1:
    """After the core has ended; nobody will be woken."""
    for work in loop.many_lookups:
        (<ManyLookups>work)._forget()
        (<ManyLookups>work).waiter = None
    loop.many_lookups.clear()
    return 0


@cython.final
cdef class ManyAnswers:
    """Pairs of a name and its answer, or of a name and its error, in the order in which they come.

    An asynchronous iterator that is what its own __anext__() answers, as calls of sockets are their own futures. It begins
    with the first answer that is asked for, on the loop that then runs.
    """

    cdef ResolverCore resolver
    cdef object names           # their iterator; None: there are no more
    cdef object failure         # what that has raised: told behind the answers that are still to come
    cdef uint16_t type
    cdef uint32_t places
    cdef object name_bytes, explain, running_loop
    cdef ManyLookups work       # None: not begun
    cdef list asked             # names by their tickets; None: a ticket that is spare
    cdef uint32_t *spare        # these tickets, the one to be used next last
    cdef Py_ssize_t spares
    cdef object refused         # (name, error) of names that are none: a deque
    cdef bint hungry            # for more names than were taken in one go
    cdef bytes batch            # of answers, from `at` on
    cdef Py_ssize_t at, size
    cdef int in_a_row           # answers taken since the loop had a turn
    cdef object waiter          # what the task that waits for the next one waits for
    cdef bint taking            # a name, of an iterator of the caller's
    cdef bint over
    cdef char *room             # for names on their way to the core
    cdef size_t filled, room_size

    def __cinit__(self, ResolverCore resolver, names, uint16_t type, uint32_t places, name_bytes, explain, running_loop):
        self.resolver = resolver
        self.type = type
        self.places = places
        self.name_bytes = name_bytes
        self.explain = explain
        self.running_loop = running_loop
        self.asked = []
        self.refused = collections.deque()
        self.names = iter(names)

    def __dealloc__(self):
        PyMem_RawFree(self.room)
        PyMem_RawFree(self.spare)

    def __del__(self):
        self._end()

    # ---- the iterator, and the awaitable

    def __aiter__(self):
        return self

    def __anext__(self):
        return self

    def __await__(self):
        return self

    def send(self, value):
        cdef bint waits = False
        value = self._step(&waits)
        if waits:
            return value
        raise StopIteration(value)

    def throw(self, kind, value=None, traceback=None):
        """What is thrown ends it, as it ends an asynchronous generator: a cancellation of the task that waits, mostly."""
        self._end()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        raise value

    def close(self):
        """Ends it: what is under way is cancelled, unless others wait for the same. A task that waits for an answer finds
        that there are no more."""
        self._end()
        if self.work is not None:
            self.work._wake()

    async def aclose(self):
        """As close()."""
        self.close()

    # ---- answers

    cdef object _step(self, bint *waits):
        """The next pair; or, if it waits, what to yield to the task."""
        if self.waiter is not None:
            if not self.waiter.done() and not self.over:
                raise RuntimeError('another task waits for the next answer')
            self.waiter = None
        if self.at == self.size and not self.over:
            self._fill()
            if self.in_a_row == 0 and self.work is not None and self.work.batches:
                self.batch = self.work.batches.pop(0)
                self.at = 0
                self.size = PyBytes_GET_SIZE(self.batch)
        if self.over:
            raise StopAsyncIteration
        if self.in_a_row < BREATH:
            if self.at < self.size:
                self.in_a_row += 1
                return self._take()
            if self.refused:
                self.in_a_row += 1
                return self.refused.popleft()
        if self.at == self.size and not self.hungry and not self.refused and not self.work.batches:
            if self._outstanding() == 0:
                failure = self.failure
                self._end()
                raise StopAsyncIteration if failure is None else failure
            self.waiter = self.work.waiter = self.work.loop.create_future()
            self.waiter._asyncio_future_blocking = True
        # Else there are some, but it is the loop's turn: None to a task.
        self.in_a_row = 0
        waits[0] = True
        return self.waiter

    cdef object _take(self):
        """The next pair of the batch."""
        cdef const char *data = PyBytes_AS_STRING(self.batch) + self.at
        cdef uint64_t ticket
        cdef uint32_t size, status
        memcpy(&ticket, data, sizeof(ticket))
        memcpy(&size, data + sizeof(ticket), sizeof(size))
        data += TICKET_SIZE
        self.at += TICKET_SIZE + size
        name = self.asked[<Py_ssize_t>ticket]
        self.asked[<Py_ssize_t>ticket] = None
        self.spare[self.spares] = <uint32_t>ticket
        self.spares += 1
        memcpy(&status, data, sizeof(status))
        data += sizeof(status)
        size -= sizeof(status)
        if status == KLOOP_ANSWER_OK:
            return (name, _read_answer(data, data + size, name))
        answer = self.explain(status, data[:size].decode(errors='replace'))
        if not isinstance(answer, _ResolveError):
            self._end()
            raise answer
        return (name, answer)

    # ---- names

    cdef int _fill(self) except -1:
        """Hands the core more names, as far as their answers may be ahead of who takes these."""
        cdef Py_ssize_t count = 0, taken = 0, most = <Py_ssize_t>self.places * AHEAD
        cdef PyObject *next_name
        loop = self.running_loop()
        names = self.names          # held while it runs, as it may end us
        if self.work is None:
            self._begin(loop)
        elif loop is not self.work.loop:
            raise RuntimeError(f'{self!r} has begun on another event loop')
        self.work.loop._check_core()
        if self.taking:
            raise RuntimeError('the iterator of names must not ask for their answers')
        self.filled = 0
        self.hungry = False
        self.taking = True
        try:
            while self.names is not None and self._outstanding() + len(self.refused) < most:
                if taken == GULP:
                    self.hungry = True
                    break
                taken += 1
                next_name = PyIter_Next(names)
                if next_name is NULL:
                    self.names = None
                    break
                name = <object>next_name
                Py_DECREF(name)
                if self.over:
                    return 0
                count += self._put(name)
        except Exception as exc:
            self.failure = exc
            self.names = None
        except BaseException:
            self._end()
            raise
        finally:
            self.taking = False
        if count and not self.over:
            try:
                self.work._add(self.room, self.filled, count, self.places)
            except BaseException:
                self._end()
                raise
        return 0

    cdef int _begin(self, LoopCore loop) except -1:
        cdef ManyLookups work
        loop._check_core()
        work = ManyLookups.__new__(ManyLookups)
        work.loop = loop
        work.batches = []
        work.query.kind = KLOOP_LOOKUP_RECORDS
        work.query.type = self.type
        work.query.resolver = self.resolver._number_here()
        self.work = work
        return 0

    cdef int _put(self, object name) except -1:
        """Packs a name; answers 0 if it is none, which is its outcome."""
        cdef const char *text = NULL
        cdef Py_ssize_t size
        cdef uint32_t packed_size
        cdef uint64_t ticket
        cdef bytes form
        if not isinstance(name, str):
            raise TypeError(f'names: {name!r} is no text')
        if PyUnicode_IS_ASCII(name):
            text = PyUnicode_AsUTF8AndSize(name, &size)
        if text is NULL or <Py_ssize_t>strlen(text) != size:
            try:
                form = self.name_bytes(name)
            except _ResolveError as exc:
                self.refused.append((name, exc))
                return 0
            text = PyBytes_AS_STRING(form)
            size = PyBytes_GET_SIZE(form)
        if self.filled + TICKET_SIZE + size > self.room_size:
            self._make_room(2 * self.room_size + TICKET_SIZE + size)
        if self.spares == 0:
            self._make_tickets()
        self.spares -= 1
        ticket = self.spare[self.spares]
        packed_size = <uint32_t>size
        memcpy(self.room + self.filled, &ticket, sizeof(ticket))
        memcpy(self.room + self.filled + sizeof(ticket), &packed_size, sizeof(packed_size))
        memcpy(self.room + self.filled + TICKET_SIZE, text, size)
        self.filled += TICKET_SIZE + size
        self.asked[<Py_ssize_t>ticket] = name
        return 1

    cdef Py_ssize_t _outstanding(self) noexcept:
        """Names whose answers nobody has taken."""
        return PyList_GET_SIZE(self.asked) - self.spares

    cdef int _make_tickets(self) except -1:
        """As many as there are, or the first ones. None is spare."""
        cdef Py_ssize_t i, size = PyList_GET_SIZE(self.asked), more = size if size else FIRST_TICKETS
        cdef void *spare = PyMem_RawRealloc(self.spare, (size + more) * sizeof(uint32_t))
        if spare is NULL:
            raise MemoryError
        self.spare = <uint32_t *>spare
        self.asked.extend([None] * more)
        for i in range(more):
            self.spare[i] = <uint32_t>(size + i)
        self.spares = more
        return 0

    cdef int _make_room(self, size_t size) except -1:
        cdef void *room = PyMem_RawRealloc(self.room, size)
        if room is NULL:
            raise MemoryError
        self.room = <char *>room
        self.room_size = size
        return 0

    # ---- the end

    cdef int _end(self) except -1:
        self.over = True
        self.names = self.failure = None
        self.hungry = False
        self.asked.clear()
        self.spares = 0
        self.refused.clear()
        self.batch = None
        self.at = self.size = 0
        if self.work is not None:
            self.work._end()
        return 0


cdef int _many_send(PyObject *answers, PyObject *value, PyObject **result) except -1:
    """am_send, as _call_send."""
    cdef bint waits = False
    given = (<ManyAnswers>answers)._step(&waits)
    Py_INCREF(given)
    result[0] = <PyObject *>given
    return PYGEN_NEXT if waits else PYGEN_RETURN


kloop_set_slots(ManyAnswers, _many_send)

