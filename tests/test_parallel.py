"""Loops in parallel threads, and threads that call into a loop that runs in another one.

Each of these is as valid under the GIL, but only without it is this code in two threads at once.
`make free-threaded` runs them on such a Python, and with ThreadSanitizer.
"""

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import threading
import time
import warnings
import weakref

import leaks
import pytest
from datagrams import DatagramEcho, Mailbox
from driving import LIMIT_S, turns
from nameserver import Nameserver
from parallel import LOOPS, RunningLoop, in_threads, on_loops
from peers import pattern
from recorders import Echo, Recorder
from resolving import ZONE

KIB, MIB = 1024, 1024 * 1024


async def talk(server, count, size, **options):
    """Echoes `count` messages one after the other over each of four connections, and checks each byte."""
    loop = asyncio.get_running_loop()

    async def connection(seed):
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname(), **options)
        sent = b"".join(pattern(size, seed=seed + number) for number in range(count))
        for number in range(count):
            transport.write(sent[number * size:(number + 1) * size])
            await protocol.received((number + 1) * size)
        assert protocol.data == sent
        transport.close()
        await protocol.called("connection_lost")

    await asyncio.gather(*(connection(seed) for seed in range(4)))


async def ended(server):
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("count, size", [(200, 100), (10, 100 * KIB)])
def test_echo(kloop, count, size):
    async def main(number):
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        await talk(server, count, size)
        await ended(server)

    on_loops(kloop, main)


def test_tls_with_contexts_that_all_loops_share(kloop, certificate):
    """The key log, through which the core has the secrets, is the process's."""
    ours, theirs = certificate.server(), certificate.client()

    async def main(number):
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=ours)
        for _ in range(3):
            await talk(server, 5, 20 * KIB, ssl=theirs, server_hostname="localhost")
        stats = asyncio.get_running_loop().stats()
        await ended(server)
        return stats["tls_kernel"] + stats["tls_go"], stats["tls_ssl"]

    taken, refused = map(sum, zip(*on_loops(kloop, main), strict=True))
    assert taken + refused == LOOPS * 3 * 4 * 2


def test_a_context_of_its_own_for_each_connection(kloop, certificate):
    """Contexts come and go, and with them what the key log knows of them."""
    async def main(number):
        for _ in range(5):
            server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=certificate.server())
            await talk(server, 1, 100, ssl=certificate.client(), server_hostname="localhost")
            await ended(server)

    on_loops(kloop, main)


def test_datagrams(kloop):
    async def main(number):
        loop = asyncio.get_running_loop()
        transport, echo = await loop.create_datagram_endpoint(DatagramEcho, ("127.0.0.1", 0))
        client, mailbox = await loop.create_datagram_endpoint(
            Mailbox, remote_addr=transport.get_extra_info("sockname"))
        for index in range(300):
            client.sendto(b"%d" % index)
            await mailbox.received(index + 1)
        assert [data for data, _ in mailbox.got] == [b"%d" % index for index in range(300)]
        for one, protocol in ((client, mailbox), (transport, echo)):
            one.close()
            await protocol.called("connection_lost")

    on_loops(kloop, main)


def test_plain_sockets(kloop):
    async def main(number):
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)

        async def echo():
            while data := await loop.sock_recv(right, 64 * KIB):
                await loop.sock_sendall(right, data)

        task = loop.create_task(echo())
        for index in range(200):
            await loop.sock_sendall(left, b"%04d" % index)
            assert await loop.sock_recv(left, 100) == b"%04d" % index
        left.close()
        await task
        right.close()

    on_loops(kloop, main)


def test_timers_and_cancelled_ones(kloop):
    async def main(number):
        loop = asyncio.get_running_loop()
        chance = random.Random(number)
        called, expected = [], []
        done = loop.create_future()
        handles = []
        for index in range(2000):
            handles.append((index, loop.call_later(chance.random() * 0.05, called.append, index)))
        for index, handle in handles:
            if chance.random() < 0.7:
                handle.cancel()
            else:
                expected.append(index)
        handles.clear()
        loop.call_later(0.06, done.set_result, None)
        await done
        assert sorted(called) == expected

    on_loops(kloop, main)


def test_context_variables_stay_with_their_loop(kloop):
    import contextvars

    variable = contextvars.ContextVar("variable")

    async def main(number):
        loop = asyncio.get_running_loop()
        seen = []

        def look(expected):
            seen.append(variable.get() == expected)
            variable.set("changed by the callback")

        for index in range(500):
            variable.set((number, index))
            loop.call_soon(look, (number, index))
            loop.call_soon_threadsafe(look, (number, index))
            if index % 50 == 0:
                await asyncio.sleep(0)
        await turns(3)
        assert len(seen) == 1000 and all(seen)

    on_loops(kloop, main)


