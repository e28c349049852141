"""The program of test_resolver_oracle.py: runs in namespaces whose /etc and interfaces were made for it, with a name
server at 127.0.0.1:53, and compares loop.getaddrinfo and loop.getnameinfo with the socket module's, over a table.

Writes how many cases there were and how many differ, as JSON; what differs to standard error.
"""

import asyncio
import itertools
import json
import socket
import struct
import sys

import kloop
from nameserver import SERVFAIL, Nameserver, Zone, name, reply, strings

TOLD_MAX = 40

ZONE = Zone(
    {
        ("www.example", "A"): [(100, "192.0.2.1"), (200, "192.0.2.2")],
        ("www.example", "AAAA"): [(100, "2001:db8::1")],
        ("four.example", "A"): [(100, "192.0.2.4")],
        ("six.example", "AAAA"): [(100, "2001:db8::6")],
        ("alias.example", "CNAME"): [(50, "next.example")],
        ("next.example", "CNAME"): [(400, "www.example")],
        ("dangling.example", "CNAME"): [(9, "nowhere.example")],
        ("circle.example", "CNAME"): [(9, "circle.example")],
        ("empty.example", "TXT"): [(9, strings(b"x"))],
        ("under_score.example", "A"): [(9, "192.0.2.9")],
        ("-dash.example", "A"): [(9, "192.0.2.90")],
        ("sp ace.example", "A"): [(9, "192.0.2.91")],
        ("odd.example", "CNAME"): [(9, "sp ace.example")],
        ("star*.example", "A"): [(9, "192.0.2.92")],
        ("deep.sub.example", "A"): [(9, "192.0.2.10")],
        ("xn--mnchen-3ya.example", "A"): [(9, "192.0.2.33")],
        ("many.example", "A"): [
            (9, ip) for ip in ("10.9.0.1", "10.8.0.200", "127.0.0.5", "169.254.1.1", "10.8.0.14", "203.0.113.1")
        ],
        ("many.example", "AAAA"): [
            (9, ip)
            for ip in (
                "fd00::9",
                "2001:db8:1::1",
                "fec0::1",
                "2002:c000:201::1",
                "2001::1",
                "::1",
                "2001:db8:1:2:3::9",
                "::192.0.2.1",
                "ff0e::1",
            )
        ],
        ("large.example", "A"): [(9, f"192.0.2.{number}") for number in range(1, 120)],
        ("1.2.0.192.in-addr.arpa", "PTR"): [(9, "www.example")],
        ("4.2.0.192.in-addr.arpa", "PTR"): [(9, "bad name.example")],
        ("5.2.0.192.in-addr.arpa", "PTR"): [(9, "one.example"), (9, "two.example")],
        ("6.2.0.192.in-addr.arpa", "CNAME"): [(9, "1.2.0.192.in-addr.arpa")],
        ("7.2.0.192.in-addr.arpa", "PTR"): [(9, "under_score.example")],
        ("8.2.0.192.in-addr.arpa", "PTR"): [(9, "star*.example")],
        ("9.2.0.192.in-addr.arpa", "PTR"): [(9, "-dash.example")],
        ("10.2.0.192.in-addr.arpa", "PTR"): [(9, "bad name.example"), (9, "good.example")],
        ("11.2.0.192.in-addr.arpa", "PTR"): [(9, "a.-dash.example")],
        ("12.2.0.192.in-addr.arpa", "PTR"): [(9, "sl/ash.example")],
        ("13.2.0.192.in-addr.arpa", "PTR"): [(9, "m\xfcnchen.example")],
        ("14.2.0.192.in-addr.arpa", "PTR"): [(9, ".")],
        ("15.2.0.192.in-addr.arpa", "PTR"): [(9, "a\\b.example")],
        ("16.2.0.192.in-addr.arpa", "PTR"): [(9, "xn--mnchen-3ya.example")],
        ("a.-dash.example", "A"): [(9, "192.0.2.93")],
        ("odd2.example", "CNAME"): [(9, "-dash.example")],
        ("odd3.example", "CNAME"): [(9, "odd.example")],
        ("odd6.example", "CNAME"): [(9, "-dash6.example")],
        ("-dash6.example", "AAAA"): [(9, "2001:db8::6")],
        ("dash-.example", "A"): [(9, "192.0.2.94")],
        ("sl/ash.example", "A"): [(9, "192.0.2.95")],
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR"): [(9, "www.example")],
        ("example", "MX"): [(9, struct.pack("!H", 1) + name("www.example"))],
    },
    origin="example",
)

