"""What an ``ssl.SSLObject`` answers once its OpenSSL object is gone, and how OpenSSL words an alert.

OpenSSL keeps 17 KiB for each connection. A server of TLS 1.3 whose records are the core's has no more use for
it: its client may send no message but KeyUpdate, unless the context asks for certificates. The application keeps
the ``SSLObject``, which is told the same by a few hundred bytes.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from typing import Any, NamedTuple, NoReturn

from .tls_offload import ArmedSSLObject

# What many connections of a server have in common is kept once, and no more than so many kinds of it.
_AGREED_MAX = 1024

# CPython issue 116810: each look at an SSLObject's session leaks a copy of a kilobyte.
SESSION_LEAKS = sys.version_info < (3, 12, 8) or (3, 13) <= sys.version_info < (3, 13, 1)


class _Agreed(NamedTuple):
    """What client and server have agreed on, besides keys."""

    version: str | None
    cipher: tuple[str, str, int] | None
    shared_ciphers: tuple[tuple[str, str, int], ...] | None
    alpn: str | None
    compression: str | None
    group: str | None
    client_sigalg: str | None
    server_sigalg: str | None


class SessionSnapshot:
    """The attributes of a server's ``ssl.SSLSession``. As with these, ``id`` says whether two are equal."""

    __slots__ = ('has_ticket', 'id', 'ticket_lifetime_hint', 'time', 'timeout')

    def __init__(self, session: ssl.SSLSession) -> None:
        self.id = session.id
        self.time, self.timeout = session.time, session.timeout
        self.ticket_lifetime_hint, self.has_ticket = session.ticket_lifetime_hint, session.has_ticket

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (SessionSnapshot, ssl.SSLSession)):
            return self.id == other.id
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


_agreed: dict[_Agreed, _Agreed] = {}


class SSLSnapshot:
    """In the place of ``SSLObject._sslobj``. Its methods are those that ``ssl.SSLObject`` calls, up to Python 3.15."""

    __slots__ = ('_agreed', '_binding', '_context', '_session', 'session_reused')

    server_side = True
    server_hostname = None

    def __init__(self, stock: Any) -> None:
        shared = stock.shared_ciphers()
        agreed = _Agreed(stock.version(), stock.cipher(), None if shared is None else tuple(shared),
                         stock.selected_alpn_protocol(), stock.compression(),
                         *(getattr(stock, name, _none)() for name in ('group', 'client_sigalg', 'server_sigalg')))
        if len(_agreed) >= _AGREED_MAX:
            _agreed.clear()
        self._agreed = _agreed.setdefault(agreed, agreed)
        self._binding: bytes | None = stock.get_channel_binding('tls-unique')
        session = None if SESSION_LEAKS else stock.session
        self._session = None if session is None else SessionSnapshot(session)
        self.session_reused = stock.session_reused
        self._context: ssl.SSLContext = stock.context

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    @context.setter
    def context(self, context: Any) -> None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError('The value must be a SSLContext')   # CPython's own words
        self._context = context

    @property
    def session(self) -> SessionSnapshot | None:
        return self._session

    @session.setter
    def session(self, session: Any) -> NoReturn:
        raise ValueError('Cannot set session for server-side SSLSocket.')   # OpenSSL's own words

    def version(self) -> str | None:
        return self._agreed.version

    def cipher(self) -> tuple[str, str, int] | None:
        return self._agreed.cipher

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        return None if self._agreed.shared_ciphers is None else list(self._agreed.shared_ciphers)

    def selected_alpn_protocol(self) -> str | None:
        return self._agreed.alpn

    def compression(self) -> str | None:
        return self._agreed.compression

    def group(self) -> str | None:
        return self._agreed.group

    def client_sigalg(self) -> str | None:
        return self._agreed.client_sigalg

    def server_sigalg(self) -> str | None:
        return self._agreed.server_sigalg

    def get_channel_binding(self, cb_type: str = 'tls-unique') -> bytes | None:
        if cb_type != 'tls-unique':
            raise ValueError(f"'{cb_type}' channel binding type not implemented")
        return self._binding

    # No client has been asked for a certificate.

    def getpeercert(self, binary_form: bool = False) -> None:
        return None

    def get_verified_chain(self) -> None:
        return None

    def get_unverified_chain(self) -> None:
        return None

    def verify_client_post_handshake(self) -> NoReturn:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, 'the context asks for no certificate: its verify_mode is CERT_NONE')

    # The records are not OpenSSL's any more.

    def pending(self) -> int:
        return 0

    def do_handshake(self) -> None:
        """It is done."""

    def read(self, *args: Any) -> NoReturn:
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, 'the records are read and written by the transport alone')

    write = shutdown = read


def _none() -> None:
    return None


def can_release(sslobj: Any) -> bool:
    """Whether this is the SSLObject of a TLS 1.3 server that can do without OpenSSL's."""
    stock = sslobj._sslobj
    if type(sslobj) not in (ssl.SSLObject, ArmedSSLObject) or not stock.server_side or stock.version() != 'TLSv1.3':
        return False
    # A certificate can be asked for later; one that was given is known in more forms than are worth keeping.
    return stock.context.verify_mode == ssl.CERT_NONE and stock.getpeercert(True) is None


def release_openssl(sslobj: Any) -> None:
    """Has an SSLObject answer from memory. Its OpenSSL object is freed with the last reference to
    ``sslobj._sslobj`` that others have."""
    stock = sslobj._sslobj
    snapshot = SSLSnapshot(stock)
    end_session(stock)
    sslobj._sslobj = snapshot


def end_session(stock: Any) -> None:
    """Has OpenSSL take a connection for one that has ended well: else it would forget the session, which a server
    may have in its cache (SSL_free(3), SSL_set_shutdown(3)). The close_notify that it makes is for nobody."""
    with contextlib.suppress(ssl.SSLError):
        stock.shutdown()


_shown: ssl.SSLContext | None = None


def alert_failure(alert: int) -> ssl.SSLError:
    """What OpenSSL raises for a fatal alert of the peer's: another object of its is sent the same."""
    global _shown
    context = _shown
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        _shown = context
    incoming = ssl.MemoryBIO()
    incoming.write(bytes((21, 3, 3, 0, 2, 2, alert)))   # RFC 8446 sections 5.1 and 6
    try:
        context.wrap_bio(incoming, ssl.MemoryBIO()).do_handshake()
    except ssl.SSLError as exc:
        return exc.with_traceback(None)
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f'the peer has sent the alert {alert}')


def corrupt_failure() -> ssl.SSLError:
    """What OpenSSL raises for a record that does not open."""
    reason = 'DECRYPTION_FAILED_OR_BAD_RECORD_MAC'
    failure = ssl.SSLError(ssl.SSL_ERROR_SSL, f'[SSL: {reason}] decryption failed or bad record mac')
    failure.library, failure.reason = 'SSL', reason
    return failure