def test_files(kloop, tmp_path):
    """The threads that make calls on files are the process's, and so is the folder."""
    async def main(number):
        path = tmp_path / f"file-{number}"
        data = pattern(100 * KIB, seed=number)
        for _ in range(10):
            await kloop.files.write_bytes(path, data, fsync=False)
            async with kloop.open(path, "r+b") as file:
                parts = await asyncio.gather(*(file.pread(KIB, start) for start in range(0, len(data), KIB)))
                assert b"".join(parts) == data
                assert await file.read() == data
                await asyncio.gather(*(file.pwrite(b"%d" % number * KIB, start) for start in range(0, 10 * KIB, KIB)))
            assert (await kloop.files.read_bytes(path))[:10 * KIB] == b"%d" % number * 10 * KIB
            reading = asyncio.ensure_future(kloop.files.read_bytes(path))
            await turns(number)
            reading.cancel()
            await asyncio.wait([reading])
            assert path.name in await kloop.files.listdir(tmp_path)
        assert asyncio.get_running_loop().stats()["operations"] == 0

    on_loops(kloop, main)


def test_files_that_other_threads_let_go_of(kloop, tmp_path):
    """The last reference to an open file, with bytes that are not written, ends in another thread, where it is
    closed; calls that are under way are the loop's to end before."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())      # first: a thread may begin with the filters that there are
        warnings.simplefilter("ignore", ResourceWarning)
        running = stack.enter_context(RunningLoop(kloop))

        async def make(number, index):
            file = await kloop.open(tmp_path / f"{number}-{index}", "w+b")
            await file.write(b"%d" % number * 1000)
            if index % 2:
                reading = asyncio.ensure_future(file.pread(10, 0))
                await turns(1)
                reading.cancel()
            return [file]

        def let_go(number):
            for index in range(30):
                holder = running.run(make(number, index))
                holder.clear()
                gc.collect()

        in_threads(let_go)
        running.settle()
        deadline_s = time.monotonic() + LIMIT_S
        while any(name.startswith(str(tmp_path)) for name in leaks.open_fds().values()):
            running.settle()
            assert time.monotonic() < deadline_s
    for path in tmp_path.iterdir():
        assert path.read_bytes() == path.name[0].encode() * 1000


def test_calls_on_files_that_other_threads_cancel(kloop, tmp_path):
    """A mistake, which asyncio's tasks survive."""
    os.mkfifo(tmp_path / "fifo")
    with RunningLoop(kloop) as running:
        async def begin():
            file = await kloop.open(tmp_path / "fifo", "r+b", buffering=0)
            call = file._handle.read(10)
            ended = running.loop.create_future()
            call.send(None)
            call._asyncio_future_blocking = False
            call.add_done_callback(lambda _: ended.set_result(None))
            return file, call, ended

        async def end(file, ended):
            await ended
            await file.close()

        for _ in range(50):
            file, call, ended = running.run(begin())
            in_threads(lambda number, call=call: call.cancel(), 2)
            running.run(end(file, ended))
            assert call.cancelled()


def test_one_resolver_on_all_loops(kloop):
    """Its cache, questions that several loops ask at once, and what it tells of itself meanwhile."""
    with Nameserver(ZONE) as server:
        resolver = kloop.Resolver([server.address], file=None, environment=False, hosts=None)

        async def main(number):
            loop = asyncio.get_running_loop()
            loop.resolver = resolver
            for _ in range(20):
                answers = await asyncio.gather(
                    resolver.resolve("www.test"), loop.getaddrinfo("www.test", 80, type=socket.SOCK_STREAM),
                    resolver.resolve("mail.test", "MX"), resolver.resolve("nothing.test"), return_exceptions=True)
                assert {record.address for record in answers[0].records} == {"192.0.2.1", "192.0.2.2"}
                assert ("192.0.2.1", 80) in {info[4] for info in answers[1]}
                assert isinstance(answers[3], kloop.NameNotFound)
                cancelled = asyncio.ensure_future(resolver.resolve(f"{number}.test"))
                await turns(number)
                cancelled.cancel()
                await asyncio.wait([cancelled])
                resolver.stats()
                resolver.cache.entries()
                if number == 0:
                    resolver.cache.clear()
                    len(resolver.cache)
                assert loop.stats()["lookups"] >= 0

        on_loops(kloop, main)
        resolver.close()


def test_a_resolver_that_is_closed_under_lookups(kloop):
    with Nameserver(ZONE) as server:
        for _ in range(10):
            resolver = kloop.Resolver([server.address], file=None, environment=False, hosts=None, cache_entries=0)

            async def main(number, resolver=resolver):
                for index in range(30):
                    if number == 0 and index == 10:
                        resolver.close()
                    try:
                        await resolver.resolve("www.test")
                    except RuntimeError as exc:
                        assert str(exc) == "the resolver is closed"
                        return
                assert number != 0

            on_loops(kloop, main)
            in_threads(lambda _, resolver=resolver: resolver.close())
            assert resolver.closed


