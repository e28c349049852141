"""Which traces count as the same.

Stock asyncio's trace is the measure. Where it leaves something to the kernel's timing, as little as possible is left
out:

- A socket that is closed while bytes of its peer are unread resets the connection, and the reset overtakes what is
  still under way. kloop reads ahead, so it may have read those bytes: its peer sees the end where asyncio's sees a
  reset, with all that was sent. It accepts ahead too: a client of a server that is closed sees the end where
  asyncio's, never accepted, sees a reset.
- A write that fails may have overtaken the end of the peer's stream: eof_received then is called or not.
- asyncio calls eof_received() again whenever reading is resumed after it (docs/compatibility.md).
- asyncio's transport that was closed with bytes in its buffer has no socket after connection_lost, and fails with
  AttributeError in a write, where one that was closed without drops what is written.
- write_eof() of a connection that the peer has reset raises OSError on asyncio, where shutdown(2) is called inside it;
  kloop's comes with the turn, and connection_lost() tells the reset (docs/compatibility.md).
- A reset in the middle of sock_sendall() is told as a reset or a broken pipe (docs/compatibility.md).
- A socket tells its reset once: to sock_recv() or to sock_sendall(), whichever meets it first. Where both are under
  way, kloop may have read before a send that is ready to run.
- A transport that is aborted, or fails, with bytes in its buffer drops them: how many had left before is the
  kernel's affair.
"""

from __future__ import annotations

from .world import REPORTS

BROKEN = ("ConnectionResetError(ECONNRESET)", "BrokenPipeError(EPIPE)")
RESET_RECEIVE = ("recv", "ConnectionResetError(ECONNRESET)")
END = ("eof_received",)
FAILED_WRITES = (("write", "AttributeError"), ("writelines", "AttributeError"))
SHUTDOWN_OF_RESET = ("write_eof", "OSError(ENOTCONN)")
ENDS = ("peer saw the end", "peer failed")


def difference(expected, seen) -> str:
    """What differs between two worlds that ran the same script, the expected one on asyncio; empty if nothing does."""
    lanes = sorted({*expected.lanes, *seen.lanes})
    lines = []
    for lane in lanes:
        left, right = _normal(lane, expected.lanes.get(lane, [])), _normal(lane, seen.lanes.get(lane, []))
        if _sends_broke(expected, lane) and _sends_broke(seen, lane):
            left, right = [[("recv", "end") if event == RESET_RECEIVE else event for event in events]
                           for events in (left, right)]
        if left != right and not _same_for_the_peer(lane, left, right, lane in expected.cut):
            lines += [lane, f"  asyncio  {left}", f"  kloop    {right}"]
    return "\n".join(lines)


def _normal(lane: str, events: list) -> list:
    """With the end of the stream once, and not just before a connection that was lost with an error."""
    kept: list = []
    if lane.endswith(" sends"):
        return [(name, "broken" if result in BROKEN else result) for name, result in events]
    if lane == REPORTS:     # those of several connections have no order
        return sorted(events)
    lost = False
    for event in events:
        if lost and event in FAILED_WRITES or event == SHUTDOWN_OF_RESET:
            continue
        lost = lost or event[0] == "connection_lost"
        if event[0] == "connection_lost" and event[1] != "None" and kept and kept[-1] == END:
            kept.pop()
        if event != END or END not in kept:
            kept.append(event)
    return kept


def _sends_broke(world, lane: str) -> bool:
    """Whether this is the lane of a socket's receives, of which a send has failed."""
    if not lane.endswith(" receives"):
        return False
    return any(result in BROKEN for _, result in world.lanes.get(lane.replace(" receives", " sends"), []))


def _same_for_the_peer(lane: str, left: list, right: list, cut: bool) -> bool:
    if not (lane.startswith("peer") or " client " in lane):
        return False
    was_reset = bool(left) and left[-1][0] == "peer failed"
    if not (was_reset or cut):
        return False
    got, got_here = _received(left), _received(right)
    ends = [event[0] for event in left if event[0] in ENDS]
    ends_here = [event[0] for event in right if event[0] in ENDS]
    return len(ends) == len(ends_here) and (cut or got_here >= got)


def _received(events: list) -> int:
    return sum(event[1] for event in events if event[0] == "peer received")
