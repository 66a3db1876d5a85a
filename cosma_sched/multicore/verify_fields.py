"""The figures that a schedule states, recomputed: latency, energies, peaks, off-chip bytes, utilisation, gap, and what bounds allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import fsum

from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Objective, ScheduleProblem
from cosma_sched.multicore.schedule import GROUPED, GROUPING, SCOPES, EnergySplit, OffchipBytes, Schedule, Transfer
from cosma_sched.multicore.verify_facts import Facts
from cosma_sched.result import Status, relative_gap

_ROUNDING = 1e-6
"""Shares of the latency are stated with six digits."""

Defects = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What runs, transfers and residency make.

    Parameters
    ----------
    latency
        End of the last run or transfer.
    compute_pj, links_pj, offchip_pj
        Energy of nodes, of transfers between cores, of transfers from and to off-chip.
    offchip_bytes
        What passes off-chip; a transfer to several cores over a bus counts once.
    busy
        Cycles for which each compute core runs.
    peaks, peak_total
        Most bytes at one instant in the memories of each core, and in all.
    """

    latency: int
    compute_pj: int
    links_pj: float
    offchip_pj: float
    offchip_bytes: OffchipBytes
    busy: Mapping[str, int]
    peaks: Mapping[str, int]
    peak_total: int

    @property
    def energy(self) -> EnergySplit:
        """Energies in whole picojoules."""
        return EnergySplit(self.compute_pj, round(self.links_pj), round(self.offchip_pj))


def truth_of(facts: Facts) -> Truth:
    """Return what a schedule that lists everything makes."""
    platform = facts.problem.platform
    compute = sum(node.energy_pj.get(run.core, 0) for node, run in zip(facts.problem.nodes, facts.runs, strict=True))
    links, offchip = (fsum(transfer_pj(facts, transfer) for transfer in found) for found in _by_end(facts.schedule.transfers))
    busy: dict[str, int] = {core: 0 for core, place in platform.cores.items() if place.is_compute}
    for run in facts.runs:
        busy[run.core] = busy.get(run.core, 0) + run.end - run.start
    peaks = {core: facts.peak_of({place.memory, place.weight_memory or place.memory}) for core, place in platform.cores.items()}
    total = facts.peak_of(set(platform.memories))
    return Truth(facts.latency, compute, links, offchip, offchip_bytes(facts, facts.schedule.transfers), busy, peaks, total)


def _by_end(transfers: Iterable[Transfer]) -> tuple[list[Transfer], list[Transfer]]:
    """Return the transfers between cores, and those from or to off-chip."""
    found: tuple[list[Transfer], list[Transfer]] = [], []
    for transfer in transfers:
        found[OFFCHIP in (transfer.source, *transfer.targets)].append(transfer)
    return found


def transfer_pj(facts: Facts, transfer: Transfer) -> float:
    """Return the energy of one transfer."""
    routes = [route for target in transfer.targets for route in facts.problem.platform.routes.get((transfer.source, target), ())]
    per_bit = next((route.pj_per_bit for route in routes if route.resources == transfer.route), 0.0)
    return per_bit * 8 * transfer.size_bytes


def offchip_bytes(facts: Facts, transfers: Iterable[Transfer]) -> OffchipBytes:
    """Return what some transfers move from and to off-chip."""
    read = write = spilled = 0
    for transfer in transfers:
        tile = facts.problem.tiles[facts.tile_at[transfer.tile]]
        if transfer.source == OFFCHIP:
            read += transfer.size_bytes
        elif OFFCHIP in transfer.targets:
            write += transfer.size_bytes
            spilled += 0 if facts.problem.is_written_back(tile) else transfer.size_bytes
    return OffchipBytes(read, write, spilled)


def field_defects(problem: ScheduleProblem, schedule: Schedule, truth: Truth, *, slack_pj: float = 0.0) -> Defects:
    """Yield (rule, what is wrong) for every stated figure that differs from what is true, and for claims that contradict each other.

    Parameters
    ----------
    problem, schedule
        What was asked and answered.
    truth
        What the schedule makes.
    slack_pj
        By how much energies of transfers may differ, where many equal ones were not added up one by one.
    """
    yield from _stated(problem, schedule, truth)
    yield from _energies(schedule, truth, slack_pj)
    yield from _utilization(schedule, truth)
    yield from claims(schedule)


