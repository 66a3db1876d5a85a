"""The answer's form, and what follows from runs and transfers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosma_sched.errors import InputError
from cosma_sched.multicore.figures import figures
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.schedule import (
    EnergySplit,
    NodeRun,
    OffchipBytes,
    Period,
    Residency,
    Schedule,
    ScheduleBounds,
    Transfer,
)
from cosma_sched.result import Provenance, Reason, Status, Termination
from tests.multicore.instances import duo, duo_head


def pair(**semantics: object) -> ScheduleProblem:
    """x -> first -> a -> second -> y, each of 32 bytes, on `duo`."""
    tiles = (
        Tile("x", 32, TileKind.INPUT),
        Tile("a", 32, TileKind.ACTIVATION),
        Tile("y", 32, TileKind.ACTIVATION, is_output=True),
    )
    cost = {"0": 10, "1": 40}
    nodes = (Node("first", "f", cost, {"0": 5, "1": 6}, (0,), (), 1), Node("second", "s", cost, {"0": 5, "1": 6}, (1,), (0,), 2))
    return ScheduleProblem("pair", nodes, tiles, duo(), Semantics(**semantics))  # type: ignore[arg-type]


RUNS = (NodeRun("first", "f", "0", 2, 12), NodeRun("second", "s", "1", 20, 60))
TRANSFERS = (
    Transfer("x", OFFCHIP, ("0",), 0, 2, 32, ("port",)),
    Transfer("a", "0", ("1",), 15, 16, 32, ("bus",)),
    Transfer("y", "1", (OFFCHIP,), 60, 62, 32, ("port",)),
)


def test_a_tile_stays_from_its_birth_to_its_last_need() -> None:
    found = figures(pair(), RUNS, TRANSFERS)
    assert found.residency == (
        Residency("x", "0", 0, 12, 32),
        Residency("a", "0", 2, 16, 32),
        Residency("a", "1", 15, 60, 32),
        Residency("y", "1", 20, 62, 32),
    )
    assert found.latency_cycles == 62
    assert found.peak_bytes == {"0": 64, "1": 64}
    assert found.peak_total_bytes == 64
    assert found.energy == EnergySplit(11, 0, 512)
    assert found.offchip_bytes == OffchipBytes(32, 32, 0)
    assert found.utilization == {"0": round(10 / 62, 6), "1": round(40 / 62, 6)}


def test_a_second_arrival_ends_the_first_stay_early() -> None:
    again = (*TRANSFERS, Transfer("a", "0", (OFFCHIP,), 16, 18, 32, ("port",)), Transfer("a", OFFCHIP, ("1",), 18, 20, 32, ("port",)))
    found = figures(pair(), RUNS, again)
    assert [(entry.start, entry.end) for entry in found.residency if (entry.tile, entry.core) == ("a", "1")] == [(15, 16), (18, 60)]
    assert found.offchip_bytes == OffchipBytes(64, 64, 32)


def test_a_resident_input_lies_where_it_is_read_from_the_first_cycle() -> None:
    found = figures(pair(inputs="resident"), RUNS, TRANSFERS[1:])
    assert found.residency[0] == Residency("x", "0", 0, 12, 32)


def test_a_streamed_input_takes_no_memory() -> None:
    assert "x" not in {entry.tile for entry in figures(pair(inputs="streamed"), RUNS, TRANSFERS[1:]).residency}


def test_a_kept_output_stays_to_the_end_and_a_streamed_one_leaves_with_its_node() -> None:
    late = (*RUNS[:1], NodeRun("second", "s", "1", 16, 56))
    longer = (*TRANSFERS[:2], Transfer("x", OFFCHIP, ("0",), 70, 72, 32, ("port",)))
    kept, streamed = (figures(pair(outputs=outputs), late, longer) for outputs in ("kept", "streamed"))
    assert kept.residency[-1] == Residency("y", "1", 16, 72, 32)
    assert streamed.residency[-1] == Residency("y", "1", 16, 56, 32)


def test_partial_sums_take_more_until_the_last_writer_has_ended() -> None:
    problem = duo_head(64, 32, 1, semantics=Semantics(partial_sum_factor=2))
    twice = Node("second half", "A", problem.nodes[-1].cycles, problem.nodes[-1].energy_pj, (), (4,), problem.nodes[-1].writes)
    problem = ScheduleProblem("halves", (*problem.nodes, twice), problem.tiles, problem.platform, problem.semantics)
    runs = [NodeRun("A.0", "A", "0", 0, 10), NodeRun("second half", "A", "0", 15, 20)]
    found = figures(problem, runs, [Transfer("A[0]", "0", (OFFCHIP,), 21, 150, 2048, ("port",))])
    assert found.residency == (Residency("A[0]", "0", 0, 20, 4096), Residency("A[0]", "0", 20, 150, 2048))


def full_schedule() -> Schedule:
    """A schedule that uses every field."""
    found = figures(pair(), RUNS, TRANSFERS)
    return found.put_into(
        Schedule(
            status=Status.FEASIBLE,
            termination=Termination.TIME_LIMIT,
            seconds=1.5,
            verified=True,
            provenance=Provenance("1", None, "00", "cpsat"),
            objective=Objective.LATENCY,
            method="exact",
            semantics=pair().semantics,
            accelerator={"name": "duo"},
            costs={"provider": "analytic", "assumptions": ["optimistic"]},
            split={"default": {"rows": 2}},
            groups=(("f", "s"),),
            bounds=ScheduleBounds(60, 64, 500, {"load": 60}),
            gap=0.03,
            nodes=RUNS,
            transfers=(*TRANSFERS[:2], Transfer("y", "1", ("0", "2"), 60, 62, 32, ("bus",))),
            periods=(Period(4, 10, 2, ("first",)),),
            warnings=("assumed",),
            reasons=(Reason("rule", "where", "because", 3, 2, 1),),
        )
    )


def test_a_schedule_survives_being_saved(tmp_path: Path) -> None:
    schedule = full_schedule()
    schedule.save(tmp_path / "s.json")
    assert Schedule.from_json(json.loads((tmp_path / "s.json").read_text())) == schedule


def test_the_value_is_that_of_the_objective() -> None:
    schedule = full_schedule()
    assert schedule.value == 62
    assert schedule.replace(objective=Objective.ENERGY).value == 523
    memory = schedule.replace(objective=Objective.MEMORY, peak_bytes={"0": 48, "1": 60})
    assert (memory.value, memory.replace(semantics=Semantics(memory_scope="worst-core")).value) == (64, 60)


def test_all_mistakes_of_a_document_are_reported_at_once() -> None:
    document = full_schedule().to_json()
    document["nodes"][0]["start"] = -1
    document["transfers"][0]["rout"] = []
    document["scope"] = "everything"
    with pytest.raises(InputError) as error:
        Schedule.from_json(document)
    assert {defect.where for defect in error.value.defects} == {"nodes[0].start", "transfers[0].rout", "scope"}
