"""The schedules of the published study by name, on any platform: layer by layer, and its fused ones.

Each fixes how a head is cut and in which order its nodes go (see `attention`); where they run and what moves is decided by list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cosma_sched
from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import InfeasibleError, Reason, UsageError, VerificationError, shown, suggestion
from cosma_sched.graph import Graph
from cosma_sched.multicore.attention import SCHEDULES, alpha, head_of, order_of_schedule, split_of_schedule
from cosma_sched.multicore.bounds import bounds_of
from cosma_sched.multicore.calls import request_of
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.problem import Objective
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.tables import Tables
from cosma_sched.multicore.verify import verify
from cosma_sched.progress import Clock
from cosma_sched.result import Provenance, Status, Termination, relative_gap

NAMES = ("layer-by-layer", "fused", *SCHEDULES)
"""``layer-by-layer`` is L, ``fused`` the one that the study takes for the head's shape; the letters are those of `attention`."""


def named_schedule(
    graph: Graph,
    accelerator: str | os.PathLike[str] | Accelerator,
    name: str,
    *,
    size: int = 1,
    objective: str = "latency",
    costs: str | os.PathLike[str] = "analytic",
    partial_sum_factor: int = 1,
    capacity: Mapping[str, int] | None = None,
    **terms: str | None,
) -> Schedule:
    """Return a schedule of the published study for one attention head, with its figures and bounds that need no search, checked.

    Parameters
    ----------
    graph, accelerator, objective, costs, partial_sum_factor, capacity, terms
        As of `cosma_sched.schedule`; the objective only says which figure the gap is about.
    name
        One of `NAMES`.
    size
        Rows of a row node; columns of a column node for the schedule ``E``.

    Raises
    ------
    UsageError
        If the network is no attention head, or the name is unknown.
    InfeasibleError
        If a node fits on no core, or the order, scheduled by list, runs into a full memory (with the objective memory: or spills).
    VerificationError
        If the schedule does not pass the checker: a bug.
    """
    clock = Clock(None)
    request = request_of(graph, accelerator, costs, objective, capacity, partial_sum_factor, terms)
    head = head_of(graph)
    if head is None:
        raise UsageError(f"{shown(graph.name)} is not one attention head; named schedules are for attention-head:MxN")
    letter = letter_of(name, head.rows, head.width)
    split = split_of_schedule(letter, r=size, b=size, layers=head.layers)
    problem = request.problem(split)
    tables = Tables.of(problem)
    order = order_of_schedule(letter, problem, layers=head.layers)
    draft = list_schedule(problem, priority=_places(order), tables=tables)
    if draft is None:
        raise InfeasibleError([Reason("schedule-exists", graph.name, f"the order of schedule {letter} runs into a full memory")])
    options: dict[str, Any] = {"accelerator": request.accelerator.name, "objective": objective, "schedule": name, "size": size}
    origin = graph.origin
    blank = Schedule(
        status=Status.FEASIBLE,
        termination=Termination.EXHAUSTED,
        seconds=0.0,
        verified=False,
        provenance=Provenance(
            version=cosma_sched.__version__,
            model=(origin.model or None) if origin is not None else None,
            sha256=graph.sha256,
            solver="none",
            options={**(dict(origin.options) if origin is not None else {}), **options, "capacity": capacity, **terms},
        ),
        objective=Objective(objective),
        method=f"named {letter}",
        semantics=request.semantics,
        bounds=bounds_of(tables, clock=Clock(1.0)),
    )
    runs, transfers = draft.runs(problem), draft.transfers(problem)
    found = draft.figures(problem)
    if problem.objective is Objective.MEMORY and found.offchip_bytes.spilled:
        what = f"the order of schedule {letter} runs by list into a full memory, and the objective memory admits no spills"
        raise InfeasibleError([Reason("schedule-exists", graph.name, what)])
    answer = found.put_into(request.describe(blank.replace(nodes=runs, transfers=transfers), split.to_json()))
    bounds = {Objective.LATENCY: answer.bounds.latency_cycles, Objective.ENERGY: answer.bounds.energy_pj}
    answer = answer.replace(gap=relative_gap(answer.value, bounds.get(answer.objective, answer.bounds.peak_bytes)))
    if violations := verify(problem, answer):
        raise VerificationError(violations)
    return answer.replace(verified=True, seconds=round(clock.seconds, 3))


def letter_of(name: str, rows: int, width: int) -> str:
    """Return the letter of a schedule for a head of that shape.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    if name not in NAMES:
        raise UsageError(f"{shown(name)} is no named schedule; known are {', '.join(NAMES)}{suggestion(name, NAMES)}")
    if name == "layer-by-layer":
        return "L"
    return alpha(rows, width).fused if name == "fused" else name


def _places(order: Sequence[int]) -> list[float]:
    places = [0.0] * len(order)
    for place, node in enumerate(order):
        places[node] = float(place)
    return places
