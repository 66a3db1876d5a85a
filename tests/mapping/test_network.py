"""The sweep over a network's trade-off, and its certificate."""

from __future__ import annotations

import itertools
import random

import pytest

from cosma_sched.mapping.network import Support, layerwise, least_product, sweep


def random_layers(generator: random.Random) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """Return for a few layers some (energy, latency) points, and how often each stands in the network."""
    layers = generator.randint(1, 4)
    options = [[(generator.randint(1, 60), generator.randint(1, 60)) for _ in range(generator.randint(1, 5))] for _ in range(layers)]
    return options, [generator.randint(1, 3) for _ in range(layers)]


@pytest.mark.parametrize("seed", range(10))
def test_the_sweep_finds_the_least_product_and_proves_it(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(30):
        options, counts = random_layers(generator)
        found = sweep(layerwise(options, counts))
        totals = [
            [sum(point[axis] * count for point, count in zip(choice, counts, strict=True)) for axis in (0, 1)]
            for choice in itertools.product(*options)
        ]
        best = found.best("edp")
        assert best.energy * best.latency == min(energy * latency for energy, latency in totals) == found.edp_bound
        assert found.best("energy").energy == min(energy for energy, _ in totals) == found.energy_bound
        assert found.best("latency").latency == min(latency for _, latency in totals) == found.latency_bound


def test_other_objectives_break_ties_by_the_other_value() -> None:
    found = sweep(layerwise([[(3, 9), (3, 5), (7, 2), (6, 2)]], [1]))
    assert (found.best("energy").energy, found.best("energy").latency) == (3, 5)
    assert (found.best("latency").energy, found.best("latency").latency) == (6, 2)


def test_a_solver_with_a_gap_gives_a_lower_bound_that_is_not_met() -> None:
    exact = layerwise([[(3, 9), (5, 5), (9, 3)]], [1])

    def loose(a: int, b: int) -> Support[tuple[int, ...]]:
        answer = exact(a, b)
        return Support(answer.energy, answer.latency, answer.bound - a - b, answer.choice)

    found = sweep(loose)
    assert found.edp_bound < found.best("edp").energy * found.best("edp").latency == 25


def test_the_bound_rounds_up_to_a_whole_number() -> None:
    # E >= 1, L >= 1, 2 E + 2 L >= 9: the corners are (1, 3.5) and (3.5, 1).
    assert least_product([(1, 0, 1), (0, 1, 1), (2, 2, 9)]) == 4


def test_numbers_beyond_double_precision_stay_exact() -> None:
    huge = 10**18 + 1
    found = sweep(layerwise([[(huge, huge), (huge + 2, huge - 1)]], [3]))
    assert found.best("edp").energy * found.best("edp").latency == min(9 * huge * huge, 9 * (huge + 2) * (huge - 1))
    assert found.edp_bound <= found.best("edp").energy * found.best("edp").latency
