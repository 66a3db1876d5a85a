from __future__ import annotations

import json
from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.memory.plan import MemoryPlan
from tests.cli.conftest import Run


def test_the_table_says_what_is_held_and_what_is_proven(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "12")
    assert ending.code == 0
    assert ending.err == ""
    lines = ending.out.splitlines()
    assert lines[0] == "pinch: 7 operators, scratchpad 12 B"
    facts = {line[:12].strip(): line[12:].strip() for line in lines[2:12]}
    assert facts["status"].startswith("optimal, proven by ")
    assert facts["traffic"] == "10 B = 5 spilled + 5 retrieved"
    assert facts["bound"] == "10 B"
    assert facts["gap"] == "0 %"
    assert facts["budgets"] == "M_R 12  M_H 12  M_P 12"
    assert facts["verified"] == "yes"
    assert float(facts["seconds"]) >= 0
    assert lines[-1].split()[:4] == ["t2", "5", "4", "5"]


def test_without_traffic_the_table_says_that_nothing_is_spilled(run: Run, examples: Path) -> None:
    assert run("solve", examples / "pinch.json", "--scratchpad", "13").out.splitlines()[-1] == "nothing is spilled"


def test_standard_input_and_json(run: Run, examples: Path) -> None:
    ending = run("solve", "-", "--scratchpad", "12", "--json", stdin=(examples / "pinch.json").read_text())
    assert ending.code == 0
    assert ending.err == ""
    assert ending.document["schema"] == "cosma-sched/plan/1"
    assert (ending.document["traffic_bytes"], ending.document["bound_bytes"], ending.document["status"]) == (10, 10, "optimal")
    assert ending.document["provenance"]["model"] == "-"


@pytest.mark.parametrize(("scratchpad", "free", "given"), [(14, 12, 22), (15, 10, 22), (16, 3, 12), (17, 0, 0)])
def test_the_order_option_decides_which_orders_are_allowed(run: Run, examples: Path, scratchpad: int, free: int, given: int) -> None:
    command = ("solve", examples / "crossroads.json", "--scratchpad", str(scratchpad), "--json")
    assert run(*command).document["traffic_bytes"] == free
    assert run(*command, "--order", "given").document["traffic_bytes"] == given


def test_every_back_end_proves_the_same(run: Run, examples: Path, solver: str) -> None:
    document = run("solve", examples / "crossroads.json", "--scratchpad", "15", "--order", "given", "--solver", solver, "--json").document
    assert (document["traffic_bytes"], document["status"], document["provenance"]["solver"]) == (22, "optimal", solver)


@pytest.mark.parametrize(("name", "size"), [("M_R", 14), ("M_H", 15), ("M_P", 17)])
def test_a_budget_of_the_network_is_a_size(run: Run, examples: Path, name: str, size: int) -> None:
    assert run("solve", examples / "crossroads.json", "--scratchpad", name, "--json").document["scratchpad_bytes"] == size


def test_the_same_request_gives_the_same_plan_with_one_worker(run: Run, examples: Path) -> None:
    command = ("solve", examples / "crossroads.json", "--scratchpad", "14", "--workers", "1", "--seed", "3", "--json")
    first, second = run(*command).document, run(*command).document
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


# files


def test_the_result_is_written_as_json_beside_the_table(run: Run, examples: Path, tmp_path: Path) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "12", "-o", tmp_path / "plan.json")
    assert ending.out.startswith("pinch: ")
    plan = cs.load_result(tmp_path / "plan.json")
    assert isinstance(plan, MemoryPlan)
    assert plan.traffic_bytes == 10


def test_the_file_and_standard_output_hold_the_same_document(run: Run, examples: Path, tmp_path: Path) -> None:
    ending = run("solve", examples / "pinch.json", "--scratchpad", "12", "--json", "-o", tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text() == ending.out


def test_a_dash_as_output_is_standard_output(run: Run, examples: Path) -> None:
    assert run("solve", examples / "pinch.json", "--scratchpad", "12", "-o", "-").document["traffic_bytes"] == 10


def test_an_output_that_cannot_be_written_is_refused_before_the_work(run: Run, tmp_path: Path) -> None:
    ending = run("solve", "no-such-model.json", "--scratchpad", "12", "-o", tmp_path / "missing" / "plan.json")
    assert ending.code == 5
    assert "plan.json: cannot be written: no such directory" in ending.err
    assert "no-such-model" not in ending.err


def test_the_linear_program_can_be_written(run: Run, examples: Path, tmp_path: Path) -> None:
    assert run("solve", examples / "pinch.json", "--scratchpad", "12", "--write-model", tmp_path / "gaps.mps").code == 0
    assert "ROWS" in (tmp_path / "gaps.mps").read_text()


# when there is no plan


def test_a_scratchpad_below_m_r_names_the_operator_its_tensors_and_what_works(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "crossroads.json", "--scratchpad", "13")
    assert ending.code == 3
    assert ending.err.splitlines() == [
        "infeasible: no plan fits in 13 bytes",
        '  Operator "op5" needs 14 bytes at once, 1 too many',
        '    input "t3" 5, input "t4" 5, output "t5" 4',
        "  works with: --scratchpad 14 (M_R)",
    ]
    assert "infeasible" in ending.out


def test_a_size_that_no_placement_meets_names_the_tensors_and_the_least_size(run: Run, examples: Path) -> None:
    ending = run("solve", examples / "stuck.json", "--scratchpad", "12")
    assert ending.code == 3
    assert '"t3"' in ending.err
    assert "works with: --scratchpad 13" in ending.err
    assert run("solve", examples / "stuck.json", "--scratchpad", "13", "--json").document["traffic_bytes"] == 0


@pytest.mark.parametrize(("model", "scratchpad"), [("crossroads", "13"), ("stuck", "12")])
def test_infeasible_is_one_json_document_too(run: Run, examples: Path, tmp_path: Path, model: str, scratchpad: str) -> None:
    ending = run("solve", examples / f"{model}.json", "--scratchpad", scratchpad, "--json", "-o", tmp_path / "plan.json")
    assert ending.code == 3
    assert ending.document["status"] == "infeasible"
    assert ending.document["order"] is None
    (reason,) = ending.document["reasons"]
    assert reason["levers"][0]["option"] == "--scratchpad"
    assert json.loads((tmp_path / "plan.json").read_text()) == ending.document


def test_a_plan_that_is_not_proven_is_an_answer_unless_a_proof_is_required(run: Run, unproven: Path) -> None:
    command = ("solve", unproven, "--scratchpad", "M_R", "--time-limit", "100ms", "--workers", "1")
    ending = run(*command)
    assert ending.code == 0
    assert "feasible, stopped by the time limit" in ending.out
    ending = run(*command, "--require-optimal")
    assert ending.code == 4
    assert "feasible" in ending.out
    assert "--require-optimal" in ending.err
