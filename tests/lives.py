"""A program that lives through everything again and again, and prints after each life what the process holds.

    tests/lives.py 500      the lives; each makes a loop, uses all it has, lets parts of it fail, and closes it

One line of JSON at the end: for each measure the values after every life. `test_lives.py` and `make lives` judge them.
Run with GOGC=1 the Go heap is collected about once a life.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import socket
import ssl
import struct
import sys
import tempfile
import threading
import warnings
from array import array
from pathlib import Path

import certificates
import kloop

PAGE_BYTES = resource.getpagesize()
LARGE = bytes(1 << 20)
LIMIT_S = 30
# Objects that everything refers to: a reference too many each life shows in their sum.
SHARED = (None, True, False, (), b"", "", asyncio.Future, asyncio.Task, asyncio.Protocol, kloop.Loop,
          kloop.StreamTransport, socket.socket, OSError, ConnectionResetError, asyncio.CancelledError,
          sys.modules["kloop"], sys.modules["kloop._core"])


# Immortal objects have such a number; so have, without the GIL, those whose references each thread counts for itself.
UNCOUNTED = 1 << 28


class Failure(Exception):
    """Raised on purpose."""


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data == b"fail":
            raise Failure
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Counts what comes, and tells of the end."""

    def __init__(self):
        self.received = 0
        self.expected = None
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.received += len(data)
        if self.expected is not None and self.received >= self.expected[0] and not self.expected[1].done():
            self.expected[1].set_result(None)

    async def until(self, size):
        self.expected = (size, asyncio.get_running_loop().create_future())
        if self.received < size:
            await self.expected[1]

    def connection_lost(self, exc):
        self.lost.set_result(exc)


class BufferedClient(Client, asyncio.BufferedProtocol):
    buffer = bytearray(5000)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.data_received(self.buffer[:count])


async def streams(connect, make_server, **options):
    """Connections that end in every way."""
    server = await make_server(Echo)
    for factory, size in ((Client, 1), (Client, len(LARGE)), (BufferedClient, 20_000)):
        transport, protocol = await connect(server, factory)
        transport.write(LARGE[:size])
        await protocol.until(size)
        transport.pause_reading()
        transport.writelines([b"a", b"b"])
        transport.resume_reading()
        await protocol.until(size + 2)
        transport.close()
        await protocol.lost
    for end in ("abort", "fail", "eof", "unread"):
        transport, protocol = await connect(server, Client)
        if end == "abort":
            transport.write(LARGE)
            transport.abort()
        elif end == "fail":
            transport.write(b"fail")
        elif end == "eof" and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.pause_reading()
            transport.write(LARGE)
            transport.close()
        await protocol.lost
    waiting = [await connect(server, Client) for _ in range(3)]
    for transport, protocol in waiting:
        transport.write(b"served")
        await protocol.until(6)
    server.close()
    for transport, protocol in waiting:
        transport.abort()
        await protocol.lost
    await server.wait_closed()


async def tcp():
    loop = asyncio.get_running_loop()
    await streams(lambda server, factory: loop.create_connection(factory, *server.sockets[0].getsockname()),
                  lambda factory: loop.create_server(factory, "127.0.0.1", 0))


async def unix(folder):
    loop, path = asyncio.get_running_loop(), os.path.join(folder, "served")
    await streams(lambda server, factory: loop.create_unix_connection(factory, path),
                  lambda factory: loop.create_unix_server(factory, path))
    Path(path).unlink(missing_ok=True)      # from Python 3.13 on the server has done it


