"""Datagram protocols that write down what a loop calls, and plain sockets as their peers."""

import asyncio
import socket

from driving import LIMIT_S
from recorders import Recorder


class Mailbox(asyncio.DatagramProtocol):
    """Keeps the datagrams with their senders, the errors, and the names of the calls in order."""

    def __init__(self):
        self.calls = []
        self.got = []
        self.errors = []
        self.transport = None
        self.lost_with = None
        self._expected = []

    note = Recorder.note
    until = Recorder.until
    called = Recorder.called

    async def received(self, count):
        """The datagrams, once there are so many."""
        await self.until(lambda: len(self.got) >= count)
        return [data for data, _ in self.got]

    async def failed(self, count=1):
        """The errors, once there are so many."""
        await self.until(lambda: len(self.errors) >= count)
        return self.errors

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def datagram_received(self, data, addr):
        self.got.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc):
        self.errors.append(exc)
        self.note("error_received")

    def connection_lost(self, exc):
        self.lost_with = exc
        self.note("connection_lost")

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")


class DatagramEcho(Mailbox):
    """Sends each datagram back to where it came from."""

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def endpoint(protocol_factory=Mailbox, **options):
    """(transport, protocol), on a loopback address of its own unless the options say otherwise."""
    if not options:
        options = {"local_addr": ("127.0.0.1", 0)}
    return await asyncio.get_running_loop().create_datagram_endpoint(protocol_factory, **options)


async def closed(*transports):
    """Closes them and returns once their protocols were told."""
    protocols = [transport.get_protocol() for transport in transports]
    for transport in transports:
        transport.close()
    for protocol in protocols:
        if protocol is not None:
            await protocol.called("connection_lost")


def plain(family=socket.AF_INET, address=None):
    """A blocking datagram socket that no loop knows of."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(LIMIT_S)
    if address is None:
        address = ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0)
    sock.bind(address)
    return sock


def drained(sock):
    """The datagrams that wait in a socket."""
    sock.setblocking(False)
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 18))
        except BlockingIOError:
            return found
