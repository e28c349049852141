"""TLS with nginx: as the server of a client on the loop, and as the client of a server on it."""

import asyncio
import contextlib
import shutil
import subprocess

import certificates
import pytest
from driving import LIMIT_S, reports, run
from peers import environment, listening, pattern

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(not NGINX, reason="there is no nginx (Debian package: nginx-light)")

FILE_SIZE = 3_000_000
CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests 1000; client_max_body_size 100m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream loop {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols {protocol};
    root {folder}; send_timeout {limit:.0f}s;
    location /loop {{
      proxy_pass https://loop; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
      proxy_ssl_protocols {protocol}; proxy_ssl_name localhost; proxy_ssl_server_name on;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate}; proxy_ssl_session_reuse on;
    }}
  }}
}}
"""
PROTOCOLS = ("TLSv1.2", "TLSv1.3")


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


@contextlib.contextmanager
def nginx(folder, certificate, protocol, upstream):
    """Runs one; gives its port."""
    with listening() as listener:
        port = listener.getsockname()[1]
    (folder / "nginx.conf").write_text(CONFIGURATION.format(
        folder=folder, upstream=upstream, port=port, certificate=certificate.certificate, key=certificate.key,
        protocol=protocol, limit=LIMIT_S))
    process = subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"], env=environment(),
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = []
    try:
        for line in process.stderr:
            log.append(line)
            if "getrlimit(RLIMIT_NOFILE)" in line:      # it says so once it listens
                break
        else:
            raise AssertionError(f"nginx has not started:\n{''.join(log)}")
        yield port
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=LIMIT_S)
        print("".join(log) + rest)


async def request(reader, writer, path, body=None):
    """Answers the body of the response."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"\r\n" + (body or b""))
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    assert status == "HTTP/1.1 200 OK", status
    [length] = [int(line.split(":")[1]) for line in headers if line.lower().startswith("content-length:")]
    return await reader.readexactly(length)


async def answer(reader, writer):
    """An HTTP server that sends back what it is sent."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body = await reader.readexactly(length)
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + body)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def upstream(certificate):
    """The address of such a server."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate.server())
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def talking(certificate, tmp_path, protocol):
    """Streams to an nginx whose upstream is a server on the loop; both speak one version of TLS."""
    async with upstream(certificate) as address:
        with nginx(tmp_path, certificate, protocol, address[1]) as port:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=certificate.client(), server_hostname="localhost")
            assert writer.get_extra_info("ssl_object").version() == protocol
            try:
                yield reader, writer
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


def test_files_of_nginx(loop, certificate, tmp_path, protocol):
    data = pattern(FILE_SIZE)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "small").write_bytes(data[:100])

    async def main():
        async with talking(certificate, tmp_path, protocol) as streams:
            for _ in range(20):
                assert await request(*streams, "/small") == data[:100]
            assert await request(*streams, "/file") == data
            assert await request(*streams, "/small") == data[:100]

    run(loop, main())


def test_nginx_before_the_loop(loop, certificate, tmp_path, protocol):
    """Bodies go through both, encrypted twice; nginx keeps its connections, and resumes sessions on new ones."""
    data = pattern(FILE_SIZE, seed=1)

    async def main():
        async with talking(certificate, tmp_path, protocol) as streams:
            for size in (0, 1, 1000, 16_384, 100_000, FILE_SIZE, 10):
                assert await request(*streams, "/loop", data[:size]) == data[:size]

    run(loop, main())


def test_a_certificate_that_nginx_does_not_trust(loop, certificate, tmp_path, protocol):
    """It ends the handshake by an alert, and says 502 to its client."""
    other = certificates.make(tmp_path, "other.example")

    async def main():
        async with upstream(other) as address:
            with reports(loop), nginx(tmp_path, certificate, protocol, address[1]) as port:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=certificate.client(), server_hostname="localhost")
                with pytest.raises(AssertionError, match="502 Bad Gateway"):
                    await request(reader, writer, "/loop", b"x")
                writer.close()
                await writer.wait_closed()

    run(loop, main())
