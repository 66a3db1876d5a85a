"""List scheduling: rules, room, dead ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cosma_sched.errors import InfeasibleError
from cosma_sched.multicore.list_scheduler import EVICTIONS, RULES, list_schedule
from cosma_sched.multicore.problem import Semantics
from tests.multicore.instances import KIB, duo, duo_head, random_problem

TERMS = (
    Semantics(),
    Semantics(outputs="kept"),
    Semantics(inputs="streamed", weights="free", outputs="streamed"),
    Semantics(inputs="resident", partial_sum_factor=2),
)


@pytest.mark.parametrize("seed", range(60))
def test_every_rule_holds_every_capacity(seed: int) -> None:
    problem = random_problem(seed, max_nodes=9, semantics=TERMS[seed % 4])
    for rule in RULES:
        for eviction in EVICTIONS:
            try:
                draft = list_schedule(problem, rule=rule, eviction=eviction)
            except InfeasibleError:
                return
            if draft is not None:
                found = draft.figures(problem)
                assert all((limit := problem.platform.capacity(core)) is None or peak <= limit for core, peak in found.peak_bytes.items())
                assert found.latency_cycles == draft.latency(problem)


def test_plenty_of_memory_means_no_spill() -> None:
    problem = duo_head(512, 128, 4)
    for rule in RULES:
        draft = list_schedule(problem, rule=rule)
        assert draft is not None
        assert draft.figures(problem).offchip_bytes.spilled == 0


def test_deepest_first_holds_less_than_earliest_first() -> None:
    problem = duo_head(1024, 128, 8)
    peaks = {}
    for rule in ("list-latency", "list-memory"):
        draft = list_schedule(problem, rule=rule)
        assert draft is not None
        peaks[rule] = draft.figures(problem).peak_total_bytes
    assert peaks["list-memory"] < peaks["list-latency"]


def test_a_tight_memory_is_kept_by_spilling() -> None:
    problem = duo_head(1024, 128, 8, (320 * KIB, 272 * KIB))
    draft = list_schedule(problem)
    assert draft is not None
    found = draft.figures(problem)
    assert found.offchip_bytes.spilled > 0
    assert found.peak_bytes["0"] <= 320 * KIB
    assert found.peak_bytes["1"] <= 272 * KIB


def test_given_cores_are_taken() -> None:
    problem = duo_head(256, 128, 2)
    draft = list_schedule(problem, cores=[k % 2 for k in range(10)])
    assert draft is not None
    assert draft.cores == tuple(str(k % 2) for k in range(10))


def test_a_given_priority_is_followed() -> None:
    problem = replace(duo_head(256, 128, 2), platform=duo())
    draft = list_schedule(problem, priority=[-k for k in range(10)], cores=[0] * 10)
    assert draft is not None
    assert draft.starts[5] < draft.starts[0]  # the second block of V before the first of Q


def test_a_tile_larger_than_every_memory_is_named_with_what_would_hold_it() -> None:
    problem = duo_head(1024, 128, 8, (100 * KIB, 64 * KIB))
    with pytest.raises(InfeasibleError) as error:
        list_schedule(problem)
    reason = error.value.reasons[0]
    assert reason.rule == "tile-fits"
    assert 'tile "S[0]" of 131072 bytes is larger than every memory; the largest holds 102400 bytes' in reason.statement
    enough = int(reason.levers[0].value)
    assert list_schedule(duo_head(1024, 128, 8, (enough, None))) is not None


def test_a_node_that_fits_nowhere_though_its_tiles_would_is_named() -> None:
    with pytest.raises(InfeasibleError) as error:
        list_schedule(duo_head(1024, 128, 8, (200 * KIB, 180 * KIB)))
    assert error.value.reasons[0].rule == "node-fits"
    assert error.value.reasons[0].terms[0] == ("S[0]", 131072)
