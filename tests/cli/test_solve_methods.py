"""``--method``, ``--placement`` and the rules for what counts and where it may lie, through the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("options", "traffic"),
    [
        ("--method exact", 10),
        ("--method paper", 10),
        ("--method paper --allow-relocation", 2),
        ("--method greedy --allow-relocation", 10),
        ("--method belady --placement best-fit --allow-relocation --order min-peak", 10),
    ],
)
def test_every_method_answers_a_graph_on_standard_input(run: Run, examples: Path, options: str, traffic: int) -> None:
    ending = run("solve", "-", "--scratchpad", "12", "--json", *options.split(), stdin=(examples / "pinch.json").read_text())
    assert (ending.code, ending.document["traffic_bytes"], ending.document["verified"]) == (0, traffic, True)


def test_a_baseline_says_that_it_proves_nothing(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "crossroads.json", "--scratchpad", "14", "--method", "greedy")
    assert ending.code == 0
    assert "feasible, a baseline; it proves nothing" in ending.out
    assert "optimal" not in ending.out


def test_fragmentation_fails_with_the_step_and_the_holes(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "12", "--method", "greedy")
    assert ending.code == 4
    assert "unknown, FAIL" in ending.out
    assert "traffic" not in ending.out
    assert ending.err.splitlines() == [
        "FAIL: the free bytes lie in pieces",
        '  step 5, Operator "op5": "t5" needs 2 bytes in one piece; 2 are free, in holes of at most 1',
        "    hole 5 to 6: 1, hole 11 to 12: 1",
    ]


def test_a_literal_program_that_is_too_large_is_refused_with_its_size(run: Run) -> None:
    pytest.importorskip("onnx")
    ending = run("solve", "densenet121", "--method", "paper", "--scratchpad", "M_R", "--json")
    assert (ending.code, ending.document["status"], ending.document["traffic_bytes"]) == (4, "unknown", None)
    sizes = {term["name"]: term["value"] for term in ending.document["reasons"][0]["terms"]}
    assert ending.err.startswith("refused: the program is too large\n  the literal model would have ")
    assert f"{sizes['columns']:,} columns, {sizes['rows']:,} rows" in ending.err
    assert "works with: --method exact (takes " in ending.err


def test_an_infeasible_literal_program_ends_with_3(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "stuck.json", "--scratchpad", "12", "--method", "paper")
    assert ending.code == 3
    assert ending.err.splitlines()[0] == "infeasible: no plan fits in 12 bytes"


def test_alignment_reserved_bytes_and_pins_reach_the_plan(run: Run, examples: Path) -> None:
    rules = ("--align", "4", "--reserve", "6", "--pin", "t0=12", "--pin", "x=8")
    document = run("solve", examples / "crossroads.json", "--scratchpad", "M_P", "--json", *rules).document
    offsets = {entry["tensor"]: entry["offset"] for entry in document["residency"]}
    assert (offsets["t0"], offsets["x"]) == (12, 8)
    assert all(offset % 4 == 0 and offset >= 8 for offset in offsets.values())
    assert document["provenance"]["options"]["pin"] == {"t0": 12, "x": 8}


def test_a_saved_plan_is_verified_under_its_own_rules(run: Run, examples: Path, tmp_path: Path) -> None:
    rules = ("--method", "belady", "--placement", "arena", "--align", "2", "--reserve", "1")
    run("solve", examples / "crossroads.json", "--scratchpad", "M_P", *rules, "-o", tmp_path / "plan.json")
    assert run("verify", tmp_path / "plan.json").code == 0


def test_budgets_follow_the_rules_of_the_solve(run: Run, examples: Path) -> None:
    plain = run("bounds", examples / "crossroads.json", "--json").document
    strict = run("bounds", examples / "crossroads.json", "--align", "8", "--reserve", "3", "--json").document
    assert (plain["m_r_bytes"], strict["m_r_bytes"]) == (14, 32)
    solved = run("solve", examples / "crossroads.json", "--scratchpad", "M_R", "--align", "8", "--reserve", "3", "--json").document
    assert solved["scratchpad_bytes"] == 32


def test_parameters_count_on_request(run: Run) -> None:
    pytest.importorskip("onnx")
    sizes = [run("bounds", "resnet50", "--tensors", kind, "--json").document["m_r_bytes"] for kind in ("activations", "all")]
    assert sizes[0] == 2_408_448 < sizes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method greedy --placement worst-fit", "placement must be one of first-fit, best-fit, arena"),
        ("--placement arena", 'placement is for the methods belady and greedy, got "arena" with "auto"'),
        ("--method belady --pin t0=0", 'cannot pin "t0"'),
        ("--method belady --write-model gaps.mps", "no linear program"),
        ("--pin t0", '--pin "t0": must be TENSOR=OFFSET'),
        ("--pin t0=high", '--pin "t0=high": "high" is not a size'),
        ("--pin t0=0 --pin t0=4", "t0 is pinned to 0 already"),
        ("--pin to=0", 'pin of "to": no such tensor'),
        ("--align 0", '--align: "0" is not a usable size'),
        ("--align 2KB", '--align: "2KB" is ambiguous'),
        ("--reserve -1", "--reserve"),
        ("--tensors weights", "tensors must be one of activations, all"),
    ],
)
def test_mistakes_end_with_2_and_one_line(run: Run, examples: Path, options: str, message: str) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "20", *options.split())
    assert (ending.code, ending.out) == (2, "")
    assert message in ending.err
    assert ending.err.count("\n") == 1
