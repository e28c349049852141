"""A loop that is set up, run and closed by different threads in turn."""

import asyncio
import os
import sys
import threading

import pytest
from children import run_python
from driving import LIMIT_S, await_sleep_in_the_kernel, joined, run, turns
from peers import connected, pair, pattern, read_exactly
from recorders import Echo, Recorder

MIB = 1024 * 1024
SMALL_BUFFER = 4096


def test_set_up_in_main_run_in_a_thread_closed_in_main(kloop):
    loop = kloop.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with connected(address) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        server.close()
    joined(run, loop, turns())
    loop.close()


@pytest.mark.parametrize("size", [1000, 16 * MIB])
def test_bytes_in_flight_while_the_thread_changes(kloop, size):
    """Written in one thread, paused with more on the way; each later run takes up where that one ended."""
    loop = kloop.new_event_loop()
    ours, peer = pair(receive_buffer=SMALL_BUFFER)
    sent, coming = pattern(size, seed=1), pattern(min(size, 2 * MIB), seed=2)
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))

    async def begin():
        transport.write(sent)
        await turns(5)

    joined(run, loop, begin())
    received = []
    reader = threading.Thread(target=lambda: received.append(read_exactly(peer, size)))
    writer = threading.Thread(target=peer.sendall, args=(coming,))
    reader.start()
    writer.start()
    for _ in range(5):
        joined(run, loop, turns(3))     # each of them another thread
    joined(run, loop, protocol.received(len(coming)))

    async def drained():
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)

    joined(run, loop, drained())
    reader.join(LIMIT_S)
    writer.join(LIMIT_S)
    assert received == [sent]
    assert protocol.data == coming

    async def end():
        transport.close()
        await protocol.called("connection_lost")

    run(loop, end())
    loop.close()
    peer.close()


def test_a_paused_transport_in_another_thread(kloop):
    loop = kloop.new_event_loop()
    ours, peer = pair()
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    data = pattern(100_000)

    async def pause():
        transport.pause_reading()
        peer.sendall(data[:50_000])
        await turns()

    async def resume():
        await turns()
        assert protocol.data == b""
        transport.resume_reading()
        peer.sendall(data[50_000:])
        await protocol.received(len(data))
        transport.close()
        await protocol.called("connection_lost")

    joined(run, loop, pause())
    joined(run, loop, resume())
    assert protocol.data == data
    loop.close()
    peer.close()


def test_everything_is_armed_again_in_another_thread(kloop):
    """A listener, an idle connection, a reader and a timer, all made in the first thread."""
    import socket

    loop = kloop.new_event_loop()
    left, right = socket.socketpair()
    left.settimeout(1)      # a call without anything to read fails the test
    seen = {}

    async def set_up():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        loop.add_reader(left, lambda: seen.setdefault("read", left.recv(10)))
        loop.call_later(0.01, seen.setdefault, "timer", True)
        await turns()
        return server, peer, transport, protocol

    async def use(server, peer, transport, protocol):
        right.send(b"to the reader")
        peer.sendall(b"data")
        await protocol.received(4)
        echo_transport, echo = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        echo_transport.write(b"hello")
        await echo.received(5)
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        loop.remove_reader(left)
        for one, its_protocol in ((echo_transport, echo), (transport, protocol)):
            one.close()
            await its_protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    made = joined(run, loop, set_up())
    joined(run, loop, use(*made))
    loop.close()
    for sock in (left, right, made[1]):
        sock.close()
    assert seen == {"read": b"to the rea", "timer": True}


def test_the_thread_of_the_first_run_has_ended_before_the_second(kloop):
    """Requests of a thread that has exited are cancelled by the kernel: they must be made anew."""
    loop = kloop.new_event_loop()
    server = joined(run, loop, loop.create_server(Echo, "127.0.0.1", 0))
    for number in range(5):
        def talk(number=number):
            async def main():
                transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
                transport.write(b"%d" % number)
                await protocol.received(1)
                assert protocol.data == b"%d" % number
                transport.close()
                await protocol.called("connection_lost")

            run(loop, main())

        joined(talk)

    async def end():
        server.close()
        await server.wait_closed()

    joined(run, loop, end())
    joined(loop.close)


