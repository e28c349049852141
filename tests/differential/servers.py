"""Servers and connects under scripts: who is accepted, what is refused, and what a closed server still does."""

from __future__ import annotations

import os
import socket

import peers
from hypothesis import strategies as st

from .streams import Plain
from .world import Peer, World

ACTS = ("nothing", "send", "shutdown", "close", "reset")


class SomeClient:
    """Which of the clients is behind a connection nobody knows: any that is closed may be."""

    def __init__(self, clients: list[Peer]):
        self.clients = clients

    @property
    def closed(self) -> bool:
        return any(client.closed for client in self.clients)


class Accepted(Plain):
    """A connection of a server. Its lane is its place in the order of acceptance."""

    def __init__(self, world: World, lane: str, reactions: dict, peer: SomeClient):
        self.begin(world, 0, reactions, keeps_open=False)
        self.lane = lane
        self.peer = peer


class Serving:
    """One server, its clients, and the connections that the loop makes to it."""

    def __init__(self, world: World, number: int, family: str, starts: bool, reactions: tuple):
        self.world, self.number, self.lane = world, number, f"server {number}"
        self.family, self.starts, self.reactions = family, starts, reactions
        self.path = os.path.join(world.folder, f"served{number}")
        self.server = None
        self.address = None
        self.protocols: list[Accepted] = []
        self.connected: list[Accepted] = []
        self.clients: list[Peer] = []

    def make(self, made: list, what: str) -> Accepted:
        protocol = Accepted(self.world, f"{self.lane} {what} {len(made)}", dict(self.reactions),
                            SomeClient(self.clients))
        made.append(protocol)
        return protocol

    async def open(self) -> None:
        loop = self.world.loop
        if self.family == "unix":
            self.server = await loop.create_unix_server(
                lambda: self.make(self.protocols, "accepted"), self.path, start_serving=self.starts)
            self.address = self.path
        else:
            self.server = await loop.create_server(
                lambda: self.make(self.protocols, "accepted"), "127.0.0.1", 0, start_serving=self.starts)
            self.address = self.server.sockets[0].getsockname()
        self.note()

    def note(self) -> None:
        self.world.note(self.lane, "serving", self.server.is_serving(), len(self.server.sockets))

    def connect(self, act: str) -> None:
        """A client that is no part of the loop."""
        sock = socket.socket(socket.AF_UNIX if self.family == "unix" else socket.AF_INET)
        sock.settimeout(0)
        number = len(self.clients)
        try:
            sock.connect(self.address)
        except BlockingIOError:
            pass
        except OSError as exc:
            sock.close()
            self.world.note(self.lane, "client refused", number, type(exc).__name__)
            return
        peer = Peer(self.world, f"{self.lane} client {number}", sock, reads=True)
        self.clients.append(peer)
        if act == "send":
            peer.send(100)
        elif act != "nothing":
            getattr(peer, act)()

    def connect_loop(self, port: str) -> None:
        """A connection of the loop's: to the server, to a place where nobody listens, from a bound address."""
        loop = self.world.loop

        def factory():
            return self.make(self.connected, "connection")

        if self.family == "unix":
            made = loop.create_unix_connection(factory, self.path if port != "nobody" else self.path + "-nobody")
        else:
            address = peers.refused_address() if port == "nobody" else self.address
            options = {"local_addr": ("127.0.0.1", 0)} if port == "bound" else {}
            made = loop.create_connection(factory, *address, **options)
        task = self.world.start(self.lane, f"connection to {port}", made, lambda made: type(made[1]).__name__)
        if port == "cancelled":
            loop.call_soon(task.cancel)

    def act(self, name: str) -> None:
        world, server = self.world, self.server
        if name == "close":
            server.close()
        elif name == "wait_closed":
            world.start(f"{self.lane} waits", name, server.wait_closed())
        elif name == "start_serving":
            world.start(f"{self.lane} starts", name, server.start_serving())
        self.note()

    def transports(self, name: str) -> None:
        for protocol in [*self.protocols, *self.connected]:
            protocol.do(name)

    def clients_do(self, act: str) -> None:
        for protocol in [*self.protocols, *self.connected]:
            if protocol.transport is not None:
                # kloop's small writes leave at the end of the turn, or when one asks what has not left.
                protocol.transport.get_write_buffer_size()
        for peer in self.clients:
            if act == "send":
                peer.send(100)
            elif act != "nothing":
                getattr(peer, act)()

    def pump(self) -> None:
        for peer in self.clients:
            peer.pump()

    def owes(self) -> bool:
        return False

    def finish(self) -> None:
        self.note()

    def end(self) -> None:
        self.server.close()
        self.transports("abort")
        for peer in self.clients:
            peer.close()


async def begin(world: World, setup) -> None:
    for number, (family, starts, reactions) in enumerate(setup):
        serving = Serving(world, number, family, starts, reactions)
        await serving.open()
        world.things.append(serving)


def perform(world: World, operation) -> None:
    number, name, *args = operation
    getattr(world.things[number % len(world.things)], name)(*args)


def operations():
    one = st.one_of(
        st.tuples(st.just("connect"), st.sampled_from(ACTS)),
        st.tuples(st.just("connect_loop"), st.sampled_from(("server", "nobody", "bound", "cancelled"))),
        st.tuples(st.just("act"), st.sampled_from(("close", "wait_closed", "start_serving"))),
        st.tuples(st.just("transports"), st.sampled_from(("write", "close", "abort", "pause", "resume", "write_eof"))),
        st.tuples(st.just("clients_do"), st.sampled_from(ACTS)),
    )
    return st.builds(lambda number, operation: (number, *operation), st.integers(0, 1), one)


def scripts():
    callbacks = st.sampled_from(("connection_made", "data_received", "eof_received", "connection_lost"))
    reactions = st.dictionaries(callbacks, st.sampled_from(("close", "abort", "raise", "write", "nothing")),
                                max_size=2).map(lambda chosen: tuple(sorted(chosen.items())))
    server = st.tuples(st.sampled_from(("tcp", "unix")), st.booleans(), reactions)
    return st.tuples(st.lists(server, min_size=1, max_size=2).map(tuple),
                     st.lists(st.lists(operations(), min_size=1, max_size=4).map(tuple), max_size=6).map(tuple))
