"""Seccomp filters as container engines install them, for a process of its own: they are for good.

A child that run_python() starts imports this with PYTHONPATH=seccomp.HERE.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = str(Path(__file__).parent)

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06                  # <linux/bpf_common.h>
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000

# The same numbers on every architecture of Linux.
IO_URING = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
# Above every system call there is.
SYSTEM_CALLS = 1000
OTHERS = [f"#{number}" for number in range(SYSTEM_CALLS) if number not in IO_URING.values()]

# What Docker's, Podman's and containerd's default profiles say of io_uring: an allow-list without it.
DEFAULT_PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": errno.EPERM,
    "syscalls": [{"names": OTHERS, "action": "SCMP_ACT_ALLOW"}],
}


def merged(profile: dict, addition: dict) -> dict:
    """A profile with the rules of another one behind its own."""
    return {**profile, "syscalls": [*profile["syscalls"], *addition["syscalls"]]}


def install(profile: dict) -> None:
    """Puts this thread, and what it starts, under a profile of the OCI runtime specification."""
    actions = {}
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            actions[_number(name)] = _action(rule["action"], rule.get("errnoRet"))
    filter_calls(actions, _action(profile["defaultAction"], profile.get("defaultErrnoRet")))


def _number(name: str) -> int:
    return int(name[1:]) if name.startswith("#") else IO_URING[name]


def _action(name: str, error: int | None) -> int:
    return {
        "SCMP_ACT_ALLOW": SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO": SECCOMP_RET_ERRNO | (errno.EPERM if error is None else error),
        "SCMP_ACT_KILL_PROCESS": SECCOMP_RET_KILL_PROCESS,
    }[name]


def refuse(error: int, calls: Iterable[int] = IO_URING.values()) -> None:
    """Has these calls fail with an errno."""
    filter_calls(dict.fromkeys(calls, SECCOMP_RET_ERRNO | error), SECCOMP_RET_ALLOW)


def kill(calls: Iterable[int] = IO_URING.values()) -> None:
    """Has the kernel end the process on any of these calls."""
    filter_calls(dict.fromkeys(calls, SECCOMP_RET_KILL_PROCESS), SECCOMP_RET_ALLOW)


def filter_calls(actions: Mapping[int, int], otherwise: int) -> None:
    instructions = [(LOAD_WORD, 0, 0, 0)]  # seccomp_data.nr
    for number, action in actions.items():
        instructions += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
    instructions.append((RETURN, 0, 0, otherwise))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in instructions))
    program = ctypes.create_string_buffer(struct.pack("=H6xQ", len(instructions), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
