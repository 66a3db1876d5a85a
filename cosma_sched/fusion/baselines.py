"""Methods of trial as the planner's methods: search, cost the best groups anew, and put the answer together, without any bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cosma_sched.errors import UsageError
from cosma_sched.fusion.answer import FusionResult
from cosma_sched.fusion.choice import GroupCost
from cosma_sched.fusion.exact import ExactSearch, Found
from cosma_sched.fusion.genome import Judge
from cosma_sched.fusion.metaheuristics import search
from cosma_sched.fusion.planner import FuseOptions, with_bounds, with_groups
from cosma_sched.fusion.polish import polished
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.answer import NetworkBounds
from cosma_sched.mapping.cost import Machine
from cosma_sched.progress import Clock, Progress

METHODS = ("random", "genetic", "bayesian", "gradient", "gradient-optimistic", "gradient-fixed")


@dataclass(frozen=True, slots=True)
class Trial:
    """What a search by trial ended with: decided groups, remarks of the method, and whether the user stopped it."""

    groups: tuple[GroupCost, ...]
    remarks: tuple[str, ...]
    interrupted: bool


def fuse_by_trial(result: FusionResult, problem: FusionProblem, machine: Machine, options: FuseOptions, progress: Progress) -> FusionResult:
    """Return the answer of one of `METHODS`.

    Raises
    ------
    UsageError
        If the declared space is narrowed, or groups are given, which only the exact method takes.
    MissingError
        If the method's extra is not installed.
    """
    space = options.exact.space
    if space != TileSpace(max_group=space.max_group) or options.exact.fixed is not None:
        raise UsageError(f"--method {result.method} takes no --tiles, --modes or --groups; only exact does")
    alone_search = ExactSearch(problem, machine, replace(options.exact, fixed=(), solver=None), Progress(Clock()))
    found = alone_search.run()
    judge = Judge(
        problem,
        machine,
        halo=options.exact.halo,
        overlap=options.overlap,
        objective=options.objective,
        max_group=space.max_group,
        clock=progress.clock,
    )
    trial = _METHODS[result.method](judge, result.method, options, progress, alone_search)
    groups, remarks = _no_worse(trial, alone_search, found, options)
    result = result.replace(evaluations=judge.tally.evaluations, remarks=(*result.remarks, *remarks))
    result = with_groups(result, alone_search, found, groups, options)
    return with_bounds(result, NetworkBounds(), trial.interrupted, progress)


def _by_genome(judge: Judge, method: str, options: FuseOptions, progress: Progress, alone: ExactSearch) -> Trial:
    del alone
    interrupted = search(judge, method, options.evaluations, options.seed, progress)
    share = 100 * judge.tally.valid / max(1, judge.tally.evaluations)
    return Trial(
        judge.answer(), (f"{share:.1f} % of the {judge.tally.evaluations} evaluated networks were valid before repair",), interrupted
    )


def _by_gradient(judge: Judge, method: str, options: FuseOptions, progress: Progress, alone: ExactSearch) -> Trial:
    from cosma_sched.fusion.relaxation import VARIANTS, descend

    report = descend(judge, VARIANTS[method], options.seed, progress, options.evaluations)
    repaired = judge.answer()
    better = polished(judge.problem, repaired, alone.fronts, objective=options.objective, overlap=options.overlap)
    remarks = [f"{100 * report.valid_share:.1f} % of the decoded networks were valid before repair"]
    if report.decoded is not None:
        remarks.append(f"best valid as decoded: EDP {report.decoded[0] * report.decoded[1]}")
    remarks.append(f"after repair: EDP {report.repaired[0] * report.repaired[1]}")
    remarks.append(f"after polish: EDP {_total(better)[0] * _total(better)[1]}")
    if report.claimed is not None:
        remarks.append(f"the relaxed model itself claims EDP {report.claimed:.6g}")
    chosen = min((repaired, better), key=lambda groups: _rank(groups, options.objective))
    return Trial(chosen, tuple(remarks), report.interrupted)


_Method = Callable[[Judge, str, FuseOptions, Progress, ExactSearch], Trial]
_METHODS: Mapping[str, _Method] = {name: _by_gradient if name.startswith("gradient") else _by_genome for name in METHODS}


def _total(groups: Sequence[GroupCost]) -> tuple[int, int]:
    return sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)


def _rank(groups: Sequence[GroupCost], objective: str) -> int:
    energy, latency = _total(groups)
    return {"edp": energy * latency, "energy": energy, "latency": latency}[objective]


def _no_worse(trial: Trial, alone: ExactSearch, found: Found, options: FuseOptions) -> tuple[tuple[GroupCost, ...], tuple[str, ...]]:
    """Return the groups that were found, or every node alone where that is better, and say so."""
    best = found.alone.best(options.objective)
    unfused = tuple(
        alone.decide(alone.alone_option(index), (), place, halo=options.exact.halo, overlap=options.overlap) for index, place in best.choice
    )
    if not trial.groups:
        return unfused, (*trial.remarks, "stopped before anything was found: this is the best network without fusion")
    if _rank(trial.groups, options.objective) <= _rank(unfused, options.objective):
        return trial.groups, trial.remarks
    energy, latency = _total(trial.groups)
    said = f"found only {energy} pJ and {latency} cycles, worse than the best network without fusion, which is given instead"
    return unfused, (*trial.remarks, said)
