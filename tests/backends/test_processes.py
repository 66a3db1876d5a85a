"""Ctrl-C, limits that a solver ignores, crashes, and what is left behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosma_sched.backends import SolverOptions, child, solve_linear
from cosma_sched.errors import BackendError
from cosma_sched.result import Status, Termination
from tests.backends.programs import cover, knapsack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")

ENDLESS = """
import sys
from cosma_sched.backends import SolverOptions, solve_linear
from tests.backends.programs import knapsack
program = knapsack(250, 12)
start = dict.fromkeys(program.variables, 0)
outcome = solve_linear(program, options=SolverOptions(solver={solver!r}), start=start, on_progress=lambda *event: print(*event, flush=True))
print("outcome", outcome.status, outcome.termination, outcome.objective, outcome.bound, flush=True)
"""
FIRST_INTERRUPT = "outcome feasible interrupted"


@pytest.fixture
def endless(solver: str, checkout: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of a program that no solver finishes, which has found something by itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS.format(solver=solver)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=checkout,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        value = line.split()[0]
        if value not in {"None", "0"}:
            break
    yield process
    process.kill()
    process.communicate()


def children(process: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(None, 2) for line in listed]
    return [int(pid) for pid, parent, command in rows if int(parent) == process and command != "ps"]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def gone(processes: list[int]) -> bool:
    for _ in range(100):
        if not any(is_alive(process) for process in processes):
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_returns_what_is_held(endless: subprocess.Popen[str], solver: str) -> None:
    helpers = children(endless.pid)
    endless.send_signal(signal.SIGINT)
    output, errors = endless.communicate(timeout=60)
    last = output.splitlines()[-1].split()
    assert last[:3] == ["outcome", "feasible", "interrupted"], errors
    assert int(last[4]) < int(last[3])
    if solver != "highs":  # its incumbent dies with it; the start stays
        assert int(last[3]) < 0
    assert gone(helpers)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_solver_ends_with_its_parent(endless: subprocess.Popen[str], end: signal.Signals) -> None:
    helpers = children(endless.pid)
    endless.send_signal(end)
    endless.communicate(timeout=60)
    assert sys.platform != "linux" or gone(helpers)


def shell(script: str) -> subprocess.Popen[bytes]:
    return child.start(
        ["/bin/sh", "-c", script], folder=Path("/"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def attend(script: str, seconds: float | None, grace: float | None) -> tuple[child.Ending, list[str]]:
    lines: list[str] = []
    process = shell(script)
    assert process.stdout is not None
    with process:
        ending = child.attend(process, child.read_lines(process.stdout.fileno()), limits=child.Limits(seconds, grace), on_line=lines.append)
    return ending, lines


def test_lines_and_the_return_code_are_passed_on() -> None:
    ending, lines = attend("echo one; echo two; printf three; exit 5", None, None)
    assert lines == ["one", "two", "three"]
    assert (ending.returncode, ending.overran, ending.interrupted, ending.killed) == (5, False, False, False)
    assert ending.log_tail == "one\ntwo\nthree"


def test_an_error_before_the_last_lines_of_a_pseudo_terminal_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux may report that the other end is closed just before it hands out what came last."""
    answers: list[bytes | OSError] = [
        b"Welcome\r\n",
        OSError(5, "closed"),
        b"Result - Optimal\r\nTotal",
        OSError(5, "closed"),
        OSError(5, "closed"),
    ]

    def read(descriptor: int, size: int) -> bytes:
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer

    monkeypatch.setattr("cosma_sched.backends.child.os.read", read)
    assert list(child.read_lines(0)) == ["Welcome", "Result - Optimal", "Total"]


def test_a_child_that_overruns_is_asked_first() -> None:
    ending, lines = attend("trap 'echo asked; exit 0' INT; while :; do sleep 0.05; done", 0.3, 20.0)
    assert "asked" in lines
    assert (ending.returncode, ending.overran, ending.killed) == (0, True, False)


def test_a_child_that_does_not_answer_is_killed() -> None:
    ending, _ = attend("trap '' INT; while :; do sleep 0.05; done", 0.2, 0.2)
    assert (ending.returncode, ending.overran, ending.killed) == (-signal.SIGKILL, True, True)


def test_a_child_without_grace_is_killed_at_once() -> None:
    ending, lines = attend("trap 'echo asked' INT; while :; do sleep 0.05; done", 0.2, None)
    assert (lines, ending.killed) == ([], True)


