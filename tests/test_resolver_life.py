"""kloop.Resolver: loops, threads and processes that share one, and its configuration."""

import re
import socket
import threading

import pytest
from children import run_python
from driving import LIMIT_S, joined, run
from nameserver import TRUNCATED, Nameserver, Zone, reply
from resolving import ZONE, refused

# ---- loops, threads, processes


def test_one_resolver_for_several_loops_and_threads(kloop, resolver, server):
    def work(number):
        loop = kloop.new_event_loop()
        try:

            async def main():
                return [
                    (await resolver.resolve(owner))[0].address
                    for owner in ("www.test", "short.test", "large.test") * 20
                ]

            return loop.run_until_complete(main())
        finally:
            loop.close()

    outcomes = []
    threads = [threading.Thread(target=lambda n=n: outcomes.append(work(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert outcomes == [["192.0.2.1", "192.0.2.9", "192.0.2.0"] * 20] * 4


def test_a_loops_own_resolver(kloop, resolver, server):
    loop = kloop.new_event_loop(resolver=resolver)
    try:
        assert loop.resolver is resolver
        assert run(loop, loop.getaddrinfo("www.test", 80, family=socket.AF_INET6, type=socket.SOCK_STREAM)) == [
            (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("2001:db8::1", 80, 0, 0))
        ]
        assert run(loop, loop.getnameinfo(("192.0.2.1", 80)))[0] == "www.test"
        loop.resolver = None
        assert loop.resolver is None
        with pytest.raises(TypeError, match="give a kloop.Resolver"):
            loop.resolver = "8.8.8.8"
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    with pytest.raises(TypeError, match="give a kloop.Resolver"):
        kloop.new_event_loop(resolver="8.8.8.8")


def test_the_processs_own_resolver_is_shared(kloop, loop):
    other = kloop.new_event_loop()
    try:
        assert other.resolver is loop.resolver and isinstance(loop.resolver, kloop.Resolver)
    finally:
        other.close()


def test_a_resolver_is_used_and_dropped_in_a_thread(kloop, server):
    def work():
        loop = kloop.new_event_loop()
        resolver = kloop.Resolver([server.address], file=None)
        try:
            return loop.run_until_complete(resolver.resolve("www.test"))[0].address
        finally:
            loop.close()

    assert joined(work) == "192.0.2.1"


def test_fork():
    """A child has a cache and a background loop of its own; the parent's go on."""
    assert (
        run_python("""
        import asyncio, os, sys, kloop
        sys.path.insert(0, "tests")
        from nameserver import Nameserver, Zone

        zone = Zone({("www.test", "A"): [(60, "192.0.2.1")]})
        with Nameserver(zone) as server:
            resolver = kloop.Resolver([server.address], file=None)

            async def main():
                return (await resolver.resolve("www.test"))[0].address

            def descriptors():
                links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
                return {os.readlink(link) for link in links if os.path.lexists(link)}

            def generation(left):
                assert kloop.run(main()) == "192.0.2.1"
                assert len(resolver.cache) == 1
                if not left:
                    return
                child = os.fork()
                if not child:
                    try:
                        assert not [fd for fd in descriptors() if "io_uring" in fd], descriptors()
                        generation(left - 1)
                    except BaseException:
                        import traceback
                        traceback.print_exc()
                        os._exit(1)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                assert len(resolver.cache) == 1
                resolver.cache.clear()
                assert kloop.run(main()) == "192.0.2.1"

            generation(2)
            print(server.count())
    """)
        == "5\n"
    )


def test_a_forked_child_has_none_of_the_parents_sockets():
    """Neither those of questions under way, over UDP, nor connections, nor the file that is being read."""
    run_python("""
        import asyncio, contextlib, fcntl, os, socket, sys, tempfile, termios, kloop
        sys.path.insert(0, "tests")
        from nameserver import Nameserver, Zone, reply

        def descriptors():
            links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            return [os.readlink(link) for link in links if os.path.lexists(link)]

        def to_server():
            found = set()
            for fd in os.listdir("/proc/self/fd"):
                link = f"/proc/self/fd/{fd}"
                if not os.path.lexists(link) or not os.readlink(link).startswith("socket:"):
                    continue
                with socket.socket(fileno=os.dup(int(fd))) as sock, contextlib.suppress(OSError):
                    peer = sock.getpeername()
                    if isinstance(peer, tuple) and peer[1] == port:
                        found.add(os.readlink(link))
            return found

        def behave(question, zone):
            return [] if question.name.startswith("silent") else None

        async def main(resolver):
            return (await resolver.resolve("www.test"))[0].address

        zone = Zone({("www.test", "A"): [(60, "192.0.2.1")]})
        with Nameserver(zone, behave) as server, tempfile.TemporaryDirectory() as folder:
            port = int(server.address.rpartition(":")[2])
            os.mkfifo(fifo := os.path.join(folder, "hosts"))
            over_udp = kloop.Resolver([server.address], file=None, timeout=30)
            over_tcp = kloop.Resolver([server.address], file=None, timeout=30, use_tcp=True)
            of_hosts = kloop.Resolver([server.address], file=None, hosts=fifo)
            loop = kloop.new_event_loop()
            assert loop.run_until_complete(main(over_tcp)) == "192.0.2.1"
            tasks = [loop.create_task(over_udp.resolve(f"silent{number}.test")) for number in range(20)]
            tasks.append(loop.create_task(of_hosts.lookup_ip("www.test")))
            loop.call_soon(loop.stop)
            loop.run_forever()
            server.await_question("silent19.test")
            writer = open(fifo, "w")    # returns once the resolver has opened the other end
            writer.write("192.0.2.7 www.test")
            writer.flush()
            left = bytearray(b"left")
            while any(left):            # until it is being read
                fcntl.ioctl(writer, termios.FIONREAD, left)
            opened = to_server()
            assert len(opened) >= 4, opened
            assert descriptors().count(fifo) == 2
            child = os.fork()
            if not child:
                try:
                    assert not opened & to_server()
                    assert descriptors().count(fifo) == 1   # the writer's
                    assert kloop.run(main(over_udp)) == "192.0.2.1"
                    assert kloop.run(main(over_tcp)) == "192.0.2.1"
                    assert not opened & to_server()
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            over_tcp.cache.clear()
            assert loop.run_until_complete(main(over_tcp)) == "192.0.2.1"
            writer.close()
            assert loop.run_until_complete(tasks.pop()) == ["192.0.2.7"]
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            for resolver in (over_udp, over_tcp, of_hosts):
                resolver.close()
            loop.close()
            assert not opened & to_server()
    """)


def test_exit_with_lookups_under_way():
    """The process ends, with its loop closed or not."""
    run_python("""
        import asyncio, sys, kloop
        sys.path.insert(0, "tests")
        from nameserver import Nameserver, Zone

        server = Nameserver(Zone({}), lambda *_: []).__enter__()
        resolver = kloop.Resolver([server.address], file=None, timeout=20)
        loop = kloop.new_event_loop()
        tasks = [loop.create_task(resolver.resolve(f"n{number}.test")) for number in range(10)]
        loop.call_soon(loop.stop)
        loop.run_forever()
        server.await_question("n9.test")
        for task in tasks:
            task._log_destroy_pending = False
    """)


# ---- configuration


def test_a_file_and_its_changes(loop, kloop, server, tmp_path):
    with Nameserver(Zone({("www.test", "A"): [(60, "198.51.100.1")]})) as other:
        file = tmp_path / "resolv.conf"
        file.write_text(f"nameserver {server.address}\nsearch a.test b.test\noptions ndots:3 edns0 sortlist\n")
        with kloop.Resolver(file=file, nsswitch=None, environment=False) as resolver:
            conf = resolver.resolv_conf
            assert (conf.servers, conf.search, conf.ndots, conf.edns0) == (
                (server.address,),
                ("a.test", "b.test"),
                3,
                True,
            )
            assert conf.unknown == ("sortlist",)
            assert run(loop, resolver.resolve("www.test"))[0].address == "192.0.2.1"
            file.write_text(f"nameserver {other.address}\n")
            resolver.reload()
            assert run(loop, resolver.resolve("www.test"))[0].address == "198.51.100.1"
            assert resolver.stats().reloads == 1
            file.unlink()
            file.mkdir()
            with pytest.raises(IsADirectoryError):
                resolver.reload()


def test_arguments_count_more_than_environment_and_file(kloop, server, tmp_path, monkeypatch):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\nsearch file.test\noptions ndots:3 timeout:9 attempts:4\n")
    monkeypatch.setenv("RES_OPTIONS", "ndots:5 rotate")
    monkeypatch.setenv("LOCALDOMAIN", "env.test")
    with (
        kloop.Resolver(file=file) as system,
        kloop.Resolver(["192.0.2.1"], file=file, ndots=2, rotate=False) as own,
        kloop.Resolver(file=file, environment=False, search=["own.test"], timeout=0.5) as other,
    ):
        found = [resolver.resolv_conf for resolver in (system, own, other)]
    assert [(*conf.servers, *conf.search, conf.ndots, conf.timeout, conf.attempts, conf.rotate) for conf in found] == [
        ("192.0.2.53:53", "env.test", 5, 9.0, 4, True),
        ("192.0.2.1:53", "env.test", 2, 9.0, 4, False),
        ("192.0.2.53:53", "own.test", 3, 0.5, 4, False),
    ]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"servers": "127.0.0.1"}, "give a list"),
        ({"servers": ["localhost"]}, "'localhost' is no address"),
        ({"servers": ["127.0.0.1:0"]}, "is no address"),
        ({"servers": ["[::1]x"]}, "is no address"),
        ({"servers": ["127.0.0.1:x"]}, "is no address"),
        ({"ndots": 16}, "ndots=16: give a whole number from 0 to 15"),
        ({"ndots": 1.5}, "ndots=1.5"),
        ({"attempts": 0}, "attempts=0"),
        ({"timeout": 0}, "timeout=0: give seconds"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"search": "a.test"}, "give a list of domains"),
        ({"search": ["a b"]}, "is no domain"),
        ({"search": [""]}, "is no domain"),
        ({"cache_entries": -1}, "cache_entries=-1"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"queue": -1}, "queue=-1"),
        ({"max_ttl": -1}, "max_ttl=-1"),
        ({"serve_stale": -1}, "serve_stale=-1"),
        ({"file": "a\nb"}, "line break"),
        ({"tls_ca_file": "x"}, "tls_ca_file is for tls="),
    ],
)
def test_options_that_make_no_sense(kloop, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        kloop.Resolver(**options)


def test_files_that_can_not_be_read(kloop, tmp_path):
    with pytest.raises(OSError, match="is a directory"):
        kloop.Resolver(file=tmp_path)
    with pytest.raises(OSError, match="no such file"):
        kloop.Resolver(["127.0.0.1"], tls=True, tls_ca_file=tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="no certificate"):
        kloop.Resolver(["127.0.0.1"], tls=True, tls_ca_file=tmp_path / "empty")


def test_servers_addresses(kloop):
    given = ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353", "[2001:db8::1]"]
    with kloop.Resolver(given, file=None) as resolver:
        assert resolver.resolv_conf.servers == (
            "192.0.2.1:53",
            "192.0.2.1:5353",
            "[2001:db8::1]:53",
            "[2001:db8::1]:5353",
            "[2001:db8::1]:53",
        )
        assert [server.address for server in resolver.stats().servers] == list(resolver.resolv_conf.servers)


def test_a_truncated_answer_that_tcp_does_not_mend(loop, kloop):
    with (
        Nameserver(ZONE, lambda question, _: [reply(question, flags=TRUNCATED)]) as server,
        kloop.Resolver([server.address], file=None, attempts=1) as resolver,
    ):
        assert "truncated over TCP" in str(refused(loop, kloop.ServerFailure, resolver.resolve("www.test")))
