"""Searches by trial as methods of `fuse`: checked answers, budgets, seeds, no bound, and never worse than no fusion at all."""

from __future__ import annotations

import sys

import pytest

from cosma_sched.errors import MissingError, UsageError
from cosma_sched.fusion.calls import fuse
from cosma_sched.fusion.exact import ExactOptions, ExactSearch
from cosma_sched.fusion.genome import Judge
from cosma_sched.fusion.metaheuristics import search
from cosma_sched.fusion.polish import polished
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.mapping.evolution import PUBLISHED
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Status, Termination
from tests.fusion.cases import RESIDUAL
from tests.fusion.test_calls import SMALL, residual
from tests.mapping.cases import machine

EXTRAS = {"genetic": "pymoo", "bayesian": "optuna"}


def need(method: str) -> None:
    if method in EXTRAS:
        pytest.importorskip(EXTRAS[method], reason="the extra baselines is not installed")


@pytest.mark.parametrize("method", ["random", "genetic", "bayesian"])
def test_an_answer_is_checked_repeats_with_its_seed_and_claims_no_bound(method: str) -> None:
    need(method)
    first, again = (fuse(residual(), "gemmini_small", method=method, evaluations=40, seed=3, vector_ops="charged") for _ in range(2))
    assert (first.verified, first.status, first.termination) == (True, Status.FEASIBLE, Termination.EXHAUSTED)
    assert (first.bounds.edp, first.gap) == (None, None)
    assert (first.edp, first.groups) == (again.edp, again.groups)
    assert first.evaluations == 40
    assert first.ceiling_edp is not None
    assert first.edp is not None
    assert first.unfused_edp is not None
    assert first.ceiling_edp <= first.edp <= first.unfused_edp


def test_a_search_that_ends_above_the_unfused_optimum_gives_that_and_says_so() -> None:
    result = fuse(SMALL, "gemmini_small", method="random", evaluations=1)
    assert result.edp == result.unfused_edp
    assert any("worse than the best network without fusion" in remark for remark in result.remarks)


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_other_objectives_are_searched(objective: str) -> None:
    result = fuse(SMALL, "gemmini_small", method="random", evaluations=300, objective=objective, overlap="group")
    assert result.verified
    assert result.value is not None


def test_the_declared_space_of_a_baseline_cannot_be_narrowed() -> None:
    with pytest.raises(UsageError, match="only exact does"):
        fuse(SMALL, "gemmini_small", method="random", tiles="strips")


def test_an_interrupt_before_anything_is_judged_gives_the_unfused_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosma_sched.fusion.baselines.search", lambda *_: True)
    result = fuse(SMALL, "gemmini_small", method="random")
    assert (result.edp, result.verified, result.termination) == (result.unfused_edp, True, Termination.INTERRUPTED)
    assert any("stopped before anything was found" in remark for remark in result.remarks)


def test_options_that_a_method_does_not_read_are_refused() -> None:
    with pytest.raises(UsageError, match="evaluations limit a baseline"):
        fuse(SMALL, "gemmini_small", evaluations=5)
    with pytest.raises(UsageError, match="random uses none"):
        fuse(SMALL, "gemmini_small", method="random", solver="cbc")


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="evaluations must be >= 1"):
        fuse(SMALL, "gemmini_small", method="random", evaluations=0)


@pytest.mark.parametrize(
    ("method", "package", "extra"),
    [("genetic", "pymoo", "baselines"), ("bayesian", "optuna", "baselines"), ("gradient", "jax", "gradient")],
)
def test_a_missing_extra_is_named(method: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=rf"cosma-sched\[{extra}\]"):
        fuse(SMALL, "gemmini_small", method=method, evaluations=10)


@pytest.mark.parametrize("published", [True, False])
def test_genetic_search_comes_near_the_optimum_of_a_small_network(published: bool) -> None:
    need("genetic")
    problem, own = fusion_problem(RESIDUAL.graph()), machine(2, 96, 64)
    best = ExactSearch(problem, own, ExactOptions(), Progress(Clock())).run().fused.best("edp")
    judge = Judge(problem, own)
    settings = {"settings": PUBLISHED} if published else {}
    search(judge, "genetic", 3000, 0, Progress(Clock()), **settings)
    last = judge.tally.betters[-1]
    assert 1.0 <= last.energy_pj * last.latency_cycles / (best.energy * best.latency) <= 1.1


def test_polish_keeps_the_groups_and_never_makes_them_worse() -> None:
    problem, own = fusion_problem(RESIDUAL.graph()), machine(2, 96, 64)
    exact = ExactSearch(problem, own, ExactOptions(), Progress(Clock()))
    judge = Judge(problem, own)
    search(judge, "random", 200, 0, Progress(Clock()))
    plain = judge.answer()
    better = polished(problem, plain, exact.fronts)
    assert [(one.members, one.tile, one.mode, one.resident) for one in plain] == [
        (one.members, one.tile, one.mode, one.resident) for one in better
    ]

    def product(groups: tuple) -> int:  # type: ignore[type-arg]
        return sum(group.energy_pj for group in groups) * sum(group.latency_cycles for group in groups)

    assert product(better) <= product(plain)
