"""The loop's sock_* methods under scripts: receives, sends, accepts and connects, with cancels in between."""

from __future__ import annotations

import socket

from hypothesis import strategies as st

from .world import Peer, World, is_under_way, linked, payload

SIZES = (1, 100, 8192, 65536, 65537)
LARGE = 1 << 20
# Beyond this a small connection whose peer does not read takes some part of a send, and how much is the kernel's
# affair; of a large one it takes little enough.
SURELY_TAKEN = 4096
# So many bytes of a peer have come when its send(2) returns, and are received together.
AT_ONCE = 32 << 10
# One sock_recv() of kloop gives a receive buffer at most, 128 KiB (docs/compatibility.md).
RECEIVES = (1, 100, 65536, 1 << 17)


class Link:
    """A socket for the loop's methods, and its peer. asyncio can have one reader and one writer of a socket."""

    def __init__(self, world: World, number: int, sock: socket.socket, peer: Peer):
        self.world, self.lane, self.sock, self.peer = world, f"socket {number}", sock, peer
        self.receiving = self.sending = None
        self.written = 0
        self.closed = False

    def busy(self, task) -> bool:
        return task is not None and not task.done()

    def receive(self, size: int) -> None:
        if not self.busy(self.receiving) and not self.closed:
            self.receiving = self._data(lambda left: self.world.loop.sock_recv(self.sock, left), size)

    def receive_into(self, size: int) -> None:
        if self.busy(self.receiving) or self.closed:
            return

        async def into(left: int) -> bytes:
            buffer = bytearray(left)
            return bytes(buffer[:await self.world.loop.sock_recv_into(self.sock, buffer)])

        self.receiving = self._data(into, size)

    def _data(self, receive, size: int):
        """Several receives in a row count as one of their bytes, but an empty one as the end of the stream.

        How much of many bytes one receive gives is the kernel's affair, and that of the receive buffers: one that
        gives many is followed by others.
        """

        async def receives() -> str:
            left, many = size, False
            while True:
                data = await receive(left)
                assert len(data) <= left
                if not data:
                    return "end"
                self.world.note_data(self.lane, "received", data)
                left -= len(data)
                many = many or len(data) >= AT_ONCE
                if not (left and many):
                    return "data"

        return self.world.start(f"{self.lane} receives", "recv", receives())

    def send(self, size: int) -> None:
        if self.busy(self.sending) or self.closed or not self.may_send(size):
            return
        data = payload(size, self.written)
        self.written += size
        self.sending = self.world.start(f"{self.lane} sends", "sendall", self.world.loop.sock_sendall(self.sock, data))

    def may_send(self, size: int) -> bool:
        """Whether it is clear if the kernel takes so much."""
        if size >= LARGE:
            return self.written <= 3 * LARGE
        if self.peer.closed and self.peer.sent > AT_ONCE:
            return False    # its answer is a reset, before or after the rest has come: a receive makes room for that
        return self.peer.reads or self.written >= LARGE or self.written + size <= SURELY_TAKEN

    def cancel(self, which: str) -> None:
        task = self.receiving if which == "receive" else self.sending
        if not self.busy(task):
            return
        if which == "send" and self.sock.fileno() >= 0:
            self.world.cut.add(self.peer.lane)
        task.cancel()

    def close(self) -> None:
        if not self.busy(self.receiving) and not self.busy(self.sending):
            self.closed = True
            self.sock.close()

    def pump(self) -> None:
        self.peer.pump()

    def owes(self) -> bool:
        """What has somewhere to go. A receive that is under way takes what comes, the end too."""
        peer = self.peer
        to_peer = peer.reads and not peer.closed and not peer.ended
        leaves = to_peer and (self.sock.fileno() < 0 or self.busy(self.sending) or is_under_way(self.sock, peer.sock))
        comes = self.busy(self.receiving) and self.sock.fileno() >= 0 and (
            peer.closed or peer.to_send and not peer.broken or is_under_way(peer.sock, self.sock))
        return bool(leaves or comes)

    def finish(self) -> None:
        self.peer.reads = True
        if not self.busy(self.receiving):
            self.receive(RECEIVES[-1])

    def end(self) -> None:
        self.peer.close()
        for task in (self.receiving, self.sending):
            if self.busy(task):
                task.cancel()
        self.world.loop.call_soon(self.sock.close)


async def begin(world: World, setup) -> None:
    for number, (family, small, reads) in enumerate(setup):
        ours, far = linked(family, small)
        world.things.append(Link(world, number, ours, Peer(world, f"peer {number}", far, reads or not small)))


def perform(world: World, operation) -> None:
    number, name, *args = operation
    link = world.things[number % len(world.things)]
    if name == "peer":
        getattr(link.peer, args[0])(*args[1:])
    elif name == "peer reads":
        link.peer.reads = True
    elif name == "wrong":
        call = getattr(world.loop, args[0])
        world.start(f"{link.lane} wrong", args[0], call(link.sock, *args[1:]))
    else:
        getattr(link, name)(*args)


def operations():
    one = st.one_of(
        st.tuples(st.sampled_from(("receive", "receive_into")), st.sampled_from(RECEIVES)),
        st.tuples(st.just("send"), st.sampled_from((*SIZES, LARGE))),
        st.tuples(st.just("cancel"), st.sampled_from(("receive", "send"))),
        st.tuples(st.sampled_from(("close", "peer reads"))),
        st.sampled_from((("wrong", "sock_recv", "5"), ("wrong", "sock_recv", -1), ("wrong", "sock_sendall", "text"),
                         ("wrong", "sock_recv_into", b"fixed"), ("wrong", "sock_connect", "nowhere"))),
        st.tuples(st.just("peer"), st.just("send"), st.sampled_from(SIZES)),
        st.tuples(st.just("peer"), st.sampled_from(("shutdown", "close", "reset"))),
    )
    return st.builds(lambda number, operation: (number, *operation), st.integers(0, 1), one)


def scripts():
    link = st.tuples(st.sampled_from(("tcp", "unix")), st.booleans(), st.booleans())
    return st.tuples(st.lists(link, min_size=1, max_size=2).map(tuple),
                     st.lists(st.lists(operations(), min_size=1, max_size=4).map(tuple), max_size=6).map(tuple))
