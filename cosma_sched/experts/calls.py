"""The public calls of the expert planner: files are read here, then `planner` takes over."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cosma_sched.errors import InfeasibleError, InputError, UsageError, shown, suggestion
from cosma_sched.experts.evaluate import why_unknown
from cosma_sched.experts.formats.current import read_current
from cosma_sched.experts.formats.reading import read_profile
from cosma_sched.experts.joint import SearchOptions
from cosma_sched.experts.placement import Placement
from cosma_sched.experts.planner import Request, check_current, infeasible, place
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel, check_memory, read_topology, slots_for
from cosma_sched.experts.profile import Profile, hold_out, same_model, with_scenarios
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.steptime import StepConstants, read_constants
from cosma_sched.experts.traffic import gpu_matrix, traffic_report
from cosma_sched.experts.verify import Violation, topology_of, verify
from cosma_sched.files import write_whole
from cosma_sched.progress import Clock, Observer

REPLICA_CHOICES = ("even", "static")
Source = Profile | str | os.PathLike[str] | Sequence[str]


def place_experts(  # noqa: PLR0913 - the options of the command, by name
    profile: Source,
    *,
    gpus: int,
    nodes: int = 1,
    method: str = "joint",
    traffic: str = "dispatch-combine",
    scenarios: Sequence[str | Profile] = (),
    hold_out: str | float | Profile | None = None,
    slots: int | None = None,
    replicas: int | None = None,
    max_load: float | None = None,
    weights: tuple[float, float] | None = None,
    current: str | Placement | Numbers | None = None,
    max_moved: int | None = None,
    topology: str | Topology | None = None,
    expert_groups: int | None = None,
    forwarding: bool = True,
    replica_choice: str = "even",
    expert_bytes: int | None = None,
    gpu_memory: int | None = None,
    batch: int | None = None,
    step_time: str | StepConstants | None = None,
    iterations: int | None = None,
    time_limit: float | None = 30.0,
    seed: int = 0,
    workers: int = 1,
    solver: str = "cpsat",
    input_format: str | None = None,
    num_experts: int | None = None,
    skip_bad_lines: bool = False,
    observers: Sequence[Observer] = (),
) -> Placement:
    """Decide which expert lives on which GPU: balanced over all scenarios, with little traffic, few moves, bounds, checked.

    Parameters
    ----------
    profile
        A `Profile`, a file or directory of routing statistics, several files, or ``synthetic:PRESET[,seed=..,tokens=..]``.
    gpus, nodes
        GPUs of the expert-parallel group, in equal nodes.
    method
        ``joint``, ``two-stage``, ``eplb`` or ``contiguous``.
    traffic
        ``dispatch-combine`` or ``token-stays``: which traffic is minimised.
    scenarios
        Further workloads that the load has to be balanced for.
    hold_out
        Tokens to judge by: a fraction, ``alternate`` (odd rows), or a file.
    slots, replicas
        Slots per GPU and layer, or extra slots per layer; no replicas by default.
    max_load
        The load of each layer may be this many times its best (1.05 by default); minimises the traffic under that cap.
    weights
        (alpha, beta): minimise alpha load + beta traffic instead.
    current, max_moved
        The placement that runs now, and how many experts may move.
    topology
        A `Topology`, or a JSON file with a cost matrix.
    expert_groups
        Groups for hierarchical EPLB.
    forwarding
        Whether the engine forwards inside a node, so that a token crosses the network once per node.
    replica_choice
        ``even`` or ``static`` (a rank keeps to its own replica), for the evaluation.
    expert_bytes, gpu_memory
        Size of an expert and memory of a GPU for experts.
    batch
        Tokens of a decoding batch, to report active experts.
    step_time
        Constants of the step-time model, or a JSON file with them.
    iterations
        Steps of each search phase instead of time; with a seed and one worker the same answer byte for byte.
    time_limit, seed, workers, solver
        Limits and settings; the solver is that of the two-stage integer program.
    input_format, num_experts, skip_bad_lines
        How to read the files.
    observers
        Called with every `Event` of progress.

    Returns
    -------
    Placement
        With status ``infeasible`` and reasons where none exists; Ctrl-C returns the best so far with termination ``interrupted``.

    Raises
    ------
    InputError
        If a file is unusable; names file, layer, expert and value.
    UsageError
        If options are malformed or contradict each other.
    """
    clock = Clock()
    reading = {"input_format": input_format, "num_experts": num_experts, "skip_bad_lines": skip_bad_lines}
    whole = _profile(profile, scenarios, reading)
    planned, judged = split(whole, hold_out, reading)
    grid = _topology(topology, gpus, nodes, forwarding)
    options = {
        "gpus": gpus,
        "nodes": nodes,
        "method": method,
        "traffic": _one_of("traffic", traffic, tuple(TrafficModel)),
        "scenario": [_name(one) for one in scenarios],
        "hold-out": _name(hold_out) if isinstance(hold_out, str | Profile) else hold_out,
        "slots": slots,
        "replicas": replicas,
        "max-load": max_load,
        "weights": None if weights is None else list(weights),
        "current": current if isinstance(current, str) else None,
        "max-moved": max_moved,
        "expert-groups": expert_groups,
        "replica-choice": _one_of("replica-choice", replica_choice, REPLICA_CHOICES),
        "expert-bytes": expert_bytes,
        "gpu-memory": gpu_memory,
        "batch": batch,
        "iterations": iterations,
        "time-limit": time_limit,
        **{name.replace("_", "-"): value for name, value in reading.items()},
        "inputs": [list(entry) for entry in (*whole.inputs, *(judged.inputs if judged is not None and _is_file(hold_out) else ()))],
    }
    problem = _problem(planned, grid, TrafficModel(traffic), max_load, weights)
    request = Request(
        problem,
        method,
        held_out=judged,
        expert_groups=expert_groups,
        static=replica_choice == "static",
        expert_bytes=expert_bytes,
        batch_tokens=batch,
        constants=read_constants(step_time) if isinstance(step_time, str) else step_time,
        search=SearchOptions(seed, iterations, workers),
        solver=solver,
        time_limit=time_limit,
        options={name: value for name, value in options.items() if value is not None and value != [] and value is not False},
    )
    try:
        room = slots_for(planned, gpus, slots=slots, replicas=replicas)
        if expert_bytes is not None and gpu_memory is not None:
            check_memory(planned, gpus, room, expert_bytes, gpu_memory)
        problem = replace(problem, slots_per_gpu=room)
        request = replace(request, problem=problem, current=_current(current, problem), most_moved=max_moved)
        return place(request, observers)
    except InfeasibleError as error:
        return infeasible(request, error.reasons, clock.seconds)


def _problem(
    profile: Profile, topology: Topology, traffic: TrafficModel, max_load: float | None, weights: tuple[float, float] | None
) -> PlacementProblem:
    if max_load is not None and weights is not None:
        raise UsageError("--max-load and --weights are two forms of the objective; give one of them")
    cap = None if weights is not None else 1.05 if max_load is None else max_load
    return PlacementProblem(profile, topology, 0, traffic, cap, weights)


def _profile(source: Source, scenarios: Sequence[str | Profile], reading: Mapping[str, Any]) -> Profile:
    first = source if isinstance(source, Profile) else read_profile(_paths(source), **reading)
    others = [one if isinstance(one, Profile) else read_profile(one, **reading) for one in scenarios]
    return with_scenarios(first, others) if others else first


def _paths(source: str | os.PathLike[str] | Sequence[str]) -> str | list[str]:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return [os.fspath(path) for path in source]


def _name(source: object) -> str | None:
    if isinstance(source, Profile):
        return source.name
    return None if source is None else str(source)


def _is_file(how: object) -> bool:
    return isinstance(how, str) and how != "alternate" and not re.fullmatch(r"[0-9.]+", how)


def split(profile: Profile, how: str | float | Profile | None, reading: Mapping[str, Any]) -> tuple[Profile, Profile | None]:
    """Return what to plan with and what to judge by, for a value of ``--hold-out``.

    Raises
    ------
    UsageError
        If a fraction does not lie between 0 and 1, or the profile has no tokens to split.
    InputError
        If the held-out file is about another model.
    """
    if how is None:
        return profile, None
    if isinstance(how, Profile) or _is_file(how):
        other = how if isinstance(how, Profile) else read_profile(str(how), **reading)
        same_model(profile, other)
        return profile, other
    if how != "alternate":
        try:
            share = float(how)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise UsageError(f"--hold-out {how}: must be a fraction between 0 and 1, alternate, or a file")
    return hold_out(profile, how)


def _topology(given: str | Topology | None, gpus: int, nodes: int, forwarding: bool) -> Topology:
    if isinstance(given, Topology):
        if (given.gpus, given.nodes) != (gpus, nodes):
            raise UsageError(f"the topology has {given.gpus} GPUs in {given.nodes} nodes, asked for are {gpus} in {nodes}")
        return given
    return Topology(gpus, nodes, forwarding=forwarding) if given is None else read_topology(given, gpus, nodes, forwarding=forwarding)


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(value)}{suggestion(value, known)}")
    return str(value)


def _current(given: str | Placement | Numbers | None, problem: PlacementProblem) -> Numbers | None:
    if given is None:
        return None
    if isinstance(given, str):
        return check_current(read_current(given, problem.profile), problem, given)
    rows = given.array if isinstance(given, Placement) else np.asarray(given)
    return check_current(rows, problem, "current")


def profile_of(result: Placement, model: str | None = None, *, result_path: str = "result") -> tuple[Profile, Profile | None]:
    """Read what a result was planned with and what it was judged by, as its provenance says; digests are compared.

    Parameters
    ----------
    model
        The profile, if not the one in the provenance.

    Raises
    ------
    InputError
        If a file is missing or is not the one the result was made for.
    """
    options = result.provenance.options
    if result.provenance.model is None and model is None:
        raise UsageError(f"{result_path}: its profile was built in Python; name the file with --model PROFILE")
    reading = {
        "input_format": options.get("input-format"),
        "num_experts": options.get("num-experts"),
        "skip_bad_lines": bool(options.get("skip-bad-lines", False)),
    }
    source = model or str(result.provenance.model)
    profile = _profile(source.split("\n"), options.get("scenario", ()), reading)
    for scenario, name in zip(profile.scenarios, result.scenarios, strict=False):
        scenario.name = name  # a file that was renamed is still the same workload
    planned, judged = split(profile, options.get("hold-out"), reading)
    found = [*profile.inputs, *(judged.inputs if judged is not None and _is_file(options.get("hold-out")) else ())]
    for (path, digest), stated in zip(found, options.get("inputs", ()), strict=False):
        if digest != stated[1]:
            raise InputError(path, f"has sha256 {digest[:12]}..., but {result_path} was made for {str(stated[1])[:12]}...")
    return planned, judged


def check_result(result: Placement, model: str | None = None, *, result_path: str = "result") -> list[Violation]:
    """Check a saved result against the files its provenance names; parameters and errors as in `profile_of`."""
    planned, judged = profile_of(result, model, result_path=result_path)
    return verify(planned, result, judged)


def verify_any(profile: object, result: object) -> list[Violation]:
    """Check a placement against the profile it was made with.

    Raises
    ------
    UsageError
        If they are not a profile and a placement.
    """
    if not isinstance(profile, Profile) or not isinstance(result, Placement):
        raise UsageError(f"a {type(result).__name__} cannot be checked against a {type(profile).__name__}")
    return verify_placement(profile, result)


def verify_placement(profile: Profile, result: Placement) -> list[Violation]:
    """Check a placement against its profile, with the hold-out of its provenance where the profile can give it.

    Parameters
    ----------
    profile
        The whole profile, scenarios included; held-out tokens are split off as the result says.
    """
    options = result.provenance.options
    planned, judged = split(profile, options.get("hold-out"), {})
    return verify(planned, result, judged)


def write_traffic_matrix(placement: Placement, profile: Profile, scenarios: Sequence[Profile], path: str) -> None:
    """Write the GPU x GPU traffic of all layers as CSV: transitions (token-stays), else copies per token for uniform home ranks.

    Raises
    ------
    InputError
        If the profile does not tell the traffic, or the file cannot be written.
    """
    whole = with_scenarios(profile, list(scenarios)) if scenarios else profile
    planned, _ = split(whole, placement.provenance.options.get("hold-out"), {})
    model = TrafficModel(placement.traffic_model)
    static = placement.provenance.options.get("replica-choice") == "static"
    _, use, moved = traffic_report(planned, placement.array, topology_of(placement), model, static=static)
    matrix = gpu_matrix(model, use, moved)
    if matrix is None:
        raise InputError(path, f"cannot be written: {why_unknown(planned) or 'the traffic of this model is unknown'}")
    lines = [",".join(["gpu", *map(str, range(placement.gpus))])]
    lines += [",".join([str(g), *(f"{value:.12g}" for value in row)]) for g, row in enumerate(matrix)]
    write_whole(path, "\n".join([*lines, ""]))
