"""Ends of TLS connections: a server of the loop, and a peer that can see and spoil what passes on the wire."""

import contextlib
import socket
import ssl

from driving import LIMIT_S
from peers import READ_SIZE


@contextlib.asynccontextmanager
async def serving(loop, factory, context, **options):
    """A TLS server of the loop; gives its address."""
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


class WirePeer:
    """The standard library's TLS, with its ciphertext in the hands of the test."""

    def __init__(self, sock, context, server_side=False):
        self.sock = sock
        sock.settimeout(LIMIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=None if server_side else "localhost")

    def send(self, ciphertext, step=None):
        """Sends bytes as they are, or in pieces of `step` bytes."""
        for at in range(0, len(ciphertext), step or max(1, len(ciphertext))):
            self.sock.sendall(ciphertext[at:at + (step or len(ciphertext))])

    def receive(self):
        """Takes more of the stream; answers the bytes, none at its end."""
        data = self.sock.recv(READ_SIZE)
        self.incoming.write(data)
        return data

    def handshake(self, step=None, behind=b"", last=False):
        """Makes the handshake. `behind` is data that goes out together with its last flight, and so do, if it
        is the last, close_notify and the stream's end."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(self.outgoing.read(), step)
                assert self.receive(), "the stream ended within the handshake"
            else:
                break
        if behind:
            self.tls.write(behind)
        if last:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        self.send(self.outgoing.read(), step)
        if last:
            self.sock.shutdown(socket.SHUT_WR)
        return self

    def seal(self, data):
        """The records of data."""
        self.tls.write(data)
        return self.outgoing.read()

    def read(self, size):
        """Data, of `size` bytes, or fewer if the stream ends before."""
        parts = []
        while size:
            try:
                data = self.tls.read(size)
            except ssl.SSLWantReadError:
                if not self.receive():
                    break
                continue
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def end(self):
        """Ends the stream below TLS, and waits for the other end of it."""
        self.sock.shutdown(socket.SHUT_WR)
        self.drain()

    def drain(self):
        """Reads up to the end of the stream. It is a reset if the other end had something unread: part
        of a record, say, in a kernel that opens them."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(READ_SIZE):
                pass

    def close(self):
        self.sock.close()
