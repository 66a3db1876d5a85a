"""Exact packing as a constraint program over sections and units.

y_i   integer in [0, capacity - z_i]        offset of buffer i; a_i k_i where its alignment a_i > 1; its pin where it has one
rectangles [lower, upper) x [y_i + bottom, y_i + top), one per part of a buffer, do not overlap      (NoOverlap2D)
at every address the buffers there use at most the number of sections together                       (Cumulative, implied)
y_i + z_i <= y_j for i < j with the same lifetime, size and alignment, no pin                         (equal buffers in order)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Any

from cosma_sched.backends import SolverOptions, libraries, solve_cpsat
from cosma_sched.memory.packing_strip import Strip
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


@dataclass(frozen=True, slots=True)
class IntervalOutcome:
    """Offsets in units, or a proof that there are none, or neither."""

    offsets: tuple[int, ...] | None
    is_infeasible: bool
    termination: Termination


def pack_by_intervals(
    strip: Strip,
    clock: Clock,
    seed: int = 0,
    *,
    workers: int = 1,
    deterministic_limit: float | None = None,
    stop_event: Event | None = None,
) -> IntervalOutcome:
    """Decide a strip by CP-SAT.

    Parameters
    ----------
    strip
        The problem.
    clock
        Its limit ends the search.
    seed, workers
        Of CP-SAT.
    deterministic_limit
        Limit that does not depend on the machine's speed; for one worker only.
    stop_event
        Ends the search when another thread sets it.
    """
    if clock.expired:
        return IntervalOutcome(None, False, Termination.TIME_LIMIT)
    model = libraries.cp_model().CpModel()
    offsets = [_offset(model, strip, index) for index in range(len(strip))]
    _no_overlap(model, strip, offsets)
    _equal_buffers_in_order(model, strip, offsets)
    options = SolverOptions(time_limit=clock.remaining, workers=workers, seed=seed, deterministic_limit=deterministic_limit)
    hint = {variable: value for variable, value in zip(offsets, strip.hints, strict=True) if value is not None}
    outcome = solve_cpsat(model, options=options, hint=hint, stop_event=stop_event)
    if outcome.solution is not None:
        values = tuple(outcome.value(offset) for offset in offsets)
        return IntervalOutcome(values, False, Termination.PROVED)
    if outcome.status is Status.INFEASIBLE:
        return IntervalOutcome(None, True, Termination.PROVED)
    return IntervalOutcome(None, False, outcome.termination)


def _offset(model: cp_model.CpModel, strip: Strip, index: int) -> Any:
    """Return the offset of a buffer: a variable, a multiple of one, or its pin."""
    pin, step = strip.pins[index], strip.alignments[index]
    last = strip.capacity - strip.sizes[index]
    if pin is not None:
        return model.new_int_var(pin, pin, f"pin_{index}")
    multiple = model.new_int_var(0, last // step, f"offset_{index}")
    if step == 1:
        return multiple
    offset = model.new_int_var(0, last, f"aligned_{index}")
    model.add(offset == step * multiple)
    return offset


def _no_overlap(model: cp_model.CpModel, strip: Strip, offsets: Sequence[Any]) -> None:
    """Keep the rectangles of all parts apart, and bound what lies at one address."""
    across, along, widths = [], [], []
    for index, own in enumerate(strip.parts):
        for number, part in enumerate(own):
            width, name = part.upper - part.lower, f"{index}_{number}"
            across.append(model.new_fixed_size_interval_var(part.lower, width, f"time_{name}"))
            along.append(model.new_fixed_size_interval_var(offsets[index] + part.bottom, part.top - part.bottom, f"bytes_{name}"))
            widths.append(width)
    model.add_no_overlap_2d(across, along)
    model.add_cumulative(along, widths, strip.num_sections)


def _equal_buffers_in_order(model: cp_model.CpModel, strip: Strip, offsets: Sequence[Any]) -> None:
    """Order interchangeable buffers by index: any packing can be renamed so."""
    for equal in strip.twins:
        for first, second in pairwise(equal):
            model.add(offsets[first] + strip.sizes[first] <= offsets[second])
