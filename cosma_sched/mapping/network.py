"""A network's best energy-delay product: a parametric linear problem with a certificate.

Layers run one after the other, so energy E and latency L are sums. E L is quasi-concave on the positive quadrant: over the convex hull of
what is attainable its minimum lies at an extreme point, hence at a minimiser of a E + b L for some a, b >= 0. The sweep solves (1, 0) and
(0, 1), then the chord of each pair of neighbours, until no chord finds a new point. Every solve proves a E + b L >= v; the least product
over the polygon of these half-planes is a bound on every network's product, and equals the best value when the sweep is complete. All
numbers are Python integers: products exceed 2^53.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Support(Generic[Choice]):
    """An answer to: minimise a E + b L.

    Parameters
    ----------
    energy, latency
        Of the answer.
    bound
        Proven lower bound on a E + b L; the answer's own value where it is proven.
    choice
        What was chosen.
    """

    energy: int
    latency: int
    bound: int
    choice: Choice


@dataclass(frozen=True, slots=True)
class Sweep(Generic[Choice]):
    """The extreme points that were found, least energy first, and what is proven.

    Parameters
    ----------
    points
        One for each extreme point.
    edp_bound, energy_bound, latency_bound
        No network does better.
    """

    points: tuple[Support[Choice], ...]
    edp_bound: int
    energy_bound: int
    latency_bound: int

    def best(self, objective: str) -> Support[Choice]:
        """Return the best point for ``edp``, ``energy`` or ``latency``; ties are broken by less energy, then less latency."""
        keys: dict[str, Callable[[Support[Choice]], tuple[int, ...]]] = {
            "edp": lambda point: (point.energy * point.latency, point.energy),
            "energy": lambda point: (point.energy, point.latency),
            "latency": lambda point: (point.latency, point.energy),
        }
        return min(self.points, key=keys[objective])


def sweep(solve: Callable[[int, int], Support[Choice]]) -> Sweep[Choice]:
    """Find every extreme point of the attainable (E, L).

    Parameters
    ----------
    solve
        Minimises a E + b L for whole a, b >= 0, not both 0; with one of them 0, the other value breaks ties.
    """
    left, right = solve(1, 0), solve(0, 1)
    planes = [(1, 0, left.bound), (0, 1, right.bound)]
    found = [left]
    stack = [(left, right)]
    while stack:
        one, other = stack.pop()
        a, b = one.latency - other.latency, other.energy - one.energy
        if a <= 0 or b <= 0:
            continue
        middle = solve(a, b)
        planes.append((a, b, middle.bound))
        if a * middle.energy + b * middle.latency < a * one.energy + b * one.latency:
            found.append(middle)
            stack += [(one, middle), (middle, other)]
    if (right.energy, right.latency) != (left.energy, left.latency):
        found.append(right)
    points = tuple(sorted(found, key=lambda point: (point.energy, point.latency)))
    return Sweep(points, least_product(planes), left.bound, right.bound)


def least_product(planes: Sequence[tuple[int, int, int]]) -> int:
    """Return the least product of E and L, rounded up, over all points with a E + b L >= v for every half-plane (a, b, v).

    Parameters
    ----------
    planes
        At least (1, 0, v) and (0, 1, v); every a, b >= 0.
    """
    start = max(Fraction(v, a) for a, b, v in planes if b == 0)
    lines = [(Fraction(-a, b), Fraction(v, b)) for a, b, v in planes if b > 0]  # L >= slope E + offset
    energy, products = start, []
    while True:
        height = max(slope * energy + offset for slope, offset in lines)
        products.append(energy * height)
        slope, offset = max((s, o) for s, o in lines if s * energy + o == height)
        crossings = [(offset - o) / (s - slope) for s, o in lines if s > slope]
        if not crossings:
            return -(-min(products).numerator // min(products).denominator)
        energy = min(crossings)


def layerwise(options: Sequence[Sequence[tuple[int, int]]], counts: Sequence[int]) -> Callable[[int, int], Support[tuple[int, ...]]]:
    """Return the solver of independent layers: a minimum for each.

    Parameters
    ----------
    options
        For each layer its (energy, latency) points.
    counts
        How often each layer stands in the network.
    """

    def solve(a: int, b: int) -> Support[tuple[int, ...]]:
        chosen = []
        energy = latency = 0
        for points, count in zip(options, counts, strict=True):
            index = min(range(len(points)), key=lambda i: (a * points[i][0] + b * points[i][1], points[i]))
            chosen.append(index)
            energy += points[index][0] * count
            latency += points[index][1] * count
        return Support(energy, latency, a * energy + b * latency, tuple(chosen))

    return solve
