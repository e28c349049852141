"""Plants faults in the engine, and requires that the simulation finds each of them.

    tests/sim_mutants.py            `make sim-mutants`
    tests/sim_mutants.py NAME...    only those whose names contain one of these

Each mutant is a change of one place in the engine's source, made in a copy that only the Go
compiler sees (go build -overlay). A text that is not there exactly once is an error: then the
engine has changed, and the mutant has to follow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "core"
SEEDS = 1000
RUN_LIMIT_S = 300
FOUND = re.compile(r"^\s*seed (\d+): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("a completion is lost", "completions.go",
           "q.items, q.head = q.items[:n], 0", "q.items, q.head = q.items[:n-n/8], 0"),
    Mutant("a buffer is recycled twice", "buffer.go",
           "\te.held = e.held[:0]\n", "\te.held = e.held[:len(e.held)/2]\n"),
    Mutant("a buffer is recycled while handlers look at it", "engine.go",
           "\t\te.held = append(e.held, done.Buffer)\n\t\tdone.Buffer = 0\n",
           "\t\tdefer e.driver.Recycle(done.Buffer)\n\t\tdone.Buffer = 0\n"),
    Mutant("a buffer is never recycled", "buffer.go",
           "\tfor _, id := range e.held {\n", "\tfor _, id := range e.held[:len(e.held)-len(e.held)/8] {\n"),
    Mutant("sends are reordered", "queue.go",
           "grown[i] = q.parts[(q.head+i)&(len(q.parts)-1)]", "grown[i] = q.parts[i]"),
    Mutant("an owner is released at an abort, with the send under way", "conn.go",
           "\tif c.sending == sendIdle {\n\t\tc.offerAlert()", "\tif c.sending != sendQuick {\n\t\tc.offerAlert()"),
    Mutant("an owner is released before the quick send is settled", "engine.go",
           "\tif len(e.flying) == 0 || !e.driver.Settled() {", "\tif len(e.flying) == 0 {"),
    Mutant("an owner is not released", "conn_write.go",
           "\tfor c.queue.count > 0 {\n\t\tc.freePart(c.queue.pop())", "\tfor c.queue.count > 0 {\n\t\tc.queue.pop()"),
    Mutant("a write buffer is freed early", "conn_write.go",
           "\tif p.buffer != nil {\n",
           "\tif n := c.queue.last(); n != nil && n.buffer != nil {\n\t\tc.engine.dropBuffer(n.buffer)\n\t}\n"
           "\tif p.buffer != nil {\n"),
    Mutant("a receive that ends without F_MORE is not armed again", "conn_read.go",
           "\t\tc.deliver(done.Data)\n\t\tc.rearmReceive(done)\n", "\t\tc.deliver(done.Data)\n"),
    Mutant("a receive that found no buffer is not armed again", "conn_read.go",
           "\t\tc.engine.stats.NoBufs++\n", "\t\tc.engine.stats.NoBufs++\n\t\treturn\n"),
    Mutant("a receive is armed though it is paused", "conn_read.go",
           "want := c.wantRead && !c.readEOF", "want := (c.wantRead || c.begun) && !c.readEOF"),
    Mutant("the rest of a short send is dropped", "conn_write.go",
           "\tc.sending, c.flight = sendIdle, 0\n\tif c.kernelSeals() {\n\t\tc.sentInBackground(int(res), short)\n\t}\n"
           "\tif res > 0 {\n\t\tc.advance(int(res))",
           "\tflight := c.flight\n\tc.sending, c.flight = sendIdle, 0\n\tif res > 0 {\n\t\tc.advance(flight)"),
    Mutant("a send is repeated after EINTR of its rest", "queue.go",
           "\tskip := q.front\n\tfor i := 0; i < q.count && len(dst) < sendPartsMax; i++ {",
           "\tskip := 0\n\tfor i := 0; i < q.count && len(dst) < sendPartsMax; i++ {"),
    Mutant("the end is sent before the queue", "conn_write.go",
           "\tif c.queue.bytes > 0 {\n\t\tc.startSend()\n\t} else if c.wantEOF && !c.shutdown",
           "\tif c.queue.bytes > 0 && !c.wantEOF {\n\t\tc.startSend()\n\t} else if c.wantEOF && !c.shutdown"),
    Mutant("a handler is called after Closed", "conn_write.go",
           "\tc.progressed(max(int(res), 0), short)\n\tc.sendNext()\n",
           "\tc.sendNext()\n\tc.progressed(max(int(res), 0), short)\n"),
    Mutant("a connection ends before its last completion", "conn.go",
           "c.closing == closeOpen || c.receive != receiveIdle ||",
           "c.closing == closeOpen || c.receive == receiveArmed ||"),
    Mutant("an operation is answered when it is cancelled, not when it ends", "op.go",
           "\t\to.cancelNow()\n\tcase o.cancelled:", "\t\to.cancelNow()\n\t\tfallthrough\n\tcase o.cancelled:"),
    Mutant("a cancel that missed is not repeated", "conn_read.go",
           "\t\tc.receive = receiveArmed\n\t\tc.engine.markDirty(c)", "\t\tc.receive = receiveArmed"),
    Mutant("a backlog is not reported", "conn_write.go",
           "\t\tc.handler.Backlog(c, c.queue.bytes, 0)\n", ""),
    Mutant("a backlog's end is not reported", "conn_write.go",
           "\t\tc.handler.Backlog(c, c.queue.bytes, taken)\n",
           "\t\tif c.backlog {\n\t\t\tc.handler.Backlog(c, c.queue.bytes, taken)\n\t\t}\n"),
    Mutant("an error of a send is not reported", "conn_write.go",
           '\t\tc.fail("write", errno)\n\t\treturn\n\t}\n\tc.refused =',
           "\t\tc.abort(nil)\n\t\treturn\n\t}\n\tc.refused ="),
    Mutant("a listener is not armed again after EMFILE", "listener.go",
           "\tl.stopped = false\n\tl.queueArm()\n", "\tl.stopped = false\n"),
    Mutant("a listener is not armed again after Leave", "thread.go",
           "\t\t\t\tobject.armed = false\n\t\t\t\tobject.queueArm()\n", "\t\t\t\tobject.armed = false\n"),
    Mutant("sockets accepted before a Close are left open", "listener.go",
           "\t\t\tl.discard(done)\n", ""),
    Mutant("a watch is not armed in another thread", "thread.go",
           "\t\tcase *Watch:\n\t\t\tobject.armed = false\n\t\t\tobject.queueArm()\n",
           "\t\tcase *Watch:\n\t\t\tobject.armed = false\n"),
    Mutant("a send that went with its ring is repeated", "thread.go",
           '\t\tc.fail("write", errUnknownProgress)\n\t\tc.dropQueue()\n', ""),
    Mutant("a timer is called early", "timer.go",
           "if first.at.After(now) ||", "if first.at.After(now.Add(50*time.Microsecond)) ||"),
    Mutant("a timer is called late", "timer.go",
           "\treturn min(left, timeoutNS)\n", "\treturn timeoutNS\n"),
    Mutant("timers of one time are called in any order", "timer.go",
           "return a.order < b.order", "return a.order > b.order"),
    Mutant("the poll of the wake-up eventfd is not armed again", "wake.go",
           "if done.Res > 0 || transient", "if transient"),
    Mutant("a posted function is lost", "wake.go",
           "\tfor i, f := range funcs {\n\t\tfuncs[i] = nil\n\t\tf()\n",
           "\tfor i, f := range funcs {\n\t\tfuncs[i] = nil\n\t\tif i%2 == 0 {\n\t\t\tf()\n\t\t}\n"),
    Mutant("a send-all starts anew after a short one", "op.go",
           "rest := o.spec.Buffer[o.sent:]", "rest := o.spec.Buffer"),
    Mutant("a cancelled open keeps its descriptor", "file_op.go",
           "if o.spec.Kind == OpOpen && o.cancelled {", "if o.spec.Kind == OpOpen && o.over {"),
    Mutant("a write that went with its ring is done again", "op.go",
           " || o.spec.Kind.hasEffects())", ")"),
    Mutant("what the pool has done is not handled", "engine.go",
           "\tif e.pool.Waiting() {\n", "\tif e.pool.Waiting() && len(e.dirty) > 0 {\n"),
    Mutant("what is in the pool is submitted again in another thread", "op.go",
           "if o.answered || o.pooled {", "if o.answered {"),
    Mutant("an interrupted call on a file ends as cancelled", "file_op.go",
           "\tcase interrupted && !o.cancelled:", "\tcase interrupted && o.over:"),
    Mutant("a read that had to wait is not made", "file_op.go",
           "result = o.engine.calls.fileNow(&o.spec)\n\t\t}\n\t}\n", "}\n\t}\n"),
    Mutant("a datagram is lost when there is no room", "datagram_send.go",
           "\t\t\td.tellSent(left, size)\n\t\t\treturn\n",
           "\t\t\td.queue.pop()\n\t\t\td.tellSent(left, size)\n\t\t\treturn\n"),
    Mutant("a connect that a signal interrupts fails", "connect.go",
           "errno != 0 && transient(errno):", "errno == syscall.EAGAIN:"),
    Mutant("a FIFO without a writer yet is taken for ended", "pipe.go",
           "return c.kind == PipeReader && !c.begun && !c.engine.calls.ended(c.fd)",
           "return false"),
]


def planted(mutant: Mutant) -> str:
    """The mutant's source file."""
    text = (CORE / mutant.file).read_text()
    found = text.count(mutant.old)
    if found != 1:
        sys.exit(f"error: mutant {mutant.name!r}: its text is {found} times in core/{mutant.file}, "
                 f"not once:\n{mutant.old}")
    return text.replace(mutant.old, mutant.new)


