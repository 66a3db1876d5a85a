"""The table of a multi-core schedule: what it takes, what is proven, what each core does, where the time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cosma_sched.multicore.front import ScheduleFront
from cosma_sched.multicore.periods import listed_in_full
from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import Objective
from cosma_sched.multicore.schedule import GROUPED, GROUPING, Schedule
from cosma_sched.report.layout import Column, facts, number, percent, printable, table
from cosma_sched.result import Reason, Status, Termination
from cosma_sched.units import short_bytes

_STOPS = {
    Termination.GAP_REACHED: "stopped at the gap that was asked for",
    Termination.TIME_LIMIT: "stopped by the time limit",
    Termination.INTERRUPTED: "interrupted",
    Termination.EXHAUSTED: "no step left to take",
}
_MOST_ROWS = 20


def schedule_lines(schedule: Schedule, name: str | None = None, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a schedule as a table.

    Parameters
    ----------
    schedule
        The answer.
    name
        Of the network.
    width
        Columns of the terminal, or None for no limit.
    all_rows
        A row for every core and resource instead of the first and busiest 20.
    """
    title = printable(name or schedule.provenance.model or "a network built in Python")
    platform = printable(str(schedule.accelerator.get("name", "a platform")))
    if not schedule.nodes:
        return [f"{title} on {platform}", "", *facts([("status", str(schedule.status)), ("seconds", f"{schedule.seconds:.2f}")])]
    full = listed_in_full(schedule)
    counted = f"{len(full.nodes):,} nodes, {len(full.transfers):,} transfers"
    lines = [f"{title} on {platform}: {counted}", "", *facts(_totals(schedule, full)), "", *_cores(full, width, all_rows)]
    if resources := _resources(full, width, all_rows):
        lines += ["", *resources]
    if schedule.groups:
        lines += ["", f"fusion groups: {len(schedule.groups)}", *(f"  {printable(', '.join(group))}" for group in schedule.groups)]
    lines += [f"  {printable(remark)}" for remark in schedule.remarks]
    return [*lines, *(f"  warning: {printable(warning)}" for warning in schedule.warnings)]


def _totals(schedule: Schedule, full: Schedule) -> Iterator[tuple[str, str]]:
    bounds = schedule.bounds
    yield "status", status_of(schedule)
    yield "latency", f"{number(schedule.latency_cycles)} cycles (bound {_known(bounds.latency_cycles)}{_best(bounds.by_name, '')})"
    if (cuts := _cuts(schedule)) is not None:
        yield "split", cuts
    if schedule.periods:
        yield "periods", ", ".join(f"{p.iterations} x {number(p.ii_cycles)} cycles from {number(p.start)}" for p in schedule.periods[:4])
    peak = short_bytes(schedule.peak_total_bytes or 0)
    yield "peak", f"{peak} ({number(schedule.peak_total_bytes)} bytes on all cores; bound {_known(bounds.peak_bytes)})"
    yield "counted", terms(schedule)
    moved = schedule.offchip_bytes
    yield "off-chip", f"{number(moved.read)} bytes read, {number(moved.write)} written, {number(moved.spilled)} of them spilled"
    split = schedule.energy
    yield (
        "energy",
        f"{number(schedule.energy_pj)} pJ: compute {number(split.compute)}, links {number(split.links)}, off-chip {number(split.offchip)}",
    )
    yield "time", _where_time_goes(full)
    costs = schedule.costs
    yield "costs", ", ".join([str(costs.get("provider", "given")), *map(str, costs.get("assumptions", ()))])
    scope = "this split" if schedule.scope == GROUPED else schedule.scope  # the bound of a grouping is no part of the gap
    yield "gap", f"{percent(schedule.gap)} of {'peak' if schedule.objective is Objective.MEMORY else schedule.objective}, {scope}"
    yield "verified", "yes" if schedule.verified else "no"
    yield "seconds", f"{schedule.seconds:.2f}"


