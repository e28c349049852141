"""kloop.Resolver in front of real name servers, and of several of which some misbehave."""

import asyncio
import json
import socket

import certificates
import dns_servers
import namespaces
import pytest
from driving import run


@pytest.fixture(scope="module")
def knot(tmp_path_factory):
    with dns_servers.knot(tmp_path_factory.mktemp("knot")) as address:
        yield address


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for the address of a server."""
    return certificates.make(tmp_path_factory.mktemp("authority"), "dns.example")


@pytest.fixture(scope="module")
def unbound(knot, authority, tmp_path_factory):
    with dns_servers.unbound(tmp_path_factory.mktemp("unbound"), knot, authority) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def dnsmasq(knot, tmp_path_factory):
    with dns_servers.dnsmasq(tmp_path_factory.mktemp("dnsmasq"), knot) as address:
        yield address


@pytest.fixture(params=["knot", "unbound", "dnsmasq"])
def server(request):
    found = request.getfixturevalue(request.param)
    return found[0] if isinstance(found, tuple) else found


async def ask_everything(resolver):
    """What each type of record says, as text."""
    found = {}
    for owner, kind in (
        ("www", "A"), ("www", "AAAA"), ("alias", "A"), ("alias", "CNAME"), ("mail", "MX"), ("_sip._tcp", "SRV"),
        ("text", "TXT"), ("ca", "CAA"), ("web", "HTTPS"), ("svc", "SVCB"), ("pointer", "PTR"),
    ):
        answer = await resolver.resolve(f"{owner}.example", kind)
        found[owner, kind] = sorted(repr(record).partition(", ")[2] for record in answer)
        assert all(0 < record.ttl <= 300 for record in answer)
    found["NS"] = (await resolver.resolve("example", "NS"))[0].target
    found["SOA"] = (await resolver.resolve("example", "SOA"))[0].rname
    return found


EVERYTHING = {
    ("www", "A"): ["address='192.0.2.1')", "address='192.0.2.2')"],
    ("www", "AAAA"): ["address='2001:db8::1')"],
    ("alias", "A"): ["address='192.0.2.1')", "address='192.0.2.2')"],
    ("alias", "CNAME"): ["target='www.example')"],
    ("mail", "MX"): ["preference=10, exchange='mx1.example')", "preference=20, exchange='mx2.other.test')"],
    ("_sip._tcp", "SRV"): ["priority=1, weight=2, port=5060, target='sip.example')"],
    ("text", "TXT"): ["strings=(b'one', b'two \"quoted\" \\xff'))"],
    ("ca", "CAA"): ["flags=0, tag='issue', value=b'ca.example')"],
    ("web", "HTTPS"): [
        "priority=1, target='.', mandatory=(), alpn=(b'h2', b'h3'), no_default_alpn=False, port=8443, "
        "ipv4hint=('192.0.2.1',), ech=None, ipv6hint=('2001:db8::1',), dohpath=None, ohttp=False, others=())"
    ],
    ("svc", "SVCB"): [
        "priority=2, target='target.example', mandatory=(1,), alpn=(b'foo',), no_default_alpn=False, port=None, "
        "ipv4hint=(), ech=None, ipv6hint=(), dohpath=None, ohttp=False, others=())"
    ],
    ("pointer", "PTR"): ["target='www.example')"],
    "NS": "ns.example",
    "SOA": "root.example",
}


@pytest.mark.parametrize("options", [{}, {"edns0": True}, {"use_tcp": True}, {"keep_case": True}], ids=str)
def test_every_type_of_a_real_server(kloop, loop, server, options):
    with kloop.Resolver([server], file=None, environment=False, **options) as resolver:
        assert run(loop, ask_everything(resolver)) == EVERYTHING
        stats = resolver.stats()
        assert (stats.udp == 0) == bool(options.get("use_tcp"))
        assert stats.foreign == stats.malformed == stats.failures == stats.timeouts == 0


def test_a_large_answer_of_a_real_server(kloop, loop, server):
    """8 KB: truncated over UDP."""
    with kloop.Resolver([server], file=None, environment=False, edns0=True) as resolver:
        answer = run(loop, resolver.resolve("large.example", "TXT"))
        assert [int(text) for text in answer[0].strings] == list(range(40))
        assert resolver.stats().truncated == 1 and resolver.stats().tcp == 1


def test_names_that_a_real_server_does_not_have(kloop, loop, server):
    with kloop.Resolver([server], file=None, environment=False) as resolver:
        with pytest.raises(kloop.NameNotFound):
            run(loop, resolver.resolve("nobody.example"))
        with pytest.raises(kloop.NoRecords):
            run(loop, resolver.resolve("www.example", "MX"))
        assert len(resolver.cache) == 2


def test_getaddrinfo_by_a_real_server(kloop, server):
    with kloop.Resolver([server], file=None, environment=False, search=["example"]) as resolver:
        loop = kloop.new_event_loop(resolver=resolver)
        try:
            found = run(loop, loop.getaddrinfo("alias", 443, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME))
            assert {address[0] for *_, address in found} == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
            assert found[0][3] == "www.example"
        finally:
            loop.close()


def test_dns_over_tls(kloop, loop, unbound, authority):
    _, address = unbound
    trusted = {"tls": "dns.example", "tls_ca_file": authority.certificate}
    with kloop.Resolver([address], file=None, environment=False, **trusted) as resolver:
        assert run(loop, ask_everything(resolver)) == EVERYTHING
        stats = resolver.stats()
        assert stats.udp == stats.tcp == 0 and stats.tls > 0
        assert [known.records for known in stats.servers] == ["go"]
    # The certificate names the address, too.
    trusted["tls"] = True
    with kloop.Resolver([address], file=None, environment=False, **trusted) as resolver:
        assert len(run(loop, resolver.resolve("www.example"))) == 2


@pytest.mark.parametrize(
    "wrong", [{"tls": "other.example"}, {"tls": True, "tls_ca_file": None}], ids=["name", "authority"])
def test_dns_over_tls_with_a_certificate_that_is_not_the_servers(kloop, loop, unbound, authority, wrong):
    options = {"tls_ca_file": authority.certificate, **wrong}
    with kloop.Resolver([unbound[1]], file=None, attempts=1, **options) as resolver:
        with pytest.raises(kloop.ResolveTimeout, match="certificate"):
            run(loop, resolver.resolve("www.example"))
        assert resolver.stats().answers == 0


def test_dns_over_tls_is_never_plain(kloop, loop, knot):
    """A server that does not speak it gets no question."""
    with kloop.Resolver([knot], file=None, attempts=1, timeout=1, tls=True) as resolver:
        with pytest.raises(kloop.ResolveError):
            run(loop, resolver.resolve("www.example"))
        assert resolver.stats().udp == 0


def test_many_names_by_a_real_server(kloop, loop, unbound):
    """Names that are not there, each asked for once."""
    with kloop.Resolver([unbound[0]], file=None, environment=False, timeout=10) as resolver:

        async def main():
            names = [f"n{number}.example" for number in range(500)]
            outcomes = await asyncio.gather(*map(resolver.resolve, names), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {kloop.NameNotFound}

        run(loop, main())
        assert resolver.stats().timeouts == 0


# ---- several servers, in a network of their own

@pytest.mark.parametrize("order", [
    "dead good", "silent good", "slow good", "lying good", "truncating good", "failing good", "dead silent good",
    "lying"])
def test_several_servers(kloop, tmp_path, order, may_be_long):
    """As /etc/resolv.conf names them, at port 53: what the first can't say another does, and libc finds the same."""
    namespaces.require()
    addresses = [f"127.0.0.{10 + number}" for number in range(len(order.split()))]
    etc = {
        "resolv.conf": "".join(f"nameserver {address}\n" for address in addresses) + "options timeout:2 attempts:1\n",
        "nsswitch.conf": "hosts: files dns\n",
        "hosts": "127.0.0.1 localhost\n",
    }
    output, _ = namespaces.run_inside(tmp_path, etc, "", namespaces.TESTS / "servers_inside.py", *order.split())
    found = json.loads(output)
    if order == "lying":
        assert found["answers"] == {"gaierror": -3}
        assert found["stats"]["foreign"] > 0
    else:
        assert found["answers"] == found["libc"] == {"192.0.2.1": True}
        assert found["again_s"] < 0.5      # the second time, for another name, the good one is asked first