def test_closed_by_a_thread_that_never_ran_it(kloop):
    loop = kloop.new_event_loop()
    ours, peer = pair()
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    transport.abort()
    run(loop, protocol.called("connection_lost"))
    joined(loop.close)
    assert loop.is_closed()
    assert peer.recv(1) == b""
    peer.close()


def test_a_loop_never_run_is_closed_by_another_thread(kloop):
    joined(kloop.new_event_loop().close)
    joined(kloop.new_event_loop).close()


def test_stop_from_another_thread_while_data_streams_in(kloop):
    """Nothing is lost between the runs, whatever had completed when the loop stopped."""
    loop = kloop.new_event_loop()
    ours, peer = pair()
    data = pattern(4 * MIB)
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    sender = threading.Thread(target=peer.sendall, args=(data,))
    sender.start()
    note = protocol.note

    def stopping(name):
        note(name)
        if name == "data_received":
            loop.stop()

    protocol.note = stopping
    while len(protocol.data) < len(data):
        joined(loop.run_forever)
    sender.join(LIMIT_S)
    assert protocol.data == data
    protocol.note = note
    transport.close()
    run(loop, protocol.called("connection_lost"))
    loop.close()
    peer.close()


def test_two_loops_talk_from_two_threads(kloop):
    """Each in a thread of its own, one serving the other."""
    serving, asking = kloop.new_event_loop(), kloop.new_event_loop()
    server = run(serving, serving.create_server(Echo, "127.0.0.1", 0))
    thread = threading.Thread(target=serving.run_forever)
    thread.start()

    async def ask():
        transport, protocol = await asking.create_connection(Recorder, *server.sockets[0].getsockname())
        data = pattern(2 * MIB)
        transport.write(data)
        await protocol.received(len(data))
        assert protocol.data == data
        transport.close()
        await protocol.called("connection_lost")

    run(asking, ask())
    asking.close()

    async def end():
        server.close()
        await server.wait_closed()

    asyncio.run_coroutine_threadsafe(end(), serving).result(LIMIT_S)
    serving.call_soon_threadsafe(serving.stop)
    thread.join(LIMIT_S)
    serving.close()


def test_beside_a_thread_that_computes(loop):
    """The loop makes progress although the GIL is hard to get; how fast is for the benchmarks."""
    ending = []

    def compute():
        while not ending:
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        for number in range(50):
            transport.write(b"x")
            await protocol.received(number + 1)
        transport.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())
    ending.append(True)
    thread.join(LIMIT_S)


@pytest.mark.parametrize("size", [10, 10_000])
def test_another_thread_writes_while_the_loop_works(size):
    """asyncio bears with that: the bytes come in order, and the process lives."""
    run_python("""
        import asyncio, os, sys, threading, kloop

        SIZE, COUNT = int(sys.argv[1]), 20_000

        class Received(asyncio.Protocol):
            data = bytearray()

            def data_received(self, data):
                self.data += data
                if len(self.data) == SIZE * COUNT:
                    done.set_result(None)

        def write(transport):
            for number in range(COUNT):
                while transport.get_write_buffer_size() > 1_000_000:
                    os.sched_yield()
                transport.write(b"%0*d" % (SIZE, number))

        async def main():
            global done
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            server = await loop.create_server(Received, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
            thread = threading.Thread(target=write, args=(transport,))
            thread.start()
            while not done.done():
                await asyncio.sleep(0.0001)
            thread.join()
            numbers = [int(Received.data[end - 10:end]) for end in range(SIZE, SIZE * COUNT + 1, SIZE)]
            assert numbers == list(range(COUNT))
            transport.close()
            server.close()

        kloop.run(main())
        """, str(size))


