"""The sock_* methods: operations of the ring."""

import array
import asyncio
import contextlib
import errno
import inspect
import socket
import ssl
import sys

import pytest
from driving import LIMIT_S, in_thread, run, run_once, turns
from peers import listening, pair, pattern, read_exactly, reset, unacknowledged, unread

METHODS = ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall",
           "sock_sendto", "sock_connect", "sock_accept")


def stream_pair(family):
    """A socket for the loop and a blocking one for the test."""
    if family != socket.AF_UNIX:
        return pair(family)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(LIMIT_S)
    return ours, peer


def datagram_pair(family=socket.AF_INET):
    """Two connected datagram sockets that do not block."""
    if family == socket.AF_UNIX:
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        ours, peer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (ours, peer):
            sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        ours.connect(peer.getsockname())
        peer.connect(ours.getsockname())
    for sock in (ours, peer):
        sock.setblocking(False)
    return ours, peer


families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])


def fill(sock):
    """Sends until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(10_000))


# ---- what they do


@families
def test_echo(loop, family):
    async def serve(sock):
        while data := await loop.sock_recv(sock, 65536):
            await loop.sock_sendall(sock, data)

    async def main():
        ours, peer = stream_pair(family)
        with ours, peer:
            serving = loop.create_task(serve(ours))
            for size in (1, 1000, 100_000):
                data = pattern(size)
                sending = asyncio.ensure_future(in_thread(peer.sendall, data))
                assert await in_thread(read_exactly, peer, size) == data
                await sending
            peer.shutdown(socket.SHUT_WR)
            await serving

    run(loop, main())


@families
def test_no_more_than_asked_for(loop, family):
    async def main():
        ours, peer = stream_pair(family)
        with ours, peer:
            peer.sendall(b"abcdefgh")
            assert await loop.sock_recv(ours, 3) == b"abc"
            buffer = bytearray(b"....")
            assert await loop.sock_recv_into(ours, memoryview(buffer)[1:3]) == 2
            assert buffer == b".de."
            assert (await loop.sock_recvfrom(ours, 2))[0] == b"fg"
            assert (await loop.sock_recvfrom_into(ours, buffer))[0] == 1
            assert buffer == b"hde."
            peer.close()
            assert await loop.sock_recv(ours, 3) == b""
            assert await loop.sock_recv_into(ours, buffer) == 0

    run(loop, main())


def test_nothing_asked_for(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            assert await loop.sock_recv(ours, 0) == b""
            assert await loop.sock_recv_into(ours, bytearray()) == 0
            assert await loop.sock_sendall(ours, b"") is None

    run(loop, main())


@families
def test_datagrams(loop, family):
    async def main():
        ours, peer = datagram_pair(family)
        with ours, peer:
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 1000))
            await turns()
            assert not receiving.done()
            peer.send(b"one")
            assert await receiving == b"one"
            peer.send(b"")
            assert await loop.sock_recv(ours, 1000) == b""
            peer.send(b"cut short")
            assert await loop.sock_recv(ours, 3) == b"cut"
            address = peer.getsockname() or None
            buffer = bytearray(10)
            receiving = asyncio.ensure_future(loop.sock_recvfrom(ours, 1000))
            await turns()
            peer.send(b"from")
            assert await receiving == (b"from", address)
            receiving = asyncio.ensure_future(loop.sock_recvfrom_into(ours, buffer, 3))
            await turns()
            peer.send(b"into")
            assert await receiving == (3, address)
            assert buffer == b"int" + bytes(7)
            await loop.sock_sendall(ours, b"answer")
            assert peer.recv(100) == b"answer"

    run(loop, main())


def test_a_datagram_longer_than_a_receive_buffer(loop):
    async def main():
        ours, peer = datagram_pair(socket.AF_UNIX)
        with ours, peer:
            data = pattern(150_000)
            assert peer.send(data) == len(data)
            assert await loop.sock_recv(ours, 200_000) == data
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 200_000))
            await turns()
            peer.send(b"short")
            assert await receiving == b"short"

    run(loop, main())


def test_sendto(loop):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
            ours.setblocking(False)
            peer.setblocking(False)
            peer.bind(("127.0.0.1", 0))
            assert await loop.sock_sendto(ours, b"hello", peer.getsockname()) == 5
            data, address = await loop.sock_recvfrom(peer, 100)
            assert data == b"hello" and address[1] == ours.getsockname()[1]

    run(loop, main())


def test_datagrams_wait_for_room(loop):
    async def main():
        ours, peer = datagram_pair(socket.AF_UNIX)
        with ours, peer:
            count = 0
            try:
                while True:
                    ours.send(b"%d" % count)
                    count += 1
            except BlockingIOError:
                pass
            sending = [asyncio.ensure_future(loop.sock_sendall(ours, b"late %d" % i)) for i in range(2)]
            await turns()
            assert not any(task.done() for task in sending)
            assert [peer.recv(10) for _ in range(count)] == [b"%d" % i for i in range(count)]
            await asyncio.gather(*sending)
            assert [peer.recv(10) for _ in range(2)] == [b"late 0", b"late 1"]
            fill(ours)
            sending = asyncio.ensure_future(loop.sock_sendall(ours, b"never"))
            await turns()
            peer.close()
            with pytest.raises(OSError):
                await sending

    run(loop, main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("I", data)])
def test_what_can_be_sent(loop, kind):
    async def main():
        ours, peer = pair(receive_buffer=4096)
        with ours, peer:
            data = pattern(4_000_000)
            sending = asyncio.ensure_future(loop.sock_sendall(ours, kind(data)))
            assert await in_thread(read_exactly, peer, len(data)) == data
            assert await sending is None

    run(loop, main())


def test_sends_keep_their_order(loop):
    async def main():
        ours, peer = pair(receive_buffer=4096)
        with ours, peer:
            parts = [pattern(1_000_000, seed) for seed in range(5)]
            sending = [asyncio.ensure_future(loop.sock_sendall(ours, part)) for part in parts]
            data = b"".join(parts)
            assert await in_thread(read_exactly, peer, len(data)) == data
            await asyncio.gather(*sending)

    run(loop, main())


def test_receives_of_one_socket_take_turns(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            receiving = [asyncio.ensure_future(loop.sock_recv(ours, 2)) for _ in range(4)]
            buffer = bytearray(1)
            last = asyncio.ensure_future(loop.sock_recv_into(ours, buffer))
            await turns()
            peer.sendall(b"aabbccdde")
            assert await asyncio.gather(*receiving) == [b"aa", b"bb", b"cc", b"dd"]
            assert await last == 1 and buffer == b"e"

    run(loop, main())


def test_sending_while_receiving(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            data = pattern(3_000_000)
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
            await turns()
            assert not receiving.done()
            assert await in_thread(read_exactly, peer, len(data)) == data
            await sending
            peer.sendall(b"answer")
            assert await receiving == b"answer"

    run(loop, main())


def test_accept_and_connect(loop):
    async def main():
        with listening() as listener:
            listener.setblocking(False)
            accepting = [asyncio.ensure_future(loop.sock_accept(listener)) for _ in range(3)]
            await turns()
            clients = [socket.socket() for _ in range(3)]
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
            accepted = await asyncio.gather(*accepting)
            assert [address for _, address in accepted] == [client.getsockname() for client in clients]
            for sock in [conn for conn, _ in accepted] + clients:
                assert sock.gettimeout() == 0
                sock.close()

    run(loop, main())


def test_unix_accept_and_connect(loop, tmp_path):
    async def main():
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(str(tmp_path / "socket"))
            listener.listen()
            listener.setblocking(False)
            client.setblocking(False)
            await loop.sock_connect(client, str(tmp_path / "socket"))
            conn, _ = await loop.sock_accept(listener)
            with conn:
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(conn, 100) == b"hello"

    run(loop, main())


def test_a_connect_is_under_way_when_the_method_first_yields(loop):
    async def main():
        with listening() as listener, socket.socket() as client:
            client.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(client, listener.getsockname()))
            loop.call_soon(lambda: seen.append(client.getpeername()))
            seen = []
            await connecting
            assert seen == [listener.getsockname()]

    run(loop, main())


# ---- as asyncio's


def test_they_are_coroutine_functions(loop):
    for name in METHODS:
        method = getattr(loop, name)
        assert inspect.iscoroutinefunction(method), name
        if sys.version_info < (3, 14):
            assert asyncio.iscoroutinefunction(method), name
        stock = getattr(asyncio.SelectorEventLoop, name, None)      # three came with Python 3.11
        if stock is not None:
            assert list(inspect.signature(method).parameters) == list(inspect.signature(stock).parameters)[1:]


def test_they_answer_coroutines(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            coroutine = loop.sock_recv(ours, 10)
            assert asyncio.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
            assert not asyncio.isfuture(coroutine)
            peer.sendall(b"data")
            assert unread(ours) == 4
            task = loop.create_task(coroutine)
            assert "sock_recv" in repr(task)
            assert await task == b"data"
            with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
                await coroutine

    run(loop, main())


def test_what_a_task_waits_for(loop):
    """Programs look at a task's _fut_waiter as they would at a future: anyio does, to see which tasks are blocked."""
    async def main():
        ours, peer = pair()
        with ours, peer:
            for message, cancelled in ((b"data", False), (b"", True)):
                task = loop.create_task(loop.sock_recv(ours, 10))
                await turns(1)
                waiter = task._fut_waiter
                seen = []
                waiter.add_done_callback(lambda done, seen=seen: seen.append((done.done(), done.cancelled())))
                assert (waiter.done(), waiter.cancelled()) == (False, False)
                if cancelled:
                    task.cancel()
                    assert (waiter.done(), waiter.cancelled()) == (True, True)
                peer.sendall(message)
                assert await asyncio.gather(task, return_exceptions=True) == [message] or task.cancelled()
                assert task.cancelled() == cancelled
                assert seen == [(True, cancelled)]
                assert waiter.done()

    run(loop, main())


