"""Ends of pipes: given to a loop as transports, and used by the test itself."""

import asyncio
import os
import socket

import pytest
from recorders import Recorder

# Far above what a pipe takes (64 KiB at first, pipe(7)).
MUCH = 1_000_000


def opened(fd, mode):
    return os.fdopen(fd, mode, buffering=0)


async def reading(fd, protocol=None):
    """A transport that reads fd, and its protocol."""
    return await asyncio.get_running_loop().connect_read_pipe(
        lambda: protocol or Recorder(), opened(fd, "rb"))


async def writing(fd, protocol=None):
    return await asyncio.get_running_loop().connect_write_pipe(
        lambda: protocol or Recorder(), opened(fd, "wb"))


def drain(fd, size):
    """size bytes of a pipe that blocks, or fewer if it ends before."""
    parts = []
    while size and (data := os.read(fd, min(size, 65536))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def feed(fd, data):
    with opened(fd, "wb") as pipe:
        view = memoryview(data)
        while view:
            view = view[pipe.write(view):]


def ends(kind):
    """(reading fd, writing fd) of a pipe, a FIFO or a pair of sockets; both block."""
    if kind == "socket":
        a, b = socket.socketpair()
        return a.detach(), b.detach()
    return os.pipe()


KINDS = pytest.mark.parametrize("kind", ["pipe", "socket"])
