"""The one entry: known optima, baselines, starts, limits, objectives, trade-offs."""

from __future__ import annotations

import pytest

from cosma_sched.errors import InfeasibleError, UsageError
from cosma_sched.multicore.list_scheduler import EVICTIONS, RULES, list_schedule
from cosma_sched.multicore.minimax import minimax
from cosma_sched.multicore.planner import pareto_front, schedule_problem
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.verify import verify
from cosma_sched.progress import Event
from cosma_sched.result import Status, Termination
from tests.multicore.instances import KIB, duo, duo_head, random_problem


def test_the_head_in_two_blocks_takes_11264_cycles_on_duo() -> None:
    answer = schedule_problem(duo_head(256, 128, 2), time_limit=120)
    assert (answer.latency_cycles, answer.status, answer.gap) == (11_264, Status.OPTIMAL, 0)
    assert answer.verified
    assert answer.bounds.by_name["relaxation"] == 11_264
    assert answer.scope == "this split"


@pytest.mark.slow
def test_the_head_in_four_blocks_takes_23552_cycles_in_tight_memories() -> None:
    answer = schedule_problem(duo_head(512, 128, 4, (320 * KIB, 192 * KIB)), time_limit=300, workers=2)
    assert (answer.latency_cycles, answer.status) == (23_552, Status.OPTIMAL)


@pytest.mark.parametrize("seed", range(10))
def test_exact_is_never_worse_than_a_list_rule(seed: int) -> None:
    problem = random_problem(seed, max_nodes=9)
    answer = schedule_problem(problem, time_limit=0.5)
    assert answer.latency_cycles is not None
    for rule in RULES:
        for eviction in EVICTIONS:
            draft = list_schedule(problem, rule=rule, eviction=eviction)
            assert draft is None or answer.latency_cycles <= draft.latency(problem)


def test_the_answer_is_never_worse_than_its_start() -> None:
    problem = duo_head(512, 128, 4)
    start = schedule_problem(problem, time_limit=2)
    again = schedule_problem(problem, time_limit=0, start=start)
    assert start.latency_cycles is not None
    assert again.latency_cycles is not None
    assert again.latency_cycles <= start.latency_cycles
    assert again.termination is Termination.TIME_LIMIT


def test_a_time_limit_of_nothing_still_gives_a_schedule_with_bounds() -> None:
    answer = schedule_problem(duo_head(1024, 128, 8, (400 * KIB, 300 * KIB)), time_limit=0)
    assert answer.status is Status.FEASIBLE
    assert answer.verified
    assert answer.gap is not None


def test_a_gap_is_enough_where_it_is_asked_for() -> None:
    answer = schedule_problem(duo_head(512, 128, 4), time_limit=60, gap=0.5)
    assert answer.termination is Termination.GAP_REACHED
    assert answer.status is Status.FEASIBLE


@pytest.mark.parametrize("rule", RULES)
def test_a_list_rule_states_its_bound_too(rule: str) -> None:
    answer = schedule_problem(duo_head(512, 128, 4), method=rule)
    assert answer.method == rule
    assert answer.bounds.latency_cycles == 21_504
    assert answer.termination is Termination.EXHAUSTED
    assert answer.provenance.solver == "none"


def test_ctrl_c_leaves_the_best_schedule_with_its_bound() -> None:
    calls = 0

    def stop(event: Event) -> None:
        nonlocal calls
        calls += event.phase == "schedule"
        if calls == 2:
            calls += 1
            raise KeyboardInterrupt

    answer = schedule_problem(duo_head(512, 128, 4), time_limit=60, observers=[stop])
    assert answer.termination is Termination.INTERRUPTED
    assert answer.verified


def test_the_same_seed_gives_the_same_schedule() -> None:
    one, other = (schedule_problem(random_problem(5), time_limit=None, seed=3) for _ in range(2))
    assert (one.nodes, one.transfers) == (other.nodes, other.transfers)


def test_an_unknown_method_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r'must be one of exact, list-latency, .* got "exakt"; did you mean "exact"'):
        schedule_problem(duo_head(256, 128, 2), method="exakt")


