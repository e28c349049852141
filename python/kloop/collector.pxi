# The cyclic collector and the loop: it sees what the loop's queues hold, which Cython doesn't know of,
# so that a loop that nobody closed and nobody has any more is collected with its handles.

cdef extern from "Python.h":
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
        inquiry tp_clear
    PyTypeObject *Py_TYPE(PyObject *)

cdef extern from *:
    Py_ssize_t _references "Py_REFCNT" (PyObject *) noexcept

cdef traverseproc _traverse_fields = NULL
cdef inquiry _clear_fields = NULL


cdef int _visit_handle(PyObject *handle, visitproc visit, void *arg) noexcept:
    if _references(handle) == 1 and not PyObject_GC_IsTracked(handle):
        # Hidden from the collector and nobody else's: as good as a part of the loop.
        return Py_TYPE(handle).tp_traverse(handle, visit, arg)
    return visit(handle, arg)


cdef int _visit_queue(ReadyQueue *queue, visitproc visit, void *arg) noexcept:
    cdef size_t i
    cdef int result
    cdef PyObject *item
    for i in range(queue.count):
        item = queue.items[(queue.head + i) & queue.mask]
        if item is not EVENTS_HERE:
            result = _visit_handle(item, visit, arg)
            if result:
                return result
    return 0


cdef int _traverse_loop(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef TimerHeap *timers = &(<LoopCore>self).timers
    cdef size_t i
    cdef int result = _traverse_fields(self, visit, arg)
    if result == 0:
        result = _visit_queue(&(<LoopCore>self).ready, visit, arg)
    if result == 0:
        result = _visit_queue(&(<LoopCore>self).foreign, visit, arg)
    for i in range(timers.count):
        if result:
            break
        result = _visit_handle(timers.items[i].handle, visit, arg)
    return result


cdef int _clear_loop(PyObject *self) noexcept:
    _queue_clear(&(<LoopCore>self).ready)
    _queue_clear(&(<LoopCore>self).foreign)
    _heap_free(&(<LoopCore>self).timers)
    return _clear_fields(self)


cdef int _show_queues_to_collector() except -1:
    global _traverse_fields, _clear_fields
    cdef PyTypeObject *cls = <PyTypeObject *><PyObject *>LoopCore
    _traverse_fields = cls.tp_traverse
    _clear_fields = cls.tp_clear
    cls.tp_traverse = _traverse_loop
    cls.tp_clear = _clear_loop
    return 0


_show_queues_to_collector()
