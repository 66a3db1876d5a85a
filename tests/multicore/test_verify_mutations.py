"""The checker against a slow one that walks cycle by cycle: valid schedules, and a thousand spoilt ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from cosma_sched.multicore.figures import figures
from cosma_sched.multicore.platform import Memory
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.verify import verify
from tests.multicore.answers import answer, slowly_broken
from tests.multicore.instances import random_problem
from tests.multicore.test_list_scheduler import TERMS

SEEDS = 1000
FOUND_BY_ANOTHER_NAME = {"core-known", "residency-interval", "interval"}


def rebuilt(problem: ScheduleProblem, seed: int) -> ScheduleProblem:
    """Let some problems have memories for weights alone, and others two cores that work in one memory."""
    platform = problem.platform
    if seed % 3 == 1:
        cores = {name: replace(facts, weight_memory=f"w{name}") for name, facts in platform.cores.items()}
        memories = {**platform.memories, **{f"w{name}": Memory(f"w{name}", 4) for name in cores}}
        return replace(problem, platform=replace(platform, cores=cores, memories=memories))
    if seed % 3 == 2:
        cores = {**platform.cores, "1": replace(platform.cores["1"], memory="m0")}
        memories = {name: facts for name, facts in platform.memories.items() if name != "m1"}
        memories["m0"] = Memory("m0", 2 * max(facts.capacity_bytes or 0 for facts in platform.memories.values()))
        routes = {ends: found for ends, found in platform.routes.items() if set(ends) != {"0", "1"}}
        return replace(problem, platform=replace(platform, cores=cores, memories=memories, routes=routes))
    return problem


def instance(seed: int) -> tuple[ScheduleProblem, Schedule] | None:
    problem = rebuilt(random_problem(seed, max_nodes=7, semantics=TERMS[seed % len(TERMS)]), seed)
    found = answer(problem, ("list-latency", "list-memory")[seed // 4 % 2])
    return None if found is None else (problem, found)


def shift(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """Move a run, a transfer or a stay by some cycles."""
    name = rng.choice(["nodes", "transfers", "residency"])
    entries = list(getattr(schedule, name))
    if entries:
        at, by = rng.randrange(len(entries)), rng.choice([-3, -2, -1, 1, 2, 3])
        entries[at] = replace(entries[at], start=max(0, entries[at].start + by), end=max(0, entries[at].end + by))
    return schedule.replace(**{name: tuple(entries)})


def swap_core(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """Run a node elsewhere, in the time that it takes there."""
    runs = list(schedule.nodes)
    at = rng.randrange(len(runs))
    core = rng.choice([core for core in problem.platform.cores if core != runs[at].core])
    node = next(node for node in problem.nodes if node.name == runs[at].name)
    runs[at] = replace(runs[at], core=core, end=runs[at].start + node.cycles.get(core, runs[at].end - runs[at].start))
    return schedule.replace(nodes=tuple(runs))


def drop_transfer(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """Leave a transfer out."""
    kept = list(schedule.transfers)
    if kept:
        kept.pop(rng.randrange(len(kept)))
    return schedule.replace(transfers=tuple(kept))


def shrink_residency(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """Let a stay begin later or end earlier."""
    entries = list(schedule.residency)
    if entries:
        at = rng.randrange(len(entries))
        later = rng.random() < 0.5
        entries[at] = replace(entries[at], start=entries[at].start + 1) if later else replace(entries[at], end=entries[at].end - 1)
    return schedule.replace(residency=tuple(entries))


def overlap(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """Let a transfer start when another one starts on a common resource."""
    pairs = [
        (a, b)
        for a, one in enumerate(schedule.transfers)
        for b, two in enumerate(schedule.transfers)
        if a != b and set(one.route) & set(two.route)
    ]
    if not pairs:
        return schedule
    a, b = rng.choice(pairs)
    moved, other = schedule.transfers[a], schedule.transfers[b]
    entries = list(schedule.transfers)
    entries[a] = replace(moved, start=other.start, end=other.start + moved.end - moved.start)
    return schedule.replace(transfers=tuple(entries))


def wrong_field(rng: random.Random, problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """State a figure that is not true."""
    core = rng.choice(list(problem.platform.cores))
    changes: list[dict[str, object]] = [
        {"latency_cycles": (schedule.latency_cycles or 0) + rng.choice([-1, 1])},
        {"energy_pj": (schedule.energy_pj or 0) + 1},
        {"energy": replace(schedule.energy, compute=schedule.energy.compute + 1)},
        {"peak_total_bytes": (schedule.peak_total_bytes or 0) - 1},
        {"peak_bytes": {**schedule.peak_bytes, core: schedule.peak_bytes[core] + 1}},
        {"offchip_bytes": replace(schedule.offchip_bytes, read=schedule.offchip_bytes.read + 1)},
        {"offchip_bytes": replace(schedule.offchip_bytes, spilled=schedule.offchip_bytes.spilled + 1)},
        {"utilization": {**schedule.utilization, core: schedule.utilization[core] + 0.01}},
    ]
    return schedule.replace(**rng.choice(changes))


MUTATIONS: tuple[Callable[[random.Random, ScheduleProblem, Schedule], Schedule], ...] = (
    shift,
    swap_core,
    drop_transfer,
    shrink_residency,
    overlap,
    wrong_field,
)


@pytest.mark.parametrize("part", range(8))
def test_a_list_schedule_breaks_no_rule_of_either_checker(part: int) -> None:
    for seed in range(part, 200, 8):
        if (found := instance(seed)) is not None:
            problem, schedule = found
            assert verify(problem, schedule) == [], f"seed {seed}"
            assert slowly_broken(problem, schedule) == set(), f"seed {seed}"


@pytest.mark.parametrize("part", range(20))
def test_a_spoilt_schedule_is_rejected_under_the_name_of_the_rule_that_it_breaks(part: int) -> None:
    spoilt = 0
    for seed in range(part, SEEDS, 20):
        if (found := instance(seed)) is None:
            continue
        problem, schedule = found
        rng = random.Random(seed)
        mutated = MUTATIONS[seed // 20 % len(MUTATIONS)](rng, problem, schedule)
        if mutated.nodes and rng.random() < 0.5:  # half of them with true figures, so that only the rules can tell
            mutated = with_true_figures(problem, mutated)
        broken = slowly_broken(problem, mutated)
        named = {violation.rule for violation in verify(problem, mutated)}
        assert bool(broken) == bool(named), f"seed {seed}: {sorted(broken)} against {sorted(named)}"
        assert broken <= named, f"seed {seed}: {sorted(broken)} against {sorted(named)}"
        spoilt += bool(broken)
    assert spoilt > SEEDS / 20 / 3


def with_true_figures(problem: ScheduleProblem, schedule: Schedule) -> Schedule:
    """State what the listed runs, transfers and stays make, wrong as they may be."""
    from cosma_sched.multicore.figures import peaks_of

    if any(run.core not in node.energy_pj for run in schedule.nodes for node in problem.nodes if node.name == run.name):
        return schedule
    made = figures(problem, schedule.nodes, schedule.transfers)
    peaks, total = peaks_of(problem, schedule.residency)
    return replace(made, residency=schedule.residency, peak_bytes=peaks, peak_total_bytes=total).put_into(schedule)