def test_the_shared_resolver_is_one(kloop, monkeypatch):
    """However many loops ask for it first at the same time."""
    from kloop import resolver

    for _ in range(20):
        monkeypatch.setattr(resolver, "_shared", {})

        def ask(number):
            loop = kloop.new_event_loop()
            try:
                return loop.resolver
            finally:
                loop.close()

        assert len({*map(id, in_threads(ask))}) == 1


def test_executors(kloop):
    async def main(number):
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(loop.run_in_executor(None, pow, index, 2) for index in range(300)))
        assert results == [index ** 2 for index in range(300)]
        assert await asyncio.to_thread(sum, range(10)) == 45

    on_loops(kloop, main)


def test_child_processes(kloop):
    async def main(number):
        for index in range(5):
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "cat; exit $0", str(index), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            output, _ = await process.communicate(pattern(100 * KIB, seed=index))
            assert output == pattern(100 * KIB, seed=index)
            assert process.returncode == index

    on_loops(kloop, main)


def test_a_storm_of_callbacks_between_loops(kloop):
    """Each thread schedules on all loops, its own among them; of each pair the order is kept."""
    count = 3000
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(RunningLoop(kloop)) for _ in range(LOOPS)]
        received = [[] for _ in running]
        calls = [box.append for box in received]

        def storm(sender):
            for number in range(count):
                target = (sender + number) % LOOPS
                running[target].loop.call_soon_threadsafe(calls[target], (sender, number))

        in_threads(storm)

        def storm_on_the_loop(sender):
            async def main():
                storm(sender + LOOPS)
            running[sender].run(main())

        in_threads(storm_on_the_loop)
        for one in running:
            one.settle()
    assert sum(map(len, received)) == 2 * LOOPS * count
    for box in received:
        for sender in range(2 * LOOPS):
            numbers = [number for source, number in box if source == sender]
            assert numbers == sorted(numbers)
            assert len(numbers) == count // LOOPS


