"""docs/usage.md: every block runs as it stands there, with the real tools."""

import contextlib
import http.client
import importlib.metadata
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^```python (\S+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
BLOCKS = {(name, mark): text for name, mark, text in BLOCK.findall((ROOT / "docs/usage.md").read_text())}
LIMIT_S = 60

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    name = type(asyncio.get_running_loop()).__module__.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(name))]})
    await send({"type": "http.response.body", "body": name})
"""
# What a test of each plugin's user looks like.
TESTS = {
    "pytest-asyncio": """
import asyncio, pytest
@pytest.mark.asyncio
async def test_loop():
    assert type(asyncio.get_running_loop()).__module__ == "kloop.loop"
""",
    "anyio": """
import asyncio, pytest
@pytest.mark.anyio
async def test_loop():
    assert type(asyncio.get_running_loop()).__module__ == "kloop.loop"
""",
    "aiohttp": """
from aiohttp import web
async def test_client(loop, aiohttp_client):
    async def hello(request):
        return web.Response(text=type(loop).__module__)
    app = web.Application()
    app.router.add_get("/", hello)
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "kloop.loop"
""",
}


def needs(*packages):
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not for this Python")


def python(folder, *arguments, **options):
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **options.pop("env", {})}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options)


def output(folder, *arguments, **options):
    process = python(folder, *arguments, **options)
    text, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, text
    return text


def write(folder, name, mark=""):
    (folder / name).write_text(BLOCKS[name, mark])


PROGRAMS = ("program.py", "runner.py", "policy.py", "names.py")


@pytest.mark.parametrize("name, mark", [key for key in BLOCKS if key[0] in PROGRAMS])
def test_programs(tmp_path, name, mark):
    if mark == "python>=3.11" and sys.version_info < (3, 11):
        pytest.skip("Runner came with Python 3.11")
    write(tmp_path, name, mark)
    assert output(tmp_path, "-W", "ignore::DeprecationWarning", name) == "kloop.loop\n"


def free_address():
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def answer_of(address, process):
    """The first answer of a server that is starting."""
    end = time.monotonic() + LIMIT_S
    while True:
        assert process.poll() is None, process.communicate()[0]
        try:
            client = http.client.HTTPConnection(address, timeout=LIMIT_S)
            client.request("GET", "/", headers={"Connection": "close"})
            return client.getresponse().read().decode()
        except OSError:     # not listening yet
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.05)
        finally:
            client.close()


@pytest.mark.parametrize("packages, files, arguments", [
    (("uvicorn",), (),
     ("-m", "uvicorn", "app:app", "--loop", "kloop:new_event_loop", "--host", "HOST", "--port", "PORT")),
    (("gunicorn", "uvicorn-worker"), ("kloop_worker.py",),
     ("-m", "gunicorn", "app:app", "-k", "kloop_worker.Worker", "-b", "HOST:PORT", "--no-control-socket")),
    (("gunicorn", "uvicorn-worker"), ("kloop_worker.py",),
     ("-m", "gunicorn", "app:app", "-k", "kloop_worker.Worker", "-b", "HOST:PORT", "--no-control-socket",
      "--preload", "--workers", "2")),
    (("hypercorn",), ("serve_hypercorn.py",), ("serve_hypercorn.py", "HOST:PORT")),
    (("granian",), ("serve_granian.py",), ("serve_granian.py", "HOST:PORT")),
], ids=["uvicorn", "gunicorn", "gunicorn-preload", "hypercorn", "granian"])
def test_servers(tmp_path, packages, files, arguments):
    needs(*packages)
    (tmp_path / "app.py").write_text(APP)
    for name in files:
        write(tmp_path, name)
    address = free_address()
    host, port = address.split(":")
    process = python(tmp_path, *(word.replace("HOST", host).replace("PORT", port) for word in arguments))
    try:
        assert answer_of(address, process) == "kloop.loop"
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in text
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_dask(tmp_path):
    needs("distributed")
    write(tmp_path, "dask_program.py")
    lines = output(tmp_path, "-W", "ignore::DeprecationWarning", "dask_program.py").splitlines()
    assert lines[-2:] == ["6", "kloop.loop"]


def test_jupyter(tmp_path):
    needs("ipykernel", "jupyter-client")
    write(tmp_path, "kloop_kernel.py")
    (tmp_path / "drive.py").write_text("""
import sys
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

manager = KernelManager()
manager._kernel_spec = KernelSpec(
    argv=[sys.executable, "-m", "kloop_kernel", "-f", "{connection_file}"], language="python")
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=50)
client.execute_interactive("import asyncio; print(type(asyncio.get_running_loop()).__module__)", timeout=50)
client.stop_channels()
manager.shutdown_kernel()
""")
    assert "kloop.loop\n" in output(tmp_path, "drive.py", env={
        "JUPYTER_RUNTIME_DIR": str(tmp_path), "IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"})


@pytest.mark.parametrize("mark, plugin", [
    ("pytest-asyncio", "pytest-asyncio"), ("pytest-asyncio", "pytest-aiohttp"), ("anyio", "anyio"),
    ("aiohttp", "aiohttp")])
def test_test_plugins(tmp_path, mark, plugin):
    needs(plugin)
    write(tmp_path, "conftest.py", mark)
    (tmp_path / "test_it.py").write_text(TESTS[mark])
    load = {"pytest-asyncio": ["pytest_asyncio.plugin"],
            "pytest-aiohttp": ["pytest_asyncio.plugin", "pytest_aiohttp.plugin"],
            "anyio": ["anyio.pytest_plugin"], "aiohttp": []}[plugin]
    text = output(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning",
                  *(word for name in load for word in ("-p", name)),
                  env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert "1 passed" in text


@pytest.mark.parametrize("name, mark", [key for key in BLOCKS if key[0].startswith("test_unittest")])
def test_unittest(tmp_path, name, mark):
    if mark == "python>=3.13" and sys.version_info < (3, 13):
        pytest.skip("loop_factory came with Python 3.13")
    write(tmp_path, name, mark)
    assert "OK" in output(tmp_path, "-W", "ignore::DeprecationWarning", "-m", "unittest", name)


def test_every_block_is_run():
    run = pathlib.Path(__file__).read_text()
    names = [name for name, _ in BLOCKS]
    assert len(names) > 10
    assert [name for name in names if name not in run and not name.startswith("test_unittest")] == []
