"""Gradient descent on relaxed tilings, as DOSA does it: a baseline that proves nothing.

The cost model itself is differentiated: factors become exp(max(theta, 0)), L3 factors quotients of at least 1, DRAM words are charged
without rounding to blocks. The order of the L3 loops is a softmax over the orders of the space, by -log(E L). Capacity and products are
penalties. All layers and starts descend in one batch. After every round the factors are rounded to the nearest divisors, tiles that do not
fit are shrunk, and what comes out is scored by the exact model; the descent goes on from the rounded tilings.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.extras import need
from cosma_sched.mapping.batch import evaluate_chunks
from cosma_sched.mapping.cost import Cost, Machine, Shape, Tiling, evaluate, shape_of
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.repair import fits, shrink
from cosma_sched.mapping.sampling import Integers, draw_tilings, gemmini_batch, smallest_tiles
from cosma_sched.mapping.search import LayerSearch, floor_of
from cosma_sched.mapping.space import L1_ORDER, divisors, gemmini_nest, l3_orders
from cosma_sched.progress import Progress

STARTS = 32
STEPS = 400
_ROUND = 100
"""Steps between two roundings."""
_RATE = 0.05
_SHARPNESS = 8.0
_PENALTY = 10.0

_SPATIAL_C, _SPATIAL_K = 7, 8
"""Rows of theta after those of the seven inner factors."""


@dataclass(frozen=True, slots=True)
class Descent:
    """What a descent found.

    Parameters
    ----------
    searches
        Of each layer.
    interrupted
        True where the user stopped it.
    valid_share
        Share of the rounded tilings that fitted before they were repaired.
    """

    searches: dict[Layer, LayerSearch]
    interrupted: bool
    valid_share: float


def descend_layers(layers: Sequence[Layer], machine: Machine, halo: str, evaluations: int | None, seed: int, progress: Progress) -> Descent:
    """Descend on all layers at once.

    Parameters
    ----------
    layers, machine, halo
        What is mapped on what, and the window rule.
    evaluations
        Relaxed mappings of each layer to score, in 32 starts; None for 400 steps of each.
    seed
        Of the starts.
    progress
        Clock and observers.

    Raises
    ------
    MissingError
        If jax is not installed.
    """
    jax = need("jax", extra="gradient")
    steps = STEPS if evaluations is None else max(1, evaluations // STARTS)
    fronts = {layer: Front() for layer in layers}
    theta = starts_of(layers, machine, np.random.default_rng([seed]))
    done, fitting, decoded, interrupted = 0, 0, 0, False
    with jax.enable_x64(True):
        descend = _descent(machine, tuple(layers), halo)
        state = (theta, np.zeros_like(theta), np.zeros_like(theta))
        try:
            while done < steps and (done == 0 or not progress.clock.expired):
                progress.report("descent", note=f"step {done} of {steps}")
                length = min(_ROUND, steps - done)
                state = descend(state, done, length)
                done += length
                theta, valid = _rounded(np.asarray(state[0]), layers, machine, halo, fronts)
                fitting, decoded = fitting + valid, decoded + len(layers) * STARTS
                state = (theta, state[1], state[2])
        except KeyboardInterrupt:
            interrupted = True
    searches = {layer: _search_of(layer, machine, halo, fronts[layer], done * STARTS) for layer in layers}
    return Descent(searches, interrupted, fitting / max(decoded, 1))


def _search_of(layer: Layer, machine: Machine, halo: str, front: Front, evaluations: int) -> LayerSearch:
    points = front.points or smallest_tiles(layer, machine, halo).points
    return LayerSearch(points, floor_of(layer, machine), evaluations, False)


def starts_of(layers: Sequence[Layer], machine: Machine, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return ``theta[factor, row]``: random tilings, the rows of a layer side by side."""
    columns = []
    for layer in layers:
        spatial, inner, _ = draw_tilings(layer, machine, STARTS, generator)
        columns.append(np.log(np.vstack([inner, spatial]).astype(np.float64)))
    return np.hstack(columns)


