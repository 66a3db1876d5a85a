"""CBC as our own child process.

PuLP writes the program; the command line, the log, the limits and the answer are ours, because PuLP's own call reads values with eight
digits, loses the incumbent on Ctrl-C, has no bound and calls an answer at the limit optimal.
"""

from __future__ import annotations

import array
import contextlib
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from cosma_sched.backends import child
from cosma_sched.backends.linear import Program
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.profiles import Profile, load_profile
from cosma_sched.backends.registry import cbc_executable
from cosma_sched.backends.status import CBC_STOPS, Stop, round_up
from cosma_sched.backends.task import Answer, LinearTask
from cosma_sched.errors import BackendError, Defect, InputError, MissingError, UsageError

# An MPS file holds 13 significant digits.
LARGEST = 10**13
# What CBC's own arithmetic may be off by, beside what its printing cuts off.
BOUND_TOLERANCE = 1e-3
_PRINTED_DIGITS = 6  # the development version prints six significant digits, 2.10 three decimals
_GRACE_SECONDS = 1.5
_RESERVED = {
    "sec": "time limit",
    "seconds": "time limit",
    "timeMode": "time limit",
    "ratio": "gap",
    "ratioGap": "gap",
    "threads": "workers",
    "randomSeed": "seed",
    "randomCbcSeed": "seed",
    "maxNodes": "deterministic limit",
    "mips": "start",
}

_INCUMBENT = re.compile(r"Cbc00(?:12|16|04)I Integer solution of (\S+) found")
_NODES = re.compile(r"Cbc0010I After \d+ nodes, .*?(\S+) best solution, best possible (\S+)")
_RESULT = re.compile(r"^Result - (.*?)\s*$")
_FIGURE = re.compile(r"^(Objective value|Lower bound|Enumerated nodes):\s+(\S+)")
_UNKNOWN_OPTION = re.compile(r"^(?:No match for|Unrecognized parameter -) ([^\s,]+)")
# "The LP relaxation is infeasible or too expensive" is none of these: it also ends a heuristic that is short of time.
_INFEASIBLE = re.compile(r"^\s*(?:Problem is|Pre-processing says|Row reductions:|Bound tightening:) infeasib", re.IGNORECASE)


@dataclass(slots=True)
class Log:
    """What a CBC log says; figures are None where the log has none."""

    result: str | None = None
    """The words after "Result - "; None where presolve or a crash ended the run."""
    infeasible: bool = False
    """Infeasibility was found before the search."""
    objective: float | None = None
    """The value of the solution that is held at the end."""
    lower_bound: float | None = None
    lower_bound_error: float = 0.0
    """What printing may have cut off."""
    nodes: int | None = None
    unknown_option: str | None = None
    complete: bool = False
    """CBC's last line was read; a log that was cut off is no answer."""
    incumbent: float | None = None
    """The best value printed while searching."""
    bound: float | None = None
    """The last bound printed while searching: for display, not proof."""

    def read(self, line: str) -> bool:
        """Take in one line; return whether the incumbent or the displayed bound has changed."""
        if match := _INCUMBENT.search(line):
            self.incumbent = float(match[1])
            return True
        if match := _NODES.search(line):
            best, possible = _known(match[1]), _known(match[2])
            self.incumbent = self.incumbent if best is None else best
            self.bound = self.bound if possible is None else possible
            return True
        if match := _RESULT.match(line):
            self.result = match[1]
        elif self.result is not None and (match := _FIGURE.match(line)):
            self._figure(match[1], match[2])
        elif match := _UNKNOWN_OPTION.match(line):
            self.unknown_option = self.unknown_option or match[1]
        elif line.startswith("Total time ("):
            self.complete = True
        self.infeasible |= _INFEASIBLE.match(line) is not None
        return False

    def _figure(self, name: str, text: str) -> None:
        if name == "Objective value":
            self.objective = _known(text)
        elif name == "Lower bound":
            self.lower_bound, self.lower_bound_error = _known(text), _cut_off(text)
        else:
            self.nodes = int(float(text))


