"""HiGHS through OR-Tools MathOpt, in a child process that is killed where it does not stop."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from cosma_sched.backends import child, libraries
from cosma_sched.backends._highs_child import MARK
from cosma_sched.backends.profiles import Profile, load_profile
from cosma_sched.backends.status import MATHOPT_STOPS, Stop, round_up
from cosma_sched.backends.task import Answer, LinearTask
from cosma_sched.errors import BackendError, InputError, MissingError, UsageError

SCRIPT = str(Path(__file__).with_name("_highs_child.py"))
LARGEST = 2**53
BOUND_TOLERANCE = 1e-6
# Figures of the log have fewer digits than those of the result.
LOG_TOLERANCE = 1e-3
_GRACE_SECONDS = 2.0
_TAIL_BYTES = 4000
_RESERVED = {
    "time_limit": "time limit",
    "mip_rel_gap": "gap",
    "threads": "workers",
    "parallel": "workers",
    "random_seed": "seed",
    "mip_max_nodes": "deterministic limit",
    "output_flag": "that keeps the log",
    "log_to_console": "that keeps the log",
}
# " T     12      3     5   0.90%   -41848.563012   -41378             1.14%     ..."
_TABLE = re.compile(r"^.*?\d+\s+\d+\s+\d+\s+[\d.]+%\s+(\S+)\s+(\S+)\s+\S+\s")


@dataclass(slots=True)
class Log:
    """What HiGHS's table of progress says last; None where it says nothing."""

    incumbent: float | None = None
    bound: float | None = None

    def read(self, line: str) -> bool:
        """Take in one line; return whether it held figures."""
        match = _TABLE.match(line)
        if match is None:
            return False
        self.bound, self.incumbent = _number(match[1]), _number(match[2])
        return True


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def solve(task: LinearTask) -> Answer:
    """Solve a linear program with HiGHS."""
    if task.program.largest() > LARGEST:
        raise UsageError(f"highs computes in floating point, and {task.program.name} has numbers above 2^53; use the solver cpsat")
    if not libraries.installed("ortools"):
        raise MissingError(f'this needs ortools, which is not installed: pip install "{libraries.REQUIREMENTS["ortools"]}"')
    profile = load_profile("highs", task.options.profile, reserved=_RESERVED)
    log, results = Log(), list[dict[str, Any]]()

    def on_line(line: str) -> None:
        if line.startswith(MARK):
            results.append(json.loads(line[1:]))
        elif log.read(line) and task.report is not None:
            task.report(log.incumbent, log.bound)

    remaining = task.clock.remaining
    limits = child.Limits(None if remaining is None else remaining + _GRACE_SECONDS, None)
    with TemporaryFile(prefix="cosma-sched-highs-") as errors:
        process = child.start([sys.executable, "-P", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fileno())
        with process:
            _send(process, _request(task, profile))
            ending = child.attend(process, _lines(process), limits=limits, on_line=on_line)
        if results:
            return _answer(profile, results[0], _tail(ending.log_tail))
        tail = _tail(ending.log_tail)
        if ending.interrupted or ending.overran:
            bound = round_up(log.bound, LOG_TOLERANCE)
            return Answer(Stop.INTERRUPT if ending.interrupted else Stop.LIMIT, None, bound, None, tail)
        raise BackendError("highs", f"ended with code {ending.returncode} and without a result", f"{tail}\n{_printed(errors)}".strip())


def _request(task: LinearTask, profile: Profile) -> dict[str, Any]:
    program, options, remaining = task.program, task.options, task.clock.remaining
    return {
        "path": sys.path,
        "lows": [low for low, _ in program.bounds],
        "highs": [high for _, high in program.bounds],
        "objective_columns": [column for column, _ in program.objective],
        "objective_coefficients": [coefficient for _, coefficient in program.objective],
        "rows": [(row.low, row.high, row.columns, row.coefficients) for row in task.rows],
        "start": task.start,
        "deadline": None if remaining is None else time.time() + remaining,
        "gap": options.gap,
        "seed": options.seed,
        "node_limit": None if options.deterministic_limit is None else math.ceil(options.deterministic_limit),
        "parameters": dict(profile.parameters),
    }


def _send(process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    """Write the request and leave the pipe open: the child ends when it is closed."""
    if process.stdin is None:
        raise BackendError("highs", "the child has no standard input")
    try:
        process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it has died already, and its ending says why
        return
    except BaseException:
        child.end(process)
        raise


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    return child.read_lines(process.stdout.fileno()) if process.stdout is not None else iter(())


def _answer(profile: Profile, result: dict[str, Any], tail: str) -> Answer:
    if "missing" in result:
        raise MissingError(f"ortools is installed but cannot be loaded: {result['missing']}")
    if "refused" in result:
        if profile.parameters:
            raise InputError(profile.path, f"HiGHS refused one of the parameters {', '.join(profile.parameters)}: {result['refused']}")
        raise BackendError("highs", f"refused the program: {result['refused']}", tail)
    stop = MATHOPT_STOPS.get(result["reason"])
    if stop is None:
        raise BackendError("highs", f"{result['reason']} {result['detail']}".strip(), tail)
    bound = None if stop is Stop.INFEASIBLE else round_up(result["bound"], BOUND_TOLERANCE)
    return Answer(stop, result["values"], bound, result["nodes"], tail)


def _tail(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith(MARK))


def _printed(stream: IO[bytes]) -> str:
    """Return the end of what the child printed on standard error."""
    with contextlib.suppress(OSError):
        stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
        return stream.read().decode("utf-8", "replace")
    return ""
