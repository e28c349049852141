"""Connected streams under scripts: TCP and unix sockets, plain and buffered protocols."""

from __future__ import annotations

import asyncio
import socket
import sys

from hypothesis import strategies as st

from .world import Peer, World, is_under_way, linked, outcome, payload

SMALL = (0, 1, 100, 1500)
SIZES = (*SMALL, 8191, 8192, 8193, 65535, 65536, 65537)
# From 3.12 on an asyncio transport never ends whose last piece of a writelines() was empty: it waits for room for it.
LINE_SIZES = SIZES if sys.version_info < (3, 12) else SIZES[1:]
LARGE = 1 << 20     # far above what the buffers of a `small` connection take, and every limit below
LIMITS = ((None, None), (0, 0), (1, 0), (16384, 1), (131072, None), (4 << 20, None), (None, 0), (10, 20), (-1, None))
# Beyond this a small connection whose peer does not read takes some part of a write, and how much is the kernel's
# affair; of a large one it takes little enough.
SURELY_TAKEN = 4096
# More than a small connection whose peer reads takes at once: 64 KiB at first, 72 later on.
TAKEN_AT_MOST = 128 << 10
# What a protocol may do in a callback, once.
REACTIONS = ("close", "abort", "raise", "write", "pause", "resume", "write_eof", "limits", "nothing")
CALLBACKS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
FLOW = ("pause_writing", "resume_writing")
BOTH = ("connection_made", "connection_lost")
BAD_DATA = ("text", None, 5, ["list"])


class Behaviour:
    """What a protocol writes down and how it reacts; the mixin of both kinds of protocols."""

    def begin(self, world: World, number: int, reactions: dict, keeps_open: bool):
        self.world, self.lane, self.peer_lane = world, f"connection {number}", f"peer {number}"
        self.reactions = dict(reactions)
        self.keeps_open = keeps_open
        self.transport = None
        self.written = 0
        self.written_before = 0     # until the burst began
        self.lost = False
        self.saw_end = False
        self.closed_with_bytes = False
        self.ended_s = 0.0          # when the burst has begun that has called write_eof()
        self.burst_s = 0.0          # when the burst has begun before which written_before was written

    def react(self, callback: str) -> None:
        reaction = self.reactions.pop(callback, None)
        if callback in ("connection_lost", "resume_writing") and reaction in ("close", "abort"):
            return      # asyncio may call connection_lost() twice then, and fails in the second call
        if callback == "connection_lost" and reaction == "write" and self.closed_with_bytes:
            return      # asyncio sends this one, though it drops what is written in any other connection_lost()
        if reaction == "raise":
            self.note_cut()
            raise ZeroDivisionError(callback)
        if reaction is not None and reaction != "nothing":
            self.do(reaction)

    def do(self, name: str, *args) -> None:
        """One operation on the transport."""
        transport, attempt = self.transport, self.world.attempt
        if transport is None:
            return
        if name == "write":
            self.write(*(args or (100,)))
        elif name == "writelines":
            self.write_lines(args[0])
        elif name == "bad_write":
            attempt(self.lane, name, transport.write, args[0])
        elif name == "state":
            self.note_state()
        elif name == "write_eof":
            self.ended_s = self.world.burst_s
            attempt(self.lane, name, transport.write_eof)
        elif name == "close":
            self.note_close()
            attempt(self.lane, name, transport.close)
        elif name == "abort":
            self.note_cut()
            attempt(self.lane, name, transport.abort)
        elif name == "limits":
            attempt(self.lane, name, lambda: transport.set_write_buffer_limits(*(args or (0, 0))))
        else:
            method = {"pause": "pause_reading", "resume": "resume_reading"}.get(name, name)
            attempt(self.lane, name, getattr(transport, method))

    def write(self, size: int) -> None:
        data = payload(size, self.written)
        self.written += size
        kind = (bytes, bytearray, memoryview)[self.written % 3]
        self.world.attempt(self.lane, "write", self.transport.write, kind(data))
        self.part()

    def write_lines(self, sizes) -> None:
        parts = []
        for size in sizes:
            parts.append(payload(size, self.written))
            self.written += size
        self.world.attempt(self.lane, "writelines", self.transport.writelines, parts)
        self.part()

    def part(self) -> None:
        """The answer of a peer that is closed is a reset, which the next write meets: each must leave by itself."""
        if self.peer.closed:
            self.transport.get_write_buffer_size()

    def note_cut(self) -> None:
        if self.transport is not None and not self.lost and self.transport.get_write_buffer_size():
            self.world.cut.add(self.peer_lane)

    def note_close(self) -> None:
        if not self.transport.is_closing():
            self.closed_with_bytes = self.transport.get_write_buffer_size() > 0

    def note_state(self) -> None:
        transport = self.transport
        self.world.note(self.lane, "state", transport.is_closing(), transport.is_reading(), transport.can_write_eof(),
                        transport.get_write_buffer_limits(), transport.get_write_buffer_size() > 0,
                        transport.get_protocol() is self, type(transport.get_extra_info("socket")).__name__,
                        transport.get_extra_info("nothing", 5))

    def note(self, callback: str, *event) -> None:
        """The two directions are independent: each has a lane of its own, and what concerns both is in both."""
        if callback not in FLOW:
            self.world.note(self.lane, callback, *event)
        if callback in FLOW or callback in BOTH:
            self.world.note(f"{self.lane} flow", callback, *event)
        self.react(callback)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def eof_received(self):
        self.saw_end = True
        self.note("eof_received")
        if not self.keeps_open:
            self.note_close()
        return self.keeps_open

    def connection_lost(self, exc):
        self.lost = True
        self.note("connection_lost", outcome(exc))

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")