def _stated(problem: ScheduleProblem, schedule: Schedule, truth: Truth) -> Defects:
    if schedule.latency_cycles != truth.latency:
        yield "latency", f"is stated as {schedule.latency_cycles} cycles, the last run or transfer ends at {truth.latency}"
    if schedule.semantics != problem.semantics:
        yield "semantics", "are not those of the problem"
    if schedule.objective is not problem.objective:
        yield "objective", f"is {schedule.objective}, the problem asks for {problem.objective}"
    for core in sorted({*truth.peaks, *schedule.peak_bytes}):
        if truth.peaks.get(core) != schedule.peak_bytes.get(core):
            yield "peak", f"of core {core} is stated as {schedule.peak_bytes.get(core)} bytes instead of {truth.peaks.get(core)}"
    if schedule.peak_total_bytes != truth.peak_total:
        yield "peak-total", f"is stated as {schedule.peak_total_bytes} bytes instead of {truth.peak_total}"
    if schedule.offchip_bytes != truth.offchip_bytes:
        yield "offchip-bytes", f"are stated as {schedule.offchip_bytes} instead of {truth.offchip_bytes}"


def _energies(schedule: Schedule, truth: Truth, slack_pj: float) -> Defects:
    stated, due = schedule.energy, truth.energy
    differ = abs(stated.links - due.links) > slack_pj or abs(stated.offchip - due.offchip) > slack_pj
    if stated.compute != due.compute or differ:
        yield "energy", f"is stated as {stated} instead of {due}"
    if schedule.energy_pj != stated.total:
        yield "energy", f"is stated as {schedule.energy_pj} pJ, its parts make {stated.total}"


def _utilization(schedule: Schedule, truth: Truth) -> Defects:
    stated = schedule.utilization
    for core in sorted({*truth.busy, *stated}):
        due = truth.busy.get(core, 0) / max(truth.latency, 1)
        if core not in stated or core not in truth.busy or abs(stated[core] - due) > _ROUNDING:
            yield "utilization", f"of core {core} is stated as {stated.get(core)} instead of {due:.6f}"


def claims(schedule: Schedule) -> Defects:
    """Yield what status, gap and bounds say against the figures and against each other."""
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
    yield from _grouping(schedule)
    bound = _bound_of_objective(schedule)
    if bound is None:
        if schedule.status is Status.OPTIMAL and schedule.gap != 0:
            yield "status", "optimal without a bound"
        return
    due = relative_gap(value, bound)
    if schedule.gap is None or due is None or abs(schedule.gap - due) > _ROUNDING:
        yield "gap", f"is stated as {schedule.gap} instead of {due}"
    if schedule.status is Status.OPTIMAL and schedule.scope != GROUPED and value != bound:
        yield "status", f"optimal at {value}, but the bound is {bound}"


def _grouping(schedule: Schedule) -> Defects:
    """A bound for the named groups one after the other stands only beside a latency that equals it, and the scope says so."""
    total, value = schedule.bounds.by_name.get(GROUPING), schedule.latency_cycles
    if schedule.scope != GROUPED:
        if total is not None:
            yield "bound", f"{GROUPING} holds for one grouping, but the scope is {schedule.scope}"
        return
    if not schedule.groups or total is None:
        yield "scope", f"{GROUPED} without groups and their bound"
    if schedule.objective is not Objective.LATENCY or schedule.status is not Status.OPTIMAL or value != total:
        yield "status", f"{schedule.status} for {GROUPED} at {value}, but its bound is {total}"


def _bound_of_objective(schedule: Schedule) -> int | None:
    if schedule.objective is Objective.LATENCY:
        return schedule.bounds.latency_cycles
    if schedule.objective is Objective.ENERGY:
        return schedule.bounds.energy_pj
    return None if schedule.semantics.memory_scope == "worst-core" else schedule.bounds.peak_bytes
