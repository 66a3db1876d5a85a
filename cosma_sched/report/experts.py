"""The table of an expert placement: methods side by side, in-sample and held-out, with bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cosma_sched.report.layout import Column, facts, number, percent, printable, table
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from cosma_sched.experts.load import LoadReport
    from cosma_sched.experts.placement import Measured, Placement
    from cosma_sched.experts.traffic import TrafficReport

_STOPS = {
    Termination.TIME_LIMIT: "stopped by the time limit",
    Termination.INTERRUPTED: "interrupted",
    Termination.EXHAUSTED: "the method has no further step",
}
_PROOFS = {
    "viterbi": "a search over all placements of all layers",
    "enumeration": "trying all replica counts",
    "load bound": "the load bound",
}


def placement_lines(placement: Placement, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a placement as a table.

    Parameters
    ----------
    width
        Columns of the terminal, or None for no limit.
    all_rows
        Show every layer.
    """
    lines = [_title(placement), ""]
    if placement.slots is None or placement.load is None or placement.traffic is None:
        return [*lines, *facts([("status", "infeasible, proven")])]
    lines += [*_comparison(placement, width), "", *facts(_facts(placement))]
    if all_rows:
        lines += ["", *_layers(placement, width)]
    return lines


def _title(placement: Placement) -> str:
    name = (placement.provenance.model or "a profile built in Python").replace("\n", ", ")
    grid = f"{placement.gpus} GPUs" + (f" in {placement.nodes} nodes" if placement.nodes > 1 else "")
    replicas = placement.gpus * placement.slots_per_gpu - placement.experts
    extra = f" ({number(replicas)} replicas per layer)" if replicas > 0 else ""
    top = "" if placement.top_k is None else f", top-{placement.top_k}"
    room = f", {placement.slots_per_gpu} slots each{extra}" if placement.slots_per_gpu else ""
    model = f"{len(placement.layers)} layers of {placement.experts} experts{top}"
    marks = ["synthetic trace"] if placement.synthetic else []
    if placement.load is not None and placement.load.held_out is None:
        marks.append("in-sample, not a forecast")
    return printable(f"{name}: {model}; {grid}{room}{''.join(f' [{mark}]' for mark in marks)}")


def _comparison(placement: Placement, width: int | None) -> list[str]:
    rows = []
    held = placement.load is not None and placement.load.held_out is not None
    traffic_columns = _traffic_columns(placement)
    order = ["contiguous", "eplb", "two-stage", "joint"]
    measured = {name: (one.load, one.traffic, one.duplicate_slots) for name, one in placement.baselines.items()}
    if placement.load is not None and placement.traffic is not None:
        measured[placement.method] = (placement.load, placement.traffic, placement.duplicate_slots)
    for name in sorted(measured, key=order.index):
        load, traffic, twice = measured[name]
        label = f"{name} <" if name == placement.method else name
        rows.append([label, *_cells(load, traffic, traffic_columns, held), str(twice)])
    if placement.bounds is not None:
        rows.append(["bound", *_bound_cells(placement, traffic_columns, held), ""])
    headings = ["load", "held-out"] if held else ["load"]
    for _, heading in traffic_columns:
        headings += [heading, "held-out"] if held else [heading]
    columns = [Column("method"), *(Column(heading, numbers=True) for heading in [*headings, "twice on a GPU"])]
    return table(columns, rows, width=width)


def _traffic_columns(placement: Placement) -> list[tuple[str, str]]:
    columns = [("copies_per_token", "copies/token"), ("remote_fraction", "remote")]
    if placement.nodes > 1:
        columns = [columns[0], ("nodes_per_token", "nodes/token"), columns[1], ("inter_node_fraction", "inter-node")]
    known = placement.traffic.profile if placement.traffic is not None else None
    return [(name, heading) for name, heading in columns if known is not None and getattr(known, name) is not None]


def _cells(load: Measured[LoadReport], traffic: Measured[TrafficReport], columns: list[tuple[str, str]], held: bool) -> list[str]:
    cells = [_ratio(load.profile.max_over_mean)]
    if held:
        cells.append(_ratio(None if load.held_out is None else load.held_out.max_over_mean))
    for name, _ in columns:
        cells.append(_ratio(getattr(traffic.profile, name)))
        if held:
            cells.append(_ratio(None if traffic.held_out is None else getattr(traffic.held_out, name)))
    return cells


