"""The public calls: each joins a front end, a planner, its checker and the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cosma_sched
from cosma_sched.errors import Defect, InfeasibleError, InputError, UsageError, VerificationError, shown, suggestion
from cosma_sched.files import decode_json, read_bytes, write_whole
from cosma_sched.graph import Graph, Origin
from cosma_sched.memory import bounds as memory_bounds_module
from cosma_sched.memory import plan as plan_module
from cosma_sched.memory import verify as checker
from cosma_sched.memory.bounds import MemoryBounds, PeakBounds, peak_bounds
from cosma_sched.memory.plan import Budgets, MemoryPlan
from cosma_sched.memory.problem import Network, OrderChoice, Problem, Scratchpad
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Reason, Status, Termination, relative_gap
from cosma_sched.units import parse_size

if TYPE_CHECKING:
    from cosma_sched.experts.placement import Placement
    from cosma_sched.experts.profile import Profile
    from cosma_sched.experts.verify import Violation as PlacementViolation
    from cosma_sched.mapping.answer import MappingResult
    from cosma_sched.mapping.verify import Violation as MappingViolation
    from cosma_sched.memory.planner import Answer

TENSORS = ("activations", "all")
BUDGET_NAMES = ("M_R", "M_H", "M_P")
MOST_WORKERS = 8
MAPPING_SCHEMA = "cosma-sched/mapping/1"
EXPERTS_SCHEMA = "cosma-sched/experts/1"
_LOAD_OPTIONS = ("fold", "views", "dtype", "dim")


def load(
    source: str | os.PathLike[str],
    *,
    fold: str = "elementwise",
    views: str = "free",
    dtype: str | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """Read a network.

    Parameters
    ----------
    source
        A zoo name, the path of an ONNX file or of a graph JSON, or ``-`` for a graph JSON on standard input.
    fold
        Which operators join their neighbours: ``none``, ``batchnorm``, ``elementwise`` or ``prologue``. ONNX only.
    views
        ``free``: transposes and constant slices take no memory of their own; ``strict``: they are operators. ONNX only.
    dtype
        Element type that replaces every floating-point type, such as ``int8``; zoo networks load as int8, files with their own types.
    dims
        Values of symbolic ONNX dimensions by name.

    Raises
    ------
    InputError
        If the file is missing, damaged or not understood; carries every mistake found.
    UsageError
        If an option value is unknown.
    """
    from cosma_sched.frontends import load as load_graph

    return load_graph(source, fold=fold, views=views, dtype=dtype, dims=dims)


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
    violations = verify(graph, result)
    if violations:
        raise VerificationError(violations)
    return result


def plan_memory(  # noqa: PLR0913 - the options of the command, by name
    graph: Graph,
    *,
    scratchpad: int | str,
    order: Literal["free", "given", "min-peak"] | str = "free",
    method: Literal["auto", "exact", "paper", "belady", "greedy"] | str = "auto",
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
        ``auto`` or ``exact``: heuristics, bounds and exact methods until value and bound meet. ``paper``: the integer program of the COSMA
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
    from cosma_sched.memory import methods
    from cosma_sched.memory.planner import PlannerOptions

    if not 0 <= gap < 1:
        raise UsageError(f"gap must lie between 0 and 1, got {gap}")
    order = _one_of("order", order, tuple(OrderChoice))
    method = _one_of("method", method, methods.METHODS)
    order, placement = methods.settled_options(method, order, placement, pins=pins, write_model=write_model)
    workers = _workers(solver, workers)
    model_file = write_model if method == methods.PAPER else None
    settings = SolverOptions(solver=solver, profile=profile, workers=workers, seed=seed, write_model=model_file)
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
        answer = methods.plan_with(method, placement, problem, options=PlannerOptions(settings, gap), progress=progress)
    except InfeasibleError as error:
        budgets = _budgets(peak_bounds(network, reserve_bytes=place.bottom_bytes, clock=clock))
        return _infeasible(error.reasons, place.capacity_bytes, clock, provenance, budgets)
    result = _memory_plan(answer, problem, provenance)
    violations = verify(graph, result)
    if violations:
        raise VerificationError(violations)
    return result.replace(seconds=round(clock.seconds, 3))


def verify(
    graph: Graph | Profile | None, result: MemoryPlan | MemoryBounds | MappingResult | Placement
) -> Sequence[checker.Violation | MappingViolation | PlacementViolation]:
    """Check a result against its graph from scratch; an empty sequence means that it holds.

    Parameters
    ----------
    graph
        The network; of a placement of experts, the profile it was made with. A mapping result holds all that its check needs; with its
        graph, the layers are compared too.
    result
        The result.

    Returns
    -------
    sequence of Violation
        Every broken rule with its place and values.
    """
    if isinstance(result, MemoryBounds | MemoryPlan):
        if not isinstance(graph, Graph):
            raise UsageError("a memory plan is checked against its graph")
        return checker.verify_bounds(graph, result) if isinstance(result, MemoryBounds) else checker.verify(graph, result)
    from cosma_sched.mapping.answer import MappingResult

    if isinstance(result, MappingResult) and (graph is None or isinstance(graph, Graph)):
        from cosma_sched.mapping.calls import verify_mapping

        return verify_mapping(result, graph)
    from cosma_sched.experts.calls import verify_any

    return verify_any(graph, result)


def load_result(path: str | os.PathLike[str]) -> MemoryPlan | MemoryBounds | MappingResult | Placement:
    """Read a saved result of any schema.

    Raises
    ------
    InputError
        If the file is no result, or is malformed; carries every mistake found.
    """
    name = os.fspath(path)
    document = decode_json(name, read_bytes(name))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == plan_module.SCHEMA:
        return MemoryPlan.from_json(document, name)
    if schema == memory_bounds_module.SCHEMA:
        return MemoryBounds.from_json(document, name)
    if schema == MAPPING_SCHEMA:
        from cosma_sched.mapping.answer import MappingResult

        return MappingResult.from_json(document, name)
    if schema == EXPERTS_SCHEMA:
        from cosma_sched.experts.placement import Placement

        return Placement.from_json(document, name)
    known = (plan_module.SCHEMA, memory_bounds_module.SCHEMA, MAPPING_SCHEMA, EXPERTS_SCHEMA)
    raise InputError(name, [Defect("schema", f"must be one of {', '.join(known)}, got {shown(schema)}")])


def graph_of(result: MemoryPlan | MemoryBounds | MappingResult, model: str | None = None, *, result_path: str = "result") -> Graph:
    """Read the graph that a result was made for, with the reading options of its provenance.

    Parameters
    ----------
    result
        A saved result.
    model
        Zoo name or path; None takes the one in the provenance, relative paths seen from the working directory.
    result_path
        Name of the result in error messages.

    Raises
    ------
    UsageError
        If no model is given and the result's own came from standard input, from Python, or is gone.
    InputError
        If the model's content is not the one the result was made for.
    """
    provenance = result.provenance
    source = model or provenance.model
    if model is None:
        if source is None or source == "-":
            came = "was built in Python" if source is None else "came from standard input"
            raise UsageError(f"{result_path}: its model {came}; name the file with --model MODEL")
        if _looks_like_path(source) and not Path(source).exists():
            raise UsageError(f"{result_path}: its model {shown(source)} is gone; name the file with --model MODEL")
    given = {name: provenance.options[name] for name in _LOAD_OPTIONS if name in provenance.options}
    dims = given.pop("dim", None)
    graph = load(str(source), dims=dims, **given)
    if graph.sha256 != provenance.sha256:
        problem = f"has sha256 {graph.sha256[:12]}..., but {result_path} was made for {provenance.sha256[:12]}..."
        raise InputError(str(source), problem)
    return graph


def _looks_like_path(source: str) -> bool:
    return os.sep in source or Path(source).suffix in {".onnx", ".json"}


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
    peaks = peak_bounds(network, reserve_bytes=bottom_bytes, clock=clock.within(0.25))
    return {"M_R": peaks.m_r_bytes, "M_H": peaks.m_h_bytes, "M_P": peaks.m_p_bytes}[str(scratchpad)]


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
        **plan_module.totals(network.num_operators, residency, transfers),
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
