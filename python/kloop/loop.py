"""The loop: LoopCore's hot methods over asyncio's own cold ones."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import signal
import socket
import sys
import threading
import weakref
from asyncio import base_events, events, unix_events
from typing import TYPE_CHECKING, Any

from . import _core, names, tls
from .datagram_transport import DatagramTransport
from .errors import DriverUnavailable
from .pipes import ReadPipeTransport, WritePipeTransport
from .process import ProcessTransport
from .selector import RingSelector
from .selfpipe import open_pipe
from .tls_offload import TLSOptions
from .transport import StreamTransport

if TYPE_CHECKING:
    from .resolver import Resolver

_UNSET: Any = _core.UNSET

# Whose addresses the extension understands; others (netlink, packet, ...) are asyncio's transports.
_DATAGRAM_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_logger = logging.getLogger('kloop')

_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


class Loop(_core.LoopCore, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """An asyncio event loop on io_uring, or on epoll where that can't be had.

    What runs per callback or per packet is ``LoopCore``'s; what runs per connection or per
    loop is inherited, so that each Python version keeps its own semantics. Descriptors that
    asyncio itself watches are polled by the core, through ``RingSelector``.

    ``driver``: 'auto', 'io_uring' or 'epoll'; else what the variable KLOOP_DRIVER says.
    ``sqpoll``: a kernel thread submits, for machines with a core to spare.
    ``spin_us``: look for completions this long before sleeping, in µs.
    ``tls``: a ``TLSOptions``: who seals and opens the records of TLS connections.
    ``resolver``: a ``Resolver`` that looks names up; None: libc does. Else the process's, or libc if KLOOP_DNS=off.
    """

    def __init__(self, *, tls: TLSOptions | None = None, resolver: Resolver | None = _UNSET, **options: Any) -> None:
        self._set_tls_options(TLSOptions() if tls is None else tls)
        self._resolver = resolver
        if resolver is not _UNSET:
            self.resolver = resolver
        elif names.are_off():
            self.resolver = None
        options = {**_environment_options(), **options}
        self._open_core(**options)
        if options.get('driver', 'auto') == 'auto' and self.driver != 'io_uring':
            _tell_of_fallback(self)
        self._serving: dict[int, _core.Listener] = {}
        self._lent: set[int] = set()  # fds of transports whose sendfile() is under way
        self._children: set[ProcessTransport] = set()  # those that have not ended
        selector = RingSelector()
        selector.bind(self)
        try:
            asyncio.SelectorEventLoop.__init__(self, selector)
        except BaseException:
            self._close_core()
            raise
        _loops.add(self)

    # ---- running

    def run_forever(self) -> None:
        """Runs until stop() is called."""
        self._check_closed()
        self._check_running()
        self._attach_core()
        old_hooks = sys.get_asyncgen_hooks()
        self._set_coroutine_origin_tracking(self._debug)
        wakeup = self._signals_wake_us()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook,
                                   finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)
            self._run()
        finally:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*old_hooks)
            if wakeup and not self._signal_handlers:
                self._signals_wake_nobody()
            self._detach_core()

    def _signals_wake_us(self) -> bool:
        """In the main thread: a signal that comes just before a sleep must end that sleep.

        A descriptor that somebody else has set is left alone; the kernel's EINTR ends a
        sleep all the same.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        csock = self._csock
        old = signal.set_wakeup_fd(csock.fileno(), warn_on_full_buffer=False)
        if old not in (-1, csock.fileno()):
            signal.set_wakeup_fd(old)
            return False
        return True

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = open_pipe()
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)

    def _signals_wake_nobody(self) -> None:
        """Takes _signals_wake_us back, unless a callback has set a descriptor of its own."""
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, self._csock.fileno()):
            signal.set_wakeup_fd(now)

    def close(self) -> None:
        """Cancels what the kernel still does for this loop and frees the ring.

        Raises RuntimeError while the loop runs.
        """
        if self.is_running():
            raise RuntimeError('Cannot close a running event loop')
        if self.is_closed():
            return
        for listener in list(self._serving.values()):
            listener.close()
        self._serving.clear()
        asyncio.SelectorEventLoop.close(self)
        self._close_core()
        for child in list(self._children):
            child._forget_pidfd()
        _loops.discard(self)

    # ---- streams

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        number = fd if isinstance(fd, int) else _fileno(fd)
        transport = self._transport_of(number)
        if transport is not None and not transport.is_closing() and number not in self._lent:
            raise RuntimeError(
                f'File descriptor {fd!r} is used by transport {transport!r}')
        super()._ensure_fd_no_transport(number)

    def _make_socket_transport(self, sock: Any, protocol: Any, waiter: Any = None, *,
                               extra: Any = None, server: Any = None,
                               context: Any = None) -> Any:
        self._ensure_fd_no_transport(sock)
        if _overrides(sock, 'recv', 'recv_into', 'send', 'sendmsg'):
            options = {} if context is None else {'context': context}
            return super()._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server, **options)
        return StreamTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(self, sock: Any, protocol: Any, address: Any = None,
                                 waiter: Any = None, extra: Any = None) -> Any:
        self._ensure_fd_no_transport(sock)
        if sock.family not in _DATAGRAM_FAMILIES:
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_ssl_transport(self, rawsock: Any, protocol: Any, sslcontext: Any, waiter: Any = None,
                            *, server_side: bool = False, server_hostname: Any = None,
                            extra: Any = None, server: Any = None, context: Any = None,
                            **timeouts: Any) -> Any:
        self._ensure_fd_no_transport(rawsock)
        if _overrides(rawsock, 'recv', 'recv_into', 'send', 'sendmsg'):
            options = timeouts if context is None else {**timeouts, 'context': context}
            return super()._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, server_side=server_side,
                server_hostname=server_hostname, extra=extra, server=server, **options)
        layer = _core.TLSProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        StreamTransport(self, rawsock, layer, None, extra, server, context)
        return layer._app_transport

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Any:
        """Upgrades a transport to TLS; see ``kloop.tls.start_tls`` for the options."""
        return await tls.start_tls(self, transport, protocol, sslcontext, **options)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int) -> int:
        below = transp
        if isinstance(transp, tls.SSLTransport):
            below = _core.tls_sealed_by_kernel(transp)
        if not isinstance(below, StreamTransport):
            return int(await super()._sendfile_native(transp, file, offset, count))
        sock = below.get_extra_info('socket')._sock
        reading = transp.is_reading()
        transp.pause_reading()
        await below._make_empty_waiter()
        self._lent.add(sock.fileno())
        try:
            if below is transp:
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)
            return await tls.sendfile(self, transp, sock, file, offset, count)
        finally:
            self._lent.discard(sock.fileno())
            below._reset_empty_waiter()
            if reading:
                transp.resume_reading()

    # ---- pipes and child processes

    def _make_read_pipe_transport(self, pipe: Any, protocol: Any, waiter: Any = None,
                                  extra: Any = None) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(self, pipe: Any, protocol: Any, waiter: Any = None,
                                   extra: Any = None) -> WritePipeTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    async def _make_subprocess_transport(self, protocol: Any, args: Any, shell: bool,
                                         stdin: Any, stdout: Any, stderr: Any, bufsize: int,
                                         extra: Any = None, **kwargs: Any) -> ProcessTransport:
        waiter = self.create_future()
        transport = ProcessTransport(self, protocol, args, shell, stdin, stdout, stderr, bufsize,
                                     waiter=waiter, extra=extra, **kwargs)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    # ---- names

    @property
    def resolver(self) -> Resolver | None:
        """What looks names up: the process's own resolver, unless another was given; None: libc, in the executor."""
        if self._resolver is _UNSET:
            from . import resolver  # later than the loop: who looks up no name needs none of it
            self._resolver = resolver.shared()
        return self._resolver

    @resolver.setter
    def resolver(self, resolver: Resolver | None) -> None:
        if resolver is not None and not isinstance(resolver, _core.ResolverCore):
            raise TypeError(f'resolver={resolver!r}: give a kloop.Resolver, or None for libc')
        self._resolver = resolver

    getaddrinfo = _core.getaddrinfo

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Names an address, with what socket.getnameinfo() answers."""
        self._check_closed()
        return await names.getnameinfo(self, self.resolver, sockaddr, flags)

    # ---- sockets

    sock_recv = _core.sock_recv  # type: ignore[assignment]  # asyncio says n, typeshed nbytes
    sock_recv_into = _core.sock_recv_into
    sock_recvfrom = _core.sock_recvfrom
    sock_recvfrom_into = _core.sock_recvfrom_into
    sock_sendall = _core.sock_sendall
    sock_sendto = _core.sock_sendto
    sock_accept = _core.sock_accept

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connects a socket to an address. As asyncio's."""
        base_events._check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self)
            address = resolved[0][4]
        await _core.connect_resolved(self, sock, address)

    async def _sock_sendfile_native(self, sock: Any, file: Any, offset: int, count: Any) -> int:
        if not hasattr(unix_events.os, 'sendfile'):     # patched away there, to have the fallback
            raise asyncio.SendfileNotAvailableError('os.sendfile() is not available')
        try:
            fd = file.fileno()
            size = os.fstat(fd).st_size
        except (AttributeError, OSError):       # io.UnsupportedOperation is one
            raise asyncio.SendfileNotAvailableError('not a regular file') from None
        if not count and not size:
            return 0
        return await _core.send_file(self, sock, fd, offset, count, size)

    # ---- servers

    def _start_serving(self, protocol_factory: Any, sock: Any, sslcontext: Any = None,
                       server: Any = None, backlog: int = 100, *timeouts: Any,
                       context: Any = None) -> None:
        """Accepts on sock. context: the server's, which Python has from 3.15 on."""
        accept = functools.partial(self._accepted, protocol_factory, sslcontext, server, timeouts,
                                   context is not None)
        fd = sock.fileno()
        if _overrides(sock, 'accept'):
            options = {} if context is None else {'context': context}
            super()._start_serving(protocol_factory, sock, sslcontext, server, backlog, *timeouts, **options)
            return
        if fd in self._serving:
            raise RuntimeError(f'File descriptor {fd} is already served by this loop')
        self._serving[fd] = _core.Listener(
            self, sock, protocol_factory, server, accept, sslcontext is None, context)

    def _accepted(self, protocol_factory: Any, sslcontext: Any, server: Any, timeouts: Any,
                  with_context: bool, conn: Any, extra: Any) -> None:
        """Makes the transport of an accepted connection in a task. Runs in the connection's context."""
        options = {'context': contextvars.copy_context()} if with_context else {}
        self.create_task(self._accept_connection2(
            protocol_factory, conn, extra, sslcontext, server, *timeouts, **options), **options)

    def _stop_serving(self, sock: Any) -> None:
        listener = self._serving.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()
        super()._stop_serving(sock)  # closes it, and unlinks a unix socket where Python does


