"""The program of test_resolver_servers.py: name servers at 127.0.0.10 and up, of the kinds that are asked for, and what
loop.getaddrinfo makes of them. Writes JSON."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import sys
import time

import kloop
from nameserver import SERVFAIL, TRUNCATED, Nameserver, Zone, record, reply

ZONE = Zone({(f"{name}.example", "A"): [(60, "192.0.2.1")] for name in ("www", "second")}, origin="example")
SLOW_S = 1.5


def lie(question, _):
    """Answers to other questions, with other ids, and of other names."""
    other = dataclasses.replace(question, id=question.id ^ 1)
    stranger = dataclasses.replace(question, question=question.question.replace(b"w", b"v").replace(b"W", b"V"))
    forged = [record(question.name, question.kind, 60, "203.0.113.66")] if question.kind == "A" else []
    unwanted = [record("bank.example", "A", 60, "203.0.113.66")]
    wrong_name = reply(dataclasses.replace(stranger, question=b"\1x\0" + question.question[-4:]), 0, forged)
    return [reply(other, 0, forged), wrong_name, reply(other, 0, unwanted)]


def slow(_, usual):
    time.sleep(SLOW_S)
    return [usual]


KINDS = {
    "good": None,
    "silent": lambda *_: [],
    "slow": slow,
    "lying": lie,
    "truncating": lambda question, usual: None if question.tcp else [reply(question, flags=TRUNCATED)],
    "failing": lambda question, _: [reply(question, SERVFAIL)],
}


def error(exc):
    return {"gaierror": exc.errno}


async def main():
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo("www.example", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
        answers = {address[0]: True for *_, address in infos}
    except socket.gaierror as exc:
        answers = error(exc)
    begin = time.monotonic()
    with contextlib.suppress(socket.gaierror):
        await loop.getaddrinfo("second.example", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
    again_s = time.monotonic() - begin
    return answers, again_s, loop.resolver.stats()


if __name__ == "__main__":
    with contextlib.ExitStack() as servers:
        for number, kind in enumerate(sys.argv[1:]):
            if kind != "dead":
                servers.enter_context(Nameserver(ZONE, KINDS[kind], (f"127.0.0.{10 + number}", 53)))
        answers, again_s, stats = kloop.run(main())
        try:
            infos = socket.getaddrinfo("www.example", 80, socket.AF_INET, socket.SOCK_STREAM)
            libc = {address[0]: True for *_, address in infos}
        except socket.gaierror as exc:
            libc = error(exc)
        print(json.dumps({"answers": answers, "libc": libc, "again_s": again_s,
                          "stats": {"foreign": stats.foreign, "timeouts": stats.timeouts}}))