def _cuts(schedule: Schedule) -> str | None:
    """Return how layers are cut, layers with the same cuts together; None for a tile loop."""
    named = schedule.split.get("layers")
    if not isinstance(named, Mapping):
        return None
    alike: dict[str, list[str]] = {}
    for layer, cuts in named.items():
        if cuts:
            alike.setdefault(_cut_text(cuts), []).append(layer)
    shown = [f"{text} ({', '.join(layers[:8])}{', ...' if len(layers) > 8 else ''})" for text, layers in list(alike.items())[:6]]
    if default := schedule.split.get("default"):
        shown.insert(0, f"{_cut_text(default)} ({'all other layers' if named else 'all layers'})")
    return "; ".join(shown) + (" ..." if len(alike) > 6 else "") if shown else "none"


def _cut_text(cuts: Sequence[Mapping[str, Any]]) -> str:
    return " x ".join(f"{cut['dim']} {'in ' + str(cut['parts']) if 'parts' in cut else 'by ' + str(cut['size'])}" for cut in cuts)


def terms(schedule: Schedule) -> str:
    """Return what a peak of this schedule counts: which tiles, for how long, against which capacity."""
    rules = schedule.semantics
    parts = [f"inputs {rules.inputs}", f"weights {rules.weights}", f"outputs {rules.outputs}"]
    parts += [
        f"partial sums x{rules.partial_sum_factor}",
        f"softmax {rules.softmax}",
        f"timing {rules.timing}",
        f"capacity {rules.capacity_rule}",
    ]
    return ", ".join(parts)


def status_of(schedule: Schedule) -> str:
    """Return the status in words, with what it holds for."""
    what = {"memory": "peak"}.get(str(schedule.objective), str(schedule.objective))
    if schedule.status == Status.OPTIMAL:
        return f"{what} optimal for {schedule.scope}" if schedule.scope != "all splits" else f"{what} optimal over {schedule.scope}"
    return f"{schedule.status} ({schedule.method}), {_STOPS.get(schedule.termination, str(schedule.termination))}"


def _known(value: int | None) -> str:
    return "unknown" if value is None else number(value)


def _best(by_name: Mapping[str, int], suffix: str) -> str:
    own = {name: value for name, value in by_name.items() if not name.endswith(("_bytes", "_pj")) and name != GROUPING}
    del suffix
    return f" by {max(own, key=lambda name: own[name])}" if own else ""


def _where_time_goes(full: Schedule) -> str:
    """Return how the cycles of the cores that run anything divide: running, while something arrives over a link, or from off-chip, else."""
    latency = full.latency_cycles or 1
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for run in full.nodes:
        spans[run.core].append((run.start, run.end))
    over_links: dict[str, list[tuple[int, int]]] = defaultdict(list)
    from_offchip: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for transfer in full.transfers:
        for target in transfer.targets:
            (from_offchip if transfer.source == OFFCHIP else over_links)[target].append((transfer.start, transfer.end))
    cores = list(spans)
    busy = sum(last - first for runs in spans.values() for first, last in runs)
    arriving = offchip = 0
    for core, runs in spans.items():
        coming, fetched = over_links[core], from_offchip[core]
        links = _covered(runs + coming) - _covered(runs)
        arriving += links
        offchip += _covered(runs + coming + fetched) - _covered(runs) - links
    whole = latency * max(1, len(cores))
    shares = [("compute", busy), ("links", arriving), ("off-chip", offchip), ("waiting", whole - busy - arriving - offchip)]
    return ", ".join(f"{name} {100 * share / whole:.1f} %" for name, share in shares)