def _overrides(sock: Any, *names: str) -> bool:
    """Whether a socket has methods of its own in place of these: asyncio's transports, which call them, are for it."""
    kind = type(sock)
    return (kind is not socket.socket and issubclass(kind, socket.socket)   # a mock is no subclass
            and any(getattr(kind, name) is not getattr(socket.socket, name) for name in names))


def _fileno(fileobj: Any) -> int:
    try:
        return int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f'Invalid file object: {fileobj!r}') from None


def _environment_options() -> dict[str, Any]:
    """What KLOOP_DRIVER, KLOOP_SQPOLL, KLOOP_SPIN_US and KLOOP_DEBUG ask for."""
    driver = os.environ.get('KLOOP_DRIVER') or 'auto'
    if driver not in ('auto', 'io_uring', 'epoll'):
        raise DriverUnavailable(
            0, f'KLOOP_DRIVER={driver!r}: there is no such driver; use auto, io_uring or epoll')
    options: dict[str, Any] = {'driver': driver}
    if os.environ.get('KLOOP_SQPOLL', '0') not in ('', '0'):
        options['sqpoll'] = True
    spin = os.environ.get('KLOOP_SPIN_US', '')
    if spin:
        try:
            options['spin_us'] = int(spin)
        except ValueError:
            raise ValueError(f'KLOOP_SPIN_US={spin!r}: give a whole number of µs') from None
    if os.environ.get('KLOOP_DEBUG', '0') not in ('', '0'):
        options['trace'] = True
    return options


_first_fallback = threading.Lock()


def _tell_of_fallback(loop: Loop) -> None:
    """Logs, once in a process, that there is no io_uring, and why."""
    if _first_fallback.acquire(blocking=False):     # and nobody gives it back
        _logger.info('the event loop runs on epoll: %s', loop.driver_reason)


def _close_inherited() -> None:
    for loop in list(_loops):
        loop._close_inherited()
    _core.close_inherited_background()


os.register_at_fork(after_in_child=_close_inherited)
