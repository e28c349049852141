# Contexts of handles. asyncio copies the current context for each handle. Here the handles that are
# scheduled while no variable changes share one copy, a snapshot, which nothing ever runs in; a
# callback runs in a context of its own, and a context that no callback has changed or kept serves
# the next one.
#
# Whether two contexts hold the same variables is seen from the word of a Context object that
# points to its immutable map (PEP 567). No API tells it, so its offset is found by trial at import;
# where that fails, each handle has its own copy.

cdef Py_ssize_t _variables_offset = _find_variables_offset()


cdef inline void *_variables(object context) noexcept:
    return (<void **>(<char *><PyObject *>context + _variables_offset))[0]


cdef Py_ssize_t _find_variables_offset() except -2:
    """The offset of the map in a Context object, in bytes; -1 if it isn't where one looks."""
    cdef Py_ssize_t offset
    variable = contextvars.ContextVar('kloop')
    context = contextvars.copy_context()
    context.run(variable.set, None)
    referents = gc.get_referents(context)
    if len(referents) != 1 or gc.get_referents(context.copy())[0] is not referents[0]:
        return -1
    for offset in range(sizeof(PyObject), contextvars.Context.__basicsize__, sizeof(void *)):
        if (<void **>(<char *><PyObject *>context + offset))[0] is <void *>referents[0]:
            return offset
    return -1


cdef inline int _take_context(Handle handle, LoopCore loop) except -1:
    """Gives a handle the context that is current now."""
    cdef PyObject *current = PyThreadState_Get().context
    if _variables_offset < 0 or current is NULL or KLOOP_FREE_THREADED and _is_elsewhere(loop):
        handle.context = PyContext_CopyCurrent()
        return 0
    if loop.snapshot is None or _variables(<object>current) is not _variables(loop.snapshot):
        loop.snapshot = PyContext_CopyCurrent()
    handle.context = loop.snapshot
    handle.context_shared = True
    return 0


cdef inline object _own_context(Handle handle):
    """The context that the callback runs in; nobody else's from now on."""
    if handle.context_shared:
        handle.context = PyContext_Copy(handle.context)
        handle.context_shared = False
    return handle.context


cdef inline object _borrow_runner(LoopCore loop, object snapshot):
    """A context as fresh as a copy of the snapshot."""
    cdef object runner = loop.runner
    loop.runner = None      # a callback may run callbacks
    if runner is None or _variables(runner) is not _variables(snapshot):
        runner = PyContext_Copy(snapshot)
    return runner


cdef inline int _return_runner(LoopCore loop, Handle handle, object runner) except -1:
    """After a callback: the context serves the next one, unless it was changed or somebody has it."""
    if _variables(runner) is not _variables(handle.context):
        handle.context = runner
        handle.context_shared = False
    elif kloop_is_unique(runner):       # the callback has not kept it
        loop.runner = runner
    return 0
