"""Genetic and Bayesian mapping: tilings fit, values are those of the model, seeds repeat, and a missing extra is named."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import MissingError
from cosma_sched.mapping.calls import map_layers
from cosma_sched.mapping.evolution import PUBLISHED, Genetic, Space, draw_rows, evolve
from cosma_sched.mapping.metaheuristics import LayerJudge
from cosma_sched.mapping.scoring import broken_rules, score
from cosma_sched.mapping.space import divisors, parse
from cosma_sched.mapping.tilings import DivisorTable
from cosma_sched.progress import Clock, Progress
from tests.mapping.cases import layer, machine
from tests.mapping.test_planner import NET

CROWDED = machine(side=4, scratchpad=96, accumulator=64)
LAYERS = [
    layer(K=8, C=6, P=6, Q=4, R=3, S=3),
    layer(2, K=5, C=3, P=7, Q=1, R=5, S=1, dilation=2),
    layer(N=2, K=12, P=4, Q=6, repeat=3),
]


def quiet() -> Progress:
    return Progress(Clock())


def test_the_nearest_divisor_is_nearest_in_its_logarithm() -> None:
    table, generator = DivisorTable(), np.random.default_rng(0)
    extents = generator.integers(1, 200, 500)
    wishes = generator.uniform(1, 210, 500)
    found = table.nearest(extents, wishes)
    for extent, wish, one in zip(extents.tolist(), wishes.tolist(), found.tolist(), strict=True):
        distances = {d: abs(np.log(d / min(wish, extent))) for d in divisors(extent)}
        assert distances[one] == pytest.approx(min(distances.values()), abs=1e-6)


def test_the_next_smaller_divisor_is_the_one_before() -> None:
    table = DivisorTable()
    pairs = [(extent, factor) for extent in (12, 97, 960) for factor in divisors(extent)[1:]]
    found = table.smaller(np.array([extent for extent, _ in pairs]), np.array([factor for _, factor in pairs]))
    assert found.tolist() == [divisors(extent)[divisors(extent).index(factor) - 1] for extent, factor in pairs]


@pytest.mark.parametrize("mapped", LAYERS, ids=str)
def test_every_decoded_mapping_fits_and_costs_what_the_model_says(mapped: Any) -> None:
    judge = LayerJudge(mapped, CROWDED, "parity")
    values = judge.judge(judge.space.uniform(300, np.random.default_rng(1)))
    for point in judge.front.points:
        nest = parse(point.mapping)
        found = score(mapped, nest, CROWDED, "parity")
        assert not list(broken_rules(mapped, nest, CROWDED, found))
        assert (found.energy_pj, found.latency_cycles) == (point.energy_pj, point.latency_cycles)
    assert values.min() == min(point.energy_pj * point.latency_cycles for point in judge.front.points)


@pytest.mark.parametrize("method", ["genetic", "bayesian"])
def test_a_baseline_maps_within_its_budget_and_claims_no_bound(method: str) -> None:
    pytest.importorskip("pymoo" if method == "genetic" else "optuna", reason="the extra baselines is not installed")
    first = map_layers(NET, "gemmini_small", method=method, evaluations=30, seed=4)
    again = map_layers(NET, "gemmini_small", method=method, evaluations=30, seed=4)
    assert first.verified
    assert (first.bound, first.edp) == (None, again.edp)
    assert first.evaluations <= 30 * len(first.layers)
    exact = map_layers(NET, "gemmini_small")
    assert first.edp is not None
    assert exact.edp is not None
    assert first.edp >= exact.edp


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingError, match=r"cosma-sched\[baselines\]"):
        map_layers(NET, "gemmini_small", method="bayesian")


@pytest.mark.parametrize("settings", [PUBLISHED, Genetic(20, by_blocks=True, mutation=None, near=0.5)], ids=["published", "blocks"])
def test_genetic_search_beats_random_on_a_separable_problem(settings: Genetic) -> None:
    pytest.importorskip("pymoo", reason="the extra baselines is not installed")
    sizes = np.full(20, 8, dtype=np.int64)
    results = []

    def judge(genes: Any) -> Any:
        values = 1.0 + (genes != 3).sum(axis=1)
        results.append(float(values.min()))
        return values

    space = Space(sizes, tuple(slice(i, i + 2) for i in range(0, 20, 2)), judge, lambda n, g: g.integers(0, sizes, (n, 20)))
    draw_rows(space, 1000, 0, quiet())
    random, results = min(results), []
    evolve(space, settings, 1000, 0, quiet())
    assert min(results) < random