def without_other_tests() -> dict[str, str]:
    """The core's tests that the simulation does not need, as replaced by nothing: half of a build's time."""
    return {str(path): "" for path in CORE.glob("*_test.go")
            if not path.name.startswith("sim_") and path.name != "harness_test.go"}


def run(folder: Path, replaced: dict[str, str]) -> tuple[int, str]:
    """Builds the simulation with files replaced, and runs it; answers its status and output."""
    binary, overlay = folder / "sim.test", folder / "overlay.json"
    overlay.write_text(json.dumps({"Replace": without_other_tests() | replaced}))
    subprocess.run(["go", "test", "-c", "-vet=off", "-overlay", str(overlay), "-o", str(binary), "."],
                   cwd=CORE, check=True)
    try:
        done = subprocess.run([str(binary), "-test.run=^TestSimulation$", f"-sim.seeds={SEEDS}"], cwd=CORE,
                              timeout=RUN_LIMIT_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.TimeoutExpired:
        return 0, f"error: {SEEDS} seeds took over {RUN_LIMIT_S} s"
    return done.returncode, done.stdout


def lowest_found(status: int, output: str) -> tuple[str, str]:
    """The lowest failing seed and what the simulation says of it; or NONE and the last it said."""
    failures = [(int(seed), text) for seed, text in FOUND.findall(output)]
    if status == 0 or not failures:
        return "NONE", (output.strip().splitlines() or [""])[-1]
    seed, text = min(failures)
    return str(seed), text


def main(names: list[str]) -> int:
    chosen = [m for m in MUTANTS if not names or any(name in m.name for name in names)]
    for mutant in chosen:
        planted(mutant)
    missed = []
    with tempfile.TemporaryDirectory(prefix="kloop-mutants-") as name:
        folder = Path(name)
        status, output = run(folder, {})
        if status != 0:
            print(output, "\nerror: the engine fails without any mutant", file=sys.stderr)
            return 1
        width = max(len(m.name) for m in chosen)
        print(f"{'mutant':{width}}  seed  found as", flush=True)
        started_s = time.monotonic()
        for mutant in chosen:
            (folder / mutant.file).write_text(planted(mutant))
            seed, text = lowest_found(*run(folder, {str(CORE / mutant.file): str(folder / mutant.file)}))
            if seed == "NONE":
                missed.append(mutant.name)
            print(f"{mutant.name:{width}}  {seed:>4}  {text}", flush=True)
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} mutants found in {time.monotonic() - started_s:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    os.environ.setdefault("GOFLAGS", "-mod=readonly -buildvcs=false")
    sys.exit(main(sys.argv[1:]))
