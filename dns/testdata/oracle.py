"""Answers cases of getaddrinfo and getnameinfo as this machine's libc does: JSON in, JSON out."""

import json
import socket
import sys


def getaddrinfo(case):
    host = case["host"] if case["host"] is None else case["host"].encode()  # bytes are not checked as IDNA
    results = socket.getaddrinfo(host, case["service"], case["family"], case["type"], case["proto"], case["flags"])
    return [
        [*kind, name, address[0], address[1], address[3] if len(address) == 4 else 0]
        for *kind, name, address in results
    ]


def getnameinfo(case):
    address = (case["host"], case["port"], 0, case["scope"]) if ":" in case["host"] else (case["host"], case["port"])
    return [list(socket.getnameinfo(address, case["flags"]))]


def answer(case):
    try:
        return {"results": (getnameinfo if "port" in case else getaddrinfo)(case), "error": 0}
    except socket.gaierror as error:
        return {"results": [], "error": error.errno}


json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