# The relaxed model


class Relaxed(NamedTuple):
    """Relaxed cost ``[order, row]`` and how far each row breaks a limit."""

    cost: Cost
    excess: Any


def relaxed_cost(xp: Any, machine: Machine, shape: Shape, theta: Any, halo: str) -> Relaxed:
    """Return the cost of relaxed tilings under every order of the space.

    Parameters
    ----------
    xp
        ``jax.numpy`` or ``numpy``.
    machine, shape
        Accelerator and layers, one entry for each row.
    theta
        ``theta[factor, row]``: logarithms of the seven inner factors, then of the spatial factors over C and K.
    halo
        Window rule.
    """
    factors = xp.exp(xp.maximum(theta, 0.0))
    dims = xp.stack([xp.asarray(extent, dtype=factors.dtype) * xp.ones_like(factors[0]) for extent in shape.dims])
    spatial_c, spatial_k = xp.minimum(factors[_SPATIAL_C], machine.rows), xp.minimum(factors[_SPATIAL_K], machine.cols)
    inner = factors[:7]
    ones = xp.ones_like(factors[0])
    spread = xp.stack([spatial_c if dim == C else spatial_k if dim == K else ones for dim in range(7)])
    quotient = dims / (inner * spread)
    outer = xp.maximum(quotient, 1.0)
    orders = np.array(list(l3_orders(halo).values())).T[:, :, None]  # orders[position, order, 1]
    temporal = [[ones] * 7, list(inner), [ones] * 7, list(outer)]
    ordered = [[], [inner[dim] for dim in L1_ORDER], [], list(outer[orders[:, :, 0]])]
    tiling = Tiling(temporal, spatial_c, spatial_k, [[], L1_ORDER, [], list(orders)], ordered)
    cost = evaluate(xp, machine, shape, tiling, halo=halo, rounded=False)
    limits = [
        xp.log(cost.scratchpad_bytes / machine.scratchpad_bytes),
        xp.log(cost.accumulator_bytes / machine.accumulator_bytes),
        theta[_SPATIAL_C] - math.log(machine.rows),
        theta[_SPATIAL_K] - math.log(machine.cols),
    ]
    over = [xp.maximum(limit, 0.0) ** 2 for limit in limits]
    excess = sum(over) + (xp.maximum(-xp.log(quotient), 0.0) ** 2).sum(axis=0)
    return Relaxed(cost, excess)


def batched_shape(layers: Sequence[Layer]) -> Shape:
    """Return the shapes of all rows: each layer's facts once for every start."""
    facts = [shape_of(layer) for layer in layers]

    def row(values: Sequence[float]) -> NDArray[np.float64]:
        return np.repeat(np.array(values, dtype=np.float64), STARTS)

    dims = tuple(row([fact.dims[dim] for fact in facts]) for dim in range(7))
    drained = row([sum(fact.drain_words) for fact in facts])
    return Shape(
        dims,
        row([fact.stride_p for fact in facts]),
        row([fact.stride_q for fact in facts]),
        row([fact.dilation_p for fact in facts]),
        row([fact.dilation_q for fact in facts]),
        row([fact.repeat for fact in facts]),
        row([fact.w_bytes for fact in facts]),
        row([fact.i_bytes for fact in facts]),
        row([fact.o_bytes for fact in facts]),
        (drained,),
    )


State = tuple[Any, Any, Any]


