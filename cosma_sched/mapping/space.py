"""Mappings: the strings, what they mean, and the space that is searched.

    mapping := level " - " level " - " level " - " level          (L3, L2, L1, L0)
    level   := "L" digit "[" tensors "]" (" " loop)*              loops outer to inner
    loop    := dim integer ["X"]                                   X = spatial

The Gemmini space: no temporal loops at L2 and L0, spatial C at L1 and spatial K at L2, every other factor at L1 or L3, the L1 order P, Q,
N, C, R, S, K from the inside, any L3 order; all factors even.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cosma_sched.errors import InputError, shown
from cosma_sched.mapping.layer import DIMS, C, K, N, P, Q, R, S

HOLDS = {3: "WIO", 2: "WI", 1: "O", 0: "W"}
"""Tensors that each level keeps."""

SPATIAL = {2: K, 1: C}
"""The dim that each level may spread over the array."""

L1_ORDER = (P, Q, N, C, R, S, K)
"""Order of the L1 loops from the inside: only register fills depend on it, and P, Q, N innermost makes them least."""

L3_ORDERS: Mapping[str, tuple[int, ...]] = {
    "PQN|": (P, Q, N, K, C, R, S),
    "QPN|": (Q, P, N, K, C, R, S),
    "K|": (K, C, R, S, P, Q, N),
    "CRS|": (C, R, S, P, Q, N, K),
    "RSC|": (R, S, C, P, Q, N, K),
    "SRC|": (S, R, C, Q, P, N, K),
    "RP|": (R, P, Q, N, K, C, S),
    "SQ|": (S, Q, P, N, K, C, R),
}
"""Orders of the L3 loops from the inside; with `halo` parity no other order gives less of anything."""

K_FIRST_ORDERS: Mapping[str, tuple[int, ...]] = {
    "KP|": (K, P, Q, N, C, R, S),
    "KQ|": (K, Q, P, N, C, R, S),
    "KR|": (K, R, S, C, P, Q, N),
    "KS|": (K, S, R, C, Q, P, N),
    "KRP|": (K, R, P, Q, N, C, S),
    "KSQ|": (K, S, Q, P, N, C, R),
}
"""What takes the place of ``K|`` with `halo` reuse, where an innermost K loop leaves the input tile in its place."""

_HEAD = re.compile(r"L([0-9])\[([A-Z]*)\]", flags=re.ASCII)
_LOOP = re.compile(r"([A-Z])([0-9]{1,12})(X?)", flags=re.ASCII)


def l3_orders(halo: str) -> Mapping[str, tuple[int, ...]]:
    """Return the orders that are enough for a window rule, by name."""
    if halo == "parity":
        return L3_ORDERS
    return {**{name: order for name, order in L3_ORDERS.items() if name != "K|"}, **K_FIRST_ORDERS}


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: dim, factor, and whether it is spread over the array."""

    dim: int
    factor: int
    spatial: bool = False

    def __str__(self) -> str:
        return f"{DIMS[self.dim]}{self.factor}{'X' if self.spatial else ''}"


@dataclass(frozen=True, slots=True)
class LoopNest:
    """A mapping: for each level, L3 first, its loops from the outside to the inside.

    Parameters
    ----------
    levels
        Loops of L3, L2, L1 and L0.
    """

    levels: tuple[tuple[Loop, ...], ...]

    def __str__(self) -> str:
        return " - ".join(self._level(index) for index in (3, 2, 1, 0))

    def _level(self, index: int) -> str:
        loops = [loop for loop in self.at(index) if loop.factor > 1]
        ordered = [loop for loop in loops if not loop.spatial] + [loop for loop in loops if loop.spatial]
        return " ".join([f"L{index}[{HOLDS[index]}]", *map(str, ordered)])

    def at(self, level: int) -> tuple[Loop, ...]:
        """Return the loops of a level."""
        return self.levels[3 - level]

    def temporal(self, level: int) -> tuple[int, ...]:
        """Return the temporal factors of a level in the order of `DIMS`."""
        factors = [1] * len(DIMS)
        for loop in self.at(level):
            if not loop.spatial:
                factors[loop.dim] = loop.factor
        return tuple(factors)

    def order(self, level: int) -> tuple[int, ...]:
        """Return all dims from the inside to the outside: the temporal loops of a level, then the dims without one."""
        inside = [loop.dim for loop in reversed(self.at(level)) if not loop.spatial and loop.factor > 1]
        return (*inside, *(dim for dim in range(len(DIMS)) if dim not in inside))

    def spatial(self, level: int) -> int:
        """Return the spatial factor of a level."""
        return next((loop.factor for loop in self.at(level) if loop.spatial), 1)

    def products(self) -> tuple[int, ...]:
        """Return for each dim the product of its factors over all levels."""
        total = [1] * len(DIMS)
        for loops in self.levels:
            for loop in loops:
                total[loop.dim] *= loop.factor
        return tuple(total)


