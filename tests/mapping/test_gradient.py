"""The relaxed model under jax: the numbers and slopes of the same functions, and the baseline that descends on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosma_sched.mapping.calls import map_layers
from cosma_sched.mapping.gradient import batched_shape, relaxed_cost, starts_of
from cosma_sched.mapping.repair import fits, shrink
from cosma_sched.mapping.sampling import draw_tilings
from cosma_sched.mapping.verify import verify
from cosma_sched.result import Status, Termination
from tests.mapping.cases import SMALL, layer, machine
from tests.mapping.test_planner import NET

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
jax = pytest.importorskip("jax", reason="the extra gradient is not installed")

LAYERS = [
    layer(K=64, C=32, P=28, Q=28, R=3, S=3),
    layer(2, K=24, C=3, P=16, Q=12, R=5, S=5),
    layer(K=100, C=60, P=7, dilation=2, R=3),
    layer(P=14, Q=14, R=3, S=3, repeat=12),
]


def thetas() -> Any:
    """Return relaxed tilings of all layers between the divisors, where no factor stands at a kink."""
    generator = np.random.default_rng(1)
    theta = starts_of(LAYERS, SMALL, generator)
    return theta + generator.uniform(0.01, 0.05, theta.shape)


@pytest.mark.parametrize("halo", ["parity", "reuse"])
def test_jax_computes_what_numpy_computes(halo: str) -> None:
    theta, shape = thetas(), batched_shape(LAYERS)
    plain = relaxed_cost(np, SMALL, shape, theta, halo)
    with jax.enable_x64(True):
        traced = jax.jit(lambda t: relaxed_cost(jax.numpy, SMALL, shape, t, halo))(theta)
    for ours, theirs in ((plain.cost.energy_pj, traced.cost.energy_pj), (plain.cost.cycles, traced.cost.cycles)):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)
    np.testing.assert_allclose(traced.excess, plain.excess, rtol=1e-9, atol=1e-12)


def test_slopes_equal_central_differences() -> None:
    theta, shape = thetas(), batched_shape(LAYERS)

    def loss(xp: Any, t: Any) -> Any:
        """One number for each row; rows do not touch each other."""
        relaxed = relaxed_cost(xp, SMALL, shape, t, "parity")
        return (xp.log(relaxed.cost.energy_pj) + xp.log(relaxed.cost.cycles)).sum(axis=0) + relaxed.excess

    with jax.enable_x64(True):
        slope = np.asarray(jax.jit(jax.grad(lambda t: loss(jax.numpy, t).sum()))(theta))
    step, compared = 1e-6, 0
    for factor in range(len(theta)):
        change = np.zeros_like(theta)
        change[factor] = step
        ahead, here, behind = (loss(np, theta + sign * change) for sign in (1, 0, -1))
        smooth = np.abs(ahead - 2 * here + behind) < 1e-8  # a kink between the two points bends the line
        difference = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(slope[factor][smooth], difference[smooth], rtol=1e-5, atol=1e-5)
        compared += int(smooth.sum())
    assert compared > 0.9 * theta.size


def test_the_baseline_descends_to_a_checked_answer() -> None:
    exact = map_layers(NET, "gemmini_small")
    found = map_layers(NET, "gemmini_small", method="gradient", evaluations=3200)
    assert (found.status, found.termination, found.bound) == (Status.FEASIBLE, Termination.EXHAUSTED, None)
    ratio = found.edp / exact.edp
    assert ratio >= 1
    assert ratio <= 1.3
    assert verify(found) == []
    assert found.evaluations == 3200 * 3
    assert "fitted before they were repaired" in found.remarks[0]
    assert jax.numpy.ones(1).dtype == "float32"  # precision outside our own calls is left alone


def test_repair_makes_every_tiling_fit_without_changing_its_product() -> None:
    mapped, device = layer(K=64, C=32, P=28, Q=28, R=3, S=3), machine(4, 300, 400)
    spatial, inner, outer = draw_tilings(mapped, device, 64, np.random.default_rng(0))
    assert not fits(mapped, device, spatial, inner).all()
    for row in range(64):
        shrink(mapped, device, spatial, inner, outer, row)
    assert fits(mapped, device, spatial, inner).all()
    product = inner * outer
    product[2] *= spatial[0]
    product[1] *= spatial[1]
    assert (np.array(mapped.dims) == product.T).all()
