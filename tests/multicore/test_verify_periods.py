"""Periodic schedules: the short check agrees with the check of every iteration, on valid schedules and on spoilt ones."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cosma_sched.multicore.figures import figures
from cosma_sched.multicore.periodic import plan_loop, unroll
from cosma_sched.multicore.periods import listed_in_full, listed_once
from cosma_sched.multicore.problem import TileKind
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.tile_loop import BodyNode, BodyTile, TileLoop
from cosma_sched.multicore.verify import verify
from cosma_sched.multicore.verify_periods import verify_loop
from tests.multicore.answers import blank
from tests.multicore.instances import duo


def loop(seed: int = 0, iterations: int = 40, passes: int = 2) -> TileLoop:
    """Two products on both cores whose weights come anew in each iteration, and a sum that lasts for a pass."""
    rng = random.Random(seed)
    tiles = (
        BodyTile("x", 64, TileKind.INPUT, "pass"),
        BodyTile("w", 16 * rng.randint(1, 4), TileKind.PARAMETER),
        BodyTile("v", 16 * rng.randint(1, 4), TileKind.PARAMETER),
        BodyTile("h", 32 * rng.randint(1, 3), TileKind.ACTIVATION),
        BodyTile("y", 48, TileKind.ACTIVATION, "pass", is_output=True),
    )
    nodes = (
        BodyNode("up", "up", "0", costs(rng), {"0": 3, "1": 4}, ("x", "w"), "h"),
        BodyNode("down", "down", "1", costs(rng), {"0": 5, "1": 6}, ("h", "v"), "y"),
    )
    return TileLoop("toy", duo((2000, 2000)), nodes, tiles, iterations, passes)


def costs(rng: random.Random) -> dict[str, int]:
    return {"0": rng.randint(1, 9), "1": rng.randint(1, 9)}


def schedule_of(given: TileLoop) -> Schedule:
    plan = plan_loop(given)
    assert plan is not None
    problem, full = given.unrolled(), unroll(plan)
    whole = blank(problem).replace(nodes=full.runs, transfers=full.transfers)
    return listed_once(figures(problem, full.runs, full.transfers).put_into(whole), full.periods)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("iterations", "passes"), [(40, 2), (3, 1), (1, 3)])
def test_a_planned_loop_holds_in_both_checks(seed: int, iterations: int, passes: int) -> None:
    given = loop(seed, iterations, passes)
    schedule = schedule_of(given)
    assert verify(given.unrolled(), listed_in_full(schedule)) == []
    assert verify_loop(given, schedule) == []


def test_a_loop_of_a_million_iterations_is_checked_without_listing_them() -> None:
    short, long = loop(3, 1000), loop(3, 1_000_000)
    schedule = schedule_of(short)
    more = [999_000 * period.ii_cycles for period in schedule.periods]
    first, second = schedule.periods
    passed = {0: 0, 1: more[0]}

    def moved(cycle: int) -> int:
        ends = [first.start + 999 * first.ii_cycles, second.start + 999 * second.ii_cycles]
        return cycle + sum(step for end, step in zip(ends, more, strict=True) if cycle >= end)

    def later(start: int, end: int, name: str) -> tuple[int, int]:
        shift = passed[int(name[-4])] if name.endswith(".0]") else None
        return (moved(start), moved(end)) if shift is None else (start + shift, end + shift)

    transfers, stays = [], []
    for transfer in schedule.transfers:
        start, end = later(transfer.start, transfer.end, transfer.tile)
        transfers.append(replace(transfer, start=start, end=end))
    for entry in schedule.residency:
        start, end = later(entry.start, entry.end, entry.tile)
        stays.append(replace(entry, start=start, end=end))
    runs = [replace(run, start=run.start + passed[int(run.name[-4])], end=run.end + passed[int(run.name[-4])]) for run in schedule.nodes]
    stretched = schedule.replace(
        nodes=tuple(runs),
        transfers=tuple(transfers),
        residency=tuple(stays),
        periods=(replace(first, iterations=1_000_000), replace(second, iterations=1_000_000, start=second.start + more[0])),
    )
    named = {violation.rule for violation in verify_loop(long, stretched)}
    assert named <= {"latency", "energy", "offchip-bytes", "utilization"}
    assert "latency" in named


def spoilt(rng: random.Random, schedule: Schedule) -> Schedule:
    """Change one run, transfer, stay, period or figure."""
    name = rng.choice(["nodes", "transfers", "residency", "periods", "latency_cycles", "energy", "offchip_bytes", "peak_total_bytes"])
    if name in ("latency_cycles", "peak_total_bytes"):
        return schedule.replace(**{name: getattr(schedule, name) + rng.choice([-1, 1])})
    if name == "energy":
        return schedule.replace(energy=replace(schedule.energy, compute=schedule.energy.compute + 1))
    if name == "offchip_bytes":
        return schedule.replace(offchip_bytes=replace(schedule.offchip_bytes, read=schedule.offchip_bytes.read + 16))
    entries = list(getattr(schedule, name))
    at = rng.randrange(len(entries))
    if name == "periods":
        entries[at] = replace(entries[at], ii_cycles=max(1, entries[at].ii_cycles + rng.choice([-2, -1, 1])))
    elif rng.random() < 0.3:
        del entries[at]
    else:
        by = rng.choice([-2, -1, 1, 2])
        entries[at] = replace(entries[at], start=max(0, entries[at].start + by), end=max(0, entries[at].end + by))
    return schedule.replace(**{name: tuple(entries)})


@pytest.mark.parametrize("seed", range(5))
def test_both_checks_agree_on_spoilt_loops(seed: int) -> None:
    given = loop(seed, 30)
    schedule, problem = schedule_of(given), given.unrolled()
    rejected = 0
    for turn in range(40):
        rng = random.Random(100 * seed + turn)
        mutated = spoilt(rng, schedule)
        short = {violation.rule for violation in verify_loop(given, mutated)}
        if "periods" in short:
            continue
        if len(mutated.nodes) < len(schedule.nodes):  # nothing lists such a schedule in full
            assert short == {"node-once"}
            continue
        long = {violation.rule for violation in verify(problem, listed_in_full(mutated))}
        assert short == long, f"turn {turn}: {sorted(short)} against {sorted(long)}"
        rejected += bool(short)
    assert rejected > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ii_cycles": 0}, "periods[0]: ii_cycles must be > 0, got 0"),
        ({"iterations": 39}, "periods[0]: 39 iterations, the loop has 40"),
        ({"nodes": ("up[0.0]",)}, "periods[0]: its nodes are not those of iteration 0"),
        ({"start": 10**6}, "periods[0]: starts at cycle 1000000, after one of its nodes"),
    ],
)
def test_a_period_that_contradicts_its_loop_is_named(changes: dict[str, object], message: str) -> None:
    given = loop()
    schedule = schedule_of(given)
    wrong = schedule.replace(periods=(replace(schedule.periods[0], **changes), schedule.periods[1]))  # type: ignore[arg-type]
    [violation] = verify_loop(given, wrong)
    assert (violation.rule, violation.message) == ("periods", message)


def test_every_pass_has_a_period() -> None:
    given = loop()
    schedule = schedule_of(given)
    [violation] = verify_loop(given, schedule.replace(periods=schedule.periods[:1]))
    assert violation.message == "there are 1 for 2 passes"


def test_what_happens_in_the_middle_of_a_pass_is_refused() -> None:
    given = loop()
    schedule = schedule_of(given)
    middle = schedule.periods[0].start + 20 * schedule.periods[0].ii_cycles
    entries = [replace(entry, end=middle) if entry.tile == "x[0]" else entry for entry in schedule.residency]
    [violation] = verify_loop(given, schedule.replace(residency=tuple(entries)))
    assert (violation.rule, violation.message, violation.tile) == ("periods", "comes or goes while the pass repeats", "x[0]")


def test_a_violation_carries_the_cycle_of_the_schedule() -> None:
    given = loop()
    schedule = schedule_of(given)
    last = max(schedule.transfers, key=lambda entry: entry.end)
    entries = [replace(entry, end=entry.end + 1) if entry == last else entry for entry in schedule.transfers]
    found = [
        violation for violation in verify_loop(given, schedule.replace(transfers=tuple(entries))) if violation.rule == "transfer-duration"
    ]
    assert [violation.cycle for violation in found] == [last.start]
