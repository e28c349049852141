"""What the tests of kloop.Resolver share: a zone, and how they look up."""

import socket
import struct

import pytest
from driving import run
from nameserver import Nameserver, Zone, name, strings

HOSTS = "192.0.2.80 in.hosts other.hosts\n2001:db8::80 in.hosts\n"
ZONE = Zone(
    {
        ("www.test", "A"): [(60, "192.0.2.1"), (60, "192.0.2.2")],
        ("www.test", "AAAA"): [(50, "2001:db8::1")],
        ("alias.test", "CNAME"): [(7, "next.test")],
        ("next.test", "CNAME"): [(400, "www.test")],
        ("mail.test", "MX"): [
            (60, struct.pack("!H", 20) + name("b.test")),
            (60, struct.pack("!H", 10) + name("a.test")),
        ],
        ("null.test", "MX"): [(60, struct.pack("!H", 0) + name("."))],
        ("test", "NS"): [(60, "ns.test")],
        ("test", "SOA"): [(60, name("ns.test") + name("root.test") + struct.pack("!5I", 1, 2, 3, 4, 5))],
        ("1.2.0.192.in-addr.arpa", "PTR"): [(60, "www.test")],
        ("_sip._tcp.test", "SRV"): [(60, struct.pack("!3H", 1, 2, 5060) + name("sip.test"))],
        ("text.test", "TXT"): [(60, strings(b'one "two"', b"\\\x00\xff", b""))],
        ("ca.test", "CAA"): [(60, b"\x80" + strings(b"issue") + b"ca.example; a=\\b")],
        ("web.test", "HTTPS"): [
            (
                60,
                struct.pack("!H", 1)
                + name(".")
                + struct.pack("!HH", 1, 6)
                + strings(b"h2", b"h3")
                + struct.pack("!HHH", 3, 2, 8443)
                + struct.pack("!HH", 4, 8)
                + bytes([192, 0, 2, 1, 192, 0, 2, 2])
                + struct.pack("!HH", 5, 3)
                + b"ech"
                + struct.pack("!HH", 6, 16)
                + socket.inet_pton(10, "2001:db8::1")
                + struct.pack("!HH", 667, 2)
                + b"\x00\xff",
            )
        ],
        ("svc.test", "SVCB"): [(60, struct.pack("!H", 0) + name("target.test"))],
        ("plain.test", 99): [(60, b"\x03abc")],
        ("large.test", "A"): [(60, f"192.0.2.{number}") for number in range(200)],
        ("short.test", "A"): [(1, "192.0.2.9")],
        ("empty.test", "TXT"): [(60, strings(b"x"))],
        ("xn--mnchen-3ya.test", "A"): [(60, "192.0.2.33")],
    }
)


@pytest.fixture
def server():
    """A name server with ZONE."""
    with Nameserver(ZONE) as server:
        yield server


@pytest.fixture
def hosts(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    return path


@pytest.fixture
def resolver(kloop, server, hosts):
    """A resolver that asks this server alone, and knows these hosts."""
    with kloop.Resolver([server.address], file=None, environment=False, hosts=hosts, timeout=5, attempts=2) as resolver:
        yield resolver


def refused(loop, error, coroutine):
    with pytest.raises(error) as caught:
        run(loop, coroutine)
    return caught.value
