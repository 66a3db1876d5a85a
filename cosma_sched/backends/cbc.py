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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
# CBC prints its bound with three decimals.
BOUND_TOLERANCE = 1e-3
_NONE = 1e49
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
_FIGURES = {name: re.compile(rf"^{name}:\s+(\S+)") for name in ("Objective value", "Lower bound", "Enumerated nodes")}
_UNKNOWN_OPTION = re.compile(r"No match for (\S+)")
_BAD_START = "mipstart values could not be used"
_PROVEN_INFEASIBLE = re.compile(r"proven infeasible|[Pp]roblem (?:is |proven )?infeasible|infeasible", re.IGNORECASE)


@dataclass(slots=True)
class Log:
    """What a CBC log says; figures are None where the log has none."""

    result: str | None = None
    lower_bound: float | None = None
    nodes: int | None = None
    unknown_option: str | None = None
    start_refused: bool = False
    says_infeasible: bool = False
    incumbent: float | None = None
    bound: float | None = None
    """The last bound printed while searching: for display, not proof."""

    def read(self, line: str) -> bool:
        """Take in one line; return whether the incumbent or the displayed bound has changed."""
        if match := _INCUMBENT.search(line):
            self.incumbent = float(match[1])
            return True
        if match := _NODES.search(line):
            best, possible = float(match[1]), float(match[2])
            self.incumbent = best if abs(best) < _NONE else self.incumbent
            self.bound = possible if abs(possible) < _NONE else self.bound
            return True
        if match := _RESULT.match(line):
            self.result = match[1]
        elif match := _FIGURES["Lower bound"].match(line):
            self.lower_bound = float(match[1])
        elif match := _FIGURES["Enumerated nodes"].match(line):
            self.nodes = int(float(match[1]))
        elif match := _UNKNOWN_OPTION.search(line):
            self.unknown_option = match[1]
        self.start_refused |= _BAD_START in line
        self.says_infeasible |= _PROVEN_INFEASIBLE.search(line) is not None
        return False


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
        _refuse(log, profile, ending)
        return _answer(task, folder, order, log, ending)


def _arguments(options: SolverOptions, profile: Profile, remaining: float | None, started: bool) -> list[str]:
    arguments = ["m.mps", "-timeMode", "elapsed", "-ratio", repr(options.gap)]
    arguments += ["-randomCbcSeed", str(options.seed), "-randomSeed", str(options.seed)]
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
    return [*arguments, "-solve", "-saveSolution", "m.bin", "-printingOptions", "all", "-solution", "m.sol"]


def _write_start(path: Path, order: Sequence[int], start: Sequence[int]) -> None:
    lines = [f"{position} X{position:07d} {start[column]} 0\n" for position, column in enumerate(order)]
    path.write_text("start\n" + "".join(lines), encoding="ascii")


def _run(arguments: Sequence[str], folder: Path, remaining: float | None, task: LinearTask, log: Log) -> child.Ending:
    def on_line(line: str) -> None:
        if log.read(line) and task.report is not None:
            task.report(log.incumbent, log.bound)

    limit = None if remaining is None else remaining + max(1.0, 0.05 * remaining)
    with _log_channel() as (ours, theirs), child.lifeline() as lifeline:
        process = child.start(arguments, folder=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, lifeline=lifeline)
        os.close(theirs)
        child.tie(process, lifeline)
        if remaining is not None:
            _cap_processor_time(process.pid, math.ceil((remaining + 2) * task.options.workers))
        return child.attend(process, child.read_lines(ours), limits=child.Limits(limit, _GRACE_SECONDS), on_line=on_line)


@contextlib.contextmanager
def _log_channel() -> Iterator[tuple[int, int]]:
    """Yield (our end, the child's end) of a pseudo-terminal, on which lines arrive at once, or of a pipe where there is none."""
    try:
        ours, theirs = os.openpty()
    except OSError:
        ours, theirs = os.pipe()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        with contextlib.suppress(OSError):  # closed after the start
            os.close(theirs)


