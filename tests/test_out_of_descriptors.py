"""A process without free descriptors: accepting stops for a while, is reported, and goes on."""

import errno
import os
import resource
from asyncio import constants

import pytest
from driving import in_thread, reports, run
from peers import connected
from recorders import Echo

RETRY_S = 0.05
SPARE = 64      # descriptors the loop and the test may still need before the limit is reached


@pytest.fixture
def few_descriptors():
    """Lowers the limit of open files; answers a function that takes all that are left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + SPARE, hard))
    taken = []

    def take_all():
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as exc:
            assert exc.errno == errno.EMFILE
        return taken

    yield take_all
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_accept_without_descriptors(loop, few_descriptors, monkeypatch):
    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", RETRY_S)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        first = connected(address)
        first.sendall(b"before")
        assert await in_thread(first.recv, 10) == b"before"
        waiting = [connected(address)]      # opened while there are descriptors
        waiting[0].close()
        import socket

        waiting = [socket.socket() for _ in range(3)]
        taken = few_descriptors()
        reported = loop.create_future()

        def handler(_, context):
            contexts.append(context)
            if not reported.done():
                reported.set_result(loop.time())

        loop.set_exception_handler(handler)
        for sock in waiting:
            sock.settimeout(20)
            sock.connect(address)
        reported_at = await reported
        # The loop still serves those that are connected.
        first.sendall(b"meanwhile")
        assert await in_thread(first.recv, 10) == b"meanwhile"
        for _ in range(10):
            os.close(taken.pop())
        for number, sock in enumerate(waiting):
            sock.sendall(b"%d" % number)
            assert await in_thread(sock.recv, 10) == b"%d" % number
        assert loop.time() - reported_at >= RETRY_S / 2
        for sock in (first, *waiting):
            sock.close()
        server.close()
        await server.wait_closed()

    with reports(loop) as contexts:
        run(loop, main())
    assert 1 <= len(contexts) <= 2      # one more if the retry came before the descriptors were freed
    assert contexts[0]["message"] == "socket.accept() out of system resource"
    assert contexts[0]["exception"].errno == errno.EMFILE
    assert contexts[0]["socket"].fileno() == -1     # by now; the server is closed
    contexts.clear()


def test_closing_a_server_that_waits_to_retry(loop, few_descriptors, monkeypatch):
    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", 3600)

    async def main():
        import socket

        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with socket.socket() as waiting:
            taken = few_descriptors()
            reported = loop.create_future()
            loop.set_exception_handler(lambda *_: reported.done() or reported.set_result(None))
            waiting.settimeout(20)
            waiting.connect(server.sockets[0].getsockname())
            await reported
            while taken:
                os.close(taken.pop())
            server.close()
            await server.wait_closed()

    run(loop, main())
    loop.set_exception_handler(None)


def test_connecting_without_descriptors(loop, few_descriptors):
    async def main():
        few_descriptors()
        with pytest.raises(OSError) as caught:
            await loop.create_connection(Echo, "127.0.0.1", 1)
        assert caught.value.errno == errno.EMFILE

    run(loop, main())


def test_a_loop_without_descriptors(kloop, few_descriptors):
    """No driver is to blame: EMFILE comes out as it is, and nothing leaks."""
    few_descriptors()
    with pytest.raises(OSError) as caught:
        kloop.new_event_loop()
    assert caught.value.errno == errno.EMFILE
    assert not isinstance(caught.value, getattr(kloop, "DriverUnavailable", ()))