# Numeric ones, of the hosts file, of the zone, with a search list, and none.
HOSTS = [
    None,
    "",
    "*",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    b"127.0.0.1",
    "127.1",
    "0x7f.1",
    "017.1",
    "1.2.3.256",
    "1",
    "::1",
    "::1%lo",
    "fe80::1%lo",
    "fe80::1%kl0",
    "fe80::1%nothing",
    "fe80::1%7",
    "2001:db8::1%7",
    "::ffff:1.2.3.4",
    "::ffff:1.2.3.4%1",
    "::1::",
    "127.0.0.1 ",
    "own",
    "own-alias",
    "own.lan",
    "only4",
    "only6",
    "loop6",
    "mapped",
    "mixed.case",
    "MIXED.CASE",
    "short",
    "www.example",
    "www.example.",
    "WWW.EXAMPLE",
    b"www.example",
    "www",
    "deep",
    "alias.example",
    "four.example",
    "six.example",
    "four",
    "six",
    "nowhere.example",
    "nowhere",
    "empty.example",
    "empty",
    "broken.example",
    "broken",
    "dangling.example",
    "circle.example",
    "under_score.example",
    "-dash.example",
    "sp ace.example",
    "sp ace",
    "odd.example",
    "odd2.example",
    "odd3.example",
    "odd6.example",
    "-dash6.example",
    "a.-dash.example",
    "dash-.example",
    "sl/ash.example",
    "broken x.example",
    "no such.example",
    "star*.example",
    "many.example",
    "many",
    "large.example",
    "m\xfcnchen.example",
    "m\xfcnchen",
    b"m\xc3\xbcnchen.example",
    "xn--mnchen-3ya.example",
    "\uff57ww.example",
    "a..b",
    ".",
    "..",
    "x" * 64,
    "x" * 63 + ".example",
    ".".join(["x" * 60] * 5),
    "www.example\0.com",
    "\0",
    "a\\b.example",
    "a\nb",
    17,
    bytearray(b"www.example"),
    1.5,
]
PORTS = [
    None,
    0,
    80,
    65535,
    65536,
    -1,
    1 << 31,
    (1 << 63) - 1,
    1 << 64,
    "",
    "*",
    "0",
    "80",
    b"80",
    "http",
    b"http",
    "www",
    "HTTP",
    "domain",
    "tftp",
    "sctponly",
    "both",
    "dccponly",
    "nosuch",
    "-1",
    "65536",
    "99999999999999999999999",
    "0x50",
    " 80",
    "80 ",
    "+80",
    "http\0x",
    "\xb2",
    "\udc80",
    1.5,
    True,
    bytearray(b"80"),
]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, -1]
SOCK_TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 6, 99]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 33, 132, 136, 255, 1, -1]
PASSIVE, CANON, NUMHOST, MAPPED, ALL, CONFIGURED = (
    getattr(socket, f"AI_{name}") for name in ("PASSIVE", "CANONNAME", "NUMERICHOST", "V4MAPPED", "ALL", "ADDRCONFIG")
)
IDN, CANON_IDN = 0x40, 0x80
FLAGS = [
    0,
    PASSIVE,
    CANON,
    NUMHOST,
    MAPPED,
    ALL,
    MAPPED | ALL,
    CONFIGURED,
    CONFIGURED | MAPPED,
    MAPPED | ALL | CANON,
    MAPPED | CANON,
    socket.AI_NUMERICSERV,
    IDN,
    IDN | CANON,
    CANON | CANON_IDN,
    PASSIVE | CANON | NUMHOST,
    CANON | CONFIGURED,
    0x100,
    0x800,
    -1,
]
ADDRESSES = [
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "10.0.0.3",
    "192.0.2.1",
    "192.0.2.4",
    "192.0.2.5",
    "192.0.2.6",
    "192.0.2.7",
    *(f"192.0.2.{number}" for number in range(8, 17)),
    "192.0.2.77",
    "2001:db8::1",
    "2001:db8::2",
    "fe80::1",
    "fe80::1%lo",
    "fd00::78",
    "::ffff:192.0.2.1",
    "::192.0.2.1",
    "::3:4",
    "2001:db8:0:0:1::",
    "a name",
    "",
    "*",
    "1",
    "www.example",
]


