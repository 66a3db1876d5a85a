"""A network's fusion: search, decide every chosen group in full, and put the answer together with what is proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Lever
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.assemble import fused_group, fused_layers, in_running_order
from cosma_sched.fusion.choice import GroupCost
from cosma_sched.fusion.exact import ExactOptions, ExactSearch, Found
from cosma_sched.fusion.floor import ceiling
from cosma_sched.fusion.group import MODES, Group, Occurrence
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.answer import NetworkBounds
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.search import misfits
from cosma_sched.progress import Progress
from cosma_sched.result import Provenance, Reason, Status, Termination, relative_gap


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """How to fuse.

    Parameters
    ----------
    objective
        ``edp``, ``energy`` or ``latency``.
    overlap
        ``layer`` or ``group``.
    exact
        What the exact method searches and how.
    evaluations, seed
        Of a baseline: networks to score, None for the method's default, and the seed of all chance.
    """

    objective: str = "edp"
    overlap: str = "layer"
    exact: ExactOptions = field(default_factory=ExactOptions)
    evaluations: int | None = None
    seed: int = 0


def blank(
    problem: FusionProblem, accelerator: Accelerator, machine: Machine, options: FuseOptions, method: str, provenance: Provenance
) -> FusionResult:
    """Return an answer that holds nothing yet but the rules and the ceiling."""
    rules = {
        "halo": options.exact.halo,
        "psum_words": int(machine.psum_words),
        "vector_ops": "charged" if problem.charged else "free",
        "overlap": options.overlap,
        "space": described(options.exact.space, None, fixed=options.exact.fixed is not None),
    }
    return FusionResult(
        status=Status.UNKNOWN,
        termination=Termination.EXHAUSTED,
        seconds=0.0,
        verified=False,
        provenance=provenance,
        accelerator=accelerator,
        objective=options.objective,
        method=method,
        options=rules,
        ceiling_edp=ceiling(problem, machine, overlap=options.overlap).edp,
        skipped=problem.skipped,
        barriers=tuple(problem.barriers()),
        remarks=problem.remarks,
    )


def described(space: TileSpace, longest: int | None, *, fixed: bool) -> str:
    """Return the declared space in words."""
    tiles = {
        "all": "tiles of all divisors of batch, rows and columns",
        "strips": "tiles of whole rows, all divisors of batch and rows",
        "listed": f"tiles of rows {_listed(space.listed[0])} and columns {_listed(space.listed[1])}",
    }[space.kind]
    groups = "the groups that were given" if fixed else f"groups of at most {space.max_group} layers"
    whole = "one-tile groups of any length" if longest is None else f"one-tile groups of at most {longest} layers"
    modes = ", ".join(map(str, space.modes))
    return f"{groups}; {tiles}; {whole}; modes {modes}; any resident weights; mappings gemmini"


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths)) or "whole"


def layer_reasons(problem: FusionProblem, machine: Machine, accelerator: str) -> tuple[Reason, ...]:
    """Return why some layer fits in no way, of each rule the worst; empty where all fit."""
    worst: dict[str, Reason] = {}
    for index in problem.layers:
        layer = problem.nodes[index].layer
        for reason in misfits(layer, machine, accelerator) if layer is not None else ():
            if reason.rule not in worst or (reason.demand or 0) > (worst[reason.rule].demand or 0):
                worst[reason.rule] = reason
    return tuple(worst.values())


def fuse_exactly(result: FusionResult, problem: FusionProblem, machine: Machine, options: FuseOptions, progress: Progress) -> FusionResult:
    """Return the answer of the exact method."""
    search = ExactSearch(problem, machine, options.exact, progress)
    found = search.run()
    missing = _missing(search, found)
    if missing and (found.interrupted or progress.clock.expired):
        stopped = Termination.INTERRUPTED if found.interrupted else Termination.TIME_LIMIT
        return result.replace(termination=stopped, seconds=progress.clock.seconds)
    if missing:
        reasons = tuple(_overflow(search, members, result.accelerator.name) for members in missing)
        return result.replace(status=Status.INFEASIBLE, termination=Termination.PROVED, reasons=reasons, seconds=progress.clock.seconds)
    chosen = _best(search, found, options)
    space = described(options.exact.space, found.longest, fixed=options.exact.fixed is not None)
    result = result.replace(options={**result.options, "space": space}, evaluations=search.evaluations)
    result = with_groups(result, search, found, chosen, options)
    limit, proven = ceiling(problem, machine, overlap=options.overlap), found.proven
    energy_bound = max(proven.energy_bound, limit.energy_pj)
    bounds = NetworkBounds(max(proven.edp_bound, limit.edp), energy_bound, max(proven.latency_bound, limit.latency_cycles))
    if options.overlap == "group":
        bounds = NetworkBounds(energy_bound * limit.latency_cycles, energy_bound, limit.latency_cycles)
        result = result.replace(remarks=(*result.remarks, _GROUP_REMARK))
    provenance = replace(result.provenance, proved_by=("enumeration", found.proved_by))
    return with_bounds(result, bounds, found.interrupted, progress).replace(provenance=provenance)


_GROUP_REMARK = (
    "with overlap group, groups are chosen by the latencies of their steps and counted anew; "
    "energy is bounded by the search, latency by the ceiling"
)


def _best(search: ExactSearch, found: Found, options: FuseOptions) -> list[GroupCost]:
    """Return the groups of the best network; where units overlap through a group, the best of the extreme points when counted so."""
    points = [found.fused.best(options.objective)] if options.overlap == "layer" else list(found.fused.points)
    decided = [
        [
            search.decide(found.options[option], found.prices[option], place, halo=options.exact.halo, overlap=options.overlap)
            for option, place in point.choice
        ]
        for point in points
    ]

    def rank(groups: Sequence[GroupCost]) -> tuple[int, int]:
        energy, latency = sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)
        return {"edp": (energy * latency, energy), "energy": (energy, latency), "latency": (latency, energy)}[options.objective]

    return min(decided, key=rank)


def with_groups(result: FusionResult, search: ExactSearch, found: Found, chosen: Sequence[GroupCost], options: FuseOptions) -> FusionResult:
    """Return a result with decided groups and what the network costs without fusion."""
    problem = search.problem
    alone = found.alone.best(options.objective)
    words: dict[int, int] = {}
    for index, place in alone.choice:
        node = search.alone_option(index)
        decided = search.decide(node, (), place, halo=options.exact.halo, overlap="layer")
        words[node.members[0]] = sum(
            (step.score.words.w + step.score.words.i + step.score.words.o + step.score.words.psum) * step.step.multiplicity
            for step in decided.steps
        )
    order = in_running_order(problem, [cost.members for cost in chosen])
    groups = tuple(fused_group(problem, chosen[place], words) for place in order)
    energy, latency = sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)
    return result.replace(
        energy_pj=energy,
        latency_cycles=latency,
        edp=energy * latency,
        unfused_energy_pj=alone.energy,
        unfused_latency_cycles=alone.latency,
        unfused_edp=alone.energy * alone.latency,
        groups=groups,
        layers=fused_layers(problem, groups),
    )


def with_bounds(result: FusionResult, bounds: NetworkBounds, interrupted: bool, progress: Progress) -> FusionResult:
    """Return a result with proven bounds, and what follows from them."""
    result = result.replace(bounds=bounds)
    proven = result.bound is not None and result.bound == result.value
    if proven:
        stopped = Termination.PROVED
    elif interrupted:
        stopped = Termination.INTERRUPTED
    else:
        stopped = Termination.TIME_LIMIT if progress.clock.expired else Termination.EXHAUSTED
    return result.replace(
        status=Status.OPTIMAL if proven else Status.FEASIBLE,
        termination=Termination.INTERRUPTED if interrupted else stopped,
        gap=relative_gap(result.value, result.bound),
        seconds=progress.clock.seconds,
    )


# Groups that were given


def _missing(search: ExactSearch, found: Found) -> list[tuple[int, ...]]:
    """Return the groups that were given and have no price."""
    offered = {option.members for option in found.options}
    return [members for members in search.options.fixed or () if len(members) > 1 and members not in offered]


def _overflow(search: ExactSearch, members: tuple[int, ...], accelerator: str) -> Reason:
    """Return the fullest step of the tile and mode in which a group needs least."""
    group = Group(search.problem, members)
    capacity = int(search.machine.scratchpad_bytes)
    best: tuple[int, str, Occurrence, int] | None = None
    batches, rows, columns = search.options.space.lengths(group)
    for tile in [(batch, row, column) for batch in batches[:1] for row in (rows[0], rows[-1]) for column in (columns[0], columns[-1])]:
        for mode in search.options.space.tiled or MODES:
            demands = [(_least_demand(group, step), index, step) for index, step in enumerate(group.expand(tile, mode).occurrences)]
            demand, _, step = max(demands)
            if best is None or demand < best[0]:
                best = (demand, f"tile N{tile[0]} P{tile[1]} Q{tile[2]}, {mode}", step, demand - step.live_bytes)
    if best is None:
        raise ValueError("no tile was given")
    demand, where, step, working = best
    name, title = group.nodes[step.position].name, " + ".join(node.name for node in group.nodes)
    short = demand - capacity
    statement = f'step "{name}" of group {title} needs {demand} bytes of the scratchpad ({where}), {short} too many'
    if short <= 0:
        statement = f'no mapping of step "{name}" of group {title} fits beside its maps ({where}: {demand} of {capacity} bytes at least)'
    return Reason(
        rule="group-fits",
        where=f"group {title}",
        statement=statement,
        demand=demand,
        limit=capacity,
        short=max(short, 0),
        terms=(("maps and strips", step.live_bytes), ("smallest working tiles", working)),
        levers=(Lever(f"{accelerator}: scratchpad size_bytes", max(demand, capacity + 1), "the least that this step needs"),),
    )


def _least_demand(group: Group, step: Occurrence) -> int:
    """Return the bytes of a step with the smallest working tiles that there can be."""
    node = group.nodes[step.position]
    if node.layer is None:
        return step.live_bytes
    w_bytes, i_bytes, _ = node.layer.element_bytes
    outside = not any(operand.role == "input" and group.inside(operand) for operand in node.operands)
    return step.live_bytes + (w_bytes if step.position in group.weighted else 0) + (i_bytes if outside else 0)
