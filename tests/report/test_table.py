from __future__ import annotations

from typing import Any

import pytest

from cosma_sched.backends import Availability
from cosma_sched.errors import Lever, Reason
from cosma_sched.memory.plan import Budgets, MemoryPlan, Residency, Transfer, TransferKind
from cosma_sched.report.table import backend_lines, plan_lines, reason_lines
from cosma_sched.result import Provenance, Status, Termination


def plan(**changes: Any) -> MemoryPlan:
    """An answer as far as tables care."""
    values: dict[str, Any] = {
        "status": Status.OPTIMAL,
        "termination": Termination.PROVED,
        "seconds": 1.234,
        "verified": True,
        "scratchpad_bytes": 2048,
        "provenance": Provenance("0.1.0", "model.onnx", "ab", "cpsat", proved_by=("covering",)),
        "traffic_bytes": 3000,
        "spill_bytes": 1000,
        "retrieve_bytes": 2000,
        "compulsory_bytes": 10,
        "bound_bytes": 3000,
        "gap": 0.0,
        "peak_bytes": 2000,
        "height_bytes": 2048,
        "order": ("a", "b"),
        "residency": (),
        "transfers": (),
        "budgets": Budgets(1, 2, 3),
    }
    return MemoryPlan(**{**values, **changes})


def text(answer: MemoryPlan, **options: Any) -> str:
    return "\n".join(plan_lines(answer, **options))


def absences(count: int, name: str = "tensor") -> dict[str, Any]:
    """Stays of `count` tensors that each leave once; every second one was written."""
    residency, transfers = [], []
    for index in range(count):
        residency += [Residency(f"{name}{index}", 0, 2, 0, 1000), Residency(f"{name}{index}", 5, 6, 0, 1000)]
        if index % 2:
            transfers.append(Transfer(f"{name}{index}", 2, TransferKind.SPILL, 1000))
        transfers.append(Transfer(f"{name}{index}", 5, TransferKind.RETRIEVE, 1000))
    return {"residency": tuple(residency), "transfers": tuple(transfers)}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "status      optimal, proven by the covering bound"),
        ({"provenance": Provenance("0.1.0", None, "ab", "cbc", proved_by=("magic",))}, "status      optimal, proven by magic"),
        (
            {"provenance": Provenance("0.1.0", None, "ab", "cbc", proved_by=("gap-model",))},
            "status      optimal, proven by the gap model of this order on cbc",
        ),
        (
            {"status": Status.FEASIBLE, "termination": Termination.TIME_LIMIT, "bound_bytes": 1500, "gap": 0.5},
            "status      feasible, stopped by the time limit; bound by the covering bound",
        ),
        ({"status": Status.FEASIBLE, "termination": Termination.TIME_LIMIT, "bound_bytes": 1500, "gap": 0.5}, "gap         50 %"),
        ({"status": Status.FEASIBLE, "termination": Termination.INTERRUPTED, "bound_bytes": None, "gap": None}, "bound       unknown"),
        ({"status": Status.FEASIBLE, "termination": Termination.GAP_REACHED, "bound_bytes": None, "gap": None}, "gap         unknown"),
        ({"bound_scope": "this order"}, "bound       3,000 B (2.93 KiB), of this order"),
        ({}, "traffic     3,000 B (2.93 KiB) = 1,000 spilled + 2,000 retrieved"),
        ({}, "height      2,048 B (2 KiB), end of the highest address"),
        ({}, "seconds     1.23"),
    ],
)
def test_a_plan_says(changes: dict[str, Any], line: str) -> None:
    assert line in text(plan(**changes)).splitlines()


def test_an_infeasible_plan_has_no_numbers_that_nobody_knows() -> None:
    nothing = dict.fromkeys(
        ("traffic_bytes", "spill_bytes", "retrieve_bytes", "compulsory_bytes", "bound_bytes", "gap", "peak_bytes", "height_bytes")
    )
    answer = plan(status=Status.INFEASIBLE, order=None, residency=None, transfers=None, **nothing)
    assert "traffic" not in text(answer)
    assert "infeasible, proven" in text(answer)
    assert "spilled" not in text(answer)


def test_spilled_tensors_are_listed_with_the_steps_of_their_absence() -> None:
    lines = text(plan(**absences(2))).splitlines()
    assert lines[-3].split() == ["spilled", "bytes", "from", "step", "to", "step", "how"]
    assert lines[-2].split()[:4] == ["tensor0", "1,000", "2", "5"]
    assert lines[-2].endswith("dropped, read back")
    assert lines[-1].endswith("written, read back")


def test_a_long_list_is_cut_and_says_what_is_missing() -> None:
    assert text(plan(**absences(25))).splitlines()[-1] == "and 5 more, 5,000 bytes; -v or --json shows all"
    assert "more" not in text(plan(**absences(25)), all_rows=True)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_long_names_fit_the_terminal(width: int) -> None:
    lines = plan_lines(plan(**absences(2, name="a_rather_long_name_of_a_tensor_" * 4)), width=width)
    assert all(len(line) <= width for line in lines[-3:])


# reasons


def test_a_reason_shows_demand_parts_and_levers() -> None:
    reason = Reason(
        "operator-fits",
        'step 12, Conv "conv1"',
        'Conv "conv1" needs 100352 bytes at once, 34816 too many',
        100352,
        65536,
        34816,
        terms=(('input "relu"', 50176), ('output "conv1"', 50176)),
        levers=(Lever("--scratchpad", 100352, "M_R"),),
    )
    assert reason_lines(reason) == [
        "infeasible: no plan fits in 65,536 bytes",
        '  step 12, Conv "conv1" needs 100,352 bytes at once, 34,816 too many',
        '    input "relu" 50,176, output "conv1" 50,176',
        "  works with: --scratchpad 100352 (M_R)",
    ]


def test_a_reason_without_numbers_or_place_is_its_statement() -> None:
    assert reason_lines(Reason("rule", "", "this cannot be")) == ["infeasible: no plan exists", "  this cannot be"]
    assert reason_lines(Reason("rule", "step 3", "this cannot be"))[1] == "  step 3: this cannot be"


def test_many_parts_stand_one_a_line_and_are_cut() -> None:
    lines = reason_lines(Reason("placement", "step 1", "too many", limit=12, terms=tuple((f'"t{i}"', i) for i in range(15))))
    assert len(lines) == 2 + 12 + 1
    assert lines[-1] == "    and 3 more"


# back ends


def test_a_back_end_that_is_missing_says_what_brings_it() -> None:
    rows = [
        Availability("cpsat", "CP-SAT", "ortools", "9.15", True, "", frozenset({"linear", "gap"})),
        Availability("cbc", "CBC", "pulp", None, False, 'not installed: pip install "pulp<4"', frozenset({"linear"})),
    ]
    lines = backend_lines(rows)
    assert lines[2].split() == ["cbc", "CBC", "pulp", "-", "no"]
    assert 'cbc: not installed: pip install "pulp<4"' in lines
    assert ["gap", "yes", "-"] in [line.split() for line in lines]
