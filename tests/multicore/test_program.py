"""The CP-SAT program of schedules: hints, symmetry, multicast, times anew; and the exact search against one that shares nothing with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cosma_sched.backends import SolverOptions, libraries, solve_cpsat
from cosma_sched.errors import InfeasibleError
from cosma_sched.multicore.bounds import bounds_of
from cosma_sched.multicore.complete import fits, search_complete, value_of
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.list_scheduler import RULES, list_schedule
from cosma_sched.multicore.planner import schedule_problem
from cosma_sched.multicore.platform import OFFCHIP, Memory, Platform, PlatformCore, Route
from cosma_sched.multicore.problem import Node, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.program import ScheduleProgram
from cosma_sched.multicore.program_parts import ProgramOptions, time_unit
from cosma_sched.multicore.program_values import hint_of, read_draft
from cosma_sched.multicore.symmetry import blocks_of, in_order, interchangeable
from cosma_sched.multicore.tables import Tables
from cosma_sched.multicore.timing import retime
from cosma_sched.progress import Clock
from cosma_sched.result import Status
from tests.multicore.exhaustive import least_latency
from tests.multicore.instances import KIB, duo_head, random_problem, spilling_problem

TERMS = (
    Semantics(),
    Semantics(outputs="kept"),
    Semantics(inputs="streamed", weights="free", outputs="streamed"),
    Semantics(inputs="resident", partial_sum_factor=2),
)


def best_list(problem: ScheduleProblem, tables: Tables) -> Draft | None:
    drafts = [draft for rule in RULES if (draft := list_schedule(problem, rule=rule, tables=tables)) is not None]
    return min(drafts, key=lambda draft: draft.latency(problem), default=None)


def assert_exact_equals_exhaustive(problem: ScheduleProblem) -> None:
    answer = schedule_problem(problem, time_limit=None)
    assert answer.status is Status.OPTIMAL
    assert answer.verified
    assert answer.latency_cycles is not None
    assert least_latency(problem, answer.latency_cycles) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_exact_search_finds_what_an_exhaustive_one_finds(seed: int) -> None:
    assert_exact_equals_exhaustive(random_problem(3000 + seed, max_nodes=3))


def test_the_exhaustive_search_reaches_the_value_itself() -> None:
    for seed in range(5):
        problem = random_problem(3000 + seed, max_nodes=3)
        answer = schedule_problem(problem, time_limit=None)
        assert answer.latency_cycles is not None
        assert least_latency(problem, answer.latency_cycles + 1) == answer.latency_cycles


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_the_exact_search_finds_what_an_exhaustive_one_finds_on_five_nodes(seed: int) -> None:
    assert_exact_equals_exhaustive(spilling_problem(seed) if seed % 2 else random_problem(seed))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_copies_that_leave_and_come_again_are_exact_too(seed: int) -> None:
    assert_exact_equals_exhaustive(spilling_problem(seed))


@pytest.mark.parametrize("seed", range(24))
def test_a_list_schedule_is_a_complete_and_feasible_hint(seed: int) -> None:
    problem = random_problem(seed, max_nodes=7, semantics=TERMS[seed % 4])
    try:
        tables = Tables.of(problem)
    except InfeasibleError:
        return
    draft = best_list(problem, tables)
    if draft is None:
        return
    program = ScheduleProgram(tables, ProgramOptions(draft.latency(problem), slots=3))
    hint = hint_of(program, draft)
    assert set(hint) == set(range(len(program.model.proto.variables)))
    for index, value in hint.items():
        program.model.add_hint(program.model.get_int_var_from_proto_index(index), value)
    solver = libraries.cp_model().CpSolver()
    solver.parameters.fix_variables_to_their_hinted_value = True
    solver.parameters.num_workers = 1
    assert solver.status_name(solver.solve(program.model)) == "OPTIMAL"


@pytest.mark.parametrize("seed", range(24))
def test_no_bound_is_above_an_optimum(seed: int) -> None:
    problem = random_problem(2000 + seed, max_nodes=4)
    answer = schedule_problem(problem, time_limit=None)
    bounds = bounds_of(Tables.of(problem))
    assert answer.status is Status.OPTIMAL
    assert bounds.latency_cycles is not None
    assert answer.latency_cycles is not None
    assert bounds.latency_cycles <= answer.latency_cycles


def test_a_round_with_an_open_end_bounds_what_the_closed_one_finds() -> None:
    for seed in range(8):
        problem = random_problem(3000 + seed, max_nodes=3)
        tables = Tables.of(problem)
        draft = best_list(problem, tables)
        assert draft is not None
        values = []
        for is_open in (True, False):
            options = ProgramOptions(draft.latency(problem), slots=2, open_ended=is_open)
            outcome = solve_cpsat(ScheduleProgram(tables, options).model, options=SolverOptions())
            values.append(outcome.objective if outcome.objective is not None else draft.latency(problem))
        assert values[0] <= values[1]


def test_blocks_of_a_head_may_be_renamed_and_a_schedule_with_them() -> None:
    problem = duo_head(512, 128, 4)
    tables = Tables.of(problem)
    assert interchangeable(tables) == [(0, 1), (1, 2), (2, 3)]
    draft = list_schedule(problem, priority=[-k for k in range(20)], tables=tables)
    assert draft is not None
    assert draft.starts[0] > draft.starts[3]
    renamed = in_order(tables, draft)
    assert list(renamed.starts[:4]) == sorted(renamed.starts[:4])
    assert fits(tables, renamed)
    assert renamed.figures(problem).peak_bytes == draft.figures(problem).peak_bytes


def test_blocks_that_differ_may_not_be_renamed() -> None:
    problem = duo_head(512, 128, 4)
    odd = replace(problem.nodes[5], cycles={"0": 999, "1": 4000})
    assert blocks_of(Tables.of(replace(problem, nodes=(*problem.nodes[:5], odd, *problem.nodes[6:])))) == []


def test_times_are_multiples_of_what_divides_all_durations() -> None:
    assert time_unit(Tables.of(duo_head(1024, 128, 8))) == 512


def shared_weight(on_bus: bool) -> ScheduleProblem:
    """Two nodes, each on a core of its own, read one weight that comes over a bus."""
    bus = "bus" if on_bus else None
    ways = {(OFFCHIP, core): (Route(OFFCHIP, core, ("port", "bus"), 8, 0.0, bus),) for core in "01"}
    ways |= {(core, OFFCHIP): (Route(core, OFFCHIP, (f"out{core}",), 800),) for core in "01"}
    cores = {core: PlatformCore(core, core, f"m{core}") for core in "01"}
    memories = {f"m{core}": Memory(f"m{core}", None) for core in "01"}
    platform = Platform("bus", cores, memories, ("bus", "port", "out0", "out1"), ways)
    tiles = (Tile("w", 100, TileKind.PARAMETER), *(Tile(f"y{k}", 1, TileKind.ACTIVATION, True) for k in range(2)))
    nodes = tuple(Node(f"n{k}", "l", {str(k): 10}, {str(k): 1}, (0,), (), 1 + k) for k in range(2))
    return ScheduleProblem("shared weight", nodes, tiles, platform)


def test_a_bus_carries_a_tile_to_several_cores_at_once() -> None:
    answer = schedule_problem(shared_weight(True), time_limit=None)
    assert answer.latency_cycles == 111
    assert answer.status is Status.OPTIMAL
    assert [transfer.targets for transfer in answer.transfers if transfer.source == OFFCHIP] == [("0", "1")]
    assert answer.offchip_bytes.read == 100
    assert schedule_problem(shared_weight(False), time_limit=None).latency_cycles == 211


def test_timing_finds_room_that_the_draft_does_not_leave() -> None:
    roomy = duo_head(512, 128, 4)
    draft = list_schedule(roomy)
    assert draft is not None
    tight = duo_head(512, 128, 4, (328 * KIB, 160 * KIB))
    tables = Tables.of(tight)
    assert not fits(tables, draft)
    timed = retime(tables, draft, options=SolverOptions(time_limit=20), latency_limit=2 * draft.latency(tight))
    assert timed.draft is not None
    assert fits(tables, timed.draft)
    assert timed.draft.cores == draft.cores


def test_timing_says_when_a_structure_cannot_fit() -> None:
    roomy = duo_head(512, 128, 4)
    draft = list_schedule(roomy)
    assert draft is not None
    timed = retime(Tables.of(duo_head(512, 128, 4, (150 * KIB, 150 * KIB))), draft, options=SolverOptions(time_limit=20))
    assert timed.draft is None
    assert timed.is_impossible


def test_a_complete_search_without_a_start_finds_a_schedule_or_proves_that_there_is_none() -> None:
    problem = random_problem(3)
    tables = Tables.of(problem)
    found: list[Draft] = []
    clock = Clock(60)
    proof = search_complete(
        tables, None, options=SolverOptions(), clock=clock, on_found=lambda draft, _: found.append(draft) if draft else None
    )
    assert proof.is_proven
    best = schedule_problem(problem, time_limit=None).latency_cycles
    assert min(value_of(tables, draft) for draft in found) == best


def test_what_a_solution_says_is_what_is_read_from_it() -> None:
    problem = duo_head(256, 128, 2)
    tables = Tables.of(problem)
    program = ScheduleProgram(tables, ProgramOptions(20_000, with_memory=False))
    outcome = solve_cpsat(program.model, options=SolverOptions(time_limit=60))
    assert outcome.objective is not None
    assert read_draft(program, outcome).latency(problem) == outcome.objective * program.unit == 11_264
