"""Which of CPython's asyncio tests are not run against kloop, and why.

A pattern (fnmatch) is held against FILE.CLASS.TEST. Nothing is listed because it fails:
each entry belongs to a kind that says what the test needs that kloop, by design or for
now, does not have.
"""

import fnmatch
import sys
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Why a test is listed. With `rerun`, it is tried all the same: if it passes, that is
    reported, since the entry may then go. The others pass or fail without our loop."""

    STOCK = "tests stock code without our loop: its classes, policy or child watchers", False
    SYSTEM = "for another system", False
    REPEAT = "the same test with another stock selector", False
    INTERNALS = "mocks or reads the stock loop's internals", True
    NOT_YET = "not yet: a later milestone", True

    def __init__(self, text, rerun):
        self.text = text
        self.rerun = rerun


@dataclass(frozen=True)
class Exclusion:
    kind: Kind
    pattern: str
    reason: str
    since: tuple = (3, 10)
    until: tuple = (3, 99)  # inclusive

    def applies(self, test_id, version):
        return self.since <= version <= self.until and fnmatch.fnmatchcase(test_id, self.pattern)


def _each(kind, reason, *patterns, **versions):
    return [Exclusion(kind, pattern, reason, **versions) for pattern in patterns]


def find(test_id, version=sys.version_info[:2]):
    """The entry that lists this test, or None."""
    return next((entry for entry in EXCLUSIONS if entry.applies(test_id, version)), None)


NEVER = [
    *_each(Kind.STOCK, "the stock selector and proactor loops, with mocked sockets and selectors",
           "test_selector_events.*", "test_proactor_events.*"),
    *_each(Kind.SYSTEM, "needs Windows",
           "test_windows_events.*", "test_windows_utils.*", "*.*Proactor*.*"),
    *_each(Kind.REPEAT, "EPollEventLoopTests runs these once, on our loop",
           "test_events.PollEventLoopTests.*", "test_events.SelectEventLoopTests.*",
           "test_sendfile.PollEventLoopTests.*", "test_sendfile.SelectEventLoopTests.*",
           "test_sock_lowlevel.PollEventLoopTests.*", "test_sock_lowlevel.SelectEventLoopTests.*"),
    *_each(Kind.STOCK, "wants a child watcher that is not active to keep children from being started; no watcher "
           "has a part in it on kloop, as on no loop from 3.14",
           "test_subprocess.GenericWatcherTests.test_create_subprocess_fails_with_inactive_watcher",
           until=(3, 13)),
    *_each(Kind.INTERNALS, "listens on a mocked socket, which has no descriptor",
           "test_base_events.BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined"),
    *_each(Kind.INTERNALS, "mocks sockets and _add_reader, and reads the stock transport's _sock",
           "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs",
           "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs_ipv4_only",
           since=(3, 15)),
    *_each(Kind.STOCK, "waits for the thread of the stock ThreadedChildWatcher; no watcher has a part in it on kloop",
           "test_subprocess.SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published", since=(3, 14)),
    *_each(Kind.INTERNALS, "replaces a method of the stock SSLProtocol, which kloop's TLS does not use",
           "test_sslproto.SelectorStartTLSTests.test_create_connection_ssl_failed_certificate_no_cycles",
           since=(3, 14)),
    *_each(Kind.INTERNALS, "gives a mocked socket, which has no descriptor, to _make_socket_transport",
           "test_sslproto.SslProtoHandshakeTests.test_connection_lost_when_busy", since=(3, 13)),
]

# What a later milestone is to bring; empty as long as nothing that is applicable fails.
NOT_YET = []

EXCLUSIONS = NEVER + NOT_YET
