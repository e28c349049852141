"""Who seals and opens the records of TLS connections: options, answers, and the key log.

OpenSSL tells the secrets of a handshake through a key log (RFC 9850), which is a file in memory
here, one for each process: see docs/tls.md.
"""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from typing import Any, NamedTuple

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

OFFLOADS = ('auto', 'kernel', 'go', 'off')

# Below this many bytes, several threads seal one write in no less time than one does.
THRESHOLD = 512 * 1024

# In so many bytes, the core's records save what handing over costs.
AFTER = 256 * 1024

# A connection that is silent for so many seconds is not in a hurry, and many of them are much memory.
IDLE_S = 10.0
# From here on it is no time that anybody means.
_FOREVER_S = 1e9


class _Fields(NamedTuple):
    offload: str
    workers: int
    threshold: int
    after: int
    idle: float
    background: int
    zerocopy: bool
    no_padding: bool


class TLSOptions(_Fields):
    """How a loop protects its TLS connections once their handshake is over.

    ``offload``: 'kernel' for the kernel's TLS, 'go' for kloop's own record layer, which works without the
    GIL, 'off' for OpenSSL through Python as on asyncio; 'auto' is the first of these that can be had. What
    can't be had goes on with OpenSSL. The default is what the variable KLOOP_TLS says, else 'auto'.
    ``workers``: how many threads seal one large write; 0: as many as there are CPUs, at most 4.
    ``threshold``: from how many bytes on a write is large.
    ``after``: how many bytes OpenSSL protects of a connection before that, where a record counts 1 KiB beside its
    own: a hand-over costs as much as it gains within so many. 0: at once. The default is 0 where somebody has
    asked for 'kernel' or 'go'; with 'auto', what the variable KLOOP_TLS_AFTER says, else 256 KiB.
    ``idle``: after how many seconds of silence, or up to twice as many, a connection of a TLS 1.3 server is handed
    over all the same, which frees 17 KiB of memory. 0: never. The default is what KLOOP_TLS_IDLE says, else 10.

    For what the kernel protects: ``background``: from how many bytes on a write is sealed and sent by a thread of
    io_uring's own, 0: none is. ``zerocopy``: ``loop.sendfile()`` through a network card that encrypts does not copy
    (TLS_TX_ZEROCOPY_RO, Linux 5.19): the file must not change meanwhile, or the peer gets broken records.
    ``no_padding``: peers of TLS 1.3 are expected not to pad records (TLS_RX_EXPECT_NO_PAD, Linux 6.0), which saves a
    copy; a padded record costs decrypting it twice.
    """

    __slots__ = ()

    # No dataclass: importing these takes longer than everything else here.
    def __new__(cls, offload: str = '', workers: int = 0, threshold: int = THRESHOLD, after: int | None = None,
                idle: float | None = None, background: int = 0, zerocopy: bool = False,
                no_padding: bool = False) -> TLSOptions:
        source = 'offload'
        if not offload:
            offload, source = os.environ.get('KLOOP_TLS') or 'auto', 'KLOOP_TLS'
        if offload not in OFFLOADS:
            raise ValueError(f'{source}={offload!r}: use one of {", ".join(OFFLOADS)}')
        if not 0 <= workers <= 1024:
            raise ValueError(f'workers={workers!r}: give a number from 0 to 1024')
        for name, size, least in (('threshold', threshold, 1), ('background', background, 0)):
            if not least <= size < 1 << 32:
                raise ValueError(f'{name}={size!r}: give a number of bytes from {least} to {(1 << 32) - 1}')
        source = 'after'
        told: Any = after
        if after is None and offload == 'auto':
            told, source = os.environ.get('KLOOP_TLS_AFTER') or AFTER, 'KLOOP_TLS_AFTER'
        if not (str(told or 0).isdecimal() and int(told or 0) < 1 << 63):
            raise ValueError(f'{source}={told!r}: give a number of bytes, or 0')
        return super().__new__(cls, offload, workers, threshold, int(told or 0), _seconds(idle), background,
                               bool(zerocopy), bool(no_padding))

    def count_workers(self) -> int:
        """``workers``, or what 0 stands for."""
        return self.workers or min(4, len(os.sched_getaffinity(0)))


def _seconds(idle: float | None) -> float:
    told: Any = idle
    source = 'idle'
    if idle is None:
        told, source = os.environ.get('KLOOP_TLS_IDLE') or IDLE_S, 'KLOOP_TLS_IDLE'
    try:
        seconds = float(told)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < _FOREVER_S:
        raise ValueError(f'{source}={told!r}: give a number of seconds, or 0')
    return seconds


class TLSOffload(NamedTuple):
    """``get_extra_info('kloop_tls')``: who seals (``tx``) and opens (``rx``) the records of a connection.

    'kernel', 'go' or 'ssl', which is OpenSSL through Python; ``reason`` says why it is not one that was
    asked for before it, and is empty where there is nothing to say.
    """

    tx: str
    rx: str
    reason: str = ''