def _known(text: str) -> float | None:
    """Return a number of the log; CBC prints 1e+50 for none."""
    value = float(text)
    return value if abs(value) < 1e49 else None


def _cut_off(text: str) -> float:
    """Return how far a printed number may be from the one that was meant: a unit of its last digit, trailing zeros not printed."""
    printed = Decimal(text)
    last = int(printed.as_tuple().exponent)
    return float(10.0 ** min(last, printed.adjusted() - _PRINTED_DIGITS + 1)) if printed else 0.0


def solve(task: LinearTask) -> Answer:
    """Solve a linear program with CBC."""
    executable = cbc_executable()
    if executable is None:
        raise MissingError('cbc is not there: pip install "pulp>=3.3.1,<4", or install coin-or cbc')
    if task.program.largest() >= LARGEST:
        raise UsageError(f"cbc reads numbers of 13 digits, and {task.program.name} has longer ones; use the solver cpsat")
    profile = load_profile("cbc", task.options.profile, reserved=_RESERVED)
    with TemporaryDirectory(prefix="cosma-sched-cbc-") as name:
        folder = Path(name)
        order = task.program.write_mps(folder / "m.mps")
        if task.start is not None:
            _write_start(folder / "m.mst", order, task.start)
        remaining = task.clock.remaining
        arguments = [executable, *_arguments(task.options, profile, remaining, task.start is not None)]
        log = Log()
        ending = _run(arguments, folder, remaining, task, log)
        if log.unknown_option is not None:
            raise InputError(profile.path, [Defect(f"parameters.{log.unknown_option}", "is no option of CBC")])
        return _answer(task, folder, order, log, ending)


def _arguments(options: SolverOptions, profile: Profile, remaining: float | None, started: bool) -> list[str]:
    # CBC measures a gap against the larger of value and bound, which for negative values is the bound.
    arguments = ["m.mps", "-timeMode", "elapsed", "-ratio", repr(options.gap / (1 + options.gap))]
    seed = str(options.seed + 1)  # 0 would mean the time of day
    arguments += ["-randomCbcSeed", seed, "-randomSeed", seed]
    if started:
        arguments += ["-mips", "m.mst"]
    if remaining is not None:
        arguments += ["-sec", f"{remaining:.3f}"]
    if options.workers > 1:
        arguments += ["-threads", str(options.workers)]
    if options.deterministic_limit is not None:
        arguments += ["-maxNodes", str(math.ceil(options.deterministic_limit))]
    for key, value in profile.parameters.items():
        arguments += [f"-{key}", ("on" if value else "off") if isinstance(value, bool) else str(value)]
    # No "-solution": the text has eight digits, and writing it crashes where presolve has found infeasibility.
    return [*arguments, "-solve", "-saveSolution", "m.bin"]


def _write_start(path: Path, order: Sequence[int], start: Sequence[int]) -> None:
    lines = [f"{position} X{position:07d} {start[column]} 0\n" for position, column in enumerate(order)]
    path.write_text("start\n" + "".join(lines), encoding="ascii")


def _run(arguments: Sequence[str], folder: Path, remaining: float | None, task: LinearTask, log: Log) -> child.Ending:
    def on_line(line: str) -> None:
        if log.read(line) and task.report is not None:
            task.report(log.incumbent, log.bound)

    limit = None if remaining is None else remaining + max(1.0, 0.05 * remaining)
    ours, theirs = _log_channel()
    try:
        with child.lifeline() as lifeline:
            try:
                process = child.start(arguments, folder=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, lifeline=lifeline)
            finally:
                os.close(theirs)
            child.tie(process, lifeline)
            if remaining is not None:
                _cap_processor_time(process.pid, math.ceil((remaining + 2) * task.options.workers))
            return child.attend(process, child.read_lines(ours), limits=child.Limits(limit, _GRACE_SECONDS), on_line=on_line)
    finally:
        os.close(ours)


