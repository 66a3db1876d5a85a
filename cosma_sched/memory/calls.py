"""The public calls of the memory planner: from a graph to a checked result."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import cosma_sched
from cosma_sched.errors import InfeasibleError, UsageError, VerificationError, shown, suggestion
from cosma_sched.files import write_whole
from cosma_sched.graph import Graph, Origin
from cosma_sched.memory.bounds import MemoryBounds, PeakBounds, peak_bounds
from cosma_sched.memory.curve_answer import MemoryCurve
from cosma_sched.memory.plan import Budgets, MemoryPlan, totals
from cosma_sched.memory.problem import Network, OrderChoice, Problem, Scratchpad, largest_operator
from cosma_sched.memory.verify import verify, verify_bounds, verify_curve
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Reason, Status, Termination, relative_gap
from cosma_sched.units import parse_size

if TYPE_CHECKING:
    from cosma_sched.memory.planner import Answer

TENSORS = ("activations", "all")
BUDGET_NAMES = ("M_R", "M_H", "M_P")
MOST_WORKERS = 8


def memory_bounds(
    graph: Graph, *, tensors: str = "activations", align: int | str = 1, reserve: int | str = 0, time_limit: float | None = 60.0
) -> MemoryBounds:
    """Return the budgets M_R, M_P and M_H of a network, with an order whose peak is M_P.

    Parameters
    ----------
    graph
        The network.
    tensors, align, reserve
        As in `plan_memory`; the budgets are those of a solve with the same values.
    time_limit
        Seconds for the search for M_P; without a proof in time `m_p_status` is ``feasible``.

    Examples
    --------
    >>> from cosma_sched import Operator, Tensor
    >>> memory_bounds(Graph([Tensor("x", 4, "input"), Tensor("y", 2, "output")], [Operator("f", "Relu", ("x",), ("y",))])).m_r_bytes
    6
    """
    clock = Clock(time_limit)
    scratchpad = _scratchpad(1, align, reserve)
    network = _network(graph, tensors, scratchpad)
    peaks = peak_bounds(network, reserve_bytes=scratchpad.bottom_bytes, clock=clock)
    status = Status.OPTIMAL if peaks.m_p_is_proven else Status.FEASIBLE
    stopped = Termination.INTERRUPTED if peaks.interrupted else Termination.TIME_LIMIT
    result = MemoryBounds(
        status=status,
        termination=Termination.PROVED if peaks.m_p_is_proven else stopped,
        seconds=round(clock.seconds, 3),
        verified=True,
        provenance=_provenance(
            graph,
            solver="none",
            options=_rules(tensors, scratchpad, of_plan=False),
            proved_by=(peaks.proved_by,) if peaks.m_p_is_proven else (),
        ),
        m_r_bytes=peaks.m_r_bytes,
        m_r_operator=network.name_of(peaks.m_r_operator),
        m_p_bytes=peaks.m_p_bytes,
        m_p_bound_bytes=peaks.m_p_bound_bytes,
        m_p_status=status,
        m_h_bytes=peaks.m_h_bytes,
        given_order_peak_bytes=peaks.given_order_peak_bytes,
        order=network.operator_names(peaks.min_peak_order),
        states=peaks.states,
    )
    violations = verify_bounds(graph, result)
    if violations:
        raise VerificationError(violations)
    return result


def plan_memory(  # noqa: PLR0913 - the options of the command, by name
    graph: Graph,
    *,
    scratchpad: int | str,
    order: Literal["free", "given", "min-peak"] | str = "free",
    method: Literal["auto", "exact", "divide", "paper", "belady", "greedy"] | str = "auto",
    placement: Literal["first-fit", "best-fit", "arena"] | str | None = None,
    tensors: Literal["activations", "all"] | str = "activations",
    align: int | str = 1,
    reserve: int | str = 0,
    pins: Mapping[str, int] | None = None,
    allow_relocation: bool = False,
    solver: str = "cpsat",
    profile: str = "default",
    time_limit: float | None = 60.0,
    gap: float = 0.0,
    workers: int | None = None,
    seed: int = 0,
    write_model: str | None = None,
    observers: Sequence[Observer] = (),
) -> MemoryPlan:
    """Plan a network's memory: order, addresses, spills and retrieves with the least DRAM traffic, checked and with a proven bound.

    Parameters
    ----------
    graph
        The network.
    scratchpad
        Bytes, a size such as ``512KiB``, or a budget ``M_R``, ``M_H``, ``M_P``.
    order
        ``free``: any topological order; ``given``: the graph's own; ``min-peak``: the one with the least peak that `memory_bounds` returns.
    method
        ``auto`` or ``exact``: heuristics, bounds and exact methods until value and bound meet. ``divide``: the same, but parts of the
        network are solved before the whole, which pays on large irregular networks. ``paper``: the integer program of the COSMA
        paper; too large a one is refused (status ``unknown`` and a reason). ``belady`` or ``greedy``: an allocator with replacement, which
        proves nothing and may end in fragmentation (``unknown`` and a reason); order ``free`` is read as ``given``.
    placement
        Of the methods ``belady`` and ``greedy`` only: ``first-fit`` (their default), ``best-fit`` or ``arena``.
    tensors
        ``activations``, or ``all`` to plan parameters too: they start in DRAM like inputs.
    align
        Offsets are multiples of this many bytes, and a tensor occupies its size rounded up to it.
    reserve
        Bytes at the bottom of the scratchpad that no tensor may use.
    pins
        Offsets by tensor name: where a tensor lies whenever it is resident.
    allow_relocation
        Let a tensor without a copy in DRAM change its address between adjacent steps for twice its size.
    solver, profile, workers, seed
        Back end of the linear programs and its settings. `workers` None takes the machine's cores, at most 8; one worker and a seed give
        the same plan byte for byte.
    time_limit
        Seconds, or None.
    gap
        Relative gap at which to stop.
    write_model
        Path for the linear program in MPS form: of the given order (`GapModel`), or of the method ``paper``.
    observers
        Called with every `Event` of progress.

    Returns
    -------
    MemoryPlan
        With status ``infeasible`` and reasons where no plan exists; Ctrl-C returns the best plan so far with termination ``interrupted``.

    Raises
    ------
    UsageError
        If an option value is unknown, or the method has no use for an option.
    VerificationError
        If the plan does not pass the checker: a bug.
    """
    from cosma_sched.backends import SolverOptions
    from cosma_sched.backends.profiles import load_profile
    from cosma_sched.memory import methods
    from cosma_sched.memory.planner import PlannerOptions

    if not 0 <= gap < 1:
        raise UsageError(f"gap must lie between 0 and 1, got {gap}")
    order = _one_of("order", order, tuple(OrderChoice))
    method = _one_of("method", method, methods.METHODS)
    order, placement = methods.settled_options(method, order, placement, pins=pins, write_model=write_model, gap=gap, solver=solver)
    workers = _workers(solver, workers)
    model_file = write_model if method == methods.PAPER else None
    settings = SolverOptions(solver=solver, profile=profile, workers=workers, seed=seed, write_model=model_file)
    load_profile(solver, profile)  # a name that does not exist is said at once, also where no program has to be solved
    clock = Clock(time_limit)
    place = _scratchpad(1, align, reserve, pins, allow_relocation)
    network = _network(graph, tensors, place)
    place = replace(place, capacity_bytes=_scratchpad_bytes(network, scratchpad, place.bottom_bytes, clock))
    problem = Problem(network, place, OrderChoice(order))
    options = {"scratchpad": str(scratchpad), "order": order, "method": method, "gap": gap, "time-limit": time_limit}
    options |= ({} if placement is None else {"placement": placement}) | _rules(tensors, place, of_plan=True)
    back_end = "none" if method in methods.BASELINES else solver
    provenance = _provenance(graph, solver=back_end, profile=profile, seed=seed, workers=workers, options=options)
    if write_model is not None and model_file is None:
        _write_gap_model(network, place, write_model)
    progress = Progress(clock, tuple(observers))
    try:
        answer = methods.plan_with(
            method, placement, problem, options=PlannerOptions(settings, gap, divide=method == methods.DIVIDE), progress=progress
        )
    except InfeasibleError as error:
        budgets = _budgets(peak_bounds(network, reserve_bytes=place.bottom_bytes, clock=clock))
        return _infeasible(error.reasons, place.capacity_bytes, clock, provenance, budgets)
    result = _memory_plan(answer, problem, provenance)
    violations = verify(graph, result)
    if violations:
        raise VerificationError(violations)
    return result.replace(seconds=round(clock.seconds, 3))


def memory_curve(  # noqa: PLR0913 - the options of the command, by name
    graph: Graph,
    *,
    order: Literal["free", "given"] | str = "free",
    smallest: int | str | None = None,
    largest: int | str | None = None,
    solver: str = "cpsat",
    profile: str = "default",
    time_limit: float | None = 300.0,
    workers: int | None = None,
    seed: int = 0,
    known: MemoryCurve | None = None,
    observers: Sequence[Observer] = (),
) -> MemoryCurve:
    """Return the least traffic of a network as a step function of the scratchpad: every break point, each with what is proven.

    Traffic is by capacity (addresses left out); each point says whether a plan with addresses and that traffic was placed.

    Parameters
    ----------
    graph
        The network.
    order
        ``free``: any topological order; ``given``: the graph's own.
    smallest, largest
        The range of sizes; None stands for M_R and for the size without traffic. What lies outside these two is cut off.
    known
        An earlier curve of the same network and order to go on from.
    solver, profile, time_limit, workers, seed, observers
        As in `plan_memory`.

    Raises
    ------
    UsageError
        If an option value is unknown, or `known` is of another network or order.
    """
    from cosma_sched.backends import SolverOptions
    from cosma_sched.backends.profiles import load_profile
    from cosma_sched.memory.curve import trace

    order = _one_of("order", order, ("free", "given"))
    if known is not None and (known.provenance.sha256, known.order) != (graph.sha256, order):
        raise UsageError("the curve to go on from is of another network or order")
    threads = _workers(solver, workers)
    options = SolverOptions(solver=solver, profile=profile, workers=threads, seed=seed)
    load_profile(solver, profile)
    clock = Clock(time_limit)
    network = Network(graph)
    peaks = peak_bounds(network, clock=clock.within(0.25))
    peak_order = network.given_order if order == "given" else peaks.min_peak_order
    top = max(network.live_bytes(peak_order))
    low = max(peaks.m_r_bytes, peaks.m_r_bytes if smallest is None else parse_size(smallest))
    high = top if largest is None else min(top, parse_size(largest))
    points, termination = trace(
        network,
        OrderChoice(order),
        peak_order=peak_order,
        low_bytes=min(low, high),
        high_bytes=high,
        known=() if known is None else known.points,
        options=options,
        progress=Progress(clock, tuple(observers)),
    )
    complete = termination == Termination.PROVED and all(point.status == Status.OPTIMAL for point in points)
    curve = MemoryCurve(
        status=Status.OPTIMAL if complete and (order == "given" or peaks.m_p_is_proven) else Status.FEASIBLE,
        termination=termination,
        seconds=round(clock.seconds, 3),
        verified=True,
        provenance=_provenance(graph, solver=solver, profile=profile, seed=seed, workers=threads, options={"order": order}),
        order=order,
        from_bytes=min(low, high),
        to_bytes=high,
        points=tuple(points),
    )
    violations = verify_curve(graph, curve)
    if violations:
        raise VerificationError(violations)
    return curve


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{suggestion(value, known)}")
    return str(value)


def _workers(solver: str, workers: int | None) -> int:
    if workers is not None:
        return workers
    return 1 if solver == "highs" else min(MOST_WORKERS, os.cpu_count() or 1)


def _scratchpad(
    capacity: int, align: int | str, reserve: int | str, pins: Mapping[str, int] | None = None, allow_relocation: bool = False
) -> Scratchpad:
    reserved = 0 if reserve in (0, "0") else parse_size(reserve)
    return Scratchpad(capacity, parse_size(align), reserved, tuple(sorted((pins or {}).items())), allow_relocation)


def _network(graph: Graph, tensors: str, scratchpad: Scratchpad) -> Network:
    return Network(graph, parameters=_one_of("tensors", tensors, TENSORS) == "all", align_bytes=scratchpad.align_bytes)


def _rules(tensors: str, scratchpad: Scratchpad, *, of_plan: bool) -> dict[str, Any]:
    """Return the options that change what a valid plan is, as the checker reads them from the provenance."""
    rules: dict[str, Any] = {"tensors": tensors, "align": scratchpad.align_bytes, "reserve": scratchpad.reserve_bytes}
    return {**rules, "pin": dict(scratchpad.pins), "allow-relocation": scratchpad.allow_relocation} if of_plan else rules


def _scratchpad_bytes(network: Network, scratchpad: int | str, bottom_bytes: int, clock: Clock) -> int:
    if scratchpad not in BUDGET_NAMES:
        return parse_size(scratchpad)
    if scratchpad == "M_R":
        return network.operand_bytes(largest_operator(network)) + bottom_bytes
    peaks = peak_bounds(network, reserve_bytes=bottom_bytes, clock=clock.within(0.25))
    return peaks.m_h_bytes if scratchpad == "M_H" else peaks.m_p_bytes


def _budgets(peaks: PeakBounds) -> Budgets:
    return Budgets(peaks.m_r_bytes, peaks.m_h_bytes, peaks.m_p_bytes)


def _memory_plan(answer: Answer, problem: Problem, provenance: Provenance) -> MemoryPlan:
    """Write a planner's answer out; its seconds are still open."""
    result = MemoryPlan(
        status=answer.status,
        termination=answer.termination,
        seconds=0.0,
        verified=True,
        scratchpad_bytes=problem.scratchpad.capacity_bytes,
        provenance=replace(provenance, proved_by=answer.bound.proved_by),
        bound_bytes=answer.bound.value,
        budgets=_budgets(answer.peaks),
        reasons=answer.reasons,
    )
    if answer.layout is None:
        return result
    network = problem.network
    residency, transfers = answer.layout.residency(network), answer.layout.transfers(network)
    return result.replace(
        **totals(network.num_operators, residency, transfers),
        gap=relative_gap(answer.traffic_bytes, answer.bound.value),
        order=network.operator_names(answer.layout.order),
        residency=residency,
        transfers=transfers,
    )


