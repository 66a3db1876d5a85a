"""The multi-core scheduler's public calls: from a network and an accelerator to a checked schedule."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import cosma_sched
from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import InfeasibleError, InputError, Reason, UsageError, VerificationError, shown, suggestion
from cosma_sched.extras import need
from cosma_sched.graph import Graph
from cosma_sched.multicore import gated_search
from cosma_sched.multicore.addresses import with_addresses
from cosma_sched.multicore.attention import alpha, head_of, letters_of
from cosma_sched.multicore.choose import Choice, NothingFitsError, choose, that_fits
from cosma_sched.multicore.costs import provider
from cosma_sched.multicore.nodes import layer_extents
from cosma_sched.multicore.periodic_answer import periodic_schedule
from cosma_sched.multicore.planner import GENETIC, METHODS, pareto_front, schedule_problem
from cosma_sched.multicore.platforms import default_capacity_rule
from cosma_sched.multicore.problem import Objective, ScheduleProblem, Semantics
from cosma_sched.multicore.request import TILE_LOOP, Request
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.splits import Split, split_of
from cosma_sched.multicore.tile_loop import TileLoop
from cosma_sched.multicore.verify import Violation, verify
from cosma_sched.multicore.verify_periods import verify_loop
from cosma_sched.progress import Clock, Observer
from cosma_sched.result import Provenance, Status, Termination

AUTO = "AUTO"
TERMS = {
    "inputs": ("fetched", "streamed", "resident"),
    "weights": ("fetched", "free"),
    "outputs": ("written", "kept", "streamed"),
    "softmax": ("inplace", "node", "expanded"),
    "timing": ("strict", "stream"),
    "capacity_rule": ("unified", "split"),
    "memory_scope": ("total", "worst-core"),
}
"""Values of the rules under which memory and time are counted; the first one is the default."""


def schedule(  # noqa: PLR0913 - the options of the command, by name
    graph: Graph,
    accelerator: str | os.PathLike[str] | Accelerator,
    *,
    objective: str = "latency",
    method: str = "exact",
    split: str | Split = AUTO,
    block: int | None = None,
    costs: str | os.PathLike[str] = "analytic",
    partial_sum_factor: int = 1,
    capacity: Mapping[str, int] | None = None,
    addresses: bool = False,
    time_limit: float | None = 300.0,
    gap: float = 0.0,
    workers: int = 1,
    seed: int = 0,
    observers: Sequence[Observer] = (),
    **terms: str | None,
) -> Schedule:
    """Schedule a network in pieces on several cores: who runs where and when, what moves, what lies where; with a bound, checked.

    Parameters
    ----------
    graph
        A network whose tensors have shapes.
    accelerator
        A built-in name, a YAML file (ours or Stream's), or an accelerator.
    objective
        ``latency``, ``energy`` or ``memory``.
    method
        ``exact``, or a baseline: ``list-latency``, ``list-memory``, ``critical-path``, ``bytes-freed``, ``genetic``.
    split
        ``AUTO``, ``DIM=PARTS``, the path of a split file, or a split.
    block
        Indices of each piece along whatever ``AUTO`` cuts.
    costs
        ``analytic``, ``mapping``, or the path of a table.
    partial_sum_factor
        What an unfinished sum weighs, times its size.
    capacity
        Bytes by core id, and under ``*`` for all others, in place of the file's.
    addresses
        Give every tile an address in its memory, by packing afterwards.
    time_limit
        Seconds, or None.
    gap
        Relative gap at which to stop.
    workers, seed
        Threads and seed of the solver; one worker and a seed are reproducible.
    observers
        Called with every `Event` of progress.
    terms
        ``inputs``, ``weights``, ``outputs``, ``softmax``, ``timing``, ``capacity_rule``, ``memory_scope``: what counts as memory and time.
        Values are those of `TERMS`, whose first one is the default, and for ``capacity_rule`` what the accelerator's file says.

    Returns
    -------
    Schedule
        With status ``infeasible`` and reasons where no schedule exists.

    Raises
    ------
    InputError
        If the accelerator, split, costs or network is not usable.
    UsageError
        If an option value is unknown.
    VerificationError
        If the answer does not pass the checker: a bug.
    """
    clock = Clock(time_limit)
    request = request_of(graph, accelerator, costs, objective, capacity, partial_sum_factor, terms)
    _check(method, block)
    if gap and method != "exact":
        raise UsageError(f"gap ends a search with a bound; {method} has none")
    named: dict[str, Any] = {"accelerator": request.accelerator.name, "objective": objective, "method": method, "block": block}
    named |= {"costs": str(costs), "split": split if isinstance(split, str) else "given", "capacity": capacity}
    named |= {"time-limit": time_limit, "gap": gap, **terms}
    provenance = _provenance(graph, named, method, seed, workers)
    options = {"method": method, "gap": gap, "workers": workers, "seed": seed, "observers": observers}
    if not addresses and (looped := _as_tile_loop(request, split, method, provenance, clock)) is not None:
        loop, answer = looped
        return _passed(verify_loop(loop, answer), answer, clock)
    try:
        chosen = _split(request, split, block, clock, method)
    except InfeasibleError as error:  # no cut that AUTO looks at fits
        return request.describe(_infeasible(request, method, error.reasons, clock), {}).replace(provenance=provenance)
    except NothingFitsError:
        unknown = _infeasible(request, method, (), clock).replace(status=Status.UNKNOWN, termination=Termination.EXHAUSTED)
        return request.describe(unknown, {}).replace(provenance=provenance)
    answer = _solve(chosen, request, options, clock)
    answer = request.describe(answer, chosen.split.to_json()).replace(
        provenance=provenance, groups=groups_of(chosen.problem, answer), remarks=tuple(_remarks(request, chosen, answer))
    )
    return _checked(chosen.problem, with_addresses(chosen.problem, answer) if addresses else answer, clock)


def schedule_front(  # noqa: PLR0913 - the options of the command, by name
    graph: Graph,
    accelerator: str | os.PathLike[str] | Accelerator,
    points: int,
    *,
    objective: str = "latency",
    method: str = "exact",
    split: str | Split = AUTO,
    block: int | None = None,
    costs: str | os.PathLike[str] = "analytic",
    partial_sum_factor: int = 1,
    capacity: Mapping[str, int] | None = None,
    time_limit: float | None = 300.0,
    workers: int = 1,
    seed: int = 0,
    observers: Sequence[Observer] = (),
    **terms: str | None,
) -> tuple[Schedule, ...]:
    """Return up to so many schedules from the fastest to the one with the least peak, none dominated; parameters as of `schedule`.

    None at all where nothing was found in time.
    """
    if method != "exact" or objective != "latency":
        raise UsageError("a front goes from least latency to least peak, by the exact method; it takes no objective and no baseline")
    clock = Clock(time_limit)
    request = request_of(graph, accelerator, costs, objective, capacity, partial_sum_factor, terms)
    _check(method, block)
    try:
        chosen = _split(request, split, block, clock)
    except NothingFitsError:
        return ()
    named = {"accelerator": request.accelerator.name, "pareto": points, "split": str(split), "block": block, "costs": str(costs)}
    provenance = _provenance(graph, {**named, "capacity": capacity, **terms}, method, seed, workers)
    if chosen.interrupted and chosen.start is not None:
        front: tuple[Schedule, ...] = (chosen.start.replace(termination=Termination.INTERRUPTED, method=method),)
    else:
        front = pareto_front(chosen.problem, points, time_limit=clock.remaining, workers=workers, seed=seed, observers=observers)
    described = [request.describe(one, chosen.split.to_json()).replace(provenance=provenance) for one in front]
    return tuple(_checked(chosen.problem, one, clock) for one in described)


def request_of(
    graph: Graph,
    accelerator: str | os.PathLike[str] | Accelerator,
    costs: str | os.PathLike[str],
    objective: str,
    capacity: Mapping[str, int] | None,
    partial_sum_factor: int,
    terms: Mapping[str, str | None],
) -> Request:
    """Return what is asked, from the options of the command.

    Raises
    ------
    InputError
        If the accelerator or the costs are not usable.
    UsageError
        If an option value is unknown.
    """
    if not isinstance(graph, Graph):
        raise UsageError(f"a network is scheduled, not a {type(graph).__name__}; read it with cs.load(...)")
    device = load_accelerator(accelerator)
    known = {name: values[0] for name, values in TERMS.items()}
    if unknown := [name for name in terms if name not in known]:
        raise UsageError(f"{shown(unknown[0])} is no option of schedule{suggestion(unknown[0], list(known))}")
    rules = {**known, "capacity_rule": default_capacity_rule(device), **{name: value for name, value in terms.items() if value is not None}}
    for name, value in rules.items():
        _one_of(name, value, TERMS[name])
    _one_of("objective", objective, tuple(map(str, Objective)))
    if type(partial_sum_factor) is not int or partial_sum_factor < 1:  # bytes are whole numbers
        raise UsageError(f"partial_sum_factor must be a whole number >= 1, got {shown(partial_sum_factor)}")
    if capacity is not None and not (isinstance(capacity, Mapping) and all(type(size) is int for size in capacity.values())):
        raise UsageError(f"capacity must be bytes by core id, got {shown(capacity)}")
    semantics = Semantics(partial_sum_factor=partial_sum_factor, **rules)
    return Request(graph, device, provider(costs, device), semantics, Objective(objective), capacity)


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{suggestion(value, known)}")


def _check(method: str, block: int | None) -> None:
    _one_of("method", method, METHODS)
    if block is not None and block < 1:
        raise UsageError(f"block must be >= 1, got {block}")
    if method == GENETIC:
        need("pymoo", extra="baselines")  # before anything takes time


def _as_tile_loop(
    request: Request, split: str | Split, method: str, provenance: Provenance, clock: Clock
) -> tuple[TileLoop, Schedule] | None:
    """Schedule a long tile loop as a loop, where the network is one and nothing else was asked for."""
    rules = request.semantics
    plain = (rules.inputs, rules.weights, rules.outputs) == ("fetched", "fetched", "written")
    if split != AUTO or method != "exact" or request.objective is not Objective.LATENCY or not plain:
        return None
    gated = gated_search.find(request.graph)
    if gated is None or not gated_search.is_long(gated):
        return None
    found = gated_search.search(gated, request)
    if found is None:
        return None
    document, plan = found
    answer = request.describe(periodic_schedule(plan, provenance, clock), {TILE_LOOP: document})
    return plan.loop, answer.replace(groups=(tuple(operator.name for operator in request.graph),))


def _split(request: Request, split: str | Split, block: int | None, clock: Clock, method: str = "exact") -> Choice:
    if isinstance(split, str) and split == AUTO:
        return choose(request, block, clock, method)
    if block is not None:
        raise UsageError("--block says how AUTO cuts; a given split says so itself")
    given = split if isinstance(split, Split) else split_of(split)
    if not isinstance(split, Split) and (defects := [*given.defects(layer_extents(request.graph, request.semantics.softmax))]):
        raise InputError(split, defects)
    return Choice(given, request.problem(given), None)


def _solve(chosen: Choice, request: Request, options: Mapping[str, Any], clock: Clock) -> Schedule:
    if chosen.interrupted and chosen.start is not None:
        return chosen.start.replace(termination=Termination.INTERRUPTED, method=str(options["method"]))
    try:
        answer = schedule_problem(chosen.problem, time_limit=clock.remaining, start=chosen.start, **options)
    except InfeasibleError as error:
        return _infeasible(request, str(options["method"]), _with_split(request, error.reasons), clock)
    covers_all = chosen.peak_bound is not None and answer.status is Status.OPTIMAL and answer.value == chosen.peak_bound
    return answer.replace(scope="all splits" if covers_all else answer.scope, seconds=round(clock.seconds, 3))


def _infeasible(request: Request, method: str, reasons: Sequence[Reason], clock: Clock) -> Schedule:
    return Schedule(
        status=Status.INFEASIBLE,
        termination=Termination.PROVED,
        seconds=round(clock.seconds, 3),
        verified=False,
        provenance=Provenance(cosma_sched.__version__, None, "", "none"),
        objective=request.objective,
        method=method,
        semantics=request.semantics,
        reasons=tuple(reasons),
    )


def _with_split(request: Request, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Name, beside the capacity, a split under which what does not fit a core does."""
    if not any(reason.rule in {"tile-fits", "node-fits"} for reason in reasons):
        return tuple(reasons)
    lever = that_fits(request)
    return tuple(reason if lever is None else replace(reason, levers=(*reason.levers, lever)) for reason in reasons)


def _checked(problem: ScheduleProblem, answer: Schedule, clock: Clock) -> Schedule:
    return _passed(verify(problem, answer), answer, clock)


def _passed(violations: Sequence[Violation], answer: Schedule, clock: Clock) -> Schedule:
    if violations:
        raise VerificationError(violations)
    return answer.replace(verified=bool(answer.nodes), seconds=round(clock.seconds, 3))


def _remarks(request: Request, chosen: Choice, answer: Schedule) -> Iterator[str]:
    """Yield how a head is cut, in the letters of the study, and its peak beside the study's layer by layer where the terms are alike."""
    head, rules = head_of(request.graph), request.semantics
    letters = None if head is None else letters_of(chosen.split, layer_extents(request.graph, rules.softmax), head.layers)
    if head is not None and letters:
        yield f"split {letters} ({', '.join(head.layers)})"
    # The study's schedule has row blocks; beside other cuts its block size would be our invention.
    if head is None or letters != "BBBBB" or request.objective is not Objective.MEMORY or answer.peak_total_bytes is None:
        return
    if (rules.inputs, rules.weights) != ("streamed", "free") or len(request.graph.tensors[head.layers[4]].shape or ()) != 2:
        return
    parts = max(sum(node.layer == layer for node in chosen.problem.nodes) for layer in head.layers)
    rows = -(-head.rows // parts)
    found = alpha(head.rows, head.width, r=rows)
    baseline = found.baseline_peak * request.graph.tensors[head.layers[0]].size_bytes // (head.rows * head.width)
    ratio = f"alpha {answer.peak_total_bytes / baseline:.4f}, {float(found.rule):.4f} by the published rule"
    yield f"layer by layer (Q, K, V, S, A in blocks of {rows} rows) the peak is {baseline:,} bytes: {ratio}"


def groups_of(problem: ScheduleProblem, answer: Schedule) -> tuple[tuple[str, ...], ...]:
    """Return the fusion groups of a schedule: layers joined by intermediates of which no tile leaves the chip, in order."""
    if not answer.nodes:
        return ()
    left = {transfer.tile for transfer in answer.transfers if "offchip" in transfer.targets}
    leaves = {tile.tensor or tile.name for tile in problem.tiles if tile.name in left}
    layers = list(dict.fromkeys(node.layer for node in problem.nodes))
    leader = {layer: layer for layer in layers}

    def find(layer: str) -> str:
        while leader[layer] != layer:
            layer = leader[layer]
        return layer

    for tile, (writers, readers) in enumerate(zip(problem.writers, problem.readers, strict=True)):
        facts = problem.tiles[tile]
        if writers and (facts.tensor or facts.name) not in leaves:
            for node in readers:
                one, other = find(problem.nodes[writers[0]].layer), find(problem.nodes[node].layer)
                leader[max(one, other, key=layers.index)] = min(one, other, key=layers.index)
    members: dict[str, list[str]] = {}
    for layer in layers:
        members.setdefault(find(layer), []).append(layer)
    return tuple(map(tuple, members.values()))


def layers(graph: Graph, softmax: str = "inplace") -> dict[str, dict[str, int]]:
    """Return the layers of a network and the extents of the dimensions along which each can be cut."""
    return layer_extents(graph, softmax)


def _provenance(graph: Graph, options: Mapping[str, Any], method: str, seed: int, workers: int) -> Provenance:
    packages = ("ortools", "numpy", *(("pymoo",) if method == "genetic" else ()))
    versions = {name: version for name in packages if (version := _version(name)) is not None}
    origin = graph.origin
    return Provenance(
        version=cosma_sched.__version__,
        model=(origin.model or None) if origin is not None else None,
        sha256=graph.sha256,
        solver="cpsat" if method == "exact" else "none",
        seed=seed,
        workers=workers,
        options={**(dict(origin.options) if origin is not None else {}), **options},
        versions={"python": ".".join(map(str, sys.version_info[:3])), **versions},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