def _log_channel() -> tuple[int, int]:
    """Return (our end, the child's end) of a pseudo-terminal, on which lines arrive at once, or of a pipe where there is none."""
    try:
        return os.openpty()
    except (OSError, AttributeError):  # none left, or a system without them
        return os.pipe()


def _cap_processor_time(process: int, seconds: int) -> None:
    """Let the kernel end the child where even the watchdog is gone."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(process, resource.RLIMIT_CPU, (seconds, seconds + 1))


def _answer(task: LinearTask, folder: Path, order: Sequence[int], log: Log, ending: child.Ending) -> Answer:
    stopped = Stop.INTERRUPT if ending.interrupted else Stop.LIMIT
    if log.result is None and log.infeasible:
        stop = Stop.INFEASIBLE
    elif ending.killed or _ran_out_of_processor_time(task, ending):
        return Answer(stopped, None, None, None, ending.log_tail)
    else:
        stop = _stop(log, ending)
    if stop is Stop.INTERRUPT or stop is Stop.LIMIT or (stop is Stop.INFEASIBLE and _cut_short(task, ending)):
        stop = stopped
    columns = None if log.objective is None else _read_columns(folder / "m.bin", task.program, order, ending)
    return Answer(stop, columns, _bound(task.program, stop, columns, log), log.nodes, ending.log_tail)


def _stop(log: Log, ending: child.Ending) -> Stop:
    if log.result is None or ending.returncode != 0:
        raise BackendError("cbc", f"ended with code {ending.returncode} and {log.result or 'no result'}", ending.log_tail)
    if not log.complete:
        raise BackendError("cbc", f"ended with the result {log.result}, but its log breaks off", ending.log_tail)
    for words, stop in CBC_STOPS.items():
        if log.result.startswith(words):
            return stop
    raise BackendError("cbc", f"ended with the result {log.result}", ending.log_tail)


def _cut_short(task: LinearTask, ending: child.Ending) -> bool:
    """Return whether the run was stopped or is at its limit; what it calls infeasible then is no proof."""
    return ending.interrupted or ending.overran or task.clock.expired


def _ran_out_of_processor_time(task: LinearTask, ending: child.Ending) -> bool:
    if sys.platform == "win32":
        return False
    import signal

    return ending.returncode == -signal.SIGXCPU or (ending.returncode == -signal.SIGKILL and task.clock.expired)


def _read_columns(path: Path, program: Program, order: Sequence[int], ending: child.Ending) -> Sequence[float]:
    """Read the exact values of the columns.

    The file holds two int32 (rows, columns), a float64 (objective), then float64 arrays: row activities, row duals, column values, reduced
    costs.
    """
    content = path.read_bytes() if path.exists() else b""
    rows, columns = struct.unpack_from("=ii", content) if len(content) >= 16 else (-1, -1)
    # The development version counts only the rows that presolve has left.
    if rows < 0 or columns != len(order) or len(content) != 16 + 16 * (rows + columns):
        raise BackendError("cbc", f"left a solution file of {len(content)} bytes that does not fit the program", ending.log_tail)
    values = array.array("d")
    values.frombytes(content[16 + 16 * rows : 16 + 16 * rows + 8 * columns])
    found: list[float] = [float(min(max(0, low), high)) for low, high in program.bounds]
    for column, value in zip(order, values, strict=True):
        found[column] = value
    return found


def _bound(program: Program, stop: Stop, columns: Sequence[float] | None, log: Log) -> int | None:
    if stop is Stop.INFEASIBLE:
        return None
    if log.lower_bound is not None:
        return round_up(log.lower_bound, max(BOUND_TOLERANCE, log.lower_bound_error))
    if stop is Stop.FINISHED and columns is not None and "gap" not in (log.result or ""):
        return round_up(math.fsum(c * columns[j] for j, c in program.objective), BOUND_TOLERANCE)
    return None