class KeyLog:
    """The key log of this process. Its lines are taken and removed by the handshakes that made them."""

    def __init__(self) -> None:
        self.fd = -1
        self.path = ''
        self._armed: dict[int, weakref.ref[Any]] = {}
        # A second thread must not see a context half armed. _forget() may come while this one holds it.
        self._lock = threading.RLock()

    def arm(self, context: Any) -> str:
        """Has a context's handshakes write here; answers why that can't be, or ''.

        It stays so: CPython frees the old file of a context without the lock that writers hold.
        """
        with self._lock:
            return self._arm(context)

    def _arm(self, context: Any) -> str:
        known = self._armed.get(id(context))
        now = context.keylog_filename
        if known is not None and known() is context:
            return '' if now == self.path else 'keylog_filename was changed'
        if now is not None:
            return 'the context has a keylog_filename: its secrets are for that file'
        if self.fd < 0:
            try:
                self._open()
            except OSError as exc:
                return f'no file for a key log: {exc}'
        try:
            context.keylog_filename = self.path
        except OSError as exc:
            return f'no key log: {exc}'
        key = id(context)
        self._armed[key] = weakref.ref(context, lambda ref: self._forget(key, ref))
        return ''

    def count_armed(self) -> int:
        """The contexts that write here and are in use."""
        return len(self._armed)

    def _forget(self, key: int, ref: weakref.ref[Any]) -> None:
        with self._lock:
            if self._armed.get(key) is ref:
                del self._armed[key]

    def _open(self) -> None:
        self.fd = os.memfd_create('kloop-keylog', os.MFD_CLOEXEC)
        self.path = f'/proc/self/fd/{self.fd}'

    def clear(self) -> int:
        """Removes all lines, unless a handshake is to read them; answers how many bytes are new."""
        from ._core import empty_key_log  # which imports this module

        return 0 if self.fd < 0 else empty_key_log(self.fd)

    def watch(self, loop: Any) -> None:
        """Clears the log now and then: a context that is armed may be used elsewhere too, and writes on."""
        if not loop.watches_key_log:
            loop.watches_key_log = True
            # In no connection's context, whose variables would live as long as this goes on.
            loop.call_later(_LOOK_S, self._look, loop, _LOOK_S, context=contextvars.Context())

    def _look(self, loop: Any, interval: float) -> None:
        if not self._armed:
            loop.watches_key_log = False
            self.clear()
            return
        interval = _LOOK_S if self.clear() else min(2 * interval, _LOOK_MAX_S)
        loop.call_later(interval, self._look, loop, interval)

    def after_fork(self) -> None:
        """In a child: what the parent has armed goes on writing to the parent's log, and is left alone."""
        if self.fd >= 0:
            from ._core import forget_key_log

            os.close(self.fd)
            forget_key_log()
        self.__init__()  # type: ignore[misc]


# Seconds between two looks at the log, while it is used, and at most.
_LOOK_S = 1.0
_LOOK_MAX_S = 64.0

keylog = KeyLog()
os.register_at_fork(after_in_child=keylog.after_fork)

if ssl is not None:
    class ArmedSSLObject(ssl.SSLObject):
        """Arms the contexts that a callback for server names puts in the place of the first one."""

        @property
        def context(self) -> ssl.SSLContext:
            """The context of the connection."""
            return super().context

        @context.setter
        def context(self, context: ssl.SSLContext) -> None:
            keylog.arm(context)
            ssl.SSLObject.context.fset(self, context)  # type: ignore[attr-defined]


def wrap(context: Any, incoming: Any, outgoing: Any, server_side: bool, server_hostname: Any) -> tuple[Any, str]:
    """The SSLObject of a handshake whose secrets are wanted, and why they can't be had, or ''."""
    reason = _refusal(context, server_side)
    if not reason and server_side and context.sni_callback is not None:
        if context.sslobject_class is ssl.SSLObject:
            make: Any = ArmedSSLObject
            return make._create(incoming, outgoing, server_side=True, context=context), ''
        reason = 'a callback for server names, and a sslobject_class of its own'
    return context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname), reason


def _refusal(context: Any, server_side: bool) -> str:
    if not isinstance(context, ssl.SSLContext):
        return 'the context is not one of the ssl module'
    if type(context).wrap_bio is not ssl.SSLContext.wrap_bio:
        return 'the context has a wrap_bio() of its own'
    if not ssl.OPENSSL_VERSION.startswith('OpenSSL '):
        return f'{ssl.OPENSSL_VERSION} is not known to leave unread what comes behind a handshake'
    if server_side and getattr(context, 'post_handshake_auth', False):
        return 'post_handshake_auth of a server'
    return keylog.arm(context)
