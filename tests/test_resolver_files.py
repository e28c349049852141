"""The resolver's files, large ones and ones that can't be read for now; and an answer that comes late and cut off."""

import asyncio
import os
import resource
import time

import pytest
from driving import run
from nameserver import TRUNCATED, Nameserver, reply
from resolving import ZONE
from test_names import goes_to_libc, threadless  # noqa: F401 (a fixture)

# More than is read in the loop's thread.
LARGE = 100_000
LARGE_FILES = {
    "hosts": "192.0.2.7 other.test\n",
    "services": "service 4711/tcp # a comment\n",
    "nsswitch": "# a comment of the file, and nothing else\n",
    "gai_conf": "# a comment of the file, and nothing else\n",
    "host_conf": "# a comment of the file, and nothing else\n",
}


def large(path, line, first=""):
    path.write_text(first + line * (LARGE // len(line)))
    return path


@pytest.mark.parametrize("name", LARGE_FILES)
def test_libc_is_asked_behind_a_large_file(kloop, threadless, tmp_path, name):  # noqa: F811
    """As on systems whose services are many, and whose hosts come from other sources too."""
    sources = "hosts: files myhostname dns\n"
    (tmp_path / "sources").write_text(sources)
    files = {"nsswitch": tmp_path / "sources"}
    files[name] = large(tmp_path / name, LARGE_FILES[name], sources if name == "nsswitch" else "")
    loop = threadless
    with kloop.Resolver(file=None, **files) as loop.resolver:
        goes_to_libc(loop)
        goes_to_libc(loop)
    loop.resolver = None


def test_a_large_file_that_is_not_needed(kloop, loop, tmp_path):
    """It is read behind the first answer, and then what is known is answered at once."""
    async def main():
        services = large(tmp_path / "services", LARGE_FILES["services"])
        with kloop.Resolver(services=services, nsswitch=None, file=None) as loop.resolver:
            for turn in range(2):
                call = loop.getaddrinfo("localhost", 80)
                try:
                    call.send(None)
                except StopIteration as answer:
                    assert turn == 1 and answer.value
                else:
                    assert turn == 0
                    call.close()
                    assert await loop.getaddrinfo("localhost", 80)
        loop.resolver = None

    run(loop, main())


def test_files_that_can_not_be_read_for_now(kloop, loop, tmp_path):
    """Without a free descriptor; what was known stays so, and changes are noticed once there is one."""
    hosts, conf = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("192.0.2.7 here.test\n")
    conf.write_text("nameserver 127.0.0.9\n")

    async def address():
        [(*_, (found, _))] = await loop.getaddrinfo("here.test", 80, type=1)
        return found

    async def main():
        with kloop.Resolver(hosts=hosts, nsswitch=None, file=conf) as loop.resolver:
            assert await address() == "192.0.2.7"
            hosts.write_text("192.0.2.8 here.test\n")
            conf.write_text("nameserver 127.0.0.10\nnameserver 127.0.0.11\n")
            loop.resolver.reload()
            conf.write_text("nameserver 127.0.0.12\n")
            taken, soft = [], resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, soft[1]))
            try:
                with pytest.raises(OSError):
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                assert await address() == "192.0.2.7"
                with pytest.raises(OSError):
                    loop.resolver.reload()
            finally:
                for fd in taken:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, soft)
            loop.resolver.reload()
            assert await address() == "192.0.2.8"
            assert loop.resolver.resolv_conf.servers == ("127.0.0.12:53",)
        loop.resolver = None

    run(loop, main())


def test_a_late_answer_that_is_cut_off(kloop, loop):
    """Others are asked by then: the question is one still, and over once."""
    def behave(question, _):
        if question.tcp:
            return None
        time.sleep(1.2)     # more than a server that is not known is given
        return [reply(question, flags=TRUNCATED)]

    async def main():
        with (Nameserver(ZONE, behave) as server,
              kloop.Resolver([server.address], file=None, concurrency=1, cache_entries=0) as resolver):
            for _ in range(2):
                answer = await resolver.resolve("www.test")
                assert [record.address for record in answer.records] == ["192.0.2.1", "192.0.2.2"]
            while resolver.stats().running != 0:
                await asyncio.sleep(0)
            assert resolver.stats().waiting == 0

    run(loop, main())
