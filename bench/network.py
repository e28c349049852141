"""The network of the soak's mixed phase: one that delays and loses packets, by what this machine has and allows."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from types import TracebackType

import machine
import native

# What is taken first where it can be had comes first.
KINDS = ("netem", "link", "loopback", "none")
NETEM = "delay 2ms 1ms loss 0.5%"
# The same, and what netem's jitter does to the order of packets.
LINK = {"delay": "2ms", "jitter": "1ms", "loss": "0.005", "duplicate": "0.002", "reorder": "0.01"}
# What a packet takes at least, each way, in a network that delays.
MIN_DELAY_S = 0.001
BRING_UP = "ip link set lo up"
LIMIT_S = 20


class NetworkFailed(RuntimeError):
    """The network that was asked for can't be had, or ended too early."""


class Network:
    """Where server and load run, until the end of the with block.

    kind: one of KINDS, or "auto". netem: a namespace whose loopback interface has tc-netem(8). link: two namespaces,
    whose packets a process of ours carries (load/link.go). loopback: a namespace, none: this machine's, which both
    neither lose nor delay. seed: of the link.

    server, load: what to put before a command, to run it there. host: where the server has to listen. said: what there
    is, and what there is not and why. lossy: whether packets are lost and delayed. packets: afterwards, how many the
    network has forwarded, dropped, duplicated and reordered, their delays, and how many segments TCP sent again.
    """

    def __init__(self, kind: str = "auto", seed: int = 1) -> None:
        self.kinds = KINDS if kind == "auto" else (kind,)
        self.seed = seed
        self.server: list[str] = []
        self.load: list[str] = []
        self.host = "127.0.0.1"
        self.said = ""
        self.lossy = False
        self.packets: dict[str, float] = {}
        self.kind = ""
        self.holder: subprocess.Popen | None = None

    def __enter__(self) -> Network:
        starts = {"netem": self._start_netem, "link": self._start_link, "loopback": self._start_loopback,
                  "none": self._start_none}
        refused = []
        for kind in self.kinds:
            why = starts[kind]()
            if not why:
                self.kind, self.lossy = kind, kind in ("netem", "link")
                self.said += f" ({'; '.join(refused)})" if refused else ""
                self.before = self._sent_again()
                return self
            refused.append(f"{kind}: {why}")
        raise NetworkFailed("; ".join(refused))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Takes the network away, once nothing runs in it any more."""
        again = self._sent_again() - self.before
        dropped = self._netem_counts() if self.kind == "netem" else {}
        output = ""
        if self.holder is not None:
            output, errors = self.holder.communicate(timeout=LIMIT_S)
            if self.holder.returncode != 0 and kind is None:
                raise NetworkFailed(f"{self.kind} ended with {self.holder.returncode}: {errors.strip()}")
        if self.kind == "link" and output:
            self.packets.update(link_counts(json.loads(output)))
        self.packets.update(dropped, sent_again=again)

    def _start_netem(self) -> str:
        self.said = f"a namespace of its own: netem {NETEM}"
        return self._hold(f"{BRING_UP} && tc qdisc add dev lo root netem {NETEM}")

    def _start_loopback(self) -> str:
        self.said = "a namespace of its own, NO loss and NO delay"
        return self._hold(BRING_UP)

    def _start_none(self) -> str:
        self.said = "this machine's, NO loss and NO delay"
        return ""

    def _start_link(self) -> str:
        options = [word for name, value in LINK.items() for word in (f"-{name}", value)]
        why = self._start([native.binary(), "link", "-seed", str(self.seed), *options])
        if why:
            return why
        server, load = json.loads(self.first)
        self.server, self.load = ([f"--net={end['namespace']}"] for end in (server, load))
        self.server, self.load = ["nsenter", *self.server], ["nsenter", *self.load]
        self.host = server["address"]
        self.said = "two namespaces and a link between them: " + ", ".join(f"{k} {v}" for k, v in LINK.items())
        return ""

    def _hold(self, script: str) -> str:
        """Starts a process that keeps a namespace; answers why it could not."""
        why = self._start(["unshare", "--net", "sh", "-c", f"{script} && echo ready && exec cat"])
        if not why and self.holder is not None:
            self.server = self.load = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        return why

    def _start(self, command: list[str]) -> str:
        """Starts what holds the network until its standard input ends; answers why it could not."""
        try:
            holder = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                preexec_fn=partial(machine.pin_and_tie, None)
            )
        except OSError as error:
            return str(error)
        assert holder.stdout is not None
        self.first = holder.stdout.readline()
        if self.first:
            self.holder = holder
            return ""
        _, errors = holder.communicate(timeout=LIMIT_S)
        return " ".join(errors.split()) or f"exit status {holder.returncode}"

    def _run(self, prefix: tuple[str, ...], *command: str) -> str:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return done.stdout

    def _sent_again(self) -> int:
        """Segments that TCP has sent more than once since the namespaces were made (proc_pid_net(5), snmp)."""
        count = 0
        for prefix in {tuple(self.server), tuple(self.load)}:
            names, values = (line.split() for line in self._run(prefix, "cat", "/proc/net/snmp").splitlines()
                             if line.startswith("Tcp:"))
            count += int(values[names.index("RetransSegs")])
        return count

    def _netem_counts(self) -> dict[str, float]:
        [queue] = json.loads(self._run(tuple(self.server), "tc", "-s", "-j", "qdisc", "show", "dev", "lo"))
        return {"forwarded": queue["packets"], "dropped": queue["drops"]}


def link_counts(ways: list[dict]) -> dict[str, float]:
    """What the link says of each of its two directions, of both."""
    names = ("forwarded", "dropped", "duplicated", "reordered", "overflowed", "unread")
    counts: dict[str, float] = {name: sum(way[name] for way in ways) for name in names}
    if counts["forwarded"]:
        counts["mean_delay_ms"] = sum(way["sum_delay_ms"] for way in ways) / counts["forwarded"]
        counts["min_delay_ms"] = min(way["min_delay_ms"] for way in ways if way["forwarded"])
        counts["max_delay_ms"] = max(way["max_delay_ms"] for way in ways)
    return counts