@functools.lru_cache(maxsize=2)
def _descent(machine: Machine, layers: tuple[Layer, ...], halo: str) -> Callable[[State, int, int], State]:
    """Return a function that takes some Adam steps from a state (theta, first moment, second moment); kept, since it is compiled."""
    jax: Any = need("jax", extra="gradient")
    xp, shape = jax.numpy, batched_shape(layers)

    def loss(theta: Any) -> Any:
        relaxed = relaxed_cost(xp, machine, shape, theta, halo)
        product = xp.log(relaxed.cost.energy_pj) + xp.log(relaxed.cost.cycles)  # product[order, row]
        weights = jax.nn.softmax(-_SHARPNESS * jax.lax.stop_gradient(product), axis=0)
        return ((weights * product).sum(axis=0) + _PENALTY * relaxed.excess).sum()

    def step(carried: Any, _: Any) -> Any:
        theta, first, second, count = carried
        slope = jax.grad(loss)(theta)
        count = count + 1
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        moved = (first / (1 - 0.9**count)) / (xp.sqrt(second / (1 - 0.999**count)) + 1e-8)
        return (xp.maximum(theta - _RATE * moved, -0.05), first, second, count), None

    @functools.partial(jax.jit, static_argnums=2)
    def run(state: State, done: Any, length: int) -> State:
        carried, _ = jax.lax.scan(step, (*map(xp.asarray, state), done * 1.0), None, length=length)
        return carried[0], carried[1], carried[2]

    def descend(state: State, done: int, length: int) -> State:
        return run(state, done, length)  # type: ignore[no-any-return]

    return descend


# Back to whole numbers


def _rounded(
    theta: NDArray[np.float64], layers: Sequence[Layer], machine: Machine, halo: str, fronts: dict[Layer, Front]
) -> tuple[NDArray[np.float64], int]:
    """Round, repair and score every row; return the logarithms of what came out and how many rows fitted at once."""
    result, valid = [], 0
    for index, layer in enumerate(layers):
        rows = slice(index * STARTS, (index + 1) * STARTS)
        spatial, inner, outer = _nearest_tilings(np.exp(np.maximum(theta[:, rows], 0.0)), layer, machine)
        fitting = fits(layer, machine, spatial, inner)
        valid += int(fitting.sum())
        for row in np.flatnonzero(~fitting):
            shrink(layer, machine, spatial, inner, outer, int(row))
        _score(fronts[layer], layer, machine, halo, spatial, inner, outer)
        result.append(np.log(np.vstack([inner, spatial]).astype(np.float64)))
    return np.hstack(result), valid


def _nearest_tilings(factors: NDArray[np.float64], layer: Layer, machine: Machine) -> tuple[Integers, Integers, Integers]:
    """Return tilings whose factors are the nearest divisors, spatial factors first."""
    rows = factors.shape[1]
    spatial, inner = np.ones((2, rows), dtype=np.int64), np.ones((7, rows), dtype=np.int64)
    extents = np.broadcast_to(np.array(layer.dims, dtype=np.int64)[:, None], (7, rows)).copy()
    for index, (dim, limit) in enumerate(((C, machine.rows), (K, machine.cols))):
        allowed = [d for d in divisors(layer.dims[dim]) if d <= limit]
        spatial[index] = [_nearest(allowed, factor) for factor in factors[7 + index]]
        extents[dim] //= spatial[index]
    for dim in (N, K, C, P, Q, R, S):
        inner[dim] = [_nearest(divisors(int(extent)), factor) for extent, factor in zip(extents[dim], factors[dim], strict=True)]
    return spatial, inner, extents // inner


def _nearest(choices: Sequence[int], factor: float) -> int:
    return min(choices, key=lambda choice: abs(math.log(choice / factor)))


def _score(front: Front, layer: Layer, machine: Machine, halo: str, spatial: Integers, inner: Integers, outer: Integers) -> None:
    """Score tilings under every order of the space."""
    for order in l3_orders(halo).values():
        l3 = np.broadcast_to(np.array(order, dtype=np.int8)[:, None], (7, spatial.shape[1]))
        batch = gemmini_batch(spatial, inner, outer, l3)

        def name(row: int, order: tuple[int, ...] = order) -> str:
            nest = gemmini_nest(int(spatial[0, row]), int(spatial[1, row]), inner[:, row].tolist(), outer[:, row].tolist(), order)
            return str(nest)

        for _, cost in evaluate_chunks(machine, shape_of(layer), batch, halo=halo):
            front.absorb(np.rint(cost.energy_pj), np.ceil(cost.cycles), cost.scratchpad_bytes, cost.dram_words, name)