def _cap_processor_time(process: int, seconds: int) -> None:
    """Let the kernel end the child where even the watchdog is gone."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(process, resource.RLIMIT_CPU, (seconds, seconds + 1))


def _refuse(log: Log, profile: Profile, ending: child.Ending) -> None:
    if log.unknown_option is not None:
        raise InputError(profile.path, [Defect(f"parameters.{log.unknown_option.lstrip('-')}", "is no option of CBC")])
    if log.start_refused:
        raise BackendError("cbc", "the start values were refused although they are feasible", ending.log_tail)


def _answer(task: LinearTask, folder: Path, order: Sequence[int], log: Log, ending: child.Ending) -> Answer:
    stopped = Stop.INTERRUPT if ending.interrupted else Stop.LIMIT
    if ending.killed or (ending.overran and ending.returncode != 0) or _ran_out_of_processor_time(ending):
        return Answer(stopped, None, None, None, ending.log_tail)
    path = folder / "m.sol"
    first = _first_line(path)
    if ending.returncode != 0 or first is None:
        raise BackendError("cbc", f"ended with code {ending.returncode} and without a solution file", ending.log_tail)
    stop = next((stop for words, stop in CBC_STOPS.items() if first.startswith(words)), None)
    if stop is None:
        raise BackendError("cbc", f'answered "{first.strip()}"', ending.log_tail)
    if stop is Stop.LIMIT or (stop is Stop.INFEASIBLE and not _believable(task, log, ending)):
        stop = stopped
    columns = None
    if stop is not Stop.INFEASIBLE and "no integer solution" not in first and not first.startswith(("Integer infeasible", "Infeasible")):
        columns = _read_columns(folder / "m.bin", task.program, order, ending)
    return Answer(stop, columns, _bound(task.program, stop, columns, log), log.nodes, ending.log_tail)


def _believable(task: LinearTask, log: Log, ending: child.Ending) -> bool:
    """Return whether "infeasible" is a proof: said in the log too, and not by a run that was stopped or at its limit."""
    stopped = ending.interrupted or ending.overran or task.clock.expired
    return log.says_infeasible and not stopped and not (log.result or "").startswith(("Stopped", "User"))


def _ran_out_of_processor_time(ending: child.Ending) -> bool:
    if sys.platform == "win32":
        return False
    import signal

    return ending.returncode in {-signal.SIGXCPU, -signal.SIGKILL}


def _first_line(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline()
    except FileNotFoundError:
        return None


def _read_columns(path: Path, program: Program, order: Sequence[int], ending: child.Ending) -> Sequence[float]:
    """Read the exact values of the columns.

    The file holds two int32 (rows, columns), a float64 (objective), then float64 arrays: row activities, row duals, column values, reduced
    costs.
    """
    content = path.read_bytes() if path.exists() else b""
    rows, columns = struct.unpack_from("=ii", content) if len(content) >= 16 else (-1, -1)
    if (rows, columns) != (program.num_rows, len(order)) or len(content) != 16 + 16 * (rows + columns):
        raise BackendError("cbc", f"left a solution file of {len(content)} bytes that does not fit the program", ending.log_tail)
    values = array.array("d")
    values.frombytes(content[16 + 16 * rows : 16 + 16 * rows + 8 * columns])
    found: list[float] = [float(min(max(0, low), high)) for low, high in program.bounds]
    for column, value in zip(order, values, strict=True):
        found[column] = value
    return found


def _bound(program: Program, stop: Stop, columns: Sequence[float] | None, log: Log) -> int | None:
    if log.lower_bound is not None and abs(log.lower_bound) < _NONE:
        return round_up(log.lower_bound, BOUND_TOLERANCE)
    if stop is Stop.FINISHED and columns is not None and "gap" not in (log.result or ""):
        return round_up(math.fsum(c * columns[j] for j, c in program.objective), BOUND_TOLERANCE)
    return None