def test_a_transport_is_closed_by_another_thread_while_the_loop_sleeps(loop):
    """As a collector does that runs there."""
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        thread_id = threading.get_native_id()

        def close():
            await_sleep_in_the_kernel(thread_id)
            transport.write(b"last words")
            transport.close()

        thread = threading.Thread(target=close)
        thread.start()
        await protocol.called("connection_lost")
        thread.join()
        assert read_exactly(peer, 10) == b"last words"
        assert peer.recv(1) == b""
        peer.close()

    run(loop, main())


def test_another_thread_adds_and_removes_readers_while_the_loop_sleeps(loop):
    """As Jupyter's kernel does; on asyncio too it works, where the selector is epoll."""
    async def main():
        ours, peer = pair()
        peer.sendall(b"x")
        called = loop.create_future()
        early = []
        thread_id = threading.get_native_id()

        def ask():
            await_sleep_in_the_kernel(thread_id)
            loop.add_reader(ours, early.append, True)
            assert loop.remove_reader(ours)
            loop.add_reader(ours, lambda: called.done() or called.set_result(ours.recv(1)))

        thread = threading.Thread(target=ask)
        thread.start()
        assert await asyncio.wait_for(called, LIMIT_S) == b"x"
        thread.join()
        # Without the GIL the loop may wake, and call it, before it is removed.
        assert early == [] or not getattr(sys, "_is_gil_enabled", lambda: True)()
        loop.remove_reader(ours)
        ours.close()
        peer.close()

    run(loop, main())


@pytest.mark.io_uring
def test_a_reader_of_another_thread_whose_descriptor_is_closed_before_the_loop_wakes(loop):
    """The loop's thread meets the error, and the callback is called to meet it too.

    A poll in a ring holds its file. On epoll, as on asyncio, nobody is told of what is closed.
    """
    async def main():
        reading, writing = os.pipe()
        called = loop.create_future()
        thread_id = threading.get_native_id()

        def ask():
            await_sleep_in_the_kernel(thread_id)
            loop.add_reader(reading, lambda: called.done() or called.set_result(None))
            os.close(reading)
            os.close(writing)       # if the loop was quicker, this is what it sees

        thread = threading.Thread(target=ask)
        thread.start()
        await asyncio.wait_for(called, LIMIT_S)
        thread.join()
        loop.remove_reader(reading)

    run(loop, main())


def test_many_threads_make_use_and_close_loops_in_turn(kloop):
    """Each thread several loops one after the other, all threads at once."""
    failures = []

    def live():
        async def main():
            server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *server.sockets[0].getsockname())
            transport.write(b"hello")
            await protocol.received(5)
            transport.close()
            await protocol.called("connection_lost")
            server.close()

        try:
            for _ in range(10):
                loop = kloop.new_event_loop()
                run(loop, main())
                loop.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=live) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S * 2)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


def test_loops_are_handed_from_thread_to_thread(kloop):
    """Made by one thread, run by a second, run again by a third, closed by a fourth, many at the same time."""
    count = 10
    loops = joined(lambda: [kloop.new_event_loop() for _ in range(count)])

    async def work():
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop()

    def run_all():
        results = {}
        threads = [threading.Thread(target=lambda loop=loop: results.__setitem__(loop, run(loop, work())))
                   for loop in loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        assert results == {loop: loop for loop in loops}

    run_all()
    run_all()
    joined(lambda: [loop.close() for loop in loops])


def test_a_storm_of_calls_from_other_threads(kloop):
    """Every call arrives, those of one thread in their order, while the loop sleeps and wakes."""
    loop = kloop.new_event_loop()
    senders, count = 8, 2000
    seen = {number: [] for number in range(senders)}

    def send(number):
        for call in range(count):
            loop.call_soon_threadsafe(seen[number].append, call)

    async def main():
        threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
        for thread in threads:
            thread.start()
        while any(len(calls) < count for calls in seen.values()):
            await asyncio.sleep(0.001)
        for thread in threads:
            thread.join(LIMIT_S)

    run(loop, main(), LIMIT_S * 2)
    assert all(calls == list(range(count)) for calls in seen.values())
    loop.close()
