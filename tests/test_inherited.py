"""What works through code that asyncio itself brings: Unix sockets, UDP, pipes, processes."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
from driving import in_thread, run
from peers import pattern, read_exactly
from recorders import Echo, Recorder


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers=False):
        self.answers = answers
        self.received = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if self.answers:
            self.transport.sendto(data.upper(), address)
        self.received.put_nowait((data, address))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_udp(loop):
    async def main():
        server, server_protocol = await loop.create_datagram_endpoint(
            lambda: Datagrams(answers=True), local_addr=("127.0.0.1", 0))
        client, client_protocol = await loop.create_datagram_endpoint(
            Datagrams, remote_addr=server.get_extra_info("sockname"))
        for number in range(50):
            client.sendto(b"message %d" % number)
            data, address = await client_protocol.received.get()
            assert data == b"MESSAGE %d" % number
            assert address == server.get_extra_info("sockname")
        for transport, protocol in ((client, client_protocol), (server, server_protocol)):
            transport.close()
            assert await protocol.lost is None

    run(loop, main())


def test_unix_sockets(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(Echo, path)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        assert transport.get_extra_info("peername") == path
        data = pattern(1_000_000)
        transport.write(data)
        await protocol.received(len(data))
        assert protocol.data == data
        transport.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_unix_streams(loop, tmp_path):
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main():
        path = tmp_path / "socket"
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_socketpair_as_a_connection(loop):
    async def main():
        left, right = socket.socketpair()
        left.setblocking(False)
        right.settimeout(20)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=left)
        data = pattern(400_000)
        transport.write(data)
        assert await in_thread(read_exactly, right, len(data)) == data
        right.sendall(b"back")
        await protocol.received(4)
        right.close()
        await protocol.called("connection_lost")

    run(loop, main())


def test_a_subprocess_and_its_pipes(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        data = pattern(1_000_000)
        output, _ = await process.communicate(data)
        assert output == data
        assert process.returncode == 0

    run(loop, main())


def test_exit_status_and_errors_of_a_subprocess(loop):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "echo out; echo err >&2; exit 3", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert await process.communicate() == (b"out\n", b"err\n")
        assert await process.wait() == 3

    run(loop, main())


def test_a_subprocess_that_is_killed(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; print('up', flush=True); time.sleep(3600)",
            stdout=subprocess.PIPE)
        assert await process.stdout.readline() == b"up\n"
        process.kill()
        assert await process.wait() == -9
        await process.communicate()

    run(loop, main())


def test_ten_subprocesses_at_once(loop):
    async def one(number):
        process = await asyncio.create_subprocess_shell(f"echo {number}", stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    async def main():
        outputs = await asyncio.gather(*(one(number) for number in range(10)))
        assert outputs == [b"%d\n" % number for number in range(10)]

    run(loop, main())


def test_pipes(loop):
    async def main():
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        read_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0))
        write_transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(writing, "wb", 0))
        data = pattern(500_000)
        write_transport.write(data)
        assert await reader.readexactly(len(data)) == data
        write_transport.close()
        assert await reader.read() == b""
        await protocol.called("connection_lost")
        read_transport.close()
        await asyncio.sleep(0)

    run(loop, main())


@pytest.mark.parametrize("transports", [20])
def test_many_datagram_endpoints(loop, transports):
    async def main():
        made = [await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
                for _ in range(transports)]
        first = made[0][0]
        for transport, _ in made:
            first.sendto(b"data", transport.get_extra_info("sockname"))
        for _, protocol in made:
            assert (await protocol.received.get())[0] == b"data"
        for transport, protocol in made:
            transport.close()
            await protocol.lost

    run(loop, main())