def test_a_tile_that_fits_nowhere_is_infeasible_with_its_name() -> None:
    with pytest.raises(InfeasibleError, match=r'tile "S\[0\]" of 131072 bytes is larger than every memory'):
        schedule_problem(duo_head(1024, 128, 8, (100 * KIB, 100 * KIB)))


def test_outputs_that_are_kept_and_do_not_fit_together_are_proven_impossible() -> None:
    terms = Semantics(inputs="streamed", weights="free", outputs="kept")
    tiles = [Tile(f"y{k}", 10, TileKind.ACTIVATION, True) for k in range(3)]
    nodes = [Node(f"n{k}", "l", {"0": 5, "1": 5}, {"0": 1, "1": 1}, (), (), k) for k in range(3)]

    def asked(*capacities: int) -> ScheduleProblem:
        return ScheduleProblem("kept", tuple(nodes), tuple(tiles), duo((capacities[0], capacities[1])), terms)

    assert schedule_problem(asked(20, 10), time_limit=None).latency_cycles == 10
    with pytest.raises(InfeasibleError, match="no schedule exists"):
        schedule_problem(asked(19, 19), time_limit=None)


def test_nothing_is_claimed_of_kept_outputs_that_fit_only_by_moving() -> None:
    """The search for a proof once left moves of kept outputs out, and called this impossible."""
    answer = schedule_problem(random_problem(123, max_nodes=6, semantics=Semantics(outputs="kept")), time_limit=1)
    assert answer.status is Status.UNKNOWN


# other objectives


def moved_activations(problem: ScheduleProblem, answer: Schedule) -> set[str]:
    kinds = {tile.name: tile.kind for tile in problem.tiles}
    return {t.tile for t in answer.transfers if t.source == OFFCHIP and kinds[t.tile] is TileKind.ACTIVATION}


def test_the_least_peak_on_the_chip_is_that_of_one_core_where_nothing_is_fetched() -> None:
    terms = Semantics(inputs="streamed", weights="free", outputs="streamed")
    problem = duo_head(256, 128, 4, semantics=terms, objective=Objective.MEMORY)
    answer = schedule_problem(problem, time_limit=60)
    assert answer.peak_total_bytes == minimax(problem).peak_bytes == 90_112
    assert answer.status is Status.OPTIMAL
    assert answer.bounds.peak_bytes == answer.peak_total_bytes


def test_the_objective_memory_spills_nothing() -> None:
    problem = duo_head(256, 128, 2, objective=Objective.MEMORY)
    answer = schedule_problem(problem, time_limit=2)
    assert answer.offchip_bytes.spilled == 0
    assert not moved_activations(problem, answer)
    assert answer.peak_total_bytes is not None
    assert answer.bounds.peak_bytes is not None
    assert answer.bounds.peak_bytes <= answer.peak_total_bytes


@pytest.mark.parametrize("seed", range(6))
def test_energy_and_peak_are_proven_on_small_problems(seed: int) -> None:
    for objective in (Objective.ENERGY, Objective.MEMORY):
        problem = random_problem(seed, max_nodes=4, objective=objective)
        try:
            answer = schedule_problem(problem, time_limit=60)
        except InfeasibleError:
            assert objective is Objective.MEMORY  # without spills there may be no schedule
            continue
        assert answer.status is Status.OPTIMAL
        fast = schedule_problem(random_problem(seed, max_nodes=4), time_limit=60)
        assert answer.value is not None
        assert fast.replace(objective=objective).value is not None
        assert answer.latency_cycles is not None
        assert fast.latency_cycles is not None
        assert answer.latency_cycles >= fast.latency_cycles


def test_a_front_falls_in_peak_as_it_rises_in_latency() -> None:
    problem = duo_head(512, 128, 4)
    front = pareto_front(problem, 3, time_limit=4)
    latencies = [answer.latency_cycles or 0 for answer in front]
    peaks = [answer.peak_total_bytes or 0 for answer in front]
    assert len(front) >= 2
    assert latencies == sorted(latencies)
    assert peaks == sorted(peaks, reverse=True)
    assert all(not verify(problem, answer) for answer in front)
    assert [answer.scope for answer in front] == ["this split", *["this split and peak"] * (len(front) - 1)]


def test_a_front_of_one_point_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2 points, got 1"):
        pareto_front(duo_head(256, 128, 2), 1)