class Plain(Behaviour, asyncio.Protocol):
    def data_received(self, data):
        self.world.note_data(self.lane, "data_received", data)
        self.react("data_received")


class Buffered(Behaviour, asyncio.BufferedProtocol):
    buffer = bytearray(3000)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.world.note_data(self.lane, "data_received", self.buffer[:nbytes])
        self.react("data_received")


class Connection:
    """One connection: the loop's protocol and its peer."""

    def __init__(self, protocol: Behaviour, sock: socket.socket, peer: Peer, small: bool):
        self.protocol, self.sock, self.peer, self.small = protocol, sock, peer, small
        protocol.peer = peer

    def may_write(self, size: int) -> bool:
        """Whether it is clear if the kernel takes so much."""
        protocol = self.protocol
        if protocol.burst_s != protocol.world.burst_s:
            protocol.burst_s, protocol.written_before = protocol.world.burst_s, protocol.written
        if size >= LARGE:
            return protocol.written <= 3 * LARGE
        if not self.peer.reads:
            return protocol.written >= LARGE or protocol.written + size <= SURELY_TAKEN
        return not self.small or protocol.transport is None or self.pauses_surely(size)

    def pauses_surely(self, size: int) -> bool:
        """Whether it is clear if this burst pauses writing: all its bytes do not, or what surely is left does."""
        queued = self.protocol.written - self.protocol.written_before + size
        high = self.protocol.transport.get_write_buffer_limits()[1]
        return queued <= max(high, SURELY_TAKEN) or queued > high + TAKEN_AT_MOST

    def pump(self) -> None:
        self.peer.pump()

    def owes(self) -> bool:
        """What has somewhere to go: bytes, the end of a stream, or a reset."""
        protocol, peer = self.protocol, self.peer
        transport = protocol.transport
        if transport is None:
            return False
        to_peer = peer.reads and not peer.ended and not peer.closed
        if protocol.lost:
            return to_peer
        leaves = to_peer and (transport.get_write_buffer_size() > 0 or is_under_way(self.sock, peer.sock))
        comes = transport.is_reading() and (
            not protocol.saw_end if peer.closed
            else peer.to_send and not peer.broken or is_under_way(peer.sock, self.sock))
        return bool(leaves or comes)

    def finish(self) -> None:
        """What is queued goes out, what has come is seen."""
        self.peer.reads = True
        self.protocol.do("state")

    def end(self) -> None:
        self.protocol.do("close")
        self.peer.close()


async def begin(world: World, setup) -> None:
    for number, (family, small, buffered, reads, keeps_open, reactions) in enumerate(setup):
        ours, far = linked(family, small)
        protocol = (Buffered if buffered else Plain)()
        protocol.begin(world, number, dict(reactions), keeps_open)
        # A peer of a connection with large buffers always reads: how much these take is the kernel's affair.
        peer = Peer(world, protocol.peer_lane, far, reads or not small)
        world.things.append(Connection(protocol, ours, peer, small))
        made = world.loop.create_connection(lambda protocol=protocol: protocol, sock=ours)
        world.start(protocol.lane, "connected", made, lambda made: "made")


def perform(world: World, operation) -> None:
    number, name, *args = operation
    connection = world.things[number % len(world.things)]
    protocol, peer = connection.protocol, connection.peer
    if name == "peer":
        # kloop's small writes leave at the end of the turn, or when one asks what has not left.
        if protocol.transport is not None:
            protocol.transport.get_write_buffer_size()
        if args[0] in ("close", "reset") and protocol.ended_s == world.burst_s:
            return      # kloop's write_eof() leaves with the turn too, and nothing else has it leave before
        getattr(peer, args[0])(*args[1:])
    elif name == "peer reads":
        peer.reads = True
    elif (name not in ("write", "writelines")
          or connection.may_write(args[0] if name == "write" else sum(args[0]))):
        protocol.do(name, *args)


def operations():
    sizes = st.sampled_from(SIZES)
    one = st.one_of(
        st.tuples(st.just("write"), st.sampled_from((*SIZES, LARGE))),
        st.tuples(st.just("writelines"), st.lists(st.sampled_from(LINE_SIZES), max_size=4).map(tuple)),
        st.tuples(st.just("bad_write"), st.sampled_from(BAD_DATA)),
        st.tuples(st.sampled_from(("close", "abort", "write_eof", "pause", "resume", "state", "peer reads"))),
        st.builds(lambda limits: ("limits", *limits), st.sampled_from(LIMITS)),
        st.tuples(st.just("peer"), st.just("send"), sizes),
        st.tuples(st.just("peer"), st.sampled_from(("shutdown", "close", "reset"))),
    )
    return st.builds(lambda number, operation: (number, *operation), st.integers(0, 1), one)


def scripts():
    reactions = st.dictionaries(st.sampled_from(CALLBACKS), st.sampled_from(REACTIONS), max_size=2).map(
        lambda chosen: tuple(sorted(chosen.items())))
    connection = st.tuples(st.sampled_from(("tcp", "unix")), st.booleans(), st.booleans(), st.booleans(),
                           st.booleans(), reactions)
    return st.tuples(st.lists(connection, min_size=1, max_size=2).map(tuple),
                     st.lists(st.lists(operations(), min_size=1, max_size=4).map(tuple), max_size=6).map(tuple))