def test_a_coroutine_that_is_never_awaited(loop):
    ours, peer = pair()
    with ours, peer, pytest.warns(RuntimeWarning, match="sock_recv' was never awaited"):
        loop.sock_recv(ours, 10)
    closed = loop.sock_recv(ours, 10)
    closed.close()


async def outcome(awaitable):
    """The type and text of what it raises, or what it answers."""
    try:
        return await asyncio.wait_for(awaitable, 1)
    except Exception as exc:
        return type(exc), str(exc)


def bad_arguments(sock, other):
    """Calls that fail, and the same on any loop."""
    return {
        "a size that is no number": lambda loop: loop.sock_recv(sock, "x"),
        "a negative size": lambda loop: loop.sock_recv(sock, -1),
        "a size without end": lambda loop: loop.sock_recv(sock, 1 << 70),
        "no size": lambda loop: loop.sock_recv(sock, None),
        "a float": lambda loop: loop.sock_recv(sock, 1.5),
        "into bytes": lambda loop: loop.sock_recv_into(sock, b"constant"),
        "into text": lambda loop: loop.sock_recv_into(sock, "text"),
        "into every other byte": lambda loop: loop.sock_recv_into(sock, memoryview(bytearray(9))[::2]),
        "text": lambda loop: loop.sock_sendall(sock, "text"),
        "nothing": lambda loop: loop.sock_sendall(sock, None),
        "every other byte": lambda loop: loop.sock_sendall(sock, memoryview(bytes(9))[::2]),
        "connected already": lambda loop: loop.sock_connect(sock, other.getsockname()),
        "an address that is none": lambda loop: loop.sock_connect(sock, "address"),
        "not listening": lambda loop: loop.sock_accept(sock),
    }


