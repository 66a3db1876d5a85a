"""``cosma-sched experts``: which GPU each expert of a mixture-of-experts model lives on."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosma_sched.cli.arguments import Debug, Json, OutputFile, Quiet, TimeLimit, Verbose, seconds, whole
from cosma_sched.cli.boundary import complain
from cosma_sched.cli.output import Action, Output, table_width
from cosma_sched.cli.watch import watching
from cosma_sched.errors import UsageError, shown
from cosma_sched.units import parse_size

if TYPE_CHECKING:
    from cosma_sched.experts.placement import Placement
    from cosma_sched.experts.profile import Profile

NAME = "experts"
_READING, _GOAL, _MACHINE, _OUT, _SOLVING = "Reading the profile", "What to plan", "Machine", "For the engine", "Solving"
_MOST_WORKERS = 8


def _option(metavar: str, text: str, panel: str, **more: Any) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel, show_default=False, **more)


Profiles = Annotated[
    list[str],
    typer.Argument(
        metavar="PROFILE...",
        help="Routing statistics or token ids of SGLang, vLLM, TensorRT-LLM, ExFlow, CSV, npz; a directory; several files of one "
        "workload; or synthetic:mixtral-like|gpt-oss-like|deepseek-v3-like[,seed=N,tokens=N].",
        show_default=False,
    ),
]
Gpus = Annotated[str, _option("N", "GPUs that share the experts.", _MACHINE)]
Nodes = Annotated[str, _option("N", "Nodes of equally many GPUs; 1 unless given.", _MACHINE)]
Slots = Annotated[str | None, _option("K", "Expert slots per GPU and layer.", _MACHINE)]
Replicas = Annotated[str | None, _option("R", "Extra slots per layer over all GPUs, instead of --slots; 0 unless given.", _MACHINE)]
TopologyFile = Annotated[str | None, _option("FILE", "JSON matrix of costs between GPUs, zero diagonal.", _MACHINE)]
Forwarding = Annotated[str, _option("yes|no", "Whether the engine forwards inside a node; yes unless given.", _MACHINE)]
ReplicaChoice = Annotated[str, _option("even|static", "How an engine picks a replica; even unless given.", _MACHINE)]
ExpertBytes = Annotated[str | None, _option("SIZE", "Bytes of one expert, for memory and moved bytes.", _MACHINE)]
GpuMemory = Annotated[str | None, _option("SIZE", "Memory of a GPU for experts; needs --expert-bytes.", _MACHINE)]
Batch = Annotated[str | None, _option("TOKENS", "Decoding batch: report the experts it wakes on the busiest GPU.", _MACHINE)]
StepTime = Annotated[str | None, _option("FILE", "JSON with your measured constants: what the placement is worth.", _MACHINE)]
Method = Annotated[str, _option("METHOD", "joint (unless given), two-stage, eplb or contiguous.", _GOAL)]
Traffic = Annotated[str, _option("MODEL", "dispatch-combine (unless given) or token-stays: what is minimised.", _GOAL)]
MaxLoad = Annotated[str | None, _option("X", "Load a layer may have, in multiples of its best; 1.05 unless given.", _GOAL)]
Weights = Annotated[str | None, _option("A,B", "Minimise A load + B traffic instead.", _GOAL)]
Scenarios = Annotated[list[str] | None, _option("FILE", "Another workload to balance for; may be repeated.", _GOAL, parser=None)]
HoldOut = Annotated[str | None, _option("SHARE|alternate|FILE", "Tokens to judge by, not planned with.", _GOAL)]
Current = Annotated[str | None, _option("FILE", "The placement that runs now: a result, or an engine's file.", _GOAL)]
MaxMoved = Annotated[str | None, _option("N", "Experts that may move from --current.", _GOAL)]
ExpertGroups = Annotated[str | None, _option("N", "Groups for hierarchical EPLB (DeepSeek: 8).", _GOAL)]
Format = Annotated[str | None, _option("FORMAT", "sglang, trtllm, vllm, vllm-ascend or csv.", _OUT)]
Export = Annotated[str | None, _option("FILE", "Where --format writes; - for standard output.", _OUT)]
TrafficMatrix = Annotated[str | None, _option("FILE.csv", "Write the GPU x GPU traffic of all layers.", _OUT)]
InputFormat = Annotated[str | None, _option("KIND", "Do not look at the content: sglang, sglang-pt, csv, vllm, ...", _READING)]
NumExperts = Annotated[str | None, _option("E", "Experts per layer where the file does not say.", _READING)]
SkipBadLines = Annotated[bool, typer.Option("--skip-bad-lines", help="Skip and count malformed lines.", rich_help_panel=_READING)]
Iterations = Annotated[str | None, _option("N", "Steps of each search phase instead of time; repeats exactly.", _SOLVING)]
Seed = Annotated[str, _option("N", "Seed of the search; 0 unless given.", _SOLVING)]
Workers = Annotated[str | None, _option("N", "Processes that search with different seeds; the cores, at most 8, unless given.", _SOLVING)]
Solver = Annotated[str, _option("cpsat|cbc|highs", "Back end of the two-stage integer program; cpsat unless given.", _SOLVING)]
RequireOptimal = Annotated[bool, typer.Option("--require-optimal", help="End with exit code 4 unless proven optimal.")]


def command(
    profile: Profiles,
    gpus: Gpus,
    nodes: Nodes = "1",
    slots: Slots = None,
    replicas: Replicas = None,
    method: Method = "joint",
    traffic: Traffic = "dispatch-combine",
    max_load: MaxLoad = None,
    weights: Weights = None,
    scenario: Scenarios = None,
    hold_out: HoldOut = None,
    current: Current = None,
    max_moved: MaxMoved = None,
    topology: TopologyFile = None,
    expert_groups: ExpertGroups = None,
    forwarding: Forwarding = "yes",
    replica_choice: ReplicaChoice = "even",
    expert_bytes: ExpertBytes = None,
    gpu_memory: GpuMemory = None,
    batch: Batch = None,
    step_time: StepTime = None,
    format: Format = None,  # noqa: A002 - the option's name
    export: Export = None,
    traffic_matrix: TrafficMatrix = None,
    time_limit: TimeLimit = "30s",
    require_optimal: RequireOptimal = False,
    iterations: Iterations = None,
    seed: Seed = "0",
    workers: Workers = None,
    solver: Solver = "cpsat",
    input_format: InputFormat = None,
    num_experts: NumExperts = None,
    skip_bad_lines: SkipBadLines = False,
    json: Json = False,
    output: OutputFile = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> Action:
    """Place the experts of a mixture-of-experts model on GPUs: balanced for several workloads, little traffic, few moves, with bounds.

    Example: cosma-sched experts synthetic:mixtral-like --gpus 4 --traffic token-stays
    """
    del debug
    reading: dict[str, Any] = {
        "input_format": input_format,
        "num_experts": _whole("--num-experts", num_experts, 2),
        "skip_bad_lines": skip_bad_lines,
    }
    asked: dict[str, Any] = {
        "gpus": whole("--gpus", gpus, least=1),
        "nodes": whole("--nodes", nodes, least=1),
        "method": method,
        "traffic": traffic,
        "hold_out": hold_out if hold_out is None or not re.fullmatch(r"[0-9.]+", hold_out) else _number("--hold-out", hold_out),
        "slots": _whole("--slots", slots, 1),
        "replicas": _whole("--replicas", replicas, 0),
        "max_load": None if max_load is None else _number("--max-load", max_load),
        "weights": _weights(weights),
        "current": current,
        "max_moved": _whole("--max-moved", max_moved, 0),
        "topology": topology,
        "expert_groups": _whole("--expert-groups", expert_groups, 1),
        "forwarding": _yes_no("--forwarding", forwarding),
        "replica_choice": replica_choice,
        "expert_bytes": _size("--expert-bytes", expert_bytes),
        "gpu_memory": _size("--gpu-memory", gpu_memory),
        "batch": _whole("--batch", batch, 1),
        "step_time": step_time,
        "iterations": _whole("--iterations", iterations, 0),
        "time_limit": seconds("--time-limit", time_limit),
        "seed": whole("--seed", seed, least=0),
        "workers": _whole("--workers", workers, 1) or min(_MOST_WORKERS, os.cpu_count() or 1),
        "solver": solver,
    }
    _check(asked, format, export)
    target, exported, matrix = Output(json, output), Output(path=export), Output(path=traffic_matrix)

    def run() -> int:
        from cosma_sched.experts.calls import place_experts
        from cosma_sched.experts.formats.reading import read_profile
        from cosma_sched.report.experts import placement_lines

        for each in (target, exported, matrix):
            each.check()
        whole_profile = read_profile(profile, **reading)
        others = [read_profile(path, **reading) for path in scenario or ()]
        with watching(whole_profile.name, quiet=quiet, verbose=verbose) as observers:
            placement = place_experts(whole_profile, scenarios=others, observers=observers, **asked, **reading)
        _write_files(placement, whole_profile, others, format, export, traffic_matrix)
        target.deliver(placement.to_json(), placement_lines(placement, width=table_width(), all_rows=verbose > 0))
        return _ending(placement, require_optimal)

    return run


def _check(asked: dict[str, Any], format: str | None, export: str | None) -> None:  # noqa: A002 - the option's name
    if asked["slots"] is not None and asked["replicas"] is not None:
        raise UsageError("--slots and --replicas say the same thing twice; give one of them")
    if asked["max_load"] is not None and asked["max_load"] < 1:
        raise UsageError(f"--max-load must be >= 1, got {asked['max_load']:g}")
    if asked["gpu_memory"] is not None and asked["expert_bytes"] is None:
        raise UsageError("--gpu-memory needs --expert-bytes, the size of one expert")
    if (format is None) != (export is None):
        raise UsageError("--format and --export go together: the engine's format and the file to write")
    if format is not None:
        from cosma_sched.experts.formats.writers import check_format

        check_format(format)


def _write_files(
    placement: Placement,
    profile: Profile,
    others: list[Profile],
    format: str | None,  # noqa: A002 - the option's name
    export: str | None,
    traffic_matrix: str | None,
) -> None:
    """Write what was asked for beside the result, checked; a result without a placement has nothing to write."""
    if placement.slots is None:
        return
    if format is not None and export is not None:
        from cosma_sched.experts.formats import writers

        writers.export(placement, format, export)
        if format in writers.REMARKS:
            complain(writers.REMARKS[format])
    if traffic_matrix is not None:
        from cosma_sched.experts.calls import write_traffic_matrix

        write_traffic_matrix(placement, profile, others, traffic_matrix)


def _ending(placement: Placement, require_optimal: bool) -> int:
    """Return the exit code and say on standard error what the result does not say."""
    from cosma_sched.report.table import reason_lines
    from cosma_sched.result import Status, Termination

    if placement.status == Status.INFEASIBLE:
        for reason in placement.reasons:
            complain("\n".join(reason_lines(reason)))
        return 3
    if placement.termination == Termination.INTERRUPTED:
        complain("interrupted: this is the best that was found")
        return 130
    if require_optimal and placement.status != Status.OPTIMAL:
        complain("not proven optimal, which --require-optimal asks for")
        return 4
    return 0


def _whole(option: str, text: str | None, least: int) -> int | None:
    return None if text is None else whole(option, text, least=least)


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{option} {shown(text)}: must be a number >= 0")
    return value


def _weights(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"--weights {shown(text)}: must be two numbers, load and traffic, such as 1,1")
    return _number("--weights", parts[0]), _number("--weights", parts[1])


def _yes_no(option: str, text: str) -> bool:
    if text not in {"yes", "no"}:
        raise UsageError(f"{option} {shown(text)}: must be yes or no")
    return text == "yes"


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None
