"""Tables of the mapping planner: a network's layers, and one mapping in full."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cosma_sched.mapping.cost import ROOFS
from cosma_sched.mapping.layer import DIMS
from cosma_sched.mapping.verify import Violation
from cosma_sched.report.layout import Column, facts, number, percent, printable, table
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from cosma_sched.errors import Reason
    from cosma_sched.mapping.answer import LayerMapping, MappingResult
    from cosma_sched.mapping.calls import Evaluation

_PARTS = ("MAC", "register", "accumulator", "scratchpad", "DRAM")
_STOPS = {
    Termination.TIME_LIMIT: "stopped by the time limit",
    Termination.INTERRUPTED: "interrupted",
    Termination.EXHAUSTED: "a baseline, which proves nothing",
}

__all__ = ["Violation", "evaluation_lines", "evaluation_to_json", "mapping_lines", "reason_lines", "tradeoff_csv"]


def mapping_lines(result: MappingResult, name: str | None = None, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a network's mappings as a table: what each layer costs and what binds it, the totals, what is proven.

    Parameters
    ----------
    result
        The result.
    name
        Of the network.
    width
        Columns of the terminal, or None for no limit.
    all_rows
        A row for every layer instead of one for equal layers that follow each other.
    """
    title = printable(name or result.provenance.model or "a network built in Python")
    layers = sum(entry.layer.count for entry in result.layers)
    heading = f"{title}: {layers:,} layers on {printable(result.accelerator.name)}"
    if result.status == Status.INFEASIBLE:
        return [f"{title} on {printable(result.accelerator.name)}", "", *facts([("status", "infeasible, proven")])]
    lines = [heading, "", *_layer_table(result, width, all_rows), "", *facts(_totals(result))]
    lines += [f"  {printable(remark)}" for remark in result.remarks]
    lines += [f"  left out: {operator.type} {printable(operator.name)}: {printable(operator.reason)}" for operator in result.skipped]
    return lines


def _layer_table(result: MappingResult, width: int | None, all_rows: bool) -> list[str]:
    titles = [("layer", False), ("dims", False), ("mapping", False), ("cycles", True), ("array", True), ("uJ", True)]
    columns = [Column(title, numbers=numbers) for title, numbers in titles]
    columns += [Column(part, numbers=True) for part in _PARTS] + [Column("roof")]
    groups = [[entry] for entry in result.layers] if all_rows else _equal_runs(result.layers)
    return table(columns, [_layer_row(group) for group in groups], width=width)


def _equal_runs(layers: Sequence[LayerMapping]) -> list[list[LayerMapping]]:
    return [list(run) for _, run in groupby(layers, key=lambda entry: (entry.layer.problem, entry.mapping))]


def _layer_row(group: Sequence[LayerMapping]) -> list[str]:
    entry = group[0]
    count = sum(each.layer.count for each in group)
    total = sum(entry.split_pj) or 1
    return [
        f"{entry.layer.name} (x{count})" if count > 1 else entry.layer.name,
        str(entry.layer),
        entry.mapping,
        number(entry.latency_cycles),
        f"{100 * entry.utilization:.1f} %",
        f"{entry.energy_pj / 1e6:,.3f}",
        *(f"{100 * part / total:.1f} %" for part in entry.split_pj),
        entry.roof,
    ]


def _totals(result: MappingResult) -> Iterator[tuple[str, str]]:
    yield "status", _status(result)
    yield "energy", f"{_joules(result.energy_pj or 0)} ({number(result.energy_pj)} pJ)"
    yield "latency", f"{number(result.latency_cycles)} cycles"
    yield "EDP", f"{number(result.edp)} pJ cycles"
    yield "bound_edp", "unknown" if result.bounds.edp is None else f"{number(result.bounds.edp)} pJ cycles"
    yield "gap", f"{percent(result.gap)} of {'EDP' if result.objective == 'edp' else result.objective}"
    if result.ceiling_edp and result.edp:
        limit = f"no fusion goes below {number(result.ceiling_edp)} pJ cycles"
        yield "fusion", f"gains at most {result.edp / result.ceiling_edp:.4f}: {limit}"
    yield "evaluations", number(result.evaluations)
    rules = result.options
    charged = sum(vector.energy_pj > 0 for vector in result.vector_operators)
    vectors = f"{len(result.vector_operators)} vector operators {rules['vector_ops']}{f', {charged} alone' if charged else ''}"
    yield "rules", f"halo {rules['halo']}, psum_words {rules['psum_words']}, {vectors}"
    yield "verified", "yes" if result.verified else "no"
    yield "seconds", f"{result.seconds:.2f}"


def _status(result: MappingResult) -> str:
    if result.status == Status.OPTIMAL:
        what = "EDP" if result.objective == "edp" else result.objective
        return f"{what} optimal, proven by the whole space of every layer"
    return f"{result.status}, {_STOPS.get(result.termination, str(result.termination))}"


