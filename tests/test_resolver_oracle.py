"""The libc of this machine is the oracle: loop.getaddrinfo and loop.getnameinfo answer what the socket module's do, in
the same order, with errors of the same type, number and text."""

import json

import namespaces

ETC = {
    "resolv.conf": """nameserver 127.0.0.1
search example sub.example
sortlist 192.0.2.2/255.255.255.255 10.9.0.0/255.255.0.0 203.0.113.0
options attempts:1 timeout:2
""",
    "nsswitch.conf": "hosts: files dns\nservices: files\n",
    "host.conf": "multi on\n",
    "gai.conf": "# nothing\n",
    "hosts": """127.0.0.1 localhost
::1 localhost ip6-localhost
10.0.0.1 own own-alias own.lan
10.0.0.2 own
fd00::77 own
10.0.0.3 only4
fd00::78 only6
::1 loop6
::ffff:10.0.0.9 mapped
10.0.0.4 Mixed.Case
1.2.3 short
""",
    "services": """http 80/tcp www
http 80/udp
domain 53/tcp
domain 53/udp
tftp 69/udp
sctponly 99/sctp
both 77/sctp
both 78/tcp
dccponly 5/dccp
""",
}

# Addresses of several scopes and networks, for the order of RFC 6724.
INTERFACES = """
ip link add kl0 type dummy 2>/dev/null || ip link add kl0 type veth peer name kl1 \
  || ip link add kl0 type ifb || ip tuntap add kl0 mode tap
ip link set kl0 up; [ ! -e /sys/class/net/kl1 ] || ip link set kl1 up
ip addr add 10.8.0.14/24 dev kl0; ip addr add 10.9.0.7/16 dev kl0
ip addr add fd00::2/64 dev kl0 nodad; ip addr add 2001:db8:1:2::5/64 dev kl0 nodad
ip route add default via 10.8.0.1; ip -6 route add default via fd00::1
"""


def test_answers_are_those_of_the_socket_module(kloop, tmp_path, may_be_long):
    namespaces.require()
    output, differences = namespaces.run_inside(tmp_path, ETC, INTERFACES, namespaces.TESTS / "oracle_inside.py")
    counts = json.loads(output)
    assert counts["getaddrinfo"][0] > 10_000 and counts["getnameinfo"][0] > 5_000
    assert counts["asked libc"] < 300  # names that are not ASCII, and AI_CANONIDN
    assert (counts["getaddrinfo"][1], counts["getnameinfo"][1]) == (0, 0), differences