def newer_bad_arguments(sock):
    return {
        "recvfrom: no number": lambda loop: loop.sock_recvfrom(sock, "x"),
        "recvfrom: negative": lambda loop: loop.sock_recvfrom(sock, -1),
        "recvfrom_into: bytes": lambda loop: loop.sock_recvfrom_into(sock, b"constant"),
        "recvfrom_into: too many": lambda loop: loop.sock_recvfrom_into(sock, bytearray(3), 4),
        "recvfrom_into: negative": lambda loop: loop.sock_recvfrom_into(sock, bytearray(3), -1),
        "sendto: text": lambda loop: loop.sock_sendto(sock, "text", ("127.0.0.1", 1)),
        "sendto: no address": lambda loop: loop.sock_sendto(sock, b"x", None),
    }


def test_errors_are_asyncio_s(loop):
    ours, peer = pair()
    ours_bad = bad_arguments(ours, peer)
    if sys.version_info >= (3, 11):
        ours_bad |= newer_bad_arguments(ours)
    stock_loop = asyncio.new_event_loop()
    with ours, peer:
        for name, call in ours_bad.items():
            async def tried(on, call=call):
                return await outcome(call(on))

            expected = stock_loop.run_until_complete(tried(stock_loop))
            assert isinstance(expected[0], type), name
            assert loop.run_until_complete(tried(loop)) == expected, name
    stock_loop.close()


def every_call(sock):
    """One call of each method."""
    return {
        "sock_recv": lambda loop: loop.sock_recv(sock, 10),
        "sock_recv_into": lambda loop: loop.sock_recv_into(sock, bytearray(10)),
        "sock_sendall": lambda loop: loop.sock_sendall(sock, b"data"),
        "sock_connect": lambda loop: loop.sock_connect(sock, ("127.0.0.1", 1)),
        "sock_accept": lambda loop: loop.sock_accept(sock),
        "sock_recvfrom": lambda loop: loop.sock_recvfrom(sock, 10),
        "sock_recvfrom_into": lambda loop: loop.sock_recvfrom_into(sock, bytearray(10)),
        "sock_sendto": lambda loop: loop.sock_sendto(sock, b"data", ("127.0.0.1", 1)),
    }


def test_a_closed_socket(loop):
    ours, peer = pair()
    peer.close()
    ours.close()
    for name, call in every_call(ours).items():
        async def tried(call=call):
            return await outcome(call(loop))

        assert run(loop, tried()) == (OSError, f"[Errno {errno.EBADF}] Bad file descriptor"), name