def test_each_call_is_made_or_was_cancelled(kloop):
    """Handles of one thread, cancelled by another, while the loop's thread comes to them."""
    count = 2000
    with RunningLoop(kloop) as running:
        called, cancelled = [], []
        handles = [[] for _ in range(LOOPS)]

        def schedule_and_cancel(number):
            mine, others = handles[number], handles[(number + 1) % LOOPS]
            for index in range(count):
                mine.append(((number, index),
                             running.loop.call_soon_threadsafe(called.append, (number, index))))
                if index % 2 and len(others) > index // 2:
                    key, handle = others[index // 2]
                    handle.cancel()
                    assert handle.cancelled()
                    cancelled.append(key)

        in_threads(schedule_and_cancel)
        running.settle()
    assert len(set(called)) == len(called)
    # As on asyncio, one may be cancelled after it was called.
    assert set(called) | set(cancelled) == {(number, index) for number in range(LOOPS) for index in range(count)}


def test_loops_that_come_and_go_while_others_call_them(kloop):
    """Whoever is late gets RuntimeError, nobody a loop's freed memory."""
    current = []
    over = threading.Event()

    def call():
        called = refused = 0
        while not over.is_set():
            for loop in list(current):
                try:
                    loop.call_soon_threadsafe(int)
                    called += 1
                except RuntimeError as exc:
                    assert str(exc) == "Event loop is closed"
                    refused += 1
                assert loop.is_running() in (True, False)
                assert loop.is_closed() in (True, False)
        return called

    callers_called = []
    callers = [threading.Thread(target=lambda: callers_called.append(call())) for _ in range(2)]
    for caller in callers:
        caller.start()

    async def main():
        loop = asyncio.get_running_loop()
        current.append(loop)
        await asyncio.sleep(0.001)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        await talk(server, 1, 10)
        await ended(server)

    def live(number):
        for _ in range(15):
            loop = kloop.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            current.remove(loop)

    try:
        in_threads(live, 2)
    finally:
        over.set()
        for caller in callers:
            caller.join(LIMIT_S)
    assert len(callers_called) == 2 and all(callers_called)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_transports_that_other_threads_use(kloop, certificate, tls):
    """asyncio bears with that: each thread's bytes come in its order, and the process lives."""
    count, size = 500, 20
    options = {"ssl": certificate.client(), "server_hostname": "localhost"} if tls else {}
    with RunningLoop(kloop) as running:
        class Sink(Recorder):
            made = []

            def connection_made(self, transport):
                super().connection_made(transport)
                self.made.append(self)

        async def connect():
            server = await running.loop.create_server(
                Sink, "127.0.0.1", 0, ssl=certificate.server() if tls else None)
            transport, protocol = await running.loop.create_connection(
                Recorder, *server.sockets[0].getsockname(), **options)
            return server, transport, protocol

        server, transport, protocol = running.run(connect())

        def use(number):
            for index in range(count):
                transport.write(b"%d %0*d" % (number, size - 2, index))
                assert transport.get_extra_info("peername") == server_address
                assert transport.get_protocol() is protocol
                assert transport.get_write_buffer_size() >= 0
                assert not transport.is_closing()
                if index % 100 == number:
                    transport.pause_reading()
                    transport.resume_reading()
                    repr(transport)

        server_address = server.sockets[0].getsockname()
        in_threads(use)

        async def finish():
            (sink,) = Sink.made
            await sink.received(LOOPS * count * size)
            return bytes(sink.data)

        data = running.run(finish())
        pieces = [data[start:start + size] for start in range(0, len(data), size)]
        for number in range(LOOPS):
            mine = [int(piece[2:]) for piece in pieces if piece[:1] == b"%d" % number]
            assert mine == list(range(count))
        transport.close()

        async def end():
            await protocol.called("connection_lost")
            await Sink.made[0].called("connection_lost")
            await ended(server)

        running.run(end())


def test_datagrams_that_other_threads_send(kloop):
    with RunningLoop(kloop) as running:
        async def connect():
            transport, mailbox = await running.loop.create_datagram_endpoint(Mailbox, ("127.0.0.1", 0))
            client, other = await running.loop.create_datagram_endpoint(Mailbox, ("127.0.0.1", 0))
            return transport, mailbox, client, other

        transport, mailbox, client, other = running.run(connect())
        address = transport.get_extra_info("sockname")

        def send(number):
            for index in range(20):     # as many as the socket holds
                client.sendto(b"%d %d" % (number, index), tuple(address))
                assert client.get_write_buffer_size() >= 0

        in_threads(send)

        async def finish():
            await mailbox.received(LOOPS * 20)
            for one, protocol in ((client, other), (transport, mailbox)):
                one.close()
                await protocol.called("connection_lost")

        running.run(finish())
        for number in range(LOOPS):
            mine = [int(data.split()[1]) for data, _ in mailbox.got if data.startswith(b"%d " % number)]
            assert mine == list(range(20))


def test_what_other_threads_schedule_without_asking(kloop):
    """call_soon and call_later of another thread are a mistake, which asyncio survives. So do we, and call them."""
    with RunningLoop(kloop) as running:
        called = []
        timers = []

        def schedule(number):
            for index in range(300):
                running.loop.call_soon(called.append, (number, index))
                timers.append(running.loop.call_later(0.001, called.append, (number, -index - 1)))
                cancelled = running.loop.call_later(100, called.append, None)
                cancelled.cancel()
                assert cancelled.cancelled()

        in_threads(schedule)
        running.settle()

        async def later():
            while len(called) < 2 * LOOPS * 300:
                await asyncio.sleep(0.001)

        running.run(later())
    assert sorted(called) == sorted((number, index) for number in range(LOOPS) for index in range(-300, 300))


def test_the_collector_beside_loops(kloop):
    """It finds abandoned tasks in whatever thread it runs, also those that wait on another thread's loop."""
    over = threading.Event()

    def collect():
        while not over.is_set():
            gc.collect()

    collectors = [threading.Thread(target=collect) for _ in range(2)]
    for collector in collectors:
        collector.start()

    async def main(number):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)     # "Task was destroyed but it is pending!"
        left, right = socket.socketpair()
        left.setblocking(False)
        tasks = weakref.WeakSet()
        for index in range(50):
            async def wait(future):
                future.cycle = asyncio.current_task()
                await loop.sock_recv(left, 10)

            task = loop.create_task(wait(loop.create_future()))
            tasks.add(task)
            await asyncio.sleep(0)
            if index % 2:
                task.cancel()
            del task
            loop.call_later(1000, int).cancel()
            await asyncio.sleep(0)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        await talk(server, 20, 100)
        await ended(server)
        for task in list(tasks):
            task.cancel()
        await turns()
        left.close()
        right.close()

    try:
        on_loops(kloop, main)
    finally:
        over.set()
        for collector in collectors:
            collector.join(LIMIT_S)


if hasattr(sys, "_is_gil_enabled"):
    import sysconfig

    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info >= (3, 14):
        def test_importing_kloop_leaves_the_gil_off():
            from children import run_python

            printed = run_python("import sys, kloop; kloop.new_event_loop().close(); print(sys._is_gil_enabled())",
                                 options=("-W", "error"))
            assert printed == "False\n"
