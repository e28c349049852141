"""The far end of a connection: plain blocking sockets that no loop knows of."""

import array
import fcntl
import os
import random
import select
import socket
import struct
import termios

from driving import LIMIT_S

# <linux/sockios.h>: bytes in the send queue, sent and not acknowledged ones included.
SIOCOUTQ = 0x5411
READ_SIZE = 64 * 1024
# Bytes of the file that the fixture `content` makes.
FILE_SIZE = 3_000_000
# How long a connect may take before it counts as one that never ends, in ms. On loopback an
# answer comes within the call.
STALLED_MS = 200


def pattern(size, seed=0):
    """Bytes that are different at every position, so that nothing lost or swapped goes unseen."""
    return random.Random(seed).randbytes(size)


def environment():
    """Of a program that is no Python: not under a sanitizer's library, with which some do not start, or never end."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def listening(family=socket.AF_INET, backlog=100):
    """A listening socket on a free port of the loopback address."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(LIMIT_S)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.listen(backlog)
    return sock


def connected(address, receive_buffer=None):
    """A socket connected to address; a small receive_buffer (bytes) makes it a slow reader."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(LIMIT_S)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def pair(family=socket.AF_INET, receive_buffer=None):
    """Two connected TCP sockets: one for a loop (non-blocking), one for the test (blocking)."""
    with listening(family) as listener:
        peer = connected(listener.getsockname(), receive_buffer)
        ours, _ = listener.accept()
    ours.setblocking(False)
    return ours, peer


def refused_address():
    """An address of the loopback interface at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


class Stalled:
    """An address at which connects neither succeed nor fail: its accept queue is full."""

    def __enter__(self):
        self.listener = listening(backlog=0)
        self.address = self.listener.getsockname()
        self.fillers = []
        for _ in range(16):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.address)
            self.fillers.append(filler)
            poll = select.poll()
            poll.register(filler, select.POLLOUT)
            if not poll.poll(STALLED_MS):
                return self
        raise AssertionError("the kernel still completes connects")

    def __exit__(self, *exc):
        for sock in (*self.fillers, self.listener):
            sock.close()


def read_exactly(sock, size):
    """size bytes of a blocking socket; fewer only if the stream ended before."""
    parts = []
    while size:
        data = sock.recv(min(size, READ_SIZE))
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def read_all(sock):
    """Everything up to the end of the stream."""
    parts = []
    while data := sock.recv(READ_SIZE):
        parts.append(data)
    return b"".join(parts)


def reset(sock):
    """Closes with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def unread(sock):
    """Bytes that have arrived and that nobody has read."""
    return _queue_size(sock, termios.FIONREAD)


def unacknowledged(fd):
    """Bytes that the kernel has taken for sending and whose arrival is not yet known."""
    return _queue_size(fd, SIOCOUTQ)


def _queue_size(fd, request):
    size = array.array("i", [0])
    fcntl.ioctl(fd, request, size)
    return size[0]


def wait_readable(sock):
    """Returns when sock has something to read; fails after the time limit."""
    ready, _, _ = select.select([sock], [], [], LIMIT_S)
    assert ready, "nothing has come"


def link_local():
    """(address, interface's name, its index) of this machine, or None."""
    with open("/proc/net/if_inet6") as listed:
        for line in listed:
            raw, index, _, _, _, name = line.split()
            if raw.startswith("fe80"):
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw)), name, int(index, 16)
    return None
