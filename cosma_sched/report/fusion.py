"""Tables of the fusion planner: groups with their tiles, what they cost and save, and the network beside its ceiling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cosma_sched.report.layout import Column, facts, number, percent, printable, table
from cosma_sched.report.mapping import reason_lines
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from cosma_sched.errors import Reason
    from cosma_sched.fusion.answer import FusedGroup, FusionResult

_STOPS = {
    Termination.TIME_LIMIT: "stopped by the time limit",
    Termination.INTERRUPTED: "interrupted",
    Termination.EXHAUSTED: "searched to its end, not proven",
}
_MOST_BARRIERS = 5

__all__ = ["fusion_lines", "group_reason_lines", "reason_lines"]


def fusion_lines(result: FusionResult, name: str | None = None, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a network's groups as a table, then the totals beside those without fusion and beside the ceiling.

    Parameters
    ----------
    result
        The result.
    name
        Of the network.
    width
        Columns of the terminal, or None for no limit.
    all_rows
        List vector operators that run alone, the members of every group, and all barriers too.
    """
    title = printable(name or result.provenance.model or "a network built in Python")
    where = printable(result.accelerator.name)
    if not result.groups:
        status = "infeasible, proven" if result.status == Status.INFEASIBLE else _status(result)
        return [f"{title} on {where}", "", *facts([("status", status)])]
    heading = f"{title}: {len(result.layers):,} layers in {len(result.groups):,} groups on {where}"
    lines = [heading, "", *_group_table(result, width, all_rows), "", *facts(_totals(result))]
    lines += [f"  {printable(remark)}" for remark in result.remarks]
    shown = result.barriers if all_rows else result.barriers[:_MOST_BARRIERS]
    lines += [f"  {printable(barrier)}" for barrier in shown]
    if len(shown) < len(result.barriers):
        lines.append(f"  and {len(result.barriers) - len(shown)} more places where fusion must stop; -v lists all")
    return lines


def _group_table(result: FusionResult, width: int | None, all_rows: bool) -> list[str]:
    titles = [("group", False), ("layers", True), ("tile", False), ("tiles", True), ("mode", False), ("resident", True), ("uJ", True)]
    titles += [("cycles", True), ("peak", True), ("of scratchpad", True), ("DRAM words", True), ("saved", True)]
    capacity = next(level.size_bytes for level in result.accelerator.core.levels if level.name == "scratchpad" or len(level.holds) == 2)
    columns = [Column(text, numbers=numbers) for text, numbers in titles]
    groups = [group for group in result.groups if all_rows or any(step.mapping is not None for step in group.steps)]
    return table(columns, [_group_row(group, capacity or 0, all_rows) for group in groups], width=width)


def _group_row(group: FusedGroup, capacity: int, all_rows: bool) -> list[str]:
    name = group.layers[0]
    if len(group.layers) > 1:
        name = " + ".join(group.layers) if all_rows else f"{group.layers[0]} .. {group.layers[-1]}"
    tiles = sum(step.multiplicity for step in group.steps if step.layer == group.layers[-1])
    alone = len(group.layers) == 1
    return [
        name,
        number(len(group.layers)),
        "alone" if alone else _tile(group),
        number(tiles),
        "-" if alone or (tiles == 1 and group.features is None) else group.mode,
        number(len(group.resident_weights)),
        f"{group.energy_pj / 1e6:,.3f}",
        number(group.latency_cycles),
        number(group.peak_bytes),
        percent(group.peak_bytes / capacity) if capacity and group.peak_bytes else "0 %",
        number(group.dram_words),
        number(group.unfused_dram_words - group.dram_words),
    ]


def _tile(group: FusedGroup) -> str:
    if group.features is not None:
        return f"P{group.tile[1]} F{group.features}"
    return " ".join(f"{axis}{size}" for axis, size in zip("NPQ", group.tile, strict=True) if size > 1) or "P1 Q1"


def _totals(result: FusionResult) -> Iterator[tuple[str, str]]:
    yield "status", _status(result)
    yield "energy", f"{number(result.energy_pj)} pJ, unfused {number(result.unfused_energy_pj)}"
    yield "latency", f"{number(result.latency_cycles)} cycles, unfused {number(result.unfused_latency_cycles)}"
    yield "unfused EDP", f"{number(result.unfused_edp)} pJ cycles"
    yield "fused EDP", f"{number(result.edp)} pJ cycles"
    if result.edp and result.unfused_edp and result.ceiling_edp:
        yield "gain", f"{result.unfused_edp / result.edp:.4f}"
        yield "ceiling", f"{result.unfused_edp / result.ceiling_edp:.4f} (no fusion goes below {number(result.ceiling_edp)} pJ cycles)"
    yield "bound_edp", "unknown" if result.bounds.edp is None else f"{number(result.bounds.edp)} pJ cycles"
    yield "gap", f"{percent(result.gap)} of {'EDP' if result.objective == 'edp' else result.objective}"
    yield "evaluations", number(result.evaluations)
    rules = result.options
    yield (
        "rules",
        f"halo {rules['halo']}, psum_words {rules['psum_words']}, vector operators {rules['vector_ops']}, overlap {rules['overlap']}",
    )
    yield "space", str(rules["space"])
    yield "verified", "yes" if result.verified else "no"
    yield "seconds", f"{result.seconds:.2f}"


def _status(result: FusionResult) -> str:
    if result.status == Status.OPTIMAL:
        return f"{'EDP' if result.objective == 'edp' else result.objective} optimal in the space below, proven"
    return f"{result.status}, {_STOPS.get(result.termination, str(result.termination))}"


def group_reason_lines(reason: Reason, accelerator: str) -> list[str]:
    """Return why a layer, or a group that was given, fits in no way."""
    if reason.rule != "group-fits":
        return reason_lines(reason, accelerator)
    lines = [f"infeasible: a group that was given does not run on {accelerator}", f"  {reason.statement}"]
    lines.append(f"    {', '.join(f'{name} {number(value)}' for name, value in reason.terms)}")
    lines += [f"  needs at least: {lever.option} {lever.value} ({lever.text})" for lever in reason.levers]
    return [printable(line) for line in lines]
