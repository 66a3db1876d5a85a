"""What goes where: results, progress, errors; pipes, terminals, interrupts. Mostly through a process of its own."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

COMMAND = [sys.executable, "-m", "cosma_sched"]


def test_a_process_prints_the_result_and_nothing_else(process: Run, examples: Path) -> None:
    ending = process("solve", "-", "--scratchpad", "12", "--json", stdin=(examples / "pinch.json").read_text())
    assert (ending.code, ending.err) == (0, "")
    assert ending.document["traffic_bytes"] == 10


def test_a_process_ends_with_the_exit_code(process: Run, examples: Path) -> None:
    assert process("solve", examples / "crossroads.json", "--scratchpad", "13").code == 3
    assert process("solve", examples / "crossroads.json").code == 2
    assert process("bounds", "gone.json").code == 5


@pytest.mark.parametrize("arguments", [["--help"], ["backends"], ["backends", "--json"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    """As ``| head`` does."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 0


def test_the_exit_code_survives_a_reader_of_both_streams_that_goes_away(examples: Path) -> None:
    """As ``2>&1 | head -1`` does."""
    command = [*COMMAND, "solve", str(examples / "crossroads.json"), "--scratchpad", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(timeout=60) == 3


def test_a_full_disk_behind_standard_output_is_said(examples: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "backends"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert done.stderr == "standard output: cannot be written: No space left on device\n"


def test_closed_streams_are_no_crash(examples: Path) -> None:
    shell = f"exec {sys.executable} -m cosma_sched solve - --scratchpad 12 <&- >&-"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (5, "-: standard input is closed\n")


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path, examples: Path) -> None:
    name = tmp_path / "netz-ü.json"
    name.write_text((examples / "pinch.json").read_text().replace('"pinch"', '"zwänge"'), encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*COMMAND, "bounds", str(name)], env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"zw\\xe4nge" in done.stdout


def test_a_name_with_control_characters_does_not_reach_the_terminal(run: Run, tmp_path: Path, examples: Path) -> None:
    text = (examples / "pinch.json").read_text().replace('"pinch"', '"\\u001b[31mred"').replace('"t2"', '"t\\n2"')
    (tmp_path / "colour.json").write_text(text)
    out = run("solve", tmp_path / "colour.json", "--scratchpad", "12").out
    assert "\x1b" not in out
    assert "t\\n2" in out


def test_verbose_tells_the_phases_on_standard_error(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "12", "-v", "--json")
    assert ending.document["traffic_bytes"] == 10
    assert " s  " in ending.err
    assert "traffic 10" in ending.err


def test_a_terminal_sees_progress_and_the_result_is_not_touched_by_it(examples: Path) -> None:
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [*COMMAND, "solve", str(examples / "pinch.json"), "--scratchpad", "12", "--json"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        text=True,
    ) as child:
        os.close(terminal)
        seen = _read_all(screen)
        assert child.stdout is not None
        assert json.loads(child.stdout.read())["traffic_bytes"] == 10
    assert b"pinch" in seen


@pytest.mark.parametrize("option", ["-q", "dumb"])
def test_progress_can_be_off(examples: Path, option: str) -> None:
    screen, terminal = pty.openpty()
    arguments = [*COMMAND, "solve", str(examples / "pinch.json"), "--scratchpad", "12", *(["-q"] if option == "-q" else [])]
    environment = {**os.environ, "TERM": "dumb" if option == "dumb" else "xterm"}
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=terminal, env=environment) as child:
        os.close(terminal)
        assert _read_all(screen) == b""
        assert child.wait(timeout=60) == 0


def _read_all(screen: int) -> bytes:
    """Read a pseudo-terminal until its other side is closed, which Linux reports as an error."""
    seen = b""
    try:
        while chunk := os.read(screen, 65536):
            seen += chunk
    except OSError as error:
        assert error.errno == errno.EIO  # noqa: PT017
    finally:
        os.close(screen)
    return seen


def test_an_interrupt_prints_the_best_plan_and_ends_with_130(unproven: Path, tmp_path: Path) -> None:
    arguments = ["solve", str(unproven), "--scratchpad", "M_R", "--json", "-v", "-o", str(tmp_path / "plan.json")]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stderr:
            if "search" in line:  # value, bound, and a proof that is far away
                break
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted: this is the best that was found" in err
    document = json.loads(out)
    assert (document["status"], document["termination"], document["verified"]) == ("feasible", "interrupted", True)
    assert json.loads((tmp_path / "plan.json").read_text()) == document


def test_help_loads_typer_and_rich_and_nothing_heavy() -> None:
    code = "import sys\nfrom cosma_sched.cli import main\nmain(['solve', '--help'])\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert {"typer", "rich"} <= loaded
    assert not loaded & {"numpy", "networkx", "onnx", "ortools", "pulp", "pandas", "scipy", "yaml"}  # newer typer brings pydantic
    ours = {name for name in done.stderr.split() if name.startswith("cosma_sched.") and ".cli" not in name}
    assert ours <= {"cosma_sched.errors", "cosma_sched.units", "cosma_sched.files", "cosma_sched.progress"}
