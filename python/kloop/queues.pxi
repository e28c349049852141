# The ready queue, its sibling for other threads, and the timer heap: plain C arrays
# that own one reference to each handle they hold.

cdef enum:
    QUEUE_SIZE = 256    # first size; a power of two, doubled when full
    # asyncio's number: cancelled timers are swept out when they are this many and the larger part.
    TIMERS_SWEEP_MIN = 100


cdef struct ReadyQueue:
    PyObject **items
    size_t mask     # size - 1
    size_t head     # index of the oldest, not wrapped
    size_t count


# Not a handle: the place of a poll's events among what is ready.
cdef PyObject *EVENTS_HERE = NULL


cdef int _queue_init(ReadyQueue *q) except -1:
    q.items = <PyObject **>PyMem_RawMalloc(QUEUE_SIZE * sizeof(PyObject *))
    if q.items is NULL:
        raise MemoryError()
    q.mask = QUEUE_SIZE - 1
    q.head = 0
    q.count = 0
    return 0


cdef int _queue_grow(ReadyQueue *q) noexcept nogil:
    cdef size_t size = q.mask + 1
    cdef size_t i
    cdef PyObject **items = <PyObject **>PyMem_RawMalloc(2 * size * sizeof(PyObject *))
    if items is NULL:
        return -1
    for i in range(q.count):
        items[i] = q.items[(q.head + i) & q.mask]
    PyMem_RawFree(q.items)
    q.items = items
    q.mask = 2 * size - 1
    q.head = 0
    return 0


cdef inline int _queue_push(ReadyQueue *q, PyObject *item) except -1:
    """Takes over the caller's reference."""
    if q.count > q.mask and _queue_grow(q) < 0:
        Py_DECREF(<object>item)
        raise MemoryError()
    q.items[(q.head + q.count) & q.mask] = item
    q.count += 1
    return 0


cdef int _queue_append(ReadyQueue *q, ReadyQueue *other) except -1:
    """Moves all of other behind what q holds."""
    if q.count == 0:
        q[0], other[0] = other[0], q[0]
        return 0
    while other.count:
        _queue_push(q, _queue_pop(other))
    return 0


cdef inline PyObject *_queue_pop(ReadyQueue *q) noexcept:
    """Gives the reference to the caller; the queue must not be empty."""
    cdef PyObject *item = q.items[q.head & q.mask]
    q.head += 1
    q.count -= 1
    return item


cdef void _drop_handle(PyObject *item) noexcept:
    """Gives up the queue's reference."""
    handle = <object>item
    Py_DECREF(handle)
    if isinstance(handle, Handle):
        _show_to_gc(<Handle>handle)


cdef void _queue_clear(ReadyQueue *q) noexcept:
    cdef PyObject *item
    while q.count:
        item = _queue_pop(q)
        if item is not EVENTS_HERE:
            _drop_handle(item)


cdef void _queue_free(ReadyQueue *q) noexcept:
    if q.items is not NULL:
        _queue_clear(q)
        PyMem_RawFree(q.items)
        q.items = NULL


cdef struct TimerEntry:
    double when
    uint64_t order          # equal times run in the order of their call_at
    PyObject *handle


cdef struct TimerHeap:
    TimerEntry *items
    size_t size
    size_t count
    size_t cancelled        # entries whose handle was cancelled
    uint64_t next_order


cdef inline bint _timer_before(TimerEntry *a, TimerEntry *b) noexcept nogil:
    return a.when < b.when or (a.when == b.when and a.order < b.order)


cdef void _heap_up(TimerHeap *h, size_t i) noexcept nogil:
    cdef TimerEntry moved = h.items[i]
    cdef size_t parent
    while i > 0:
        parent = (i - 1) >> 2
        if not _timer_before(&moved, &h.items[parent]):
            break
        h.items[i] = h.items[parent]
        i = parent
    h.items[i] = moved


cdef void _heap_down(TimerHeap *h, size_t i) noexcept nogil:
    """A heap of four children a node: half the levels of a binary one."""
    cdef TimerEntry moved = h.items[i]
    cdef size_t child, best, last
    while True:
        child = 4 * i + 1
        if child >= h.count:
            break
        last = child + 4
        if last > h.count:
            last = h.count
        best = child
        child += 1
        while child < last:
            if _timer_before(&h.items[child], &h.items[best]):
                best = child
            child += 1
        if not _timer_before(&h.items[best], &moved):
            break
        h.items[i] = h.items[best]
        i = best
    h.items[i] = moved


cdef int _heap_push(TimerHeap *h, double when, TimerHandle handle) except -1:
    cdef TimerEntry *items
    cdef size_t size
    if h.count == h.size:
        size = 2 * h.size if h.size else 64
        items = <TimerEntry *>PyMem_RawRealloc(h.items, size * sizeof(TimerEntry))
        if items is NULL:
            raise MemoryError()
        h.items = items
        h.size = size
    Py_INCREF(handle)
    h.items[h.count].when = when
    h.items[h.count].order = h.next_order
    h.items[h.count].handle = <PyObject *>handle
    h.next_order += 1
    h.count += 1
    _heap_up(h, h.count - 1)
    return 0


cdef PyObject *_heap_pop(TimerHeap *h) noexcept:
    """Gives the reference to the caller; the heap must not be empty."""
    cdef PyObject *handle = h.items[0].handle
    h.count -= 1
    if h.count:
        h.items[0] = h.items[h.count]
        _heap_down(h, 0)
    return handle


cdef void _heap_sweep(TimerHeap *h) noexcept:
    """Drops every cancelled timer."""
    cdef size_t i, kept = 0
    cdef size_t count = h.count
    cdef TimerHandle handle
    cdef list dropped = []
    for i in range(count):
        handle = <TimerHandle>h.items[i].handle
        if kloop_load_flag(&handle.gone):
            handle._scheduled = False
            dropped.append(handle)
            _drop_handle(h.items[i].handle)
        else:
            h.items[kept] = h.items[i]
            kept += 1
    h.count = kept
    h.cancelled = 0
    i = kept >> 2
    while True:
        if i < kept:
            _heap_down(h, i)
        if i == 0:
            break
        i -= 1


cdef void _heap_free(TimerHeap *h) noexcept:
    cdef TimerHandle handle
    while h.count:
        h.count -= 1
        handle = <TimerHandle>h.items[h.count].handle
        handle._scheduled = False
        _drop_handle(h.items[h.count].handle)
    PyMem_RawFree(h.items)
    h.items = NULL
    h.size = 0
    h.cancelled = 0