def _covered(spans: list[tuple[int, int]]) -> int:
    total = end = 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def _cores(full: Schedule, width: int | None, all_rows: bool) -> list[str]:
    limits = _capacities(full)
    columns = [Column("core"), *(Column(title, numbers=True) for title in ("nodes", "busy", "used", "peak bytes", "capacity"))]
    count: dict[str, int] = defaultdict(int)
    busy: dict[str, int] = defaultdict(int)
    for run in full.nodes:
        count[run.core] += 1
        busy[run.core] += run.end - run.start
    rows = []
    for core, peak in full.peak_bytes.items():
        used = f"{100 * full.utilization[core]:.1f} %" if core in full.utilization else ""
        rows.append([core, number(count[core]), number(busy[core]), used, number(peak), _limit(limits, core)])
    lines = table(columns, rows if all_rows else rows[:_MOST_ROWS], width=width)
    return lines if all_rows or len(rows) <= _MOST_ROWS else [*lines, f"and {len(rows) - _MOST_ROWS} more cores; -v lists them"]


def _limit(limits: Mapping[str, int | None], core: str) -> str:
    size = limits.get(core)
    return "" if core not in limits else "no limit" if size is None else number(size)


def _capacities(full: Schedule) -> dict[str, int | None]:
    """Return the bytes that each core can hold under the rules of the schedule."""
    from cosma_sched.accelerator import Accelerator
    from cosma_sched.multicore.platforms import platform_of

    if not full.accelerator:
        return {}
    given, rules = full.provenance.options.get("capacity"), full.semantics
    device = Accelerator.from_json(full.accelerator)
    platform = platform_of(device, capacity_rule=rules.capacity_rule, capacities=given if isinstance(given, Mapping) else None)
    return {core: platform.capacity(core) for core in platform.cores}


def _resources(full: Schedule, width: int | None, all_rows: bool) -> list[str]:
    busy: dict[str, int] = defaultdict(int)
    moved: dict[str, int] = defaultdict(int)
    for transfer in full.transfers:
        for resource in transfer.route:
            busy[resource] += transfer.end - transfer.start
            moved[resource] += transfer.size_bytes
    latency = full.latency_cycles or 1
    ranked = sorted(busy, key=lambda name: (-busy[name], name))
    columns = [Column("link, bus or port"), *(Column(title, numbers=True) for title in ("bytes", "busy", "used"))]
    rows = [[name, number(moved[name]), number(busy[name]), f"{100 * busy[name] / latency:.1f} %"] for name in ranked]
    return table(columns, rows if all_rows else rows[:_MOST_ROWS], width=width) if rows else []


def reason_lines(reason: Reason) -> list[str]:
    """Return why no schedule exists."""
    lines = ["infeasible: no schedule exists", f"  {reason.where}: {reason.statement}" if reason.where else f"  {reason.statement}"]
    if reason.terms:
        lines.append(f"    {', '.join(f'{name} {number(value)}' for name, value in reason.terms)}")
    lines += [f"  works with: {lever.option} {lever.value} ({lever.text})" for lever in reason.levers]
    return [printable(line) for line in lines]


def saved_schedule_lines(schedule: Schedule, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a saved schedule as `schedule_lines` does."""
    return schedule_lines(schedule, schedule.provenance.model or path, width=width, all_rows=all_rows)


def front_lines(front: Sequence[Schedule], name: str, *, width: int | None = None) -> list[str]:
    """Return a Pareto front as a table, the fastest schedule first."""
    columns = [
        Column("latency", numbers=True),
        Column("peak bytes", numbers=True),
        Column("off-chip bytes", numbers=True),
        Column("status"),
    ]
    rows = []
    for one in front:
        moved = one.offchip_bytes.read + one.offchip_bytes.write
        rows.append([number(one.latency_cycles), number(one.peak_total_bytes), number(moved), status_of(one)])
    return [f"{printable(name)}: {len(front)} schedules, none of them dominated", "", *table(columns, rows, width=width)]


def saved_front_lines(front: ScheduleFront, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a saved front as `front_lines` does; it has no rows to leave out."""
    del all_rows
    return front_lines(front.schedules, front.provenance.model or path, width=width)
