"""Datagram endpoints under scripts: UDP and unix sockets, with and without a remote address."""

from __future__ import annotations

import asyncio
import os
import socket

from hypothesis import strategies as st

from .world import World, outcome, payload

SIZES = (0, 1, 100, 1500, 65507, 65508)     # the last is one more than a UDP datagram holds
REACTIONS = ("close", "abort", "raise", "send", "nothing")
CALLBACKS = ("connection_made", "datagram_received", "error_received", "connection_lost")
BAD_DATA = ("text", None, 5)
# Datagrams that wait in a socket at most; a kernel that drops some would do so on its own terms.
MOST_UNREAD = 4


class Mailbox(asyncio.DatagramProtocol):
    def __init__(self, world: World, number: int, reactions: dict):
        self.world, self.lane = world, f"endpoint {number}"
        self.reactions = dict(reactions)
        self.transport = None
        self.lost = False

    def note(self, callback: str, *event) -> None:
        self.world.note(self.lane, callback, *event)
        reaction = self.reactions.pop(callback, None)
        if reaction == "raise":
            raise ZeroDivisionError(callback)
        if reaction == "send" and not self.lost:
            self.world.attempt(self.lane, "sendto", self.transport.sendto, b"reaction")
        elif reaction in ("close", "abort"):
            getattr(self.transport, reaction)()

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def datagram_received(self, data, addr):
        self.note("datagram_received", len(data), data[:4], self.world.things[int(self.lane.split()[1])].name_of(addr))

    def error_received(self, exc):
        self.note("error_received", outcome(exc))

    def connection_lost(self, exc):
        self.lost = True
        self.note("connection_lost", outcome(exc))


class Endpoint:
    """An endpoint of the loop and a plain socket that it may talk to."""

    def __init__(self, world: World, number: int, family: str, connected: bool, protocol: Mailbox):
        self.world, self.protocol, self.lane = world, protocol, f"peer {number}"
        self.connected = connected
        self.unread = 0
        if family == "unix":
            self.family = socket.AF_UNIX
            self.own, self.far, self.nobody = (os.path.join(world.folder, f"{name}{number}")
                                               for name in ("own", "far", "nobody"))
        else:
            self.family = socket.AF_INET
            self.own = self.far = ("127.0.0.1", 0)
        self.peer = socket.socket(self.family, socket.SOCK_DGRAM)
        self.peer.setblocking(False)
        self.peer.bind(self.far)
        self.far = self.peer.getsockname()
        if family != "unix":
            with socket.socket(self.family, socket.SOCK_DGRAM) as free:
                free.bind(self.own)
                self.nobody = free.getsockname()

    def name_of(self, address) -> str:
        return "peer" if address == self.far else "none" if not address else "other"

    def start(self) -> None:
        options = {"remote_addr": self.far} if self.connected else {}
        self.world.start(self.protocol.lane, "made", self.world.loop.create_datagram_endpoint(
            lambda: self.protocol, local_addr=self.own, family=self.family, **options), lambda made: "made")

    def address(self) -> object:
        return self.protocol.transport.get_extra_info("socket").getsockname()

    def send(self, target: str, size: int) -> None:
        # asyncio's own transport fails on its missing socket once connection_lost() was called.
        if self.protocol.transport is None or self.unread >= MOST_UNREAD or self.protocol.lost:
            return
        self.unread += 1
        arguments = {"none": (), "peer": (self.far,), "nobody": (self.nobody,)}[target]
        sendto = self.protocol.transport.sendto
        self.world.attempt(self.protocol.lane, "sendto", sendto, payload(size, size), *arguments)

    def peer_send(self, size: int) -> None:
        transport = self.protocol.transport
        if transport is None or self.unread >= MOST_UNREAD or transport.is_closing() or self.peer.fileno() < 0:
            return
        self.unread += 1
        try:
            self.peer.sendto(payload(size, size), self.own_name)
        except OSError as exc:
            self.world.note(self.lane, "peer sendto", outcome(exc))

    @property
    def own_name(self):
        return self.address() if self.family == socket.AF_INET else self.own

    def pump(self) -> None:
        self.unread = 0
        while self.peer.fileno() >= 0:
            try:
                data = self.peer.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError as exc:
                self.world.note(self.lane, "peer failed", outcome(exc))
                return
            self.world.note(self.lane, "peer received", len(data), data[:4])

    def owes(self) -> bool:
        return False

    def finish(self) -> None:
        transport = self.protocol.transport
        if transport is not None:
            self.world.note(self.protocol.lane, "state", transport.is_closing(), transport.get_write_buffer_size())

    def end(self) -> None:
        if self.protocol.transport is not None:
            self.protocol.transport.close()
        self.peer.close()


async def begin(world: World, setup) -> None:
    for number, (family, connected, reactions) in enumerate(setup):
        endpoint = Endpoint(world, number, family, connected, Mailbox(world, number, dict(reactions)))
        world.things.append(endpoint)
        endpoint.start()


def perform(world: World, operation) -> None:
    number, name, *args = operation
    endpoint = world.things[number % len(world.things)]
    transport, lane = endpoint.protocol.transport, endpoint.protocol.lane
    if name == "send":
        endpoint.send(*args)
    elif name == "peer send":
        endpoint.peer_send(*args)
    elif name == "peer close":
        endpoint.peer.close()
    elif transport is None or endpoint.protocol.lost:
        pass
    elif name == "bad":
        world.attempt(lane, "bad", transport.sendto, args[0])
    elif name == "bad address":
        world.attempt(lane, "bad address", transport.sendto, b"x", args[0])
    elif name == "limits":
        world.attempt(lane, name, lambda: transport.set_write_buffer_limits(*args))
    else:
        world.attempt(lane, name, getattr(transport, name))


def operations():
    sizes = st.sampled_from(SIZES)
    one = st.one_of(
        st.tuples(st.just("send"), st.sampled_from(("none", "peer", "nobody")), sizes),
        st.tuples(st.just("send"), st.just("peer"), sizes),
        st.tuples(st.just("peer send"), st.sampled_from(SIZES[:-1])),
        st.tuples(st.just("bad"), st.sampled_from(BAD_DATA)),
        st.tuples(st.just("bad address"), st.sampled_from((5, ("127.0.0.1",), ("127.0.0.1", 99999)))),
        st.tuples(st.just("limits"), st.sampled_from((0, 1000)), st.just(0)),
        st.tuples(st.sampled_from(("close", "abort", "peer close"))),
    )
    return st.builds(lambda number, operation: (number, *operation), st.integers(0, 1), one)


def scripts():
    reactions = st.dictionaries(st.sampled_from(CALLBACKS), st.sampled_from(REACTIONS), max_size=2).map(
        lambda chosen: tuple(sorted(chosen.items())))
    endpoint = st.tuples(st.sampled_from(("udp", "unix")), st.booleans(), reactions)
    return st.tuples(st.lists(endpoint, min_size=1, max_size=2).map(tuple),
                     st.lists(st.lists(operations(), min_size=1, max_size=4).map(tuple), max_size=6).map(tuple))
