"""Unix stream sockets: names of every form, stale sockets, and what is no socket."""

import asyncio
import errno
import os
import pathlib
import socket
import stat
import sys

import pytest
from driving import in_thread, run
from peers import pattern
from recorders import Echo, Recorder

# sockaddr_un.sun_path is this long (unix(7)).
PATH_MAX = 108

FORMS = {"str": str, "bytes": os.fsencode, "pathlib": pathlib.Path}


async def echo_through(path, data=b"hello"):
    """Sends data through a connection to path, and answers what comes back, and the names."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    transport.write(data)
    await protocol.received(len(data))
    names = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    transport.close()
    await protocol.called("connection_lost")
    return bytes(protocol.data), names


async def closed(server):
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("form", FORMS)
def test_a_path(loop, tmp_path, form):
    async def main():
        path = FORMS[form](tmp_path / "socket")
        server = await loop.create_unix_server(Echo, path)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        data, names = await echo_through(path, pattern(300_000))
        assert data == pattern(300_000)
        assert names == ("", os.fsdecode(path))
        assert server.sockets[0].getsockname() == os.fsdecode(path)
        assert server.sockets[0].family == socket.AF_UNIX
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("name", ["\0kloop-{}", b"\0kloop-\xff-{}"])
def test_an_abstract_name(loop, tmp_path, name):
    """There is no file of it, and it is free again when the server is closed."""
    unique = f"{os.getpid()}-{id(loop)}"
    name = name.replace("{}", unique) if isinstance(name, str) else name.replace(b"{}", unique.encode())

    async def main():
        for _ in range(2):
            server = await loop.create_unix_server(Echo, name)
            with pytest.raises(OSError, match="is already in use") as caught:
                await loop.create_unix_server(Echo, name)
            assert caught.value.errno == errno.EADDRINUSE
            data, (_, peer) = await echo_through(name)
            assert data == b"hello"
            assert peer == os.fsencode(name)
            await closed(server)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, name)

    run(loop, main())


def test_many_connections_at_once(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(Echo, path, backlog=200)    # else connects are refused
        answers = await asyncio.gather(*(echo_through(path, b"%d" % n) for n in range(200)))
        assert [data for data, _ in answers] == [b"%d" % n for n in range(200)]
        await closed(server)

    run(loop, main())


def test_streams(loop, tmp_path):
    async def serve(reader, writer):
        async for line in reader:
            writer.write(line.upper())
        writer.close()
        await writer.wait_closed()

    async def main():
        path = tmp_path / "socket"
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"one\ntwo\n")
        writer.write_eof()
        assert await reader.read() == b"ONE\nTWO\n"
        writer.close()
        await writer.wait_closed()
        await closed(server)

    run(loop, main())


def test_a_stale_socket_is_replaced(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        server = await loop.create_unix_server(Echo, path)
        assert (await echo_through(path))[0] == b"hello"
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("make", [pathlib.Path.touch, pathlib.Path.mkdir], ids=["file", "folder"])
def test_what_is_no_socket_stays(loop, tmp_path, make):
    async def main():
        path = tmp_path / "thing"
        make(path)
        with pytest.raises(OSError, match="is already in use") as caught:
            await loop.create_unix_server(Echo, path)
        assert caught.value.errno == errno.EADDRINUSE
        assert path.exists()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)

    run(loop, main())


def test_nobody_listens(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, path)
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_server(Echo, str(tmp_path / "no-such-folder" / "socket"))
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)

    run(loop, main())


def test_the_longest_path_and_one_that_is_too_long(loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        longest = "x" * (PATH_MAX - 1)
        server = await loop.create_unix_server(Echo, longest)
        assert (await echo_through(longest))[0] == b"hello"
        await closed(server)
        for call in (loop.create_unix_server, loop.create_unix_connection):
            with pytest.raises(OSError, match="AF_UNIX path too long"):
                await call(Recorder, "x" * (PATH_MAX + 1))

    run(loop, main())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_without_permission(loop, tmp_path):
    async def main():
        folder = tmp_path / "folder"
        folder.mkdir(mode=0o500)
        with pytest.raises(PermissionError):
            await loop.create_unix_server(Echo, folder / "socket")

    run(loop, main())


def test_the_socket_file_after_close(loop, tmp_path):
    """Python 3.13 unlinks it, unless told not to or unless the file is another one by then."""
    unlinks = sys.version_info >= (3, 13)

    async def main():
        path = tmp_path / "socket"
        await closed(await loop.create_unix_server(Echo, path))
        assert path.exists() is not unlinks
        if not unlinks:
            return
        await closed(await loop.create_unix_server(Echo, path, cleanup_socket=False))
        assert path.exists()
        server = await loop.create_unix_server(Echo, path)
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            await closed(server)
            assert path.exists()

    run(loop, main())


def test_sockets_in_place_of_paths(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        server = await loop.create_unix_server(Echo, sock=listener)
        ours = socket.socket(socket.AF_UNIX)
        ours.setblocking(False)
        await loop.sock_connect(ours, path)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
        transport.write(b"x")
        await protocol.received(1)
        transport.close()
        await protocol.called("connection_lost")
        await closed(server)

    run(loop, main())


def test_arguments_that_asyncio_refuses(loop, tmp_path):
    async def main():
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
            for call in (loop.create_unix_server, loop.create_unix_connection):
                with pytest.raises(ValueError, match="path was not specified, and no sock specified|"
                                                     "no path and sock were specified"):
                    await call(Recorder)
                for sock in (tcp, datagram):
                    with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                        await call(Recorder, sock=sock)
                    with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                        await call(Recorder, "/tmp/x", sock=sock)
        with pytest.raises(ValueError, match="server_hostname"):
            await loop.create_unix_connection(Recorder, "/tmp/x", ssl=True)
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext"):
            await loop.create_unix_server(Recorder, "/tmp/x", ssl=True)

    run(loop, main())


def test_half_close_and_reset_by_the_peer(loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        protocol = Recorder(keep_open=True)
        server = await loop.create_unix_server(lambda: protocol, path)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await protocol.called("eof_received")
            assert protocol.data == b"last words"
            protocol.transport.write(b"answer")
            assert await in_thread(peer.recv, 100) == b"answer"
            protocol.transport.write(bytes(5_000_000))
        # Closed with bytes unread: that is a reset.
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))
        await closed(server)

    run(loop, main())
