"""What a person reads who gets something wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

PINCH = "examples/pinch.json"


@pytest.fixture(autouse=True)
def _in_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("solv", 'did you mean "solve"?'),
        ("--versoin", 'no such option: --versoin; did you mean "--version"?'),
        ("solve", 'missing argument "MODEL"'),
        (f"solve {PINCH}", 'missing option "--scratchpad"'),
        (f"solve {PINCH} --scratchpad", "--scratchpad"),
        (f"solve {PINCH} --scratchpd 12", 'no such option: --scratchpd; did you mean "--scratchpad"?'),
        (f"solve {PINCH} more --scratchpad 12", "more"),
        (f"solve {PINCH} --scratchpad 512KB", '--scratchpad: "512KB" is ambiguous: write 512KiB for units of 1024, or 512000 bytes'),
        (f"solve {PINCH} --scratchpad M_X", "or a budget: M_R, M_H, M_P"),
        (f"solve {PINCH} --scratchpad=-4", '"-4" is not a size'),
        (f"solve {PINCH} --scratchpad 0", '"0" is not a usable size'),
        (f"solve {PINCH} --scratchpad 12 --time-limit soon", '--time-limit: "soon" is not a duration'),
        (f"solve {PINCH} --scratchpad 12 --gap 1.5", '--gap "1.5": must be a number from 0 to below 1'),
        (f"solve {PINCH} --scratchpad 12 --gap nan", '--gap "nan"'),
        (f"solve {PINCH} --scratchpad 12 --workers 0", '--workers "0": must be a whole number >= 1'),
        (f"solve {PINCH} --scratchpad 12 --workers two", '--workers "two"'),
        (f"solve {PINCH} --scratchpad 12 --seed 1.5", '--seed "1.5": must be a whole number >= 0'),
        (f"solve {PINCH} --scratchpad 12 --dim batch", '--dim "batch": must be NAME=N'),
        (f"solve {PINCH} --scratchpad 12 --dim b=1 --dim b=2", "b is 1 already"),
        (f"solve {PINCH} --scratchpad 12 --order fre", 'did you mean "free"?'),
        (f"solve {PINCH} --scratchpad 12 --method magic", "auto, exact"),
        (f"solve {PINCH} --scratchpad 12 --solver cpsta", 'did you mean "cpsat"?'),
        (f"solve {PINCH} --scratchpad 12 --solver highs --workers 2", "highs runs on one worker only"),
        (f"solve {PINCH} --scratchpad 12 --fold none", "is for ONNX files"),
        ("solve resnet50 --scratchpad M_R --fold all", "none, batchnorm, elementwise, prologue"),
        ("solve resnet50 --scratchpad M_R --views some", "free, strict"),
        ("backends all", "unexpected extra argument"),
    ],
)
def test_usage_mistakes_end_with_2_and_one_line(run: Run, arguments: str, message: str) -> None:
    ending = run(*arguments.split())
    assert (ending.code, ending.out) == (2, "")
    assert message in ending.err
    assert ending.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("solve densenet12 --scratchpad 12", 'densenet12: no such model; known names are .*bert_base, .*; did you mean "densenet121"?'),
        ("bounds gone.onnx", "gone.onnx: no such file"),
        ("inspect gone.json", "gone.json: no such file"),
        ("solve examples --scratchpad 12", "examples"),
        ("zoo resnet51", 'resnet51: no such model; known names are .*; did you mean "resnet50"?'),
        ("verify gone.json", "gone.json: no such file"),
        (f"verify {PINCH}", "pinch.json: schema: must be one of cosma-sched/plan/1"),
        (f"solve {PINCH} --scratchpad 12 --profile fats", "fats: no such profile of cpsat; known names are default"),
        (f"solve {PINCH} --scratchpad 1KiB --profile fats", "fats: no such profile of cpsat; known names are default"),
        (f"solve {PINCH} --scratchpad 12 -o examples", "examples: cannot be written: is a directory"),
    ],
)
def test_bad_input_ends_with_5_and_the_value(run: Run, arguments: str, message: str) -> None:
    ending = run(*arguments.split())
    assert (ending.code, ending.out) == (5, "")
    for part in message.split(".*"):
        assert part in ending.err
    assert ending.err.count("\n") == 1


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\x13garbage", b"{", b"<html></html>"])
def test_a_damaged_file_ends_with_5(run: Run, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    ending = run("solve", tmp_path / name, "--scratchpad", "12")
    assert (ending.code, ending.out) == (5, "")
    assert str(tmp_path / name) in ending.err


def test_a_truncated_onnx_file_ends_with_5(run: Run, tmp_path: Path) -> None:
    from cosma_sched.frontends import zoo

    content = zoo.path("resnet50").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
        assert run("bounds", tmp_path / "cut.onnx").code == 5, share


def test_every_mistake_of_a_graph_is_a_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(
        '{"schema": "cosma-sched/graph/1", "tensors": [{"name": "x", "size_bytes": 0}, {"name": "x", "size_bytes": 1}],'
        ' "operators": [{"name": "a", "inputs": ["y"], "outputs": []}]}'
    )
    ending = run("bounds", tmp_path / "bad.json")
    assert ending.code == 5
    assert len(ending.err.splitlines()) == 5
    assert all(line.startswith(f"{tmp_path / 'bad.json'}: ") for line in ending.err.splitlines())


def test_debug_shows_the_traceback_of_an_expected_error(run: Run) -> None:
    ending = run("bounds", "gone.json", "--debug")
    assert ending.code == 5
    assert "Traceback" in ending.err
    assert ending.err.splitlines()[-1] == "gone.json: no such file"


def test_an_unexpected_exception_is_a_bug_with_1_a_traceback_and_how_to_report_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosma_sched import api

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(api, "load", broken)
    ending = run("bounds", PINCH)
    assert (ending.code, ending.out) == (1, "")
    assert "ZeroDivisionError: of all things" in ending.err
    assert "please report it" in ending.err
    assert "cosma-sched --version" in ending.err


def test_a_missing_package_ends_with_6(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosma_sched import api
    from cosma_sched.errors import MissingError

    def missing(*_: object, **__: object) -> None:
        raise MissingError('this needs onnx, which is not installed: pip install "onnx"')

    monkeypatch.setattr(api, "load", missing)
    ending = run("bounds", PINCH)
    assert (ending.code, ending.err) == (6, 'this needs onnx, which is not installed: pip install "onnx"\n')
