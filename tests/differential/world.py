"""One run of a script on one loop: its lanes, how it settles, and the plain socket at the far end of a connection."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import sys
import time
import zlib

import peers

# Turns of the loop without any event after which nothing more is expected, and how long the last of them sleep. On
# loopback what a system call sends has mostly arrived when the call returns: is_under_way() tells what has not, as the
# kernel's thread for it waits for the core.
QUIET_TURNS = 6
QUIET_SLEEP_S = 0.001
QUIET_SLEEPS = 2
# What settles at all settles far sooner; a loop that never calls back fails the comparison by what is missing.
SETTLE_LIMIT_S = 10.0

REPORTS = "reports"     # the lane of what the exception handler was told

_PATTERN = peers.pattern(4 << 20, seed=5)


def payload(size: int, offset: int = 0) -> bytes:
    """Bytes of a stream at a position in it: lost, doubled or swapped ones show."""
    offset %= 1 << 20
    return _PATTERN[offset:offset + size]


def outcome(exc: BaseException | None) -> str:
    """An exception by its type and errno; the rest of its text is for people."""
    if exc is None:
        return "None"
    number = getattr(exc, "errno", None)
    name = type(exc).__name__
    return f"{name}({errno.errorcode.get(number, number)})" if number else name


class World:
    """What a script has made on a loop, and the trace: the events of each lane, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: str, patience: float):
        self.loop = loop
        self.folder = folder
        self.patience = patience    # a factor of the time to settle
        self.lanes: dict[str, list] = {}
        self.cut: set[str] = set()  # lanes of peers whose stream was broken off with bytes unsent
        self.events = 0
        self.burst_s = loop.time()  # when the burst has begun
        self.things: list = []      # with pump(), owes() and end()
        self.tasks: list[asyncio.Task] = []

    def note(self, lane: str, *event: object) -> None:
        self.events += 1
        self.lanes.setdefault(lane, []).append(event)

    def note_data(self, lane: str, name: str, data: bytes) -> None:
        """Bytes that came in several parts count as if they had come in one."""
        self.events += 1
        lane_events = self.lanes.setdefault(lane, [])
        if lane_events and lane_events[-1][0] == name:
            _, size, check = lane_events.pop()
        else:
            size, check = 0, 0
        lane_events.append((name, size + len(data), zlib.crc32(data, check)))

    def attempt(self, lane: str, name: str, function, *args, note_result: bool = False) -> None:
        """Makes a call. What it raises, and what it answers if asked, is part of the trace."""
        try:
            result = function(*args)
        except Exception as exc:
            self.note(lane, name, outcome(exc))
        else:
            if note_result:
                self.note(lane, name, result)

    def start(self, lane: str, name: str, coroutine, show=lambda result: result) -> asyncio.Task:
        """Awaits something beside the script; how it ends is part of the trace."""

        async def follow():
            try:
                result = await coroutine
            except asyncio.CancelledError:
                self.note(lane, name, "cancelled")
            except Exception as exc:
                self.note(lane, name, outcome(exc))
            else:
                self.note(lane, name, show(result))

        task = self.loop.create_task(follow())
        task.add_done_callback(lambda _: coroutine.close())     # it may have been cancelled before it began
        self.tasks.append(task)
        return task

    def reported(self, loop, context) -> None:
        """The loop's exception handler."""
        # A callback is named as each loop has it inside, with its arguments.
        message = re.sub(r"Exception in callback.*", "Exception in callback", context["message"], flags=re.DOTALL)
        self.note(REPORTS, message, outcome(context.get("exception")))

    async def settle(self) -> None:
        deadline_s = time.monotonic() + SETTLE_LIMIT_S
        quiet = 0
        while quiet < QUIET_TURNS + QUIET_SLEEPS:
            before = self.events
            # Before the peers look for it: what has arrived by now is seen by them.
            owed = any(thing.owes() for thing in self.things)
            await asyncio.sleep(0 if quiet < QUIET_TURNS else QUIET_SLEEP_S * self.patience)
            for thing in self.things:
                thing.pump()
            if time.monotonic() > deadline_s:
                self.note("world", "did not settle")
                return
            quiet = 0 if self.events != before or owed else quiet + 1

    async def run(self, kind, script) -> None:
        """kind: a module of operations. Its `perform` makes one; its `begin` makes what the script works on."""
        setup, bursts = script
        await kind.begin(self, setup)
        await self.settle()
        for burst in bursts:
            self.burst_s = self.loop.time()
            for operation in burst:
                kind.perform(self, operation)
            await self.settle()
        for thing in self.things:
            thing.finish()
        await self.settle()
        for thing in self.things:
            thing.end()
        await self.settle()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Peer:
    """The far end of a stream: a plain socket that takes no part in the loop, and is pumped between its turns."""

    def __init__(self, world: World, lane: str, sock: socket.socket, reads: bool):
        sock.setblocking(False)
        self.world, self.lane, self.sock = world, lane, sock
        self.reads = reads
        self.to_send = bytearray()
        self.sent = 0
        self.ended = False          # the stream from the loop's side, however
        self.closed = False
        self.shuts = False
        self.broken = False         # nothing can be sent any more

    def send(self, size: int) -> None:
        if self.closed or self.shuts or self.broken:
            return
        self.to_send += payload(size, self.sent)
        self.sent += size
        self.pump()

    def shutdown(self) -> None:
        self.shuts = True
        self.pump()

    def close(self) -> None:
        """Resets the connection if bytes are unread."""
        if not self.closed:
            self.closed = True
            self.sock.close()

    def reset(self) -> None:
        if not self.closed:
            self.closed = True
            peers.reset(self.sock)

    def pump(self) -> None:
        if self.closed:
            return
        self._pump_out()
        while self.reads and not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as exc:
                self.ended = True
                self.world.note(self.lane, "peer failed", outcome(exc))
            else:
                if data:
                    self.world.note_data(self.lane, "peer received", data)
                else:
                    self.ended = True
                    self.world.note(self.lane, "peer saw the end")

    def _pump_out(self) -> None:
        while self.to_send and not self.broken:
            try:
                sent = self.sock.send(self.to_send)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
            else:
                del self.to_send[:sent]
        if self.shuts and not self.broken:
            self.broken = True
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass


