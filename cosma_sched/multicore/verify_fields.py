"""The figures that a schedule states, recomputed: latency, energies, peaks, off-chip bytes, utilisation, gap, and what bounds allow."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Objective
from cosma_sched.multicore.schedule import SCOPES, EnergySplit, OffchipBytes
from cosma_sched.multicore.verify_facts import Facts
from cosma_sched.result import Status, relative_gap

_ROUNDING = 1e-6
"""Shares of the latency are stated with six digits."""

Defects = Iterator[tuple[str, str]]


def field_defects(facts: Facts) -> Defects:
    """Yield (rule, what is wrong) for every figure that runs, transfers and residency contradict."""
    yield from _stated(facts)
    yield from _energies(facts)
    yield from _utilization(facts)
    yield from claims(facts)


def _stated(facts: Facts) -> Defects:
    schedule, problem = facts.schedule, facts.problem
    if schedule.latency_cycles != facts.latency:
        yield "latency", f"is stated as {schedule.latency_cycles} cycles, the last run or transfer ends at {facts.latency}"
    if schedule.semantics != problem.semantics:
        yield "semantics", "are not those of the problem"
    if schedule.objective is not problem.objective:
        yield "objective", f"is {schedule.objective}, the problem asks for {problem.objective}"
    peaks: dict[str, int] = {}
    for core, place in problem.platform.cores.items():
        peaks[core] = facts.peak_of({place.memory, place.weight_memory or place.memory})
    for core in sorted({*peaks, *schedule.peak_bytes}):
        if peaks.get(core) != schedule.peak_bytes.get(core):
            yield "peak", f"of core {core} is stated as {schedule.peak_bytes.get(core)} bytes instead of {peaks.get(core)}"
    total = facts.peak_of(set(problem.platform.memories))
    if schedule.peak_total_bytes != total:
        yield "peak-total", f"is stated as {schedule.peak_total_bytes} bytes instead of {total}"
    if schedule.offchip_bytes != (due := offchip_bytes(facts)):
        yield "offchip-bytes", f"are stated as {schedule.offchip_bytes} instead of {due}"


def offchip_bytes(facts: Facts) -> OffchipBytes:
    """Return what passes off-chip; a transfer to several cores over a bus counts once."""
    read = write = spilled = 0
    for transfer in facts.schedule.transfers:
        tile = facts.problem.tiles[facts.tile_at[transfer.tile]]
        if transfer.source == OFFCHIP:
            read += transfer.size_bytes
        elif OFFCHIP in transfer.targets:
            write += transfer.size_bytes
            spilled += 0 if facts.problem.is_written_back(tile) else transfer.size_bytes
    return OffchipBytes(read, write, spilled)


def energies(facts: Facts) -> EnergySplit:
    """Return the energy of nodes, of transfers between cores and of transfers from and to off-chip."""
    compute = sum(node.energy_pj.get(run.core, 0) for node, run in zip(facts.problem.nodes, facts.runs, strict=True))
    parts: dict[bool, list[float]] = {True: [], False: []}
    for transfer in facts.schedule.transfers:
        routes = [route for target in transfer.targets for route in facts.problem.platform.routes.get((transfer.source, target), ())]
        per_bit = next((route.pj_per_bit for route in routes if route.resources == transfer.route), 0.0)
        parts[OFFCHIP in (transfer.source, *transfer.targets)].append(per_bit * 8 * transfer.size_bytes)
    return EnergySplit(compute, round(fsum(parts[False])), round(fsum(parts[True])))


def _energies(facts: Facts) -> Defects:
    due = energies(facts)
    if facts.schedule.energy != due:
        yield "energy", f"is stated as {facts.schedule.energy} instead of {due}"
    if facts.schedule.energy_pj != due.total:
        yield "energy", f"is stated as {facts.schedule.energy_pj} pJ, its parts make {due.total}"


def _utilization(facts: Facts) -> Defects:
    busy: dict[str, int] = {core: 0 for core, place in facts.problem.platform.cores.items() if place.is_compute}
    for run in facts.runs:
        busy[run.core] = busy.get(run.core, 0) + run.end - run.start
    stated = facts.schedule.utilization
    for core in sorted({*busy, *stated}):
        due = busy.get(core, 0) / max(facts.latency, 1)
        if core not in stated or core not in busy or abs(stated[core] - due) > _ROUNDING:
            yield "utilization", f"of core {core} is stated as {stated.get(core)} instead of {due:.6f}"


def claims(facts: Facts) -> Defects:
    """Yield what status, gap and bounds say against the figures and against each other."""
    schedule = facts.schedule
    bounds, value = schedule.bounds, schedule.value
    pairs = (
        ("latency_cycles", bounds.latency_cycles, schedule.latency_cycles),
        ("peak_bytes", bounds.peak_bytes, schedule.peak_total_bytes),
        ("energy_pj", bounds.energy_pj, schedule.energy_pj),
    )
    for name, bound, figure in pairs:
        if bound is not None and figure is not None and bound > figure:
            yield "bound", f"{name} {bound} is above the {figure} that this schedule reaches"
    for name, bound in bounds.by_name.items():
        figure = schedule.energy_pj if name.endswith("_pj") else schedule.latency_cycles
        if not name.endswith("_bytes") and figure is not None and bound > figure:
            yield "bound", f"{name} {bound} is above the {figure} that this schedule reaches"
    if schedule.scope not in SCOPES:
        yield "scope", f"must be one of {', '.join(SCOPES)}, got {schedule.scope}"
    if schedule.status not in (Status.OPTIMAL, Status.FEASIBLE):
        yield "status", f"{schedule.status} with a schedule"
    bound = _bound_of_objective(facts)
    if bound is None:
        if schedule.status is Status.OPTIMAL and schedule.gap != 0:
            yield "status", "optimal without a bound"
        return
    due = relative_gap(value, bound)
    if schedule.gap is None or due is None or abs(schedule.gap - due) > _ROUNDING:
        yield "gap", f"is stated as {schedule.gap} instead of {due}"
    if schedule.status is Status.OPTIMAL and value != bound:
        yield "status", f"optimal at {value}, but the bound is {bound}"


def _bound_of_objective(facts: Facts) -> int | None:
    schedule = facts.schedule
    if schedule.objective is Objective.LATENCY:
        return schedule.bounds.latency_cycles
    if schedule.objective is Objective.ENERGY:
        return schedule.bounds.energy_pj
    return None if schedule.semantics.memory_scope == "worst-core" else schedule.bounds.peak_bytes