async def tls(certificate):
    loop = asyncio.get_running_loop()
    server_context, client_context = certificate.server(), certificate.client()
    await streams(lambda server, factory: loop.create_connection(
                      factory, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"),
                  lambda factory: loop.create_server(factory, "127.0.0.1", 0, ssl=server_context))
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    for context in (ssl.create_default_context(), None):     # does not trust it; speaks no TLS
        try:
            transport, protocol = await loop.create_connection(
                Client, *server.sockets[0].getsockname(), ssl=context,
                server_hostname="localhost" if context else None)
        except ssl.SSLCertVerificationError:
            continue
        transport.write(b"no handshake" * 100)
        await protocol.lost
    server.close()
    await server.wait_closed()


async def failed_connects():
    loop = asyncio.get_running_loop()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    for making in (loop.create_connection(Client, *address), loop.create_unix_connection(Client, "/nowhere/at/all"),
                   loop.create_server(Client, "192.0.2.1", 0), loop.create_connection(Client, "name.invalid", 1)):
        try:
            await making
        except OSError:
            continue
        raise AssertionError("it has succeeded")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.ensure_future(loop.create_connection(Client, *listener.getsockname()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def resets():
    """The peer breaks off while bytes are under way in both directions."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for sent in (b"", LARGE):
            peer = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
            transport, protocol = await loop.connect_accepted_socket(Client, accepted)
            transport.write(sent)
            peer.send(b"some")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await protocol.lost


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers):
        self.answers = answers
        self.came = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        if self.answers:
            self.transport.sendto(data, addr)
        self.error_received(None)

    def error_received(self, exc):
        if not self.came.done():
            self.came.set_result(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def datagrams(folder):
    loop = asyncio.get_running_loop()

    async def endpoint(answers, **options):
        return await loop.create_datagram_endpoint(lambda: Datagrams(answers), **options)

    own, other = os.path.join(folder, "own"), os.path.join(folder, "other")
    for local, remote, options in ((("127.0.0.1", 0), ("127.0.0.1", 0), {}),
                                   (own, other, {"family": socket.AF_UNIX})):
        answering, _ = await endpoint(True, local_addr=local, **options)
        target = answering.get_extra_info("socket").getsockname()
        asking, protocol = await endpoint(False, local_addr=remote, remote_addr=target, **options)
        asking.sendto(b"a question")
        await protocol.came
        answering.close()
        await answering.get_protocol().lost
        protocol.came = loop.create_future()
        asking.sendto(b"to nobody")
        await protocol.came
        asking.abort()
        await protocol.lost
    for path in (own, other):
        os.unlink(path)


async def sockets():
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right, socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for sock in (left, right, listener, client, udp):
            sock.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendall(left, LARGE))
        count = 0
        while count < len(LARGE):
            count += len(await loop.sock_recv(right, 1 << 16))
        await sending
        await loop.sock_sendall(left, b"into")
        await loop.sock_recv_into(right, bytearray(100))
        _, (accepted, _) = await asyncio.gather(
            loop.sock_connect(client, listener.getsockname()), loop.sock_accept(listener))
        accepted.close()
        udp.bind(("127.0.0.1", 0))
        await loop.sock_sendto(udp, b"to itself", udp.getsockname())
        await loop.sock_recvfrom(udp, 100)
        tasks = [asyncio.ensure_future(loop.sock_recv(right, 10)), asyncio.ensure_future(loop.sock_accept(listener)),
                 asyncio.ensure_future(loop.sock_sendall(left, LARGE * 4))]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.add_reader(left, lambda: None)
        loop.add_writer(left, lambda: None)
        await asyncio.sleep(0)
        loop.remove_writer(left)
        loop.remove_reader(left)


async def processes():
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    output, _ = await child.communicate(LARGE)
    assert len(output) == len(LARGE)
    child = await asyncio.create_subprocess_shell("echo out; echo err >&2; exit 3", stdout=pipe, stderr=pipe)
    assert await child.communicate() == (b"out\n", b"err\n")
    child = await asyncio.create_subprocess_exec("sleep", "1000", stdin=pipe)
    child.kill()
    await child.wait()
    try:
        await asyncio.create_subprocess_exec("/nowhere/at/all")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("it has started")


async def pipes():
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe()
    reader, protocol = await loop.connect_read_pipe(Client, os.fdopen(read_fd, "rb", 0))
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write_fd, "wb", 0))
    writer.write(LARGE[:100_000])
    await protocol.until(100_000)
    writer.close()
    await protocol.lost
    reader.close()


async def scheduling():
    loop = asyncio.get_running_loop()

    def fail():
        raise Failure

    loop.call_soon(fail)
    loop.call_later(1000, fail)             # never runs: the loop is closed before
    loop.call_later(1000, fail).cancel()
    loop.call_soon(fail).cancel()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(fail,))
    thread.start()
    await loop.run_in_executor(None, thread.join)
    loop.add_signal_handler(signal.SIGUSR1, fail)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.001)
    loop.remove_signal_handler(signal.SIGUSR1)
    task = asyncio.ensure_future(asyncio.sleep(1000))
    try:
        await asyncio.wait_for(task, 0.001)
    except asyncio.TimeoutError:
        pass
    await loop.getaddrinfo("localhost", 80)
    asyncio.ensure_future(asyncio.sleep(1000))      # cancelled with the loop


async def sendfile(folder):
    loop = asyncio.get_running_loop()
    path = os.path.join(folder, "file")
    Path(path).write_bytes(LARGE)
    server = await loop.create_server(Client, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Client, *server.sockets[0].getsockname())
    with open(path, "rb") as file:
        assert await loop.sendfile(transport, file) == len(LARGE)
    transport.close()
    await protocol.lost
    server.close()
    await server.wait_closed()


async def life(folder, certificate):
    asyncio.get_running_loop().set_exception_handler(expect_failure)
    asyncio.get_running_loop().slow_callback_duration = LIMIT_S     # a busy machine is no fault
    for part in (tcp(), unix(folder), tls(certificate), failed_connects(), resets(), datagrams(folder), sockets(),
                 processes(), pipes(), scheduling(), sendfile(folder)):
        await asyncio.wait_for(part, LIMIT_S)
    return asyncio.get_running_loop().stats()["go_heap"]


def expect_failure(loop, context):
    if not isinstance(context.get("exception"), (Failure, ssl.SSLError)):
        loop.default_exception_handler(context)


def failed_loops():
    """Loops that can't be made, and one that is closed before it ever ran."""
    for options in ({"buffers": -1}, {"nothing": 1}):
        try:
            kloop.new_event_loop(**options)
        except (TypeError, ValueError, OverflowError, OSError):
            continue
        raise AssertionError("it was made")
    kloop.new_event_loop().close()


def measure(go_heap):
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # Python 3.13 and newer have another name for it
        sys._clear_type_cache()             # it holds strings, more and more of them
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "references": sum(count for count in map(sys.getrefcount, SHARED) if count < UNCOUNTED),
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES,
        "go_heap": go_heap,
    }


def is_news(record):
    """Not what Python 3.14 warns of beside the error that create_server() raises."""
    return "attempting to bind" not in record.getMessage()


def main(count):
    history = {}
    logging.getLogger("asyncio").addFilter(is_news)
    with tempfile.TemporaryDirectory(prefix="kloop-lives-") as folder:
        certificate = certificates.make(Path(folder))
        for number in range(count):
            failed_loops()
            for name, value in measure(kloop.run(life(folder, certificate))).items():
                # Not a list, which would hold one more object each life.
                history.setdefault(name, array("q", bytes(8 * count)))[number] = value
            if sys.stderr.isatty():
                print(f"\r{number + 1} of {count}", end="", file=sys.stderr, flush=True)
    print(json.dumps({name: values.tolist() for name, values in history.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