def _joules(picojoules: int) -> str:
    for unit, size in (("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if picojoules >= size:
            return f"{picojoules / size:.5g} {unit}"
    return f"{picojoules} pJ"


def reason_lines(reason: Reason, accelerator: str) -> list[str]:
    """Return why a layer fits in no way."""
    lines = [f"infeasible: no mapping fits on {accelerator}", f"  {reason.statement}"]
    if reason.terms:
        lines.append(f"    {', '.join(f'{name} {number(value)}' for name, value in reason.terms)}")
    lines += [f"  works with: {lever.option} {lever.value} ({lever.text})" for lever in reason.levers]
    return [printable(line) for line in lines]


def tradeoff_csv(result: MappingResult) -> str:
    """Return the trade-off points of every layer and of the network as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["scope", "name", "count", "energy_pj", "latency_cycles", "scratchpad_bytes", "mapping"])
    for entry in result.layers:
        for point in entry.tradeoffs or ():
            plain = [point.energy_pj, point.latency_cycles, point.scratchpad_bytes, point.mapping]
            writer.writerow(["layer", entry.layer.name, entry.layer.count, *plain])
    for energy, latency in result.tradeoffs or ():
        writer.writerow(["network", result.provenance.model or "", 1, energy, latency, "", ""])
    return stream.getvalue()


# One mapping


def evaluation_lines(found: Evaluation) -> list[str]:
    """Return one mapping in full: tiles, every count, the energy by level, the roofs, the capacity, what it breaks."""
    layer, score, machine = found.layer, found.score, found.machine
    words, outputs = score.words, layer.size("O") * layer.repeat
    limit = {"scratchpad": machine.scratchpad_bytes, "accumulator": machine.accumulator_bytes}
    tile = " ".join(f"{dim}{extent}" for dim, extent in zip(DIMS, score.tile, strict=True) if extent > 1) or "one element"
    pairs = [
        ("layer", f"{layer.name}: {layer}"),
        ("mapping", str(found.nest)),
        ("tile", f"{tile}; C over {found.nest.spatial(1)} rows, K over {found.nest.spatial(2)} columns"),
        ("W", f"w={words.w} words from DRAM, {score.register_fills} register fills, {score.macs} register reads"),
        ("I", f"i={words.i} words from DRAM, {score.macs // found.nest.spatial(2)} scratchpad reads (halo {found.halo})"),
        ("O", f"o={words.o} words to DRAM, psum reads {words.psum}; {score.updates} updates, {score.updates - outputs} reads"),
        ("accesses", ", ".join(f"A{level}={number(count)}" for level, count in enumerate(score.accesses)) + " (A3 in whole blocks)"),
        ("energy", f"{score.energy_exact_pj:,.2f} pJ"),
        ("split", ", ".join(f"{name} {part:,.2f}" for name, part in zip(_PARTS, score.split_pj, strict=True))),
        ("latency", f"{number(score.latency_cycles)} cycles, bound by {score.roof}"),
        ("roofs", ", ".join(f"{name} {roof:,.2f}" for name, roof in zip(ROOFS, score.roofs, strict=True))),
        ("scratchpad", f"{number(score.scratchpad_bytes)} of {number(limit['scratchpad'])} bytes"),
        ("accumulator", f"{number(score.accumulator_bytes)} of {number(limit['accumulator'])} bytes"),
        ("valid", "yes" if not found.broken else f"no, {len(found.broken)} broken rule{'s' if len(found.broken) > 1 else ''}"),
    ]
    return [*facts(pairs), *(f"  {rule}" for rule in found.broken)]


def evaluation_to_json(found: Evaluation) -> dict[str, Any]:
    """Return one mapping in full as a document ``cosma-sched/evaluation/1``."""
    layer, score = found.layer, found.score
    return {
        "schema": "cosma-sched/evaluation/1",
        "name": layer.name,
        "dims": dict(zip(DIMS, layer.dims, strict=True)),
        "stride": [layer.stride_p, layer.stride_q],
        "dilation": [layer.dilation_p, layer.dilation_q],
        "repeat": layer.repeat,
        "accelerator": found.accelerator.to_json(),
        "halo": found.halo,
        "mapping": str(found.nest),
        "valid": not found.broken,
        "violations": [{"rule": rule.rule, "message": rule.message} for rule in found.broken],
        "energy_pj": score.energy_pj,
        "energy_exact_pj": round(score.energy_exact_pj, 4),
        "latency_cycles": score.latency_cycles,
        "words": {"w": score.words.w, "i": score.words.i, "o": score.words.o, "psum": score.words.psum},
        "macs": score.macs,
        "register_fills": score.register_fills,
        "accumulator_updates": score.updates,
        "accesses": dict(zip(("register", "accumulator", "scratchpad", "dram"), score.accesses, strict=True)),
        "energy_split_pj": dict(zip(map(str.lower, _PARTS), (round(part, 4) for part in score.split_pj), strict=True)),
        "roof": score.roof,
        "roofs_cycles": dict(zip(ROOFS, (round(roof, 4) for roof in score.roofs), strict=True)),
        "tile": dict(zip(DIMS, score.tile, strict=True)),
        "scratchpad_bytes": score.scratchpad_bytes,
        "accumulator_bytes": score.accumulator_bytes,
    }
