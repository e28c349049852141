"""Name servers of Debian: knot with a zone, unbound and dnsmasq in front of it. Tests are skipped without."""

import contextlib
import shutil
import socket
import subprocess
import time

import pytest
from peers import environment

START_LIMIT_S = 20

LARGE = " ".join(f'"{number:0200}"' for number in range(40))
ZONE = f"""$ORIGIN example.
$TTL 300
@ SOA ns root 1 2 3 4 60
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
www A 192.0.2.2
www AAAA 2001:db8::1
alias CNAME www
mail MX 10 mx1
mail MX 20 mx2.other.test.
_sip._tcp SRV 1 2 5060 sip
text TXT "one" "two \\"quoted\\" \\255"
ca CAA 0 issue "ca.example"
web HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1
svc SVCB 2 target.example. mandatory=alpn alpn=foo
pointer PTR www
large TXT {LARGE}
"""


def find(name):
    """The path of a server's program; skips the test without it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"SKIPPED: no {name}")
    return path


def free_port():
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]


@contextlib.contextmanager
def running(folder, port, *command):
    """Runs a server until the end of the block; begins once it takes TCP connections at its port."""
    # What it says goes into a file: a pipe would be left open by the test that needs the server first.
    log = folder / "log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                  env=environment())
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not _takes_connections(port):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"{command} did not start: {log.read_text()}")
            time.sleep(0.01)
        yield
    finally:
        server.terminate()
        server.wait(START_LIMIT_S)


def _takes_connections(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextlib.contextmanager
def knot(folder):
    """An authoritative server for ZONE; its address."""
    port = free_port()
    (folder / "example.zone").write_text(ZONE)
    (folder / "knot.conf").write_text(f"""
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}/db
log:
  - target: stderr
    any: warning
zone:
  - domain: example
    file: {folder}/example.zone
    zonefile-sync: -1
    journal-content: none
""")
    with running(folder, port, find("knotd"), "-c", str(folder / "knot.conf")):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def unbound(folder, upstream, certificate):
    """A recursive server in front of another; its address, and that for DNS over TLS."""
    port, tls_port = free_port(), free_port()
    (folder / "unbound.conf").write_text(f"""
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: 127.0.0.1@{port}
  interface: 127.0.0.1@{tls_port}
  tls-port: {tls_port}
  tls-service-key: "{certificate.key}"
  tls-service-pem: "{certificate.certificate}"
  do-not-query-localhost: no
  module-config: "iterator"
stub-zone:
  name: "example."
  stub-addr: {upstream.replace(":", "@")}
""")
    with running(folder, port, find("unbound"), "-d", "-c", str(folder / "unbound.conf")):
        yield f"127.0.0.1:{port}", f"127.0.0.1:{tls_port}"


@contextlib.contextmanager
def dnsmasq(folder, upstream):
    """A forwarder with a cache, as home routers have; its address."""
    port = free_port()
    with running(
        folder, port, find("dnsmasq"), "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
        f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--user=root",
        f"--server={upstream.replace(':', '#')}", "--log-facility=-",
    ):
        yield f"127.0.0.1:{port}"
