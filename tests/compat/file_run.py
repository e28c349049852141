"""One test file on one loop: as many processes as it takes to give each test an outcome."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

FILE_LIMIT_S = 900
# pytest's exit status: all passed, some failed, no test was chosen; not: interrupted, an internal error.
ENDED_WELL = (0, 1, 5)
# Each restart follows a test that hung or crashed the process: more are a broken loop.
RESTARTS = 12
# The last lines of a dead process's output, where faulthandler's traceback is.
TAIL_LINES = 40


def run_file(python, folder, name, variables, arguments, only=None):
    """Outcomes of the file's tests: id -> {"outcome", "detail"}. only: ids to run, the others are left out."""
    outcomes = {}
    for _ in range(RESTARTS + 1):
        lines, tail = run_process(python, folder, name, variables, arguments, only, set(outcomes))
        running = None
        for line in lines:
            if "start" in line:
                running = line["start"]
            elif "id" in line:
                running = None
                outcomes[line["id"]] = {"outcome": line["outcome"], "detail": line["detail"]}
        if any(line.get("done") in ENDED_WELL for line in lines):
            return outcomes
        if running is None:
            break
        outcomes[running] = {"outcome": "failed", "detail": f"hung or ended the process\n{tail}"}
    outcomes[f"{name} (process)"] = {"outcome": "failed", "detail": f"not all tests were run\n{tail}"}
    return outcomes


def run_process(python, folder, name, variables, arguments, only, without):
    """One process: the lines that the plugin reported, and the end of its output."""
    with tempfile.TemporaryDirectory(prefix="kloop-compat-") as scratch:
        place = Path(scratch)
        variables = {**variables, "COMPAT_REPORT": str(place / "report"), "TMPDIR": scratch}
        for variable, ids in (("COMPAT_ONLY", only), ("COMPAT_WITHOUT", without)):
            if ids:
                (place / variable).write_text("\n".join(ids))
                variables[variable] = str(place / variable)
        command = [python, "-m", "pytest", "-p", "loop_plugin", "-o", "faulthandler_timeout=0",
                   "-p", "no:cacheprovider", *arguments, name]
        with open(place / "log", "wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FILE_LIMIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)      # and what its tests have left running
        process.wait()
        report = place / "report"
        text = report.read_text() if report.exists() else ""
        tail = "\n".join((place / "log").read_text(errors="replace").splitlines()[-TAIL_LINES:])
    # The last line of a process that was killed may be cut.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")], tail
