"""The exact method against brute force: every partition, tile, mode, weight set and mapping of tiny networks, on every back end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from cosma_sched.backends.options import SolverOptions
from cosma_sched.fusion.exact import ExactOptions, ExactSearch, Found
from cosma_sched.fusion.hull import lower_hull
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.fusion.selection import Option, Paths, Programs
from cosma_sched.mapping.network import sweep
from cosma_sched.progress import Clock, Progress
from tests.fusion.cases import conv
from tests.fusion.nets import Net, draw_net
from tests.fusion.oracle import Point, Rules, extreme, is_group, network_points, pareto, partitions, sums
from tests.mapping.cases import machine

MACHINES = (machine(2, 40, 64), machine(2, 96, 64))
QUICK = {"cbc": 12, "cpsat": 12, "highs": 1}
"""Networks for each back end in the default run; those that start a process for every solve take longer."""


def draw(random_: random.Random) -> tuple[Net, Rules]:
    """Draw a network of two to four layers, some with pools, and the rules under which it runs."""
    while True:
        most, pools = random_.choice([2, 2, 2, 3, 3, 4]), random_.random() < 0.3
        net = draw_net(random_, most_layers=most, most_rows=3, most_cols=2, most_channels=2, pools=pools)
        if any(node.kind == "conv" for node in net.nodes):
            return net, Rules(random_.choice(MACHINES), charged=random_.random() < 0.5)


def search(problem: FusionProblem, rules: Rules, *, solver: str | None, prune: bool = True) -> Found:
    """Run the exact method."""
    space = TileSpace(max_group=rules.max_group)
    options = ExactOptions(space, rules.halo, prune, None if solver is None else SolverOptions(solver))
    return ExactSearch(problem, rules.machine, options, Progress(Clock(None), ())).run()


def compare(seed: int, count: int, *, solver: str | None) -> None:
    """Compare every extreme point, the best product and its certificate on random networks."""
    random_ = random.Random(seed)
    for _ in range(count):
        net, rules = draw(random_)
        expected = extreme(network_points(net, rules))
        problem = fusion_problem(net.graph(), charged=rules.charged)
        found = search(problem, rules, solver=solver, prune=random_.random() < 0.8)
        assert tuple((point.energy, point.latency) for point in found.fused.points) == expected, net
        assert found.proven.edp_bound == min(energy * latency for energy, latency in expected)


@pytest.mark.parametrize("seed", range(8))
def test_the_exact_method_equals_brute_force(seed: int) -> None:
    """Two hundred networks in all: chains, branches, residual sums, several outputs, pools; free and charged."""
    compare(seed, 25, solver=None)


def test_every_back_end_equals_brute_force(solver: str) -> None:
    compare(100, QUICK[solver], solver=solver)


@pytest.mark.slow
def test_every_back_end_equals_brute_force_on_two_hundred_networks(solver: str) -> None:
    compare(101, 200, solver=solver)


class Stopping(Clock):
    """A clock that runs out after it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__(None)
        self.looks = looks

    @property
    def expired(self) -> bool:
        """Whether it has run out."""
        self.looks -= 1
        return self.looks < 0


def test_what_is_proven_when_time_runs_out_is_below_the_optimum() -> None:
    random_, gaps = random.Random(5), 0
    for _ in range(12):
        net, rules = draw(random_)
        expected = extreme(network_points(net, rules))
        optimum = min(energy * latency for energy, latency in expected)
        problem = fusion_problem(net.graph(), charged=rules.charged)
        for looks in (0, 1, 5):
            options = ExactOptions(TileSpace(max_group=rules.max_group), rules.halo)
            found = ExactSearch(problem, rules.machine, options, Progress(Stopping(looks), ())).run()
            best = found.fused.best("edp")
            assert found.proven.edp_bound <= optimum <= best.energy * best.latency
            assert found.proven.energy_bound <= expected[0][0]
            assert found.proven.latency_bound <= expected[-1][1]
            gaps += found.proven.edp_bound < best.energy * best.latency
    assert gaps > 5


# The choice of groups alone


def draw_choice(random_: random.Random, most_layers: int) -> tuple[Net, dict[tuple[str, ...], tuple[Point, ...]]]:
    """Draw a network whose groups have random energies and latencies; larger groups tend to save some."""
    net = draw_net(random_, most_layers=most_layers, most_rows=4, most_channels=2)
    names = [node.name for node in net.nodes]
    prices = {}
    for size in range(1, len(names) + 1):
        for group in itertools.combinations(names, size):
            if is_group(net, group) and (size == 1 or random_.random() < 0.8):
                best = [(random_.randint(10, 60) * size, random_.randint(10, 60) * size) for _ in range(random_.randint(1, 4))]
                prices[group] = pareto(best)
    return net, prices


def every_choice(net: Net, prices: dict[tuple[str, ...], tuple[Point, ...]]) -> Iterator[Point]:
    """Yield the sums of all partitions, with all choices of a point for each group."""
    for blocks in partitions(net):
        if all(block in prices for block in blocks):
            total: Sequence[Point] = ((0, 0),)
            for block in blocks:
                total = sums(total, prices[block])
            yield from total


def options_of(net: Net, prices: dict[tuple[str, ...], tuple[Point, ...]]) -> tuple[FusionProblem, list[Option]]:
    problem = fusion_problem(net.graph())
    places = {node.name: index for index, node in enumerate(problem.nodes)}
    groups = sorted(prices, key=lambda group: (len(group), [places[name] for name in group]))
    return problem, [Option(tuple(sorted(places[name] for name in group)), lower_hull(prices[group])) for group in groups]


def test_the_sweep_finds_the_best_product_of_three_hundred_instances() -> None:
    random_ = random.Random(3)
    for _ in range(300):
        net, prices = draw_choice(random_, 6)
        points = list(every_choice(net, prices))
        problem, options = options_of(net, prices)
        found = sweep(Paths(problem, options).solve)
        assert tuple((point.energy, point.latency) for point in found.points) == extreme(points)
        best = found.best("edp")
        assert best.energy * best.latency == min(energy * latency for energy, latency in points) == found.edp_bound


def test_set_partitioning_with_cuts_finds_the_same(solver: str) -> None:
    random_ = random.Random(4)
    for _ in range(QUICK[solver]):
        net, prices = draw_choice(random_, 5)
        points = list(every_choice(net, prices))
        problem, options = options_of(net, prices)
        found = sweep(Programs(problem, options, SolverOptions(solver)).solve)
        assert tuple((point.energy, point.latency) for point in found.points) == extreme(points)
        assert found.edp_bound == min(energy * latency for energy, latency in points)


CROSSED = Net((1, 1, 4, 4), (conv("a", "x"), conv("b", "x"), conv("c", "b", "a"), conv("d", "a", "b")))
"""c reads b and a, d reads a and b: the groups {a, c} and {b, d} would wait for each other."""


@pytest.mark.parametrize("way", ["paths", "cpsat", "cbc"])
def test_groups_that_would_wait_for_each_other_are_not_chosen_together(way: str) -> None:
    prices = {(name,): ((10, 10),) for name in "abcd"} | {("a", "c"): ((5, 5),), ("b", "d"): ((5, 5),)}
    problem, options = options_of(CROSSED, prices)
    select = Paths(problem, options) if way == "paths" else Programs(problem, options, SolverOptions(way))
    assert min(every_choice(CROSSED, prices)) == (25, 25)
    for a, b in ((1, 0), (0, 1), (1, 1)):
        found = select.solve(a, b)
        assert (found.energy, found.latency, found.bound) == (25, 25, 25 * (a + b))