# struct tcp_info (linux/tcp.h) has the state first.
_TCP_INFO_SIZE = 216
_BYTES_RECEIVED, _NOT_SENT, _BYTES_SENT, _BYTES_AGAIN = 128, 144, 200, 208
_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE, _LAST_ACK, _CLOSING = 1, 4, 5, 7, 9, 11


def is_under_way(source: socket.socket, target: socket.socket) -> bool:
    """Whether bytes that a TCP socket took, or its end, have not reached the other. Unix sockets have no way between.

    The kernel may hold the last bytes until others are acknowledged, which takes 40 ms.
    """
    if source.family != socket.AF_INET or source.fileno() < 0 or target.fileno() < 0:
        return False
    sent, got = (sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE) for sock in (source, target))
    if _CLOSE in (sent[0], got[0]):     # reset
        return False
    if len(sent) == _TCP_INFO_SIZE:
        left = _number(sent, _BYTES_SENT, 8) - _number(sent, _BYTES_AGAIN, 8) + _number(sent, _NOT_SENT, 4)
        if left > _number(got, _BYTES_RECEIVED, 8):
            return True
    ended = sent[0] in (_FIN_WAIT1, _FIN_WAIT2, _LAST_ACK, _CLOSING)
    return ended and got[0] in (_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2)


def _number(record: bytes, offset: int, size: int) -> int:
    return int.from_bytes(record[offset:offset + size], sys.byteorder)


def linked(family: str, small: bool) -> tuple[socket.socket, socket.socket]:
    """Two connected stream sockets. small: neither takes more than some tens of KiB."""
    if family == "unix":
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.socket()
            if small:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
            peer.connect(listener.getsockname())
            ours, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if small:
        for sock in (ours, peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
    ours.setblocking(False)
    return ours, peer
