"""The checker: for each rule, an answer that breaks it and is rejected under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cosma_sched.errors import Reason
from cosma_sched.multicore.figures import figures, peaks_of
from cosma_sched.multicore.platform import OFFCHIP, Memory, Route
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.schedule import NodeRun, Residency, Schedule, ScheduleBounds, Transfer
from cosma_sched.multicore.verify import Violation, verify
from cosma_sched.result import Status
from tests.multicore.answers import blank
from tests.multicore.instances import duo
from tests.multicore.test_schedule import RUNS, TRANSFERS, pair

FETCH, MOVE, WRITE = TRANSFERS


def made(problem: ScheduleProblem, runs: tuple[NodeRun, ...], transfers: tuple[Transfer, ...]) -> Schedule:
    return figures(problem, runs, transfers).put_into(blank(problem).replace(nodes=runs, transfers=transfers))


def again(problem: ScheduleProblem, schedule: Schedule, **changes: Any) -> Schedule:
    """Change runs, transfers or stays and state the figures that are then true."""
    changed = schedule.replace(**changes)
    found = figures(problem, changed.nodes, changed.transfers)
    peaks, total = peaks_of(problem, changed.residency)
    return replace(found, residency=changed.residency, peak_bytes=peaks, peak_total_bytes=total).put_into(changed)


def rules(problem: ScheduleProblem, schedule: Schedule) -> set[str]:
    return {violation.rule for violation in verify(problem, schedule)}


PAIR = pair()
VALID = made(PAIR, RUNS, TRANSFERS)
FIRST, SECOND = RUNS


def stay(position: int, **changes: Any) -> tuple[Residency, ...]:
    entries = list(VALID.residency)
    entries[position] = replace(entries[position], **changes)
    return tuple(entries)


def test_a_schedule_that_holds_breaks_no_rule() -> None:
    assert verify(PAIR, VALID) == []


BROKEN: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a node is late for its successor": (
        {"nodes": (replace(FIRST, start=11, end=21), SECOND)},
        {"precedence", "operand-resident", "transfer-source", "residency-origin", "result-resident"},
    ),
    "a node runs longer than it costs": (
        {"nodes": (FIRST, replace(SECOND, start=19))},
        {"node-duration", "residency-origin", "result-resident"},
    ),
    "a transfer takes another route": ({"transfers": (FETCH, replace(MOVE, route=("port",)), WRITE)}, {"route"}),
    "a transfer moves too few bytes": ({"transfers": (FETCH, replace(MOVE, size_bytes=31), WRITE)}, {"transfer-size"}),
    "a transfer is too quick": ({"transfers": (FETCH, replace(MOVE, end=15), WRITE)}, {"transfer-duration"}),
    "a transfer starts before its tile is complete": (
        {"transfers": (FETCH, replace(MOVE, start=11, end=12), WRITE)},
        {"transfer-source", "target-resident", "residency-origin", "operand-resident"},
    ),
    "two transfers share the port": (
        {
            "transfers": (FETCH, MOVE, WRITE, replace(FETCH, start=1, end=3, targets=("1",))),
            "residency": (*VALID.residency, Residency("x", "1", 1, 4, 32)),
        },
        {"resource-exclusive"},
    ),
    "a tile is retrieved that was never spilled": (
        {"transfers": (FETCH, MOVE, WRITE, Transfer("a", OFFCHIP, ("0",), 30, 32, 32, ("port",)))},
        {"transfer-source", "target-resident"},
    ),
    "the output stays on chip": ({"transfers": (FETCH, MOVE)}, {"output-written", "residency-interval"}),
    "an operand leaves too early": ({"residency": stay(0, end=11)}, {"operand-resident"}),
    "an operand is gone at the other core": ({"residency": stay(2, end=59)}, {"operand-resident"}),
    "a result has no room": ({"residency": stay(3, start=21)}, {"result-resident", "residency-origin"}),
    "a target makes room too late": ({"residency": stay(2, start=16)}, {"target-resident", "residency-origin"}),
    "a stay takes too few bytes": ({"residency": stay(1, size_bytes=31)}, {"residency-size"}),
    "a stay has no origin": ({"residency": (*VALID.residency, Residency("x", "1", 5, 9, 32))}, {"residency-origin"}),
    "a tile lies twice in a memory": ({"residency": (*VALID.residency, Residency("x", "0", 3, 9, 32))}, {"residency-twice"}),
    "a stay is empty": ({"residency": (*VALID.residency, Residency("x", "1", 5, 5, 32))}, {"residency-interval"}),
    "a stay outlasts the schedule": ({"residency": stay(3, end=63)}, {"residency-interval"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_is_named(what: str) -> None:
    changes, expected = BROKEN[what]
    assert rules(PAIR, again(PAIR, VALID, **changes)) == expected


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "node": ({"nodes": (replace(FIRST, name="third"), SECOND)}, "node-known"),
    "layer": ({"nodes": (replace(FIRST, layer="other"), SECOND)}, "node-known"),
    "core of a run": ({"nodes": (replace(FIRST, core="7"), SECOND)}, "core-known"),
    "core of a run, off-chip": ({"nodes": (replace(FIRST, core=OFFCHIP), SECOND)}, "core-known"),
    "core of a transfer": ({"transfers": (replace(FETCH, targets=("7",)), MOVE, WRITE)}, "core-known"),
    "core of a stay": ({"residency": stay(0, core="7")}, "core-known"),
    "tile of a transfer": ({"transfers": (replace(FETCH, tile="q"), MOVE, WRITE)}, "tile-known"),
    "tile of a stay": ({"residency": stay(0, tile="q")}, "tile-known"),
    "resource": ({"transfers": (replace(FETCH, route=("tube",)), MOVE, WRITE)}, "route"),
    "interval of a run": ({"nodes": (replace(FIRST, start=-1), SECOND)}, "interval"),
    "interval of a transfer": ({"transfers": (FETCH, replace(MOVE, end=3), WRITE)}, "interval"),
    "a node that never runs": ({"nodes": (FIRST,)}, "node-once"),
    "a node that runs twice": ({"nodes": (FIRST, FIRST, SECOND)}, "node-once"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_the_problem_does_not_know_is_named(what: str) -> None:
    changes, rule = UNKNOWN[what]
    assert rules(PAIR, VALID.replace(**changes)) == {rule}


FIELDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "latency": ({"latency_cycles": 61}, {"latency"}),
    "energy": ({"energy_pj": 1}, {"energy"}),
    "energy of the links": ({"energy": replace(VALID.energy, links=1)}, {"energy"}),
    "peak of a core": ({"peak_bytes": {"0": 64, "1": 63}}, {"peak"}),
    "peak of no core": ({"peak_bytes": {"0": 64, "1": 64, "2": 0}}, {"peak"}),
    "peak of all": ({"peak_total_bytes": 65}, {"peak-total"}),
    "off-chip bytes": ({"offchip_bytes": replace(VALID.offchip_bytes, spilled=32)}, {"offchip-bytes"}),
    "utilisation": ({"utilization": {"0": 0.9, "1": VALID.utilization["1"]}}, {"utilization"}),
    "utilisation left out": ({"utilization": {"1": VALID.utilization["1"]}}, {"utilization"}),
    "semantics": ({"semantics": Semantics(outputs="kept")}, {"semantics"}),
    "objective": ({"objective": Objective.ENERGY}, {"objective"}),
    "a bound above the value": ({"bounds": ScheduleBounds(63), "gap": -1 / 62}, {"bound"}),
    "a named bound above the value": ({"bounds": ScheduleBounds(by_name={"load": 63})}, {"bound"}),
    "a bound above the peak": ({"bounds": ScheduleBounds(peak_bytes=65)}, {"bound"}),
    "a gap without a bound's support": ({"bounds": ScheduleBounds(31), "gap": 0.4}, {"gap"}),
    "optimal above its bound": ({"status": Status.OPTIMAL, "bounds": ScheduleBounds(31), "gap": 0.5}, {"status"}),
    "optimal without a bound": ({"status": Status.OPTIMAL}, {"status"}),
    "infeasible with a schedule": ({"status": Status.INFEASIBLE}, {"status"}),
    "an unknown scope": ({"scope": "everything"}, {"scope"}),
}


@pytest.mark.parametrize("what", FIELDS)
def test_a_figure_that_is_not_true_is_named(what: str) -> None:
    changes, expected = FIELDS[what]
    assert rules(PAIR, VALID.replace(**changes)) == expected


def test_optimal_at_its_bound_with_gap_zero_holds() -> None:
    assert rules(PAIR, VALID.replace(status=Status.OPTIMAL, bounds=ScheduleBounds(62, by_name={"load": 40}), gap=0.0)) == set()


def test_an_answer_without_a_schedule_says_why_and_states_nothing() -> None:
    none = blank(PAIR).replace(status=Status.INFEASIBLE)
    assert rules(PAIR, none) == {"status"}
    assert verify(PAIR, none.replace(reasons=(Reason("core-fits", "node", "too large"),))) == []
    assert rules(PAIR, blank(PAIR).replace(status=Status.UNKNOWN, latency_cycles=3)) == {"status"}
    assert verify(PAIR, blank(PAIR).replace(status=Status.UNKNOWN)) == []


def test_a_node_on_a_core_that_may_not_run_it_is_named() -> None:
    one = replace(PAIR, nodes=(replace(PAIR.nodes[0], cycles={"1": 40}), PAIR.nodes[1]))
    assert "node-core" in rules(one, VALID)


def test_a_core_runs_one_node_at_a_time() -> None:
    tiles = (Tile("a", 1, TileKind.ACTIVATION), Tile("b", 1, TileKind.ACTIVATION))
    nodes = tuple(Node(f"n{k}", "l", {"0": 5}, {"0": 1}, (), (), k) for k in range(2))
    problem = ScheduleProblem("two", nodes, tiles, duo())
    runs = (NodeRun("n0", "l", "0", 0, 5), NodeRun("n1", "l", "0", 4, 9))
    [violation] = verify(problem, made(problem, runs, ()))
    assert violation == Violation("core-exclusive", '"n0" runs until cycle 5', node="n1", place="core 0", cycle=4)


def accumulation(core: str, start: int, factor: int = 2) -> tuple[ScheduleProblem, Schedule]:
    tiles = (Tile("sum", 10, TileKind.ACTIVATION),)
    cost = {"0": 5, "1": 5}
    nodes = (Node("n0", "l", cost, cost, (), (), 0), Node("n1", "l", cost, cost, (), (0,), 0))
    problem = ScheduleProblem("sum", nodes, tiles, duo(), Semantics(partial_sum_factor=factor))
    return problem, made(problem, (NodeRun("n0", "l", "0", 0, 5), NodeRun("n1", "l", core, start, start + 5)), ())


def test_writers_of_a_tile_follow_each_other_on_one_core() -> None:
    assert rules(*accumulation("0", 7)) == set()
    assert rules(*accumulation("1", 7)) == {"accumulation"}
    assert "accumulation" in rules(*accumulation("0", 3))


def test_partial_sums_take_their_room_until_the_last_writer_ends() -> None:
    problem, schedule = accumulation("0", 5)
    assert schedule.peak_total_bytes == 20
    assert rules(problem, again(problem, schedule, residency=(Residency("sum", "0", 0, 10, 10),))) == {"residency-size"}


def test_a_memory_that_overflows_is_named_with_cycle_and_bytes() -> None:
    memories = {**PAIR.platform.memories, "m0": Memory("m0", 63)}
    tight = replace(PAIR, platform=replace(PAIR.platform, memories=memories))
    [violation] = verify(tight, VALID)
    assert str(violation) == "capacity: memory m0, cycle 2: 64 bytes lie there, it has 63"


def test_only_a_bus_reaches_several_cores_at_once() -> None:
    everywhere = (replace(FETCH, targets=("0", "1")), MOVE, WRITE)
    stays = (*VALID.residency, Residency("x", "1", 0, 2, 32))
    assert rules(PAIR, again(PAIR, VALID, transfers=everywhere, residency=stays)) == {"route"}
    routes = {**PAIR.platform.routes, **{(OFFCHIP, core): (Route(OFFCHIP, core, ("port",), 128, 1.0, "port"),) for core in "01"}}
    wired = replace(PAIR, platform=replace(PAIR.platform, routes=routes))
    assert rules(wired, again(wired, VALID, transfers=everywhere, residency=stays)) == set()


def test_a_platform_may_forbid_to_forward_inputs() -> None:
    onward = (*TRANSFERS, Transfer("x", "0", ("1",), 4, 5, 32, ("bus",)))
    stays = (*VALID.residency, Residency("x", "1", 4, 6, 32))
    assert rules(PAIR, again(PAIR, VALID, transfers=onward, residency=stays)) == {"forwarding"}
    free = replace(PAIR, platform=replace(PAIR.platform, forwarding=True))
    assert rules(free, again(free, VALID, transfers=onward, residency=stays)) == set()


def test_the_objective_memory_admits_no_spills() -> None:
    spilling = (*TRANSFERS, Transfer("a", "0", (OFFCHIP,), 20, 22, 32, ("port",)))
    assert rules(PAIR, made(PAIR, RUNS, spilling)) == set()
    frugal = replace(PAIR, objective=Objective.MEMORY)
    assert rules(frugal, made(frugal, RUNS, spilling)) == {"no-spill"}


def test_streamed_inputs_take_no_memory_and_no_transfer() -> None:
    problem = pair(inputs="streamed")
    assert rules(problem, made(problem, RUNS, TRANSFERS[1:])) == set()
    assert rules(problem, made(problem, RUNS, TRANSFERS)) == {"transfer-needless"}
    held = again(problem, made(problem, RUNS, TRANSFERS[1:]), residency=VALID.residency)
    assert "residency-tile" in rules(problem, held)


def test_resident_inputs_lie_there_from_the_first_cycle() -> None:
    problem = pair(inputs="resident")
    schedule = made(problem, RUNS, TRANSFERS[1:])
    assert rules(problem, schedule) == set()
    late = tuple(replace(entry, start=1) if entry.tile == "x" else entry for entry in schedule.residency)
    assert rules(problem, again(problem, schedule, residency=late)) == {"residency-origin", "operand-resident"}


def test_kept_outputs_lie_on_chip_to_the_end() -> None:
    problem = pair(outputs="kept")
    longer = (*TRANSFERS[:2], Transfer("a", "0", (OFFCHIP,), 60, 62, 32, ("port",)))
    schedule = made(problem, RUNS, longer)
    assert rules(problem, schedule) == set()
    gone = tuple(replace(entry, end=61) if entry.tile == "y" else entry for entry in schedule.residency)
    [violation] = verify(problem, again(problem, schedule, residency=gone))
    assert (violation.rule, violation.tile, violation.cycle) == ("output-kept", "y", 61)


def test_a_violation_names_rule_node_and_cycle() -> None:
    late = VALID.replace(nodes=(FIRST, replace(SECOND, start=10, end=50)))
    told = [str(violation) for violation in verify(PAIR, late)]
    assert 'precedence: node "second", cycle 10: "first" ends at cycle 12' in told


CHANGES: tuple[Callable[[Schedule], Schedule], ...] = (
    lambda s: s.replace(transfers=()),
    lambda s: s.replace(residency=()),
    lambda s: s.replace(nodes=tuple(replace(run, core="1") for run in s.nodes)),
)


@pytest.mark.parametrize("change", CHANGES)
def test_gross_damage_never_raises(change: Callable[[Schedule], Schedule]) -> None:
    assert verify(PAIR, change(VALID))