def _bound_cells(placement: Placement, columns: list[tuple[str, str]], held: bool) -> list[str]:
    bounds = placement.bounds
    cells = [_ratio(None if bounds is None else bounds.load)] + ([""] if held else [])
    for name, _ in columns:
        cells += [_ratio(getattr(bounds, name, None)), *([""] if held else [])]
    return cells


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _facts(placement: Placement) -> Iterator[tuple[str, str]]:
    yield "status", _status(placement)
    yield "objective", _objective(placement)
    load, traffic = placement.load, placement.traffic
    if load is not None:
        one = load.profile
        yield "load", f"max/mean {one.max_over_mean:.4f}, worst layer {one.worst_layer} with {one.worst_layer_max_over_mean:.4f}"
        others = f"balancedness {one.balancedness:.4f}, utilisation {one.utilisation:.4f}, imbalance ratio {one.imbalance_ratio:.4f}"
        yield "", others + ("" if one.touch_share is None else f", touch share {one.touch_share:.4f}")
        if one.active_experts is not None:
            yield "", f"active experts of a batch on the busiest GPU {one.active_experts:.2f}"
        if len(one.per_scenario) > 1:
            name, worst = max(one.per_scenario.items(), key=lambda item: item[1])
            yield "scenarios", f"{len(one.per_scenario)}, the worst is {name} with {worst:.4f}"
    if traffic is not None:
        yield from _traffic_facts(placement, traffic.profile)
    if placement.gap is not None:
        yield "gap", f"load {percent(placement.gap.load)}, traffic {percent(placement.gap.traffic)}"
    if placement.moved_experts is not None:
        size = "" if placement.moved_bytes is None else f", {number(placement.moved_bytes)} bytes"
        total = len(placement.layers) * placement.gpus * placement.slots_per_gpu
        yield "moved", f"{number(placement.moved_experts)} of {number(total)} experts{size}"
    for name, figure in (placement.worth or {}).items():
        yield "worth", f"{name.replace('_', ' ')} {figure:.6g}"
    for note in placement.notes:
        yield "note", note
    yield "verified", "yes" if placement.verified else "no"
    yield "seconds", f"{placement.seconds:.2f}"


def _status(placement: Placement) -> str:
    if placement.status == Status.OPTIMAL:
        return f"optimal, proven by {' and '.join(_PROOFS.get(name, name) for name in placement.provenance.proved_by)}"
    return f"{placement.status}, {_STOPS.get(placement.termination, str(placement.termination))}"


def _objective(placement: Placement) -> str:
    if placement.method != "joint":
        return "that of the method"
    if placement.weights is not None:
        return f"{placement.weights[0]:g} load + {placement.weights[1]:g} {placement.traffic_model} traffic"
    known = placement.traffic is not None and _traffic_value(placement, placement.traffic.profile) is not None
    return (
        f"least {placement.traffic_model} traffic with every layer within {placement.max_load:g} of its best load"
        if known
        else "least load"
    )


def _traffic_value(placement: Placement, report: TrafficReport) -> float | None:
    return report.remote_fraction if placement.traffic_model == "token-stays" else report.copies_per_token


def _traffic_facts(placement: Placement, report: TrafficReport) -> Iterator[tuple[str, str]]:
    if report.copies_per_token is None and report.remote_fraction is None:
        interval = report.copies_interval
        if interval is None:
            yield "traffic", "unknown: the profile has no token ids or transitions"
        else:
            yield "traffic", f"copies per token between {interval[0]:.4f} and {interval[1]:.4f}; the exact figure needs token ids"
        return
    if report.copies_per_token is not None:
        yield "traffic", f"{report.copies_per_token:.4f} GPUs per token and layer, {report.inter_node_copies or 0:.4f} copies between nodes"
    elif report.copies_interval is not None:
        yield (
            "traffic",
            f"copies per token between {report.copies_interval[0]:.4f} and {report.copies_interval[1]:.4f}; token ids would tell",
        )
    if report.remote_fraction is not None and report.remote_transitions is not None and report.transitions is not None:
        remote, total = (f"{value:,.0f}" for value in (report.remote_transitions, report.transitions))
        yield "", f"{remote} of {total} transitions between GPUs, if tokens stay"
    if report.busiest_port is not None:
        yield "", f"busiest port {report.busiest_port:.4f} ({placement.traffic_model})"
    if report.home_cost_bound is not None:
        yield "", f"at most {report.home_cost_bound:.4f} dispatch cost per token and layer from the known home ranks"


def _layers(placement: Placement, width: int | None) -> list[str]:
    columns = [Column("layer", numbers=True)]
    columns += [Column(title, numbers=True) for title in ("load", "bound", "best", placement.traffic_model, "its bound")]
    rows = [
        [str(one.layer), *map(_ratio, (one.load, one.load_bound, one.best_load, one.traffic, one.traffic_bound))]
        for one in placement.per_layer
    ]
    return table(columns, rows, width=width)


def saved_placement_lines(placement: Placement, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a saved placement as `placement_lines` does; it names its profile itself."""
    del path
    return placement_lines(placement, width=width, all_rows=all_rows)
