"""Least traffic as a step function of the scratchpad: every break point, each with its proof."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cosma_sched.backends import SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.memory import joint
from cosma_sched.memory.curve_answer import CurvePoint
from cosma_sched.memory.divide import divide
from cosma_sched.memory.problem import Network, Order, OrderChoice, Scratchpad
from cosma_sched.memory.replacement import GapModel, capacity_traffic, least_traffic
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Status, Termination

SECONDS_TO_PACK = 2.0
LABELS_BEFORE_DIVIDING = 20_000


def least_size_program(network: Network, order: Order, traffic_bytes: int, floor_bytes: int) -> Program:
    """Return the program for the least scratchpad in which one order needs no more than some traffic.

    The gap model with the capacity as a variable: size >= live(t) - sum of what the dropped gaps that cross t occupy, for every step t, and
    the traffic as a row. Minimise the size, which is at least `floor_bytes`.
    """
    model = GapModel(network, order, Scratchpad(floor_bytes))
    program = Program("least scratchpad for a traffic")
    gaps = sorted({gap for row, _ in model.demand for gap in row})
    drop = {gap: program.binary(("drop", *gap)) for gap in gaps}
    spill = {a: program.binary(("spill", a)) for a in sorted({gap[0] for gap in gaps if not network.backed >> gap[0] & 1})}
    size = program.integer(("size",), floor_bytes, max(floor_bytes, *network.live_bytes(order)))
    for gap, variable in drop.items():
        if gap[0] in spill:
            program.at_most([(variable, 1), (spill[gap[0]], -1)], 0, "saved")
    for row, excess in model.demand:  # live(t) = excess + floor
        program.at_least([(size, 1), *((drop[gap], network.space[gap[0]]) for gap in row)], excess + floor_bytes, "capacity")
    cost = [(variable, network.size[gap[0]]) for gap, variable in drop.items()]
    program.at_most([*cost, *((variable, network.size[a]) for a, variable in spill.items())], traffic_bytes, "traffic")
    program.minimise([(size, 1)])
    return program


@dataclass(frozen=True, slots=True)
class _Level:
    """What is known just below a break point: an order with its traffic, and the proven bound; order None where the search gave up."""

    traffic: int | None
    bound: int
    order: Order | None


class CurveTracer:
    """Walk down from the size without traffic to the smallest size, one break point at a time.

    Parameters
    ----------
    network
        The indexed graph.
    choice
        ``free`` or ``given``.
    options
        Back end of the linear programs.
    progress
        Its clock ends the walk.
    """

    def __init__(self, network: Network, choice: OrderChoice, *, options: SolverOptions, progress: Progress) -> None:
        self.network, self.choice, self.options, self.progress = network, choice, options, progress
        self.unit = math.gcd(*network.space)
        self.m_r = max(network.operand_bytes(v) for v in range(network.num_operators))
        self.termination = Termination.PROVED

    def points(self, start: _Level, top_bytes: int, low_bytes: int) -> Iterator[CurvePoint]:
        """Yield break points by descending size, from the one that holds at `top_bytes`; every point above `low_bytes` is a true break."""
        level, size = start, top_bytes
        try:
            while level.traffic is not None and level.order is not None:
                size, order = self._least_size(level, size, low_bytes)
                yield self._point(size, replace(level, order=order))
                if size <= low_bytes or self.progress.clock.expired:
                    break
                size -= self.unit
                level = self._level(size)
        except KeyboardInterrupt:
            self.termination = Termination.INTERRUPTED
            return
        if size > low_bytes:
            self.termination = Termination.TIME_LIMIT

    def _least_size(self, level: _Level, size: int, low_bytes: int) -> tuple[int, Order]:
        """Return the least size with the traffic of a level, and an order for it."""
        order, traffic = level.order or (), level.traffic or 0
        while True:
            size = min(size, self._least_size_of(order, traffic, low_bytes))
            if self.choice != OrderChoice.FREE or size <= low_bytes:
                return max(size, low_bytes), order
            below = self._level(size - self.unit)
            if below.order is None or below.traffic is None or below.traffic > traffic:
                return size, order
            size, order = size - self.unit, below.order

    def _least_size_of(self, order: Order, traffic: int, low_bytes: int) -> int:
        program = least_size_program(self.network, order, traffic, max(self.m_r, low_bytes // self.unit * self.unit))
        outcome = solve_linear(program, options=replace(self.options, time_limit=self.progress.clock.remaining))
        return outcome.objective if outcome.objective is not None else self.network.bytes_of((1 << len(self.network.size)) - 1)

    def _level(self, size: int) -> _Level:
        """Return the least traffic at a size."""
        clock = self.progress.clock
        self.progress.report("curve", note=f"{size} bytes")
        if self.choice != OrderChoice.FREE:
            order = self.network.given_order
            traffic, bound = capacity_traffic(self.network, order, Scratchpad(size), options=self.options, clock=clock)
            return _Level(traffic, bound, order if traffic is not None else None)
        found = self._search(size, (), LABELS_BEFORE_DIVIDING)
        if found.termination not in {Termination.PROVED, Termination.INTERRUPTED}:
            floors = divide(self.network, size, clock=clock.within(0.5), progress=self.progress).floors()
            found = self._search(size, tuple(floors), joint.LABEL_LIMIT)
        if found.termination == Termination.INTERRUPTED:
            raise KeyboardInterrupt
        return _Level(found.traffic_bytes, found.bound_bytes, found.order)

    def _search(self, size: int, floors: Sequence[joint.Floor], most_labels: int) -> joint.Found:
        return joint.search(self.network, size, cutoff_bytes=None, progress=self.progress, floors=floors, most_labels=most_labels)

    def _point(self, size: int, level: _Level) -> CurvePoint:
        traffic, order = level.traffic or 0, level.order or ()
        clock = Clock(min(SECONDS_TO_PACK, self.progress.clock.remaining or SECONDS_TO_PACK))
        answer = least_traffic(self.network, order, Scratchpad(size), options=self.options, clock=clock, cutoff_bytes=traffic + 1)
        status = Status.OPTIMAL if level.bound == traffic else Status.FEASIBLE
        return CurvePoint(size, traffic, level.bound, status, answer.traffic_bytes == traffic)


def trace(
    network: Network,
    choice: OrderChoice,
    *,
    peak_order: Order,
    low_bytes: int,
    high_bytes: int | None,
    known: Sequence[CurvePoint],
    options: SolverOptions,
    progress: Progress,
) -> tuple[list[CurvePoint], Termination]:
    """Return the break points between two sizes by ascending size, and why the walk ended.

    Parameters
    ----------
    peak_order
        The order whose peak is the least size without traffic.
    low_bytes, high_bytes
        The range; sizes below M_R have no plan, and None stands for the size without traffic.
    known
        Points of an earlier walk that was interrupted, to go on from.
    """
    tracer = CurveTracer(network, choice, options=options, progress=progress)
    top = max(network.live_bytes(peak_order))
    points = list(known)
    start, size = _Level(0, 0, peak_order), top
    if points:
        last = min(points, key=lambda point: point.scratchpad_bytes)
        if last.scratchpad_bytes <= low_bytes:
            return sorted(points, key=lambda point: point.scratchpad_bytes), Termination.PROVED
        size = last.scratchpad_bytes - tracer.unit
        start = tracer._level(size)
    elif high_bytes is not None and high_bytes < top:
        size = high_bytes // tracer.unit * tracer.unit
        start = tracer._level(size)
    points += tracer.points(start, size, low_bytes)
    return sorted(points, key=lambda point: point.scratchpad_bytes), tracer.termination
