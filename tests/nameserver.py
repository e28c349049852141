"""A name server for tests, over UDP and TCP in a thread of its own: answers from a zone, counts what it is asked,
and misbehaves where a test wants that."""

import ipaddress
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field

TYPES = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "SVCB": 64,
    "HTTPS": 65,
    "CAA": 257,
}
NAMES = {number: name for name, number in TYPES.items()}
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSES = 0x8000, 0x0400, 0x0200, 0x0080
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5
HEADER = struct.Struct("!6H")


def name(text):
    """A domain name on the wire."""
    labels = [label.encode() for label in text.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def strings(*texts):
    return b"".join(bytes([len(text)]) + text for text in texts)


def data(kind, value):
    """A record's data: of addresses, names, and otherwise as it is given."""
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind in ("CNAME", "NS", "PTR"):
        return name(value)
    return value


@dataclass
class Question:
    id: int
    name: str  # in lower case
    kind: str
    packet: bytes
    question: bytes  # the section, as it came
    tcp: bool


@dataclass
class Zone:
    """records: (name, type) -> [(ttl, data), ...], of names that end in `origin`."""

    records: dict
    origin: str = "test"
    ttl: int = 60
    found: set = field(init=False)

    def __post_init__(self):
        self.found = {owner for owner, _ in self.records}

    def answer(self, question):
        """The response's code, answers and authority."""
        answers, at = [], question.name
        for _ in range(10):
            here = self.records.get((at, question.kind))
            if here:
                return 0, answers + [record(at, question.kind, *each) for each in here], []
            alias = self.records.get((at, "CNAME"))
            if not alias:
                break
            answers.append(record(at, "CNAME", *alias[0]))
            at = alias[0][1].rstrip(".")
        soa = name(f"ns.{self.origin}") + name(f"root.{self.origin}") + struct.pack("!5I", 1, 2, 3, 4, self.ttl)
        code = 0 if at in self.found else NXDOMAIN
        return code, answers, [record(self.origin, "SOA", self.ttl, soa)]


def record(owner, kind, ttl, value):
    packed = data(kind, value)
    return name(owner) + struct.pack("!HHIH", TYPES.get(kind, kind), 1, ttl, len(packed)) + packed


def reply(question, code=0, answers=(), authority=(), flags=0):
    head = HEADER.pack(question.id, RESPONSE | RECURSES | flags | code, 1, len(answers), len(authority), 0)
    return head + question.question + b"".join(answers) + b"".join(authority)


class Nameserver:
    """behave(question, usual) answers the packets to send: a list, or None for the usual one."""

    def __init__(self, zone, behave=None, address=("127.0.0.1", 0)):
        self.zone = zone
        self.behave = behave
        self.asked = []  # (name, type, whether over TCP)
        self._changed = threading.Condition()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._tcp = socket.socket(family, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        while True:
            self._tcp.bind(address)
            try:
                self._udp.bind(self._tcp.getsockname())
                break
            except OSError:  # the port is another's for UDP
                if address[1]:
                    raise
                self._tcp.close()
                self._tcp = socket.socket(family, socket.SOCK_STREAM)
        self._tcp.listen()
        host, self.port = self._udp.getsockname()[:2]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._ended, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="nameserver", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.close()
        self._thread.join()
        self._ended.close()

    def count(self, owner=None):
        return len([1 for asked, *_ in self.asked if owner in (None, asked)])

    def await_question(self, owner, limit_s=20):
        """Returns when somebody has asked for a name."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(owner), limit_s), f"nobody asks for {owner}"

    def _serve(self):
        with selectors.DefaultSelector() as selector, self._tcp, self._udp:
            self.selector = selector
            for sock in (self._tcp, self._udp, self._ended):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._ended:
                        for other in list(selector.get_map().values()):
                            if other.data is not None:
                                other.fileobj.close()
                        return
                    self._ready(key)

    def _ready(self, key):
        if key.fileobj is self._udp:
            packet, sender = self._udp.recvfrom(4096)
            for answer in self._answers(packet, tcp=False):
                self._udp.sendto(answer, sender)
        elif key.fileobj is self._tcp:
            self.selector.register(self._tcp.accept()[0], selectors.EVENT_READ, bytearray())
        else:
            self._stream(key)

    def _stream(self, key):
        try:
            received = key.fileobj.recv(65536)
        except ConnectionResetError:    # closed before the last answer was read
            received = b""
        key.data.extend(received)
        while len(key.data) >= 2 and len(key.data) >= 2 + int.from_bytes(key.data[:2], "big"):
            end = 2 + int.from_bytes(key.data[:2], "big")
            packet = bytes(key.data[2:end])
            del key.data[:end]
            for answer in self._answers(packet, tcp=True):
                key.fileobj.sendall(len(answer).to_bytes(2, "big") + answer)
        if not received:
            self.selector.unregister(key.fileobj)
            key.fileobj.close()

    def _answers(self, packet, tcp):
        question = parse(packet, tcp)
        with self._changed:
            self.asked.append((question.name, question.kind, tcp))
            self._changed.notify_all()
        code, answers, authority = self.zone.answer(question)
        usual = reply(question, code, answers, authority)
        if not tcp and len(usual) > 512:
            usual = reply(question, flags=TRUNCATED)
        chosen = self.behave(question, usual) if self.behave else None
        return [usual] if chosen is None else chosen


def parse(packet, tcp=False):
    """The question of a query."""
    at, labels = HEADER.size, []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode().lower())
        at += 1 + packet[at]
    [kind] = struct.unpack_from("!H", packet, at + 1)
    return Question(
        HEADER.unpack_from(packet)[0],
        ".".join(labels),
        NAMES.get(kind, kind),
        packet,
        packet[HEADER.size : at + 5],
        tcp,
    )