def test_an_error_of_the_reader_ends_the_child() -> None:
    def fail(line: str) -> None:
        raise ZeroDivisionError

    process = shell("echo one; exec sleep 60")
    assert process.stdout is not None
    with process, pytest.raises(ZeroDivisionError):
        child.attend(process, child.read_lines(process.stdout.fileno()), limits=child.Limits(None, None), on_line=fail)
    assert process.returncode == -signal.SIGKILL


def test_an_error_of_an_observer_ends_the_solver_and_comes_through(solver: str) -> None:
    def observer(value: int | None, bound: int | None) -> None:
        if value is not None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        solve_linear(knapsack(60, 5), options=SolverOptions(solver=solver), on_progress=observer)
    assert children(os.getpid()) == []


END = "echo 'Total time (CPU seconds):  0.00'"
"""How a log of CBC ends."""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in the place of CBC."""
    path = folder / "cbc"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr("cosma_sched.backends.cbc.cbc_executable", lambda: str(path))


def test_a_crash_of_cbc_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo terminate called after throwing; kill -ABRT $$")
    with pytest.raises(BackendError, match="cbc: ended with code -6 and no result\nterminate called after throwing\nkept for a report"):
        solve_linear(cover(8), options=SolverOptions(solver="cbc"))


def test_half_a_log_of_cbc_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'Result - Problem proven infeasible'")
    with pytest.raises(BackendError, match="ended with the result Problem proven infeasible, but its log breaks off"):
        solve_linear(cover(8), options=SolverOptions(solver="cbc"))


def test_a_cbc_that_ignores_its_limit_is_stopped_and_the_start_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosma_sched.backends.cbc._GRACE_SECONDS", 0.1)
    stand_in(tmp_path, monkeypatch, "trap '' INT; while :; do sleep 0.05; done")
    program = cover(8)
    outcome = solve_linear(program, options=SolverOptions(solver="cbc", time_limit=0.1), start=dict.fromkeys(program.variables, 1))
    assert (outcome.status, outcome.termination) == (Status.FEASIBLE, Termination.TIME_LIMIT)


def test_a_cbc_at_its_limit_is_not_believed_to_have_proven_infeasibility(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been seen to call feasible programs infeasible when its time was over."""
    stand_in(tmp_path, monkeypatch, f"sleep 0.3; echo 'Result - Problem proven infeasible'; {END}")
    outcome = solve_linear(cover(8), options=SolverOptions(solver="cbc", time_limit=0.2))
    assert (outcome.status, outcome.termination) == (Status.UNKNOWN, Termination.TIME_LIMIT)


def test_words_that_cbc_never_said_before_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, f"echo 'Result - Linear relaxation unbounded'; {END}")
    with pytest.raises(BackendError, match="ended with the result Linear relaxation unbounded"):
        solve_linear(cover(8), options=SolverOptions(solver="cbc"))


def test_a_solution_file_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"echo 'Result - Optimal solution found'; echo; echo 'Objective value:   8.0'; {END}; echo short > m.bin"
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(BackendError, match="left a solution file of 6 bytes that does not fit"):
        solve_linear(cover(8), options=SolverOptions(solver="cbc"))


def test_without_a_pseudo_terminal_cbc_writes_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError("out of pty devices")

    monkeypatch.setattr(os, "openpty", none_left)
    outcome = solve_linear(knapsack(20, 3), options=SolverOptions(solver="cbc"))
    assert outcome.status is Status.OPTIMAL


def test_a_crash_of_highs_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "fails.py"
    program.write_text(
        "import os, sys; sys.stdin.readline(); sys.stderr.write('bad_alloc'); sys.stderr.flush(); os.abort()\n", encoding="utf-8"
    )
    monkeypatch.setattr("cosma_sched.backends.highs.SCRIPT", str(program))
    with pytest.raises(BackendError, match="highs: ended with code -6 and without a result\nbad_alloc"):
        solve_linear(cover(8), options=SolverOptions(solver="highs"))


def test_a_highs_that_ignores_its_limit_is_killed_and_its_last_bound_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosma_sched.backends.highs._GRACE_SECONDS", 0.2)
    program = tmp_path / "hangs.py"
    table = "         0       0         0   0.00%   3.25            8                 60.00%        0      0      0         0     0.0s"
    program.write_text(f"import time; print({table!r}, flush=True); time.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr("cosma_sched.backends.highs.SCRIPT", str(program))
    problem = cover(8)
    outcome = solve_linear(problem, options=SolverOptions(solver="highs", time_limit=0.3), start=dict.fromkeys(problem.variables, 1))
    assert (outcome.status, outcome.termination, outcome.bound) == (Status.FEASIBLE, Termination.TIME_LIMIT, 4)