def parse(text: str, source: str = "mapping") -> LoopNest:
    """Return the mapping that a string stands for.

    Raises
    ------
    InputError
        With the position and the token of the first mistake.
    """
    tokens = [(match.group(), match.start()) for match in re.finditer(r"\S+", text)]
    levels: list[tuple[Loop, ...]] = []
    position = 0
    for index in (3, 2, 1, 0):
        loops, position = _parse_level(text, tokens, position, index, source)
        levels.append(loops)
        if index:
            token, at = tokens[position] if position < len(tokens) else ("", len(text))
            if token != "-":
                raise _error(source, at, token, f'must be a loop such as K16 or the " - " before L{index - 1}[{HOLDS[index - 1]}]')
            position += 1
    if position < len(tokens):
        token, at = tokens[position]
        raise _error(source, at, token, "must be a loop such as P16, or the end")
    return LoopNest(tuple(levels))


def _parse_level(text: str, tokens: Sequence[tuple[str, int]], position: int, index: int, source: str) -> tuple[tuple[Loop, ...], int]:
    token, at = tokens[position] if position < len(tokens) else ("", len(text))
    head = f"L{index}[{HOLDS[index]}]"
    match = _HEAD.fullmatch(token)
    if match is None or match.group(1) != str(index) or sorted(match.group(2)) != sorted(HOLDS[index]):
        raise _error(source, at, token, f"must be {head}")
    loops: list[Loop] = []
    for token, at in tokens[position + 1 :]:
        if token == "-" or _HEAD.fullmatch(token):
            break
        loops.append(_parse_loop(token, at, index, source, loops))
    return tuple(loops), position + 1 + len(loops)


def _parse_loop(token: str, at: int, level: int, source: str, before: Sequence[Loop]) -> Loop:
    match = _LOOP.fullmatch(token)
    if match is None:
        raise _error(source, at, token, "must be a dim and a factor, such as K16 or C16X")
    dim, factor, spatial = match.group(1), int(match.group(2)), bool(match.group(3))
    if dim not in DIMS:
        raise _error(source, at, token, f"has no dim {dim}; dims are {', '.join(DIMS)}")
    if factor < 1:
        raise _error(source, at, token, "must have a factor >= 1")
    loop = Loop(DIMS.index(dim), factor, spatial)
    if spatial and SPATIAL.get(level) != loop.dim:
        raise _error(source, at, token, "cannot be spatial here; spatial are K at L2 and C at L1")
    if any(other.dim == loop.dim and other.spatial == spatial for other in before):
        raise _error(source, at, token, f"stands twice at L{level}")
    return loop


def _error(source: str, at: int, token: str, problem: str) -> InputError:
    found = f"{shown(token)} {problem}" if token else f"the end of the text: {problem}"
    return InputError(source, f"position {at + 1}: {found}")


def gemmini_nest(spatial_c: int, spatial_k: int, inner: Sequence[int], outer: Sequence[int], order: Sequence[int]) -> LoopNest:
    """Return a mapping of the Gemmini space.

    Parameters
    ----------
    spatial_c, spatial_k
        Spatial factors.
    inner, outer
        Temporal factors of L1 and of L3 in the order of `DIMS`.
    order
        Dims of the L3 loops from the inside.
    """
    l3 = tuple(Loop(dim, outer[dim]) for dim in reversed(order) if outer[dim] > 1)
    l2 = (Loop(K, spatial_k, True),) if spatial_k > 1 else ()
    l1 = tuple(Loop(dim, inner[dim]) for dim in reversed(L1_ORDER) if inner[dim] > 1)
    return LoopNest((l3, l2, (*l1, Loop(C, spatial_c, True)) if spatial_c > 1 else l1, ()))


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a number, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return (*small, *(number // d for d in reversed(small) if d * d != number))


def splits(extent: int) -> Iterator[tuple[int, int]]:
    """Yield (inner, outer) with inner * outer = extent."""
    for inner in divisors(extent):
        yield inner, extent // inner


def spatial_splits(extent: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Yield (spatial, inner, outer) with their product the extent and spatial at most `most`."""
    for spatial in divisors(extent):
        if spatial <= most:
            for inner, outer in splits(extent // spatial):
                yield spatial, inner, outer


def tilings(dims: Sequence[int], rows: int, cols: int) -> int:
    """Return how many tilings the Gemmini space of a layer has before capacity."""
    temporal = math.prod(len(divisors(dims[dim])) for dim in (N, P, Q, R, S))
    return temporal * sum(1 for _ in spatial_splits(dims[C], rows)) * sum(1 for _ in spatial_splits(dims[K], cols))
