"""``--method paper``: the COSMA paper's integer program, as a second opinion on small networks.

One variable per tensor and step, two per pair of tensors and step: the program is far larger than the gap model, and its linear bound says
little. Above a size limit it is refused with its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cosma_sched.backends import Outcome, solve_linear
from cosma_sched.backends.task import Meaning
from cosma_sched.errors import Lever, Reason
from cosma_sched.memory.bounds import PeakBounds
from cosma_sched.memory.layout import Layout, Stay
from cosma_sched.memory.paper_model import LiteralModel, ModelSize
from cosma_sched.memory.paper_program import literal_program
from cosma_sched.memory.planner import BY_ZERO, Answer, PlannerOptions
from cosma_sched.memory.problem import Order, OrderChoice, Problem, bits
from cosma_sched.memory.replacement import GapModel
from cosma_sched.progress import Progress
from cosma_sched.result import Bound, Status, Termination

BY_LITERAL_MODEL = "literal-model"
MOST_NONZEROS = 100_000
"""Programs above this take the back ends minutes for what the gap model answers in milliseconds."""


def solve_literally(problem: Problem, peaks: PeakBounds, *, options: PlannerOptions, progress: Progress) -> Answer:
    """Solve the literal program; where it is too large, return status ``unknown`` and its size as the reason.

    Parameters
    ----------
    problem
        What to plan; every operator's own tensors fit.
    peaks
        The budgets, with the order that ``min-peak`` stands for.
    options
        The back end. Infeasible is a proof of the back end alone: no clash is shown.
    progress
        Its clock limits building and solving.
    """
    orders: Mapping[OrderChoice, Order | None] = {
        OrderChoice.FREE: None,
        OrderChoice.GIVEN: problem.network.given_order,
        OrderChoice.MIN_PEAK: peaks.min_peak_order,
    }
    model = LiteralModel(problem.network, problem.scratchpad, orders[problem.order])
    size = model.size()
    if size.nonzeros > MOST_NONZEROS:
        return Answer(Status.UNKNOWN, Termination.EXHAUSTED, None, None, Bound(0, (BY_ZERO,)), peaks, (_refusal(model, size),))
    progress.report("literal model", note=f"{size.columns:,} columns, {size.rows:,} rows, {size.nonzeros:,} non-zeros")

    def listen(value: int | None, bound: int | None) -> None:
        progress.report("literal model", incumbent=value, bound=None if bound is None else max(0, bound))

    program = literal_program(model)
    settings = replace(options.solver, gap=options.gap, time_limit=progress.clock.remaining)
    outcome = solve_linear(program, options=settings, on_progress=listen if progress.observers else None)
    return _answer(model, outcome, peaks)


def layout_of(model: LiteralModel, values: Mapping[Meaning, int]) -> Layout:
    """Return the order, the stays and the offsets that a solution of the literal program says."""
    network = model.network
    ran: dict[int, int] = {}
    for v, steps in enumerate(model.runs):
        creation = ("C", next(bits(network.writes[v]))) if network.writes[v] else ("token", v)
        ran |= {t: v for t in steps if values[*creation, t]}
    stays: list[Stay] = []
    offsets: list[int] = []
    for a, life in enumerate(model.life):
        start: int | None = None
        for t in (*life, life.stop):
            if start is not None and not values.get(("P", a, t)):
                stays.append(Stay(a, start, t))
                offsets.append(model.scratchpad.bottom_bytes + model.unit * values["L", a, start])
                start = None
            if values.get(("C", a, t)) or values.get(("R", a, t)):
                start = t
    return Layout(tuple(ran[t] for t in range(network.num_operators)), tuple(stays), tuple(offsets))


def _answer(model: LiteralModel, outcome: Outcome, peaks: PeakBounds) -> Answer:
    bound = Bound(max(0, outcome.bound or 0), (BY_LITERAL_MODEL if outcome.bound and outcome.bound > 0 else BY_ZERO,))
    if outcome.status == Status.INFEASIBLE:
        return Answer(Status.INFEASIBLE, Termination.PROVED, None, None, Bound(None), peaks, (_infeasible(model),))
    if outcome.values is None:
        return Answer(Status.UNKNOWN, outcome.termination, None, None, bound, peaks)
    layout = layout_of(model, outcome.values)
    traffic = layout.traffic_bytes(model.network)
    proven = traffic == bound.value
    status, termination = (Status.OPTIMAL, Termination.PROVED) if proven else (Status.FEASIBLE, outcome.termination)
    return Answer(status, termination, layout, traffic, bound, peaks)


def _infeasible(model: LiteralModel) -> Reason:
    orders = "no order has a" if model.order is None else "the order has no"
    return Reason(
        rule="placement",
        where="",
        statement=f"{orders} placement that satisfies the equations; --method exact names the tensors that clash",
        limit=model.scratchpad.capacity_bytes,
    )


def _refusal(model: LiteralModel, size: ModelSize) -> Reason:
    network, order = model.network, model.order
    printed = LiteralModel(network, model.scratchpad, order, printed=True).size()
    compact = GapModel(network, order or network.given_order, model.scratchpad).program(())
    which = "that order" if order else "the given order"
    whole = f"as printed, with every variable at every step, {printed.columns:,} columns and {printed.rows:,} rows"
    return Reason(
        rule="model-size",
        where="the literal model",
        statement=f"the literal model would have {size.columns:,} columns, {size.rows:,} rows and {size.nonzeros:,} non-zeros, "
        f"of which {MOST_NONZEROS:,} are allowed; {whole}",
        demand=size.nonzeros,
        limit=MOST_NONZEROS,
        short=size.nonzeros - MOST_NONZEROS,
        unit="non-zeros",
        terms=(("columns", size.columns), ("rows", size.rows), ("columns as printed", printed.columns), ("rows as printed", printed.rows)),
        levers=(Lever("--method", "exact", f"takes {compact.num_variables:,} columns and {compact.num_rows:,} rows for {which}"),),
    )