def _infeasible(reasons: Sequence[Reason], capacity: int, clock: Clock, provenance: Provenance, budgets: Budgets) -> MemoryPlan:
    return MemoryPlan(
        status=Status.INFEASIBLE,
        termination=Termination.PROVED,
        seconds=round(clock.seconds, 3),
        verified=True,
        scratchpad_bytes=capacity,
        provenance=provenance,
        budgets=budgets,
        reasons=tuple(reasons),
    )


def _write_gap_model(network: Network, scratchpad: Scratchpad, path: str) -> None:
    from cosma_sched.memory.replacement import GapModel

    write_whole(path, GapModel(network, network.given_order, scratchpad).program(()).mps())


def _provenance(
    graph: Graph,
    *,
    solver: str,
    profile: str = "default",
    seed: int = 0,
    workers: int = 1,
    options: Mapping[str, Any] | None = None,
    proved_by: tuple[str, ...] = (),
) -> Provenance:
    origin = graph.origin or Origin("", graph.sha256)
    packages = ("networkx", *(("ortools",) if solver in {"cpsat", "highs"} else ("pulp",) if solver == "cbc" else ()))
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **{name: metadata.version(name) for name in packages}}
    return Provenance(
        version=cosma_sched.__version__,
        model=origin.model or None,
        sha256=graph.sha256,
        solver=solver,
        profile=profile,
        seed=seed,
        workers=workers,
        options={**origin.options, **(options or {})},
        proved_by=proved_by,
        versions=versions,
    )
