"""Cancelled sock_* calls, closed sockets and loops that stop: no byte and no connection is lost, nothing leaks."""

import asyncio
import contextlib
import gc
import os
import random
import socket
import threading
import time
import weakref

import pytest
from driving import LIMIT_S, cancelled, in_thread, joined, operations, run, run_once, turns, waiting
from peers import listening, pair, pattern, read_exactly, reset, unread
from recorders import Recorder
from test_sock import datagram_pair, fill, stream_pair


async def no_operations(loop):
    """The kernel's last answers come with the next iterations."""
    deadline_s = time.monotonic() + LIMIT_S
    while operations(loop):
        assert time.monotonic() < deadline_s, f"{operations(loop)} operations are under way"
        await asyncio.sleep(0)


async def cancel_late(loop, task, peer, data):
    """Cancels a task after the kernel has completed its operation and before the loop has looked.

    What is ready runs before what came, if it was ready before.
    """
    peer.sendall(data)
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_message_of_a_cancel(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            task = await waiting(loop.sock_recv(ours, 10))
            task.cancel("because")
            with pytest.raises(asyncio.CancelledError) as info:
                await task
            assert info.value.args in (("because",), ())     # Python 3.10 makes a new exception

    run(loop, main())


@pytest.mark.parametrize("call", ["sock_recv", "sock_recv_into", "sock_recvfrom"])
def test_a_thousand_cancelled_receives(loop, call):
    async def main():
        ours, peer = pair()
        with ours, peer:
            argument = bytearray(10) if call == "sock_recv_into" else 10
            for _ in range(100):
                await cancelled(await waiting(getattr(loop, call)(ours, argument)))
            tasks = [asyncio.ensure_future(getattr(loop, call)(ours, argument)) for _ in range(1000)]
            await turns(3)
            assert operations(loop) == 1        # the others wait behind it
            for task in random.Random(1).sample(tasks, len(tasks)):
                task.cancel()
            assert all(isinstance(result, asyncio.CancelledError)
                       for result in await asyncio.gather(*tasks, return_exceptions=True))
            await no_operations(loop)
            peer.sendall(b"data")
            assert await loop.sock_recv(ours, 10) == b"data"

    run(loop, main())
    gc.collect()
    kinds = {type(thing).__name__ for thing in gc.get_objects()}
    assert not kinds & {"Receive", "ReceiveInto", "ReceiveFrom"}


def test_a_thousand_cancelled_receives_of_as_many_sockets(loop):
    async def main():
        pairs = [stream_pair(socket.AF_UNIX) for _ in range(400)]
        tasks = [asyncio.ensure_future(loop.sock_recv(ours, 10)) for ours, _ in pairs]
        await turns(3)
        assert operations(loop) == len(pairs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ours, peer in pairs:
            peer.sendall(b"data")
            assert await loop.sock_recv(ours, 10) == b"data"
            ours.close()
            peer.close()
        await no_operations(loop)

    run(loop, main())


def test_cancelled_before_the_kernel_has_it(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            task = asyncio.ensure_future(loop.sock_recv(ours, 10))
            loop.call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.sendall(b"data")
            assert await loop.sock_recv(ours, 10) == b"data"

    run(loop, main())


@pytest.mark.parametrize("call", ["sock_recv", "sock_recv_into"])
def test_bytes_that_had_come_when_it_was_cancelled(loop, call):
    async def main():
        ours, peer = pair()
        with ours, peer:
            argument = bytearray(10) if call == "sock_recv_into" else 10
            await cancel_late(loop, await waiting(getattr(loop, call)(ours, argument)), peer, b"abcdef")
            assert unread(ours) == 0        # so it is the case that is meant
            peer.sendall(b"gh")
            assert await loop.sock_recv(ours, 2) == b"ab"
            buffer = bytearray(2)
            assert await loop.sock_recv_into(ours, buffer) == 2 and buffer == b"cd"
            assert await loop.sock_recvfrom(ours, 1) == (b"e", None)
            assert await loop.sock_recvfrom_into(ours, buffer) == (1, None) and buffer == b"fd"
            assert await loop.sock_recv(ours, 10) == b"gh"

    run(loop, main())


def test_bytes_that_came_too_late_go_to_who_waits_already(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            first = await waiting(loop.sock_recv(ours, 3))
            second = await waiting(loop.sock_recv(ours, 2))
            third = await waiting(loop.sock_recv(ours, 10))
            await cancel_late(loop, first, peer, b"abc")
            assert await second == b"ab"
            assert await third == b"c"

    run(loop, main())


def test_datagrams_that_had_come_when_it_was_cancelled(loop):
    async def main():
        ours, peer = datagram_pair()
        with ours, peer:
            task = await waiting(loop.sock_recv(ours, 100))
            peer.send(b"first")
            loop.call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.send(b"second")
            assert await loop.sock_recv(ours, 2) == b"fi"       # and the rest is lost, as it always is
            assert await loop.sock_recv(ours, 100) == b"second"

    run(loop, main())


def test_an_end_that_had_come_when_it_was_cancelled(loop):
    async def main():
        ours, peer = pair()
        with ours:
            task = await waiting(loop.sock_recv(ours, 100))
            reset(peer)
            loop.call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(ours, 100)
            assert await loop.sock_recv(ours, 100) == b""

    run(loop, main())


def test_bytes_that_had_come_go_to_a_transport(loop):
    async def main():
        ours, peer = pair()
        await cancel_late(loop, await waiting(loop.sock_recv(ours, 100)), peer, b"abc")
        peer.sendall(b"def")
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        peer.close()
        await protocol.called("connection_lost")
        assert bytes(protocol.data) == b"abcdef"
        transport.close()

    run(loop, main())


def test_bytes_of_a_closed_socket_are_no_other_s(loop):
    """Also where the other one has its descriptor."""
    async def main():
        ours, peer = pair()
        await cancel_late(loop, await waiting(loop.sock_recv(ours, 100)), peer, b"secret")
        number = ours.fileno()
        ours.close()
        peer.close()
        other, other_peer = stream_pair(socket.AF_UNIX)
        with other_peer:
            if other.fileno() != number:
                os.dup2(other.fileno(), number)
                other.close()
                other = socket.socket(fileno=number)
                other.setblocking(False)
            with other:
                receiving = await waiting(loop.sock_recv(other, 100))
                other_peer.sendall(b"other")
                assert await receiving == b"other"

    run(loop, main())


def test_kept_bytes_end_with_their_socket(loop):
    async def main():
        ours, peer = pair()
        await cancel_late(loop, await waiting(loop.sock_recv(ours, 100)), peer, b"data")
        ours.close()
        peer.close()
        return weakref.ref(ours)

    left = run(loop, main())
    gc.collect()
    assert left() is None


def test_every_byte_arrives_whatever_is_cancelled(loop):
    data = pattern(400_000)
    random_delays = random.Random(2)

    async def receive(ours):
        got = bytearray()
        lost = 0
        while len(got) < len(data):
            task = asyncio.ensure_future(loop.sock_recv(ours, random_delays.choice([1, 100, 5000])))
            for _ in range(random_delays.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got += await task
            except asyncio.CancelledError:
                lost += 1
        return bytes(got), lost

    async def main():
        ours, peer = pair()
        with ours, peer:
            def trickle():
                rest = memoryview(data)
                while rest:
                    rest = rest[peer.send(rest[:random_delays.randrange(1, 3000)]):]

            sending = asyncio.ensure_future(in_thread(trickle))
            got, lost = await receive(ours)
            await sending
            assert got == data and lost

    run(loop, main())


@pytest.mark.parametrize("debug", [False, True])
def test_wait_for(loop, debug):
    """Time-outs race with bytes that come at the same time."""
    loop.set_debug(debug)

    async def main():
        ours, peer = pair()
        with ours, peer:
            got = bytearray()
            for number in range(200):
                loop.call_later(0.0005, peer.send, bytes([number]))
                with contextlib.suppress(asyncio.TimeoutError):
                    got += await asyncio.wait_for(loop.sock_recv(ours, 10), 0.0005)
            while len(got) < 200:
                got += await loop.sock_recv(ours, 10)
            assert got == bytes(range(200))

    run(loop, main())


def test_a_buffer_stays_until_the_kernel_has_answered(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            buffer = bytearray(10)
            task = await waiting(loop.sock_recv_into(ours, buffer))
            with pytest.raises(BufferError):
                buffer.extend(b"x")
            task.cancel()
            with pytest.raises(BufferError):
                buffer.extend(b"x")
            with pytest.raises(asyncio.CancelledError):
                await task
            await no_operations(loop)
            await turns(2)
            buffer.extend(b"x")
            peer.sendall(b"data")
            assert await loop.sock_recv_into(ours, buffer) == 4
            buffer.extend(b"x")

    run(loop, main())


def test_nothing_more_is_sent_after_a_cancel(loop):
    async def main():
        ours, peer = pair(receive_buffer=4096)
        with ours, peer:
            data = bytearray(pattern(30_000_000))
            task = await waiting(loop.sock_sendall(ours, data))
            behind = await waiting(loop.sock_sendall(ours, b"never"))
            with pytest.raises(BufferError):
                data.clear()
            await cancelled(behind)
            await cancelled(task)
            await no_operations(loop)
            await turns(2)
            ours.shutdown(socket.SHUT_WR)
            got = await in_thread(read_everything, peer)
            assert 0 < len(got) < len(data) and data.startswith(got)
            data.clear()

    run(loop, main())


def read_everything(sock):
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def test_a_send_behind_a_cancelled_one(loop):
    async def main():
        ours, peer = pair(receive_buffer=4096)
        with ours, peer:
            first = bytes(20_000_000)
            task = await waiting(loop.sock_sendall(ours, first))
            behind = await waiting(loop.sock_sendall(ours, b"end"))
            await cancelled(task)
            reading = asyncio.ensure_future(in_thread(read_everything, peer))
            await behind
            ours.shutdown(socket.SHUT_WR)
            got = await reading
            assert got.endswith(b"end") and len(got) < len(first) and not got[:-3].strip(b"\0")

    run(loop, main())


def test_a_cancelled_sendto(loop):
    async def main():
        ours, peer = datagram_pair(socket.AF_UNIX)
        with ours, peer:
            sent = fill_datagrams(ours)
            path = ""
            task = asyncio.ensure_future(loop.sock_sendto(ours, b"never", path))
            await turns(3)
            if task.done():     # this kernel refuses an address here
                with pytest.raises(OSError):
                    await task
                return
            await cancelled(task)
            for _ in range(sent):
                peer.recv(100)
            await turns()
            with pytest.raises(BlockingIOError):
                peer.recv(100)

    run(loop, main())


def fill_datagrams(sock):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x")
            count += 1
    return count


def test_a_cancelled_accept_loses_no_connection(loop):
    async def main():
        with listening() as listener:
            listener.setblocking(False)
            for _ in range(20):
                task = await waiting(loop.sock_accept(listener))
                client = socket.create_connection(listener.getsockname(), LIMIT_S)
                loop.call_soon(task.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await task
                conn, address = await loop.sock_accept(listener)
                assert address == client.getsockname()
                conn.close()
                client.close()

    run(loop, main())


async def finished(coroutine, peers_turn):
    """Begins a call, and returns when it has an outcome that nobody has taken."""
    coroutine.send(None)
    await turns(3)
    peers_turn()
    while "finished" not in repr(coroutine):
        await asyncio.sleep(0)


@pytest.mark.parametrize("accepts_again", [True, False])
def test_an_accepted_connection_that_nobody_takes(loop, accepts_again):
    async def main(listener):
        clients = []
        coroutine = loop.sock_accept(listener)
        await finished(coroutine, lambda: clients.append(
            socket.create_connection(listener.getsockname(), LIMIT_S)))
        coroutine.close()
        if accepts_again:
            conn, address = await loop.sock_accept(listener)
            assert address == clients[0].getsockname()
            conn.close()
        return clients[0]

    with listening() as listener:
        listener.setblocking(False)
        client = run(loop, main(listener))
        loop.close()
        assert client.recv(1) == b""    # the connection is closed, by its user or with the loop
        client.close()


def test_bytes_that_nobody_takes(loop):
    """Those that were first come first."""
    async def main():
        ours, peer = pair()
        with ours, peer:
            for call in (lambda: loop.sock_recv(ours, 4), lambda: loop.sock_recv_into(ours, bytearray(4))):
                coroutine = call()
                await finished(coroutine, lambda: peer.sendall(b"data, more"))
                coroutine.close()
                assert await loop.sock_recv(ours, 10) == b"data"
                assert await loop.sock_recv(ours, 10) == b", more"

    run(loop, main())


def test_datagrams_that_nobody_takes(loop):
    async def main():
        ours, peer = datagram_pair()
        with ours, peer:
            for call in (lambda: loop.sock_recvfrom(ours, 9),
                         lambda: loop.sock_recvfrom_into(ours, bytearray(9))):
                coroutine = call()
                await finished(coroutine, lambda: peer.send(b"data"))
                with pytest.raises(KeyError):
                    coroutine.throw(KeyError)
                assert await loop.sock_recvfrom(ours, 10) == (b"data", peer.getsockname())

    run(loop, main())


def test_a_cancelled_connect(loop):
    from peers import Stalled

    async def main():
        with Stalled() as stalled, socket.socket() as client:
            client.setblocking(False)
            await cancelled(await waiting(loop.sock_connect(client, stalled.address)))
            await no_operations(loop)

    run(loop, main())


# ---- sockets and loops that end


def test_a_socket_closed_under_a_receive(loop):
    async def main():
        ours, peer = stream_pair(socket.AF_UNIX)
        task = await waiting(loop.sock_recv(ours, 10))
        number = ours.fileno()
        ours.close()
        other, other_peer = stream_pair(socket.AF_UNIX)
        assert number in (other.fileno(), other_peer.fileno())
        with peer, other, other_peer:
            receiving = await waiting(loop.sock_recv(other, 10))
            other_peer.sendall(b"data")
            assert await receiving == b"data"
            assert not task.done()
            await cancelled(task)
            await no_operations(loop)
            assert peer.recv(1) == b""

    run(loop, main())


def test_a_coroutine_closed_while_it_waits(loop):
    async def main():
        ours, peer = pair()
        with ours, peer:
            coroutine = loop.sock_recv(ours, 10)
            assert coroutine.send(None) is coroutine
            await turns(3)
            coroutine.close()
            coroutine.close()
            await no_operations(loop)
            coroutine = loop.sock_recv(ours, 10)
            coroutine.send(None)
            with pytest.raises(KeyError):
                coroutine.throw(KeyError("given"))
            peer.sendall(b"data")
            assert await loop.sock_recv(ours, 10) == b"data"

    run(loop, main())


def test_a_loop_that_is_closed_meanwhile(kloop):
    """Nothing of it is left, and bytes that it did not take are still there."""
    loop = kloop.new_event_loop()
    ours, peer = pair(receive_buffer=4096)
    with ours, peer:
        buffer, data = bytearray(10), bytearray(30_000_000)
        calls = [loop.sock_recv_into(ours, buffer), loop.sock_recv(ours, 10), loop.sock_sendall(ours, data),
                 loop.sock_sendall(ours, b"behind")]

        async def begin():
            for call in calls:
                call.send(None)

        run(loop, begin())
        run_once(loop)
        loop.close()
        buffer.clear()
        data.clear()
        peer.sendall(b"data")
        assert in_time(ours, 4) == b"data"
    for call in calls:
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            call.send(None)


def in_time(sock, size):
    sock.settimeout(LIMIT_S)
    return read_exactly(sock, size)


def test_a_loop_that_runs_in_several_threads(kloop):
    loop = kloop.new_event_loop()
    ours, peer = pair(receive_buffer=4096)
    data = pattern(5_000_000)
    with ours, peer:
        async def begin():
            begun = [asyncio.ensure_future(loop.sock_recv(ours, 10)),
                     asyncio.ensure_future(loop.sock_sendall(ours, data))]
            await turns(3)
            return begun

        receiving, sending = run(loop, begin())
        peer.sendall(b"one")
        reader = threading.Thread(target=lambda: got.append(read_exactly(peer, len(data))))
        got = []
        assert joined(run, loop, asyncio.wait_for(receiving, LIMIT_S)) == b"one"
        second = joined(run, loop, begin_receive(loop, ours))
        peer.sendall(b"two")
        run_once(loop)
        assert joined(run, loop, wait(second)) == b"two"
        reader.start()
        joined(run, loop, wait(sending))
        reader.join(LIMIT_S)
        assert got == [data]
    loop.close()


async def begin_receive(loop, sock):
    task = asyncio.ensure_future(loop.sock_recv(sock, 10))
    await turns(3)
    return task


async def wait(task):
    return await task


def test_a_loop_that_stops_with_the_answer_in_hand(loop):
    """What came with the last poll is delivered when the loop runs again."""
    ours, peer = pair()
    with ours, peer:
        task = run(loop, begin_receive(loop, ours))
        peer.sendall(b"data")
        loop.call_soon(loop.stop)
        loop.run_forever()
        fill(ours)
        assert run(loop, wait(task)) == b"data"


def test_sqpoll(kloop):
    """There the kernel takes operations while Python runs: a cancel meets what is half done."""
    loop = kloop.Loop(driver="io_uring", sqpoll=True)
    test_every_byte_arrives_whatever_is_cancelled(loop)
    test_a_thousand_cancelled_receives(loop, "sock_recv")
    loop.close()
