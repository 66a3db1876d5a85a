"""The fronts of single steps against every tiling and order of tiny layers."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from cosma_sched.accelerator import load_accelerator
from cosma_sched.fusion.floors import StepFloors, touched
from cosma_sched.fusion.fronts import StepFronts, largest_tile
from cosma_sched.fusion.steps import Output, StepProblem, Weights, score_step, step_cost
from cosma_sched.mapping.batch import batch_of
from cosma_sched.mapping.cost import Machine, access_counts, machine_of, shape_of
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.space import LoopNest, gemmini_nest, l3_orders, parse, spatial_splits, splits

BASE = machine_of(load_accelerator("gemmini_small"))


def random_machine(rng: random.Random) -> Machine:
    side = rng.choice([2, 4])
    return BASE._replace(
        rows=side,
        cols=rng.choice([2, 4]),
        scratchpad_bandwidth=2 * side,
        scratchpad_bytes=rng.choice([20, 60, 200, 1000]),
        accumulator_bytes=rng.choice([32, 128, 512]),
        psum_words=rng.choice([1, 4]),
    )


def random_step(rng: random.Random) -> StepProblem:
    dims = [1] * 7
    dims[N], dims[K], dims[C] = rng.choice([1, 1, 2]), rng.choice([1, 2, 4, 6]), rng.choice([1, 2, 4, 6])
    dims[P], dims[Q], dims[R], dims[S] = rng.choice([1, 2, 3, 4]), rng.choice([1, 2, 4]), rng.choice([1, 1, 3, 4]), rng.choice([1, 3])
    layer = Layer(
        "",
        tuple(dims),
        stride_p=rng.choice([1, 2]),
        stride_q=rng.choice([1, 2]),
        dilation_p=rng.choice([1, 1, 2]),
        repeat=rng.choice([1, 3]),
        drain_words=rng.choice([(), (7,)]),
    )
    return StepProblem(layer, rng.random() < 0.5, rng.choice(list(Output)), rng.choice(list(Weights)), rng.choice([0, 5]))


def all_nests(layer: Layer, machine: Machine, halo: str) -> list[LoopNest]:
    dims = layer.dims
    plain = list(product(*(splits(dims[dim]) for dim in (N, P, Q, R, S))))
    return [
        gemmini_nest(sc, sk, (n[0], k1, c1, p[0], q[0], r[0], s[0]), (n[1], k3, c3, p[1], q[1], r[1], s[1]), order)
        for sc, c1, c3 in spatial_splits(dims[C], machine.rows)
        for sk, k1, k3 in spatial_splits(dims[K], machine.cols)
        for n, p, q, r, s in plain
        for order in l3_orders(halo).values()
    ]


def every_point(step: StepProblem, machine: Machine, halo: str) -> list[tuple[int, int, int]]:
    tiling = batch_of(all_nests(step.layer, machine, halo)).tiling(slice(0, None))
    counts = access_counts(np, shape_of(step.layer), tiling, halo)
    cost = step_cost(np, machine, step, counts, tiling.spatial_c, tiling.spatial_k)
    sizes = np.broadcast_to(cost.scratchpad_bytes, counts.w.shape)
    fits = (sizes <= machine.scratchpad_bytes) & (cost.accumulator_bytes <= machine.accumulator_bytes)
    if step.output != Output.DRAM:
        fits &= counts.psum <= 0
    columns = (np.rint(cost.energy_pj)[fits], np.ceil(cost.cycles)[fits], sizes[fits])
    points = set(zip(*(column.astype(int).tolist() for column in columns), strict=True))
    return sorted(one for one in points if not any(o != one and all(x <= y for x, y in zip(o, one, strict=True)) for o in points))


@pytest.mark.parametrize("seed", range(40))
def test_a_front_is_that_of_every_tiling_and_order(seed: int) -> None:
    rng = random.Random(seed)
    machine, step, halo = random_machine(rng), random_step(rng), rng.choice(["parity", "parity", "reuse"])
    points = StepFronts(machine, halo).points(step)
    assert sorted(point[:3] for point in points) == every_point(step, machine, halo)


@pytest.mark.parametrize("seed", range(10))
def test_every_string_of_a_front_costs_what_its_point_says(seed: int) -> None:
    rng = random.Random(seed)
    machine, step = random_machine(rng), random_step(rng)
    fronts = StepFronts(machine, "parity")
    for point in fronts.points(step):
        score = score_step(step, parse(fronts.mapping(step, point)), machine, "parity")
        assert (score.energy_pj, score.latency_cycles, score.scratchpad_bytes) == point[:3]


@pytest.mark.parametrize("seed", range(30))
def test_no_mapping_goes_below_the_floor_of_its_step(seed: int) -> None:
    rng = random.Random(seed)
    machine, step = random_machine(rng), random_step(rng)
    layer = step.layer
    at = (np.array([layer.dims[P]]), np.array([layer.dims[Q]]))
    positions = np.array([float(layer.dims[N] * layer.dims[P] * layer.dims[Q])])
    read = np.zeros(1) if step.input_resident else layer.dims[N] * layer.dims[C] * touched(layer, at)
    streamed = step.weights == Weights.STREAMED
    floor = StepFloors(machine).of(layer, step.output, streamed=streamed, positions=positions, read=read)
    for point in StepFronts(machine, "parity").points(step):
        assert floor.energy[0] <= point.energy
        assert floor.latency[0] <= point.latency


def test_room_decides_which_mappings_may_be_chosen() -> None:
    fronts = StepFronts(BASE, "parity")
    step = StepProblem(Layer("", (1, 64, 64, 8, 56, 3, 3)), False, Output.RESIDENT)
    narrow, wide = fronts.options(step, 4_000), fronts.options(step, 128 * 1024)
    assert min(wide).energy < min(narrow).energy
    assert fronts.options(step, 1) == ()


@pytest.mark.parametrize(("dims", "words", "tile"), [((2, 1, 1, 6, 8, 1, 1), 24, (1, 3, 8)), ((1, 1, 1, 7, 5, 1, 1), 6, (1, 1, 5))])
def test_the_largest_tile_is_a_product_of_divisors(dims: tuple[int, ...], words: int, tile: tuple[int, int, int]) -> None:
    assert np.prod(largest_tile(dims, words)) == np.prod(tile)
