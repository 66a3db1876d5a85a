"""Schedules in a rhythm are schedules, get better, and overlap what the plain rules run one after the other."""

from __future__ import annotations

import random

import pytest

from cosma_sched.multicore.list_scheduler import RULES, list_schedule
from cosma_sched.multicore.platform import OFFCHIP, Memory, Platform, PlatformCore, Route
from cosma_sched.multicore.problem import Node, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.rhythm import has_rhythm, rhythms
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock
from tests.multicore.instances import duo_head


def pipeline(blocks: int) -> ScheduleProblem:
    """Each block runs on one core, then on another, then on the first again; the ways between them take time."""
    cores = {name: PlatformCore(name, name, name) for name in ("a", "v")}
    memories = {name: Memory(name, 4096) for name in cores}
    ways = [("a", "v"), ("v", "a"), (OFFCHIP, "a"), ("a", OFFCHIP)]
    routes = {way: (Route(*way, (f"{way[0]}>{way[1]}",), 8),) for way in ways}
    platform = Platform("pipeline", cores, memories, tuple(f"{one}>{other}" for one, other in ways), routes)
    tiles, nodes = [], []
    for block in range(blocks):
        names = [f"{layer}{block}" for layer in ("x", "s", "p", "y")]
        kinds = [TileKind.INPUT, *[TileKind.ACTIVATION] * 3]
        tiles += [Tile(name, 8, kind, is_output=name.startswith("y")) for name, kind in zip(names, kinds, strict=True)]
        first = len(nodes)
        for number, (layer, core, cycles) in enumerate((("score", "a", 20), ("softmax", "v", 10), ("attend", "a", 20))):
            needs = () if number == 0 else (first + number - 1,)
            nodes.append(Node(f"{layer}{block}", layer, {core: cycles}, {core: 1}, (4 * block + number,), needs, 4 * block + number + 1))
    return ScheduleProblem("pipeline", tuple(nodes), tuple(tiles), platform, Semantics())


def test_a_rhythm_overlaps_what_plain_rules_run_one_after_the_other() -> None:
    problem = pipeline(8)
    tables = Tables.of(problem)
    found = [draft.latency(problem) for draft in rhythms(tables, lambda d: d.latency(problem), clock=Clock(None), rng=random.Random(0))]
    assert found == sorted(found, reverse=True)
    plain = [list_schedule(problem, rule=rule, tables=tables) for rule in RULES]
    assert found[-1] <= min(draft.latency(problem) for draft in plain if draft is not None)
    # 16 runs of 20 cycles on one core, the first input before them, and at most one block's way out at each end
    assert found[-1] <= 8 + 320 + 8 + 26


@pytest.mark.parametrize("problem", [duo_head(64, 32, 4), pipeline(6)], ids=lambda problem: problem.name)
def test_every_schedule_found_is_complete(problem: ScheduleProblem) -> None:
    assert has_rhythm(problem)
    for draft in rhythms(Tables.of(problem), lambda d: d.latency(problem), clock=Clock(1.0), rng=random.Random(1)):
        assert len(draft.starts) == len(problem.nodes)


def test_a_problem_of_single_blocks_has_none() -> None:
    assert not has_rhythm(pipeline(1))
