"""KeyUpdate of TLS 1.3 (RFC 8446, 4.6.3), asked for by openssl(1): new keys in both directions, between any two writes.

OpenSSL answers one with the next application data, as the RFC allows.
"""

import asyncio
import contextlib
import ssl
import subprocess

import pytest
from driving import LIMIT_S, run
from peers import listening, pattern
from recorders import BufferedRecorder, Echo, Recorder

# What openssl(1) says with -msg of its KeyUpdate and of the answer.
UPDATE = b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"
ANSWER = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
# Its commands, each alone on a line: with K it asks for an answer, with k it does not.
ASKING, TELLING = b"K\n", b"k\n"
ROUNDS = 3
# Several records of 16 KiB.
MUCH = 200_000


def tls13(context):
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class OpenSSL:
    """An openssl(1) process that shows the handshake's messages, and lets its lines be waited for."""

    def __init__(self, process):
        self.process = process

    async def says(self, wanted):
        async def read():
            while wanted not in (line := await self.process.stdout.readline()):
                assert line, f"the process ended without {wanted!r}"
        await asyncio.wait_for(read(), LIMIT_S)

    async def type(self, text):
        self.process.stdin.write(text)
        await self.process.stdin.drain()


@contextlib.asynccontextmanager
async def openssl(*arguments):
    process = await asyncio.create_subprocess_exec(
        "openssl", *arguments, "-msg", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        limit=10 * MUCH)
    try:
        yield OpenSSL(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_a_server_whose_client_updates_its_keys(loop, certificate):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=tls13(certificate.server()))
        port = server.sockets[0].getsockname()[1]
        async with openssl("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certificate.certificate) as client:
            await client.says(b"Verify return code: 0 (ok)")
            for number in range(ROUNDS):
                await client.type(ASKING)
                await client.says(b"KEYUPDATE")     # it takes commands only at the beginning of what it reads
                await client.type(b"after %d\n" % number)
                await client.says(ANSWER)
                await client.says(b"after %d\n" % number)
                await client.type(TELLING)
                await client.says(b"KEYUPDATE")
                await client.type(b"and again %d\n" % number)
                await client.says(b"and again %d\n" % number)
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("make", [Recorder, lambda: BufferedRecorder(1000)], ids=["Protocol", "BufferedProtocol"])
def test_a_client_whose_server_updates_its_keys(loop, certificate, make):
    data = pattern(MUCH, seed=3).replace(b"\n", b" ").replace(b"\r", b" ")

    async def main():
        with listening() as listener:
            port = listener.getsockname()[1]
        async with openssl("s_server", "-accept", str(port), "-key", certificate.key,
                           "-cert", certificate.certificate) as server:
            await server.says(b"ACCEPT")
            transport, protocol = await loop.create_connection(
                make, "127.0.0.1", port, ssl=tls13(certificate.client()), server_hostname="localhost")
            await server.says(b"CIPHER is ")
            for number in range(ROUNDS):
                await server.type(ASKING)
                await server.says(UPDATE)           # as above
                received = len(protocol.data)
                await server.type(b"hello %d\n" % number)
                await protocol.received(received + 8)
                assert protocol.data.endswith(b"hello %d\n" % number)
                # Many records under the new keys, the next update somewhere between them.
                transport.write(data)
                await server.says(ANSWER)
                await server.type(TELLING)
                transport.write(b"\nend %d\n" % number)
                await server.says(b"end %d\n" % number)
            transport.close()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None

    run(loop, main())
