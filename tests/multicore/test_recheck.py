"""A saved schedule is checked from its file and its network; what was edited is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cosma_sched as cs
from cosma_sched import api
from cosma_sched.accelerator import load_accelerator
from cosma_sched.cli import main
from cosma_sched.errors import InputError
from cosma_sched.graph import Graph
from cosma_sched.multicore.costs import provider
from cosma_sched.multicore.problem import Semantics
from cosma_sched.multicore.recheck import check
from cosma_sched.multicore.request import Request
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Cut, Split
from cosma_sched.result import Provenance
from tests.multicore.answers import answer

NETWORK = "attention-head:16x12"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return api.load(NETWORK)


@pytest.fixture(scope="module")
def saved(graph: Graph) -> dict[str, Any]:
    """Return the document of a list schedule on the toy."""
    device = load_accelerator("duo")
    split = Split(default=(Cut("rows", parts=4),))
    request = Request(graph, device, provider("analytic", device), Semantics())
    found = answer(request.problem(split))
    assert found is not None
    made = Provenance(cs.__version__, NETWORK, graph.sha256, "none")
    document: dict[str, Any] = request.describe(found, split.to_json()).replace(provenance=made).to_json()
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def rules(graph: Graph, document: dict[str, Any]) -> set[str]:
    return {violation.rule for violation in check(graph, Schedule.from_json(document))}


def test_a_saved_schedule_holds(graph: Graph, saved: dict[str, Any]) -> None:
    assert rules(graph, saved) == set()


def test_an_edited_start_is_named_with_node_and_cycle(graph: Graph, saved: dict[str, Any]) -> None:
    document = json.loads(json.dumps(saved))
    run = document["nodes"][5]
    run["start"] += 1
    found = check(graph, Schedule.from_json(document))
    assert ("node-duration", run["name"], run["start"]) in {(violation.rule, violation.node, violation.cycle) for violation in found}


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a slower core": (lambda d: d["accelerator"]["cores"][0]["array"].update(rows=1), "node-duration"),
    "another split": (lambda d: d["split"].update(default={"rows": 2}, layers={}), "node-known"),
    "other semantics": (lambda d: d["semantics"].update(weights="free"), "transfer-needless"),
    "a smaller memory": (lambda d: d["accelerator"]["cores"][1]["levels"][0].update(size_bytes=300), "capacity"),
}


@pytest.mark.parametrize("what", EDITS)
def test_edited_facts_no_longer_fit_the_schedule(graph: Graph, saved: dict[str, Any], what: str) -> None:
    document = json.loads(json.dumps(saved))
    change, rule = EDITS[what]
    change(document)
    assert rule in rules(graph, document)


def test_facts_that_cannot_be_read_are_bad_input(graph: Graph, saved: dict[str, Any]) -> None:
    document = {**saved, "accelerator": {**saved["accelerator"], "cores": []}}
    with pytest.raises(InputError):
        check(graph, Schedule.from_json(document))
    document = {**saved, "split": {"tile_loop": {"layer": 3}}}
    with pytest.raises(InputError, match=r"split\.tile_loop"):
        check(graph, Schedule.from_json(document))


@pytest.mark.parametrize(
    ("table", "place"),
    [
        (3, "costs.table."),
        ({"Q": 3}, "costs.table.Q"),
        ({"Q": {"0": [0, 1]}}, "costs.table.Q.0"),
        ({"Q": {"0": [1]}}, "costs.table.Q.0"),
        ({"Q": {"0": [True, 1]}}, "costs.table.Q.0"),
    ],
)
def test_costs_that_came_with_a_result_must_be_costs(graph: Graph, saved: dict[str, Any], table: object, place: str) -> None:
    with pytest.raises(InputError) as caught:
        check(graph, Schedule.from_json({**saved, "costs": {**saved["costs"], "table": table}}))
    assert place in str(caught.value)


def test_capacities_that_came_with_a_result_must_be_bytes(graph: Graph, saved: dict[str, Any]) -> None:
    options = {"capacity": {"0": "much"}}
    with pytest.raises(InputError, match=r"provenance\.options\.capacity\.0: must be bytes > 0"):
        check(graph, Schedule.from_json({**saved, "provenance": {**saved["provenance"], "options": options}}))


def test_capacities_that_are_no_table_and_costs_without_a_name_are_no_crash(graph: Graph, saved: dict[str, Any]) -> None:
    options = {**saved["provenance"]["options"], "capacity": 1024}
    with pytest.raises(InputError, match=r"provenance\.options\.capacity: must be bytes by core"):
        check(graph, Schedule.from_json({**saved, "provenance": {**saved["provenance"], "options": options}}))
    with pytest.raises(InputError, match=r"costs\.provider: must be analytic, mapping"):
        check(graph, Schedule.from_json({**saved, "costs": {**saved["costs"], "provider": []}}))


def test_an_infeasible_answer_needs_no_facts(graph: Graph, saved: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"nodes": [], "transfers": [], "residency": [], "accelerator": {}, "status": "infeasible"}
    document = {**saved, **nothing, **dict.fromkeys(("latency_cycles", "energy_pj", "peak_total_bytes", "gap"))}
    assert rules(graph, document) == {"status"}


def test_addresses_are_checked(graph: Graph, saved: dict[str, Any]) -> None:
    schedule = Schedule.from_json(saved)
    spread, top = [], 0
    for entry in schedule.residency:
        spread.append(replace(entry, offset=top))
        top += entry.size_bytes
    assert check(graph, schedule.replace(residency=tuple(spread))) == []
    piled = [replace(entry, offset=0) for entry in schedule.residency]
    assert {violation.rule for violation in check(graph, schedule.replace(residency=tuple(piled)))} == {"address"}


def test_the_command_checks_a_saved_schedule(saved: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "head.json"
    file.write_text(json.dumps(saved))
    assert main(["verify", str(file)]) == 0
    assert "0 violations" in capsys.readouterr().out
    saved = json.loads(json.dumps(saved))
    saved["nodes"][0]["start"] += 1
    file.write_text(json.dumps(saved))
    assert main(["verify", str(file)]) == 7
    assert f'node "{saved["nodes"][0]["name"]}"' in capsys.readouterr().out


def test_python_checks_a_saved_schedule(graph: Graph, saved: dict[str, Any]) -> None:
    assert list(api.verify(graph, Schedule.from_json(saved))) == []
