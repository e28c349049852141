# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True
"""What runs per callback or per packet: the loop's iteration, handles, timers and the
TCP transport. What runs per connection or per loop is plain Python, beside this file.

One extension module in several included files, so that calls between them are C calls.
"""
cimport cython
from cpython.object cimport PyObject, PyObject_Call
from cpython.ref cimport Py_INCREF, Py_DECREF
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.buffer cimport (
    PyObject_GetBuffer, PyBuffer_Release, PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawMalloc, PyMem_RawRealloc, PyMem_RawFree
from cpython.number cimport PyNumber_AsSsize_t
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, errno as c_errno
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen
from posix.time cimport CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec
from posix.unistd cimport close as posix_close

import asyncio
import collections
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import threading
import warnings
import weakref
from asyncio import constants, coroutines, events, format_helpers, futures, trsock

from kloop.errors import DriverUnavailable, ResolveError
from kloop.tls_offload import TLSOffload, keylog, wrap as _wrap_armed

cdef object logger = logging.getLogger('asyncio')
cdef bint _FORMAT_TAKES_DEBUG = sys.version_info >= (3, 13)

include "bridge.pxi"
include "queues.pxi"
include "handle.pxi"
include "context.pxi"
include "tls_records.pxi"
include "loop.pxi"
include "collector.pxi"
include "watch.pxi"
include "sock_call.pxi"
include "sock_kept.pxi"
include "sock.pxi"
include "sock_sendfile.pxi"
include "file_call.pxi"
include "file_io.pxi"
include "dispatch.pxi"
include "stream.pxi"
include "flow.pxi"
include "transport_methods.pxi"
include "tls.pxi"
include "tls_data.pxi"
include "tls_earning.pxi"
include "tls_keylog.pxi"
include "tls_handover.pxi"
include "tls_transport.pxi"
include "listener.pxi"
include "peer.pxi"
include "resolver.pxi"
include "answer.pxi"
include "lookup.pxi"
include "many.pxi"
include "datagram.pxi"
include "datagram_send.pxi"
include "datagram_methods.pxi"
include "pipe.pxi"