def test_debug_mode_refuses_sockets_that_block(loop):
    loop.set_debug(True)
    with socket.socket() as sock:
        for name, call in every_call(sock).items():
            async def tried(call=call):
                return await outcome(call(loop))

            assert run(loop, tried()) == (ValueError, "the socket must be non-blocking"), name


def test_ssl_sockets_are_refused(loop):
    ours, peer = pair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with peer, context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False) as sock:
        for name, call in every_call(sock).items():
            async def tried(call=call):
                return await outcome(call(loop))

            assert run(loop, tried()) == (TypeError, "Socket cannot be of type SSLSocket"), name


def test_the_socket_of_a_transport_is_refused(loop):
    async def main():
        ours, peer = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(ours, 10)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv_into(ours, bytearray(10))
        fill(ours)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_sendall(ours, b"data")
        transport.abort()
        peer.close()
        await turns()

    run(loop, main())


def test_a_socket_type_with_methods_of_its_own(loop):
    class Shouting(socket.socket):
        def recv(self, *arguments):
            return super().recv(*arguments).upper()

    async def main():
        ours, peer = pair()
        with peer, Shouting(fileno=ours.detach()) as sock:
            receiving = asyncio.ensure_future(loop.sock_recv(sock, 10))
            await turns()
            peer.sendall(b"data")
            assert await receiving == b"DATA"

    run(loop, main())


def test_a_reset_connection(loop):
    async def main():
        ours, peer = pair()
        with ours:
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
            await turns()
            reset(peer)
            with pytest.raises(ConnectionResetError):
                await receiving
            with pytest.raises(BrokenPipeError):
                await loop.sock_sendall(ours, b"data")

    run(loop, main())


def test_a_reset_is_told_to_the_receive_that_was_called_before_a_send(loop):
    """send(2), which comes before the ring's receive, takes the socket's error."""
    async def main():
        ours, peer = pair()
        with ours:
            reset(peer)
            told = await asyncio.gather(loop.sock_recv(ours, 10), loop.sock_sendall(ours, b"data"),
                                        return_exceptions=True)
            assert type(told[0]) is ConnectionResetError
            assert type(told[1]) in (ConnectionResetError, BrokenPipeError)
            assert await loop.sock_recv(ours, 10) == b""

    run(loop, main())


def test_a_reset_while_sending(loop):
    async def main():
        ours, peer = pair()
        with ours:
            sending = asyncio.ensure_future(loop.sock_sendall(ours, bytes(10_000_000)))
            await turns()
            assert not sending.done()
            reset(peer)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await sending

    run(loop, main())


def test_debug_mode(loop):
    """Tasks go on by way of call_soon there, so that slow ones are told."""
    loop.set_debug(True)
    test_sending_while_receiving(loop)
    test_accept_and_connect(loop)


def test_context_variables(loop):
    import contextvars

    variable = contextvars.ContextVar("variable")

    async def receive(sock, value):
        variable.set(value)
        data = await loop.sock_recv(sock, 1)
        assert variable.get() == value
        return data

    async def main():
        ours, peer = pair()
        with ours, peer:
            tasks = [loop.create_task(receive(ours, value)) for value in range(3)]
            await turns()
            peer.sendall(b"abc")
            assert await asyncio.gather(*tasks) == [b"a", b"b", b"c"]

    run(loop, main())


def test_a_task_that_exits(kloop):
    """SystemExit comes out of the loop, which can go on afterwards."""
    loop = kloop.new_event_loop()
    ours, peer = pair()

    async def leave(sock):
        await loop.sock_recv(sock, 1)
        raise SystemExit(3)

    with ours, peer:
        task = loop.create_task(leave(ours))
        run_once(loop)
        peer.sendall(b"xy")
        with pytest.raises(SystemExit):
            loop.run_until_complete(asyncio.wait_for(asyncio.Event().wait(), LIMIT_S))
        assert isinstance(task.exception(), SystemExit)
        assert run(loop, loop.sock_recv(ours, 1)) == b"y"
        for left in asyncio.all_tasks(loop):
            left.cancel()
        run(loop, turns())
    loop.close()


def test_a_reader_beside_a_receive(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            called = loop.create_future()
            loop.add_reader(ours, lambda: called.done() or called.set_result(True))
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
            await turns()
            peer.sendall(b"data")
            assert await receiving == b"data"
            await turns()
            if not called.done():
                peer.sendall(b"more")
            assert await called
            loop.remove_reader(ours)

    run(loop, main())


def test_acknowledged(loop):
    """What sock_sendall() has answered for is in the kernel's hands."""
    async def main():
        ours, peer = pair()
        with ours, peer:
            await loop.sock_sendall(ours, b"data")
            assert unacknowledged(ours.fileno()) + unread(peer) >= 4

    run(loop, main())