def getaddrinfo_cases():
    for host, family, flags in itertools.product(HOSTS, FAMILIES, FLAGS):
        yield host, 80, family, socket.SOCK_STREAM, 0, flags
    for host, family in itertools.product(HOSTS, FAMILIES[:3]):
        yield host, None, family, 0, 0, 0
    for host, port, flags in itertools.product(["127.0.0.1", "own", None], PORTS, [0, socket.AI_NUMERICSERV, PASSIVE]):
        for kind, protocol in itertools.product(SOCK_TYPES, PROTOCOLS):
            yield host, port, 0, kind, protocol, flags


def getnameinfo_cases():
    for address, port, flags in itertools.product(
        ADDRESSES, [0, 80, 69, 53, 7777, 65536 + 80, -1], [*range(0x20), 0x20, 0x40, 0x100, -1]
    ):
        yield (address, port), flags
    for address, flow, scope, flags in itertools.product(ADDRESSES, [0, 1, 1 << 20], [0, 1, 77, 1 << 32], [0, 1, 3, 4]):
        yield (address, 80, flow, scope), flags
    for address in (
        (),
        ("::1",),
        "::1",
        None,
        ("::1", "80"),
        ("::1", 80, 0, 0, 0),
        (b"::1", 80),
        ["::1", 80],
        ("::1", 1 << 40),
    ):
        for flags in (0, 3, "0", 1.5, None, 1 << 40):
            yield address, flags


def error(exc):
    return type(exc), exc.args if isinstance(exc, OSError) else str(exc)


def of_libc(function, case):
    try:
        return function(*case)
    except Exception as exc:
        return error(exc)


async def of_loop(coroutine):
    try:
        return await coroutine
    except Exception as exc:
        return error(exc)


async def compare(what, cases, ours, counts):
    count = different = 0
    told = set()  # one of each kind is enough
    for case in cases:
        count += 1
        expected, got = of_libc(getattr(socket, what), case), await of_loop(ours(*case))
        if got != expected or repr(got) != repr(expected):  # an enum equals its number
            different += 1
            kind = repr((case[0], expected, got))
            if kind not in told and len(told) < TOLD_MAX:
                told.add(kind)
                print(f"{what}{case!r}:\n  got  {got!r}\n  libc {expected!r}", file=sys.stderr)
    counts[what] = [count, different]


async def main():
    loop = asyncio.get_running_loop()
    counts = {}
    await compare(
        "getaddrinfo",
        getaddrinfo_cases(),
        lambda host, port, family, kind, proto, flags: loop.getaddrinfo(
            host, port, family=family, type=kind, proto=proto, flags=flags
        ),
        counts,
    )
    await compare("getnameinfo", getnameinfo_cases(), loop.getnameinfo, counts)
    counts["asked libc"] = loop.resolver.stats().asked_libc
    return counts


def behave(question, usual):
    return [reply(question, SERVFAIL)] if question.name.startswith("broken") else None


if __name__ == "__main__":
    with Nameserver(ZONE, behave, ("127.0.0.1", 53)):
        print(json.dumps(kloop.run(main())))
