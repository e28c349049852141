"""Child processes: how they start, what becomes of their ends, and what may go wrong."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile

import pytest
from driving import run

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
SHELL = "/bin/sh"


async def shell(script, *arguments, **options):
    """A child that runs script; $1 and so on are the arguments."""
    return await asyncio.create_subprocess_exec(SHELL, "-c", script, "sh", *arguments, **options)


async def output_of(script, *arguments, **options):
    process = await shell(script, *arguments, stdout=PIPE, **options)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


def is_gone(pid):
    """Whether the child has been reaped: it is not even a zombie of ours."""
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True


@pytest.mark.parametrize("script, code", [
    ("exit 0", 0), ("exit 7", 7), ("exit 255", 255),
    ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)])
def test_the_return_code(loop, script, code):
    async def main():
        process = await shell(script)
        assert await process.wait() == code == process.returncode
        assert await process.wait() == code
        assert is_gone(process.pid)

    run(loop, main())


def test_a_shell_command(loop):
    async def main():
        process = await asyncio.create_subprocess_shell("echo $((6 * 7)); echo bad >&2; exit 3",
                                                        stdout=PIPE, stderr=PIPE)
        assert await process.communicate() == (b"42\n", b"bad\n")
        assert process.returncode == 3

    run(loop, main())


def test_protocol_callbacks_come_in_asyncios_order(loop):
    calls = []

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.done = loop.create_future()

        def connection_made(self, transport):
            calls.append("made")
            assert transport.get_pid() > 0

        def pipe_data_received(self, fd, data):
            calls.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            calls.append(("lost", fd, exc))

        def process_exited(self):
            calls.append("exited")

        def connection_lost(self, exc):
            calls.append("end")
            self.done.set_result(exc)

    async def main():
        transport, protocol = await loop.subprocess_exec(
            Protocol, SHELL, "-c", "echo out", stdin=None, stderr=None)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert await protocol.done is None
        assert transport.get_returncode() == 0
        transport.close()

    run(loop, main())
    assert calls[0] == "made"
    assert calls[-1] == "end"
    assert calls.index((1, b"out\n")) < calls.index(("lost", 1, None))
    assert "exited" in calls


@pytest.mark.parametrize("size", [1, 1000, 65536, 5_000_001])
def test_communicate_with_an_echo(loop, size):
    payload = os.urandom(size)

    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, err = await process.communicate(payload)
        assert out == payload
        assert err is None
        assert process.returncode == 0

    run(loop, main())


def test_every_combination_of_standard_streams(loop):
    """Each stream as a pipe, a file, nothing, and errors joined with output."""
    script = "read line; echo out-$line; echo err-$line >&2"

    async def main(stdin, stdout, stderr):
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(b"x\n")
            source.seek(0)
            process = await shell(script, stdin=source if stdin == "file" else stdin,
                                  stdout=target if stdout == "file" else stdout, stderr=stderr)
            out, err = await process.communicate(b"x\n" if stdin == PIPE else None)
            assert process.returncode == 0
            target.seek(0)
            return out if stdout == PIPE else target.read(), err

    for stdin, word in ((PIPE, b"x"), ("file", b"x"), (DEVNULL, b"")):
        both = b"out-%s\nerr-%s\n" % (word, word)
        assert run(loop, main(stdin, PIPE, PIPE)) == (b"out-%s\n" % word, b"err-%s\n" % word)
        assert run(loop, main(stdin, PIPE, STDOUT)) == (both, None)
        assert run(loop, main(stdin, "file", PIPE)) == (b"out-%s\n" % word, b"err-%s\n" % word)
        assert run(loop, main(stdin, "file", STDOUT)) == (both, None)
        assert run(loop, main(stdin, DEVNULL, PIPE)) == (b"", b"err-%s\n" % word)
        assert run(loop, main(stdin, PIPE, DEVNULL)) == (b"out-%s\n" % word, None)


def test_options_of_popen(loop, tmp_path):
    async def main():
        where = os.path.realpath(tmp_path)
        assert await output_of("pwd", cwd=tmp_path) == where.encode() + b"\n"
        assert await output_of("echo $ONE", env={"ONE": "two"}) == b"two\n"
        pid, session = (await output_of("cut -d ' ' -f 1,6 /proc/$$/stat", start_new_session=True)).split()
        assert pid == session
        assert await output_of("umask", preexec_fn=lambda: os.umask(0o71)) == b"0071\n"
        reading, writing = os.pipe()
        try:
            assert await output_of("echo x >/dev/fd/$1", str(writing), pass_fds=[writing]) == b""
            assert os.read(reading, 10) == b"x\n"
        finally:
            os.close(reading)
            os.close(writing)

    run(loop, main())


def test_a_child_inherits_no_descriptor_of_the_loop(loop):
    async def main():
        assert (await output_of("ls /proc/$$/fd")).split() == [b"0", b"1", b"2"]

    run(loop, main())


@pytest.mark.parametrize("program, options, kind, filename", [
    ("/no/such/program", {}, FileNotFoundError, "/no/such/program"),
    ("no-such-program-on-any-path", {}, FileNotFoundError, "no-such-program-on-any-path"),
    ("/etc/passwd", {}, PermissionError, "/etc/passwd"),
    ("/etc", {}, PermissionError, "/etc"),
    ("true", {"cwd": "/no/such/folder"}, FileNotFoundError, "/no/such/folder"),
    ("true", {"preexec_fn": lambda: 1 // 0}, subprocess.SubprocessError, None),
])
def test_a_program_that_can_not_be_started(loop, program, options, kind, filename):
    async def main():
        with pytest.raises(kind) as caught:
            await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, **options)
        if filename is not None:
            assert caught.value.filename == filename

    run(loop, main())


@pytest.mark.parametrize("options, text", [
    ({"universal_newlines": True}, "universal_newlines must be False"),
    ({"text": True}, "text must be False"), ({"bufsize": 1}, "bufsize must be 0"),
    ({"shell": True}, "shell must be False"), ({"encoding": "utf-8"}, "encoding must be None")])
def test_options_that_asyncio_refuses(loop, options, text):
    async def main():
        with pytest.raises(ValueError, match=text):
            await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **options)

    run(loop, main())


def test_signals_to_the_child(loop):
    script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.01; done"

    async def main():
        process = await shell(script, stdout=PIPE)
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert await process.wait() == 5
        with pytest.raises(ProcessLookupError):
            process.send_signal(signal.SIGUSR1)
        with pytest.raises(ProcessLookupError):
            process.kill()
        for name, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
            process = await asyncio.create_subprocess_exec("sleep", "1000")
            getattr(process, name)()
            assert await process.wait() == -number

    run(loop, main())


def test_closing_the_transport_kills_and_reaps_the_child(loop):
    async def main():
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
        transport.close()
        assert transport.is_closing()
        assert await transport._wait() == -signal.SIGKILL
        assert is_gone(transport.get_pid())
        transport.close()

    run(loop, main())


def test_a_cancelled_wait_leaves_the_child_alone(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        waits[2].cancel()
        process.stdin.write(b"still there\n")
        assert await process.stdout.readline() == b"still there\n"
        process.stdin.close()
        assert await waits[1] == 0
        assert waits[0].cancelled()
        assert waits[2].cancelled()

    run(loop, main())


def test_a_cancelled_start_ends_the_child(loop):
    async def main():
        task = asyncio.ensure_future(
            loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000"))
        await asyncio.sleep(0)
        child, = loop._children
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert child.get_returncode() == -signal.SIGKILL
        assert is_gone(child.get_pid())

    run(loop, main())


def test_a_child_killed_while_its_pipes_are_full(loop):
    async def main():
        process = await shell("exec cat /dev/zero", stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=1000)
        process.stdin.write(bytes(1_000_000))           # nobody reads it
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.stdin.drain(), 0.05)
        await process.stdout.readexactly(1000)          # and there is more than we read
        process.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await process.stdin.drain()
            while True:
                process.stdin.write(b"more")
                await process.stdin.drain()
        with pytest.raises(BrokenPipeError):
            await process.stdin.wait_closed()           # Python 3.10 wants this error to be looked at
        while await process.stdout.read(1_000_000):
            pass
        assert await process.wait() == -signal.SIGKILL

    run(loop, main())


def test_many_children_at_once(loop):
    async def one(number):
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"%d" % number)
        assert out == b"%d" % number
        assert process.returncode == 0
        return process.pid

    async def main():
        return await asyncio.gather(*map(one, range(200)))

    pids = run(loop, main(), limit_s=60)
    assert len(set(pids)) == 200
    assert all(map(is_gone, pids))
    assert not loop._children


def test_a_child_on_a_terminal(loop):
    async def main():
        master, slave = os.openpty()
        process = await asyncio.create_subprocess_exec(
            SHELL, "-c", "tty; stty size; read line; echo got $line",
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        name = os.ttyname(slave).encode()
        os.close(slave)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(master, "r+b", buffering=0)
        transport, protocol = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe)
        assert (await reader.readline()).strip() == name
        assert (await reader.readline()).strip() == b"0 0"
        pipe.write(b"hello\n")
        assert (await reader.readline()).strip() == b"hello"    # the terminal's echo
        assert (await reader.readline()).strip() == b"got hello"
        assert await process.wait() == 0
        with pytest.raises(OSError) as caught:                  # how Linux tells a terminal's end
            await reader.read()
        assert caught.value.errno == errno.EIO
        transport.close()
        # Else it is reported, where the collector has finalized it before its protocol.
        assert protocol._closed.exception() is caught.value

    run(loop, main())


def test_python_children_and_text(loop):
    """A whole interpreter, whose output comes in many pieces."""
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "for i in range(10000): print(i, flush=i % 100 == 0)", stdout=PIPE)
        lines = [int(line) async for line in process.stdout]
        assert lines == list(range(10000))
        assert await process.wait() == 0

    run(loop, main())
