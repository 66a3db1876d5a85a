"""An independent view of packing for the tests: a checker and a brute force that share nothing with the package but `Buffer`."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

from cosma_sched.graph import Buffer, BufferGap

PINCH_SIZES = (6, 6, 5, 1, 5, 2, 6)
PINCH_LAST_USE = (1, 3, 3, 4, 5, 6, 6)


def pinch() -> list[Buffer]:
    """The lifetimes of the toy `pinch`: operator i writes tensor i; its load is 12, its least height 13."""
    lives = zip(PINCH_SIZES, PINCH_LAST_USE, strict=True)
    uses = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 6}
    uses[1] = 3  # operator 3 reads tensor 1 too
    uses[2] = 5  # operator 5 reads tensor 2 too
    return [Buffer(f"t{i}", i, uses[i] + 1, size) for i, (size, _) in enumerate(lives)]


def mirrored(buffers: Sequence[Buffer]) -> list[Buffer]:
    """The same buffers with time running backwards."""
    end = max(buffer.upper for buffer in buffers)
    turned = []
    for b in buffers:
        gaps = tuple(BufferGap(end - gap.upper, end - gap.lower, gap.window) for gap in b.gaps)
        turned.append(Buffer(b.name, end - b.upper, end - b.lower, b.size_bytes, b.alignment, b.offset, b.hint, gaps))
    return turned


def occupied(buffer: Buffer, offset: int, time: int) -> tuple[int, int]:
    """The addresses, half-open, that a buffer occupies at a time; (0, 0) for none."""
    if not buffer.lower <= time < buffer.upper:
        return 0, 0
    for gap in buffer.gaps:
        if gap.lower <= time < gap.upper:
            return (offset + gap.window[0], offset + gap.window[1]) if gap.window else (0, 0)
    return offset, offset + buffer.size_bytes


def overlap(first: Buffer, first_offset: int, second: Buffer, second_offset: int) -> bool:
    """Whether two placed buffers share an address at some time."""
    for time in range(max(first.lower, second.lower), min(first.upper, second.upper)):
        a, b = occupied(first, first_offset, time), occupied(second, second_offset, time)
        if max(a[0], b[0]) < min(a[1], b[1]):
            return True
    return False


def faults(buffers: Sequence[Buffer], offsets: Sequence[int], capacity: int) -> list[str]:
    """Everything that is wrong with a packing, in words."""
    found = []
    for buffer, offset in zip(buffers, offsets, strict=True):
        if offset < 0 or offset + buffer.size_bytes > capacity:
            found.append(f"{buffer.name} leaves the strip")
        if offset % buffer.alignment or buffer.offset not in {None, offset}:
            found.append(f"{buffer.name} misses its alignment or pin")
    for (a, at_a), (b, at_b) in combinations(zip(buffers, offsets, strict=True), 2):
        if overlap(a, at_a, b, at_b):
            found.append(f"{a.name} overlaps {b.name}")
    return found


def clashing_differences(first: Buffer, second: Buffer) -> set[int]:
    """Every value of (offset of second - offset of first) at which the two share an address at some time."""
    found: set[int] = set()
    for time in range(max(first.lower, second.lower), min(first.upper, second.upper)):
        (a, b), (c, d) = occupied(first, 0, time), occupied(second, 0, time)
        if a < b and c < d:
            found.update(range(a - d + 1, b - c))
    return found


def brute_force(buffers: Sequence[Buffer], capacity: int) -> list[int] | None:
    """Offsets found by trying every aligned offset of every buffer, those with the fewest left first, or None."""
    clash = {(i, j): clashing_differences(buffers[i], buffers[j]) for i, j in permutations(range(len(buffers)), 2)}

    def extend(left: dict[int, list[int]]) -> dict[int, int] | None:
        if not left:
            return {}
        i = min(left, key=lambda index: len(left[index]))
        for o in left[i]:
            rest = {j: [p for p in left[j] if p - o not in clash[i, j]] for j in left if j != i}
            if all(rest.values()) and (found := extend(rest)) is not None:
                return {**found, i: o}
        return None

    domains = [[o for o in range(0, capacity - b.size_bytes + 1, b.alignment) if b.offset in {None, o}] for b in buffers]
    found = extend(dict(enumerate(domains))) if all(domains) else None
    return None if found is None else [found[i] for i in range(len(buffers))]


def least_height(buffers: Sequence[Buffer]) -> int | None:
    """The least capacity at which brute force packs; None where pins exclude any."""
    pinned = [b for b in buffers if b.offset is not None]
    if any(overlap(a, a.offset, b, b.offset) for a, b in combinations(pinned, 2)):
        return None
    capacity = max([0, *(b.size_bytes + (b.offset or 0) for b in buffers)])
    capacity = max([capacity, *(sum(hi - lo for lo, hi in (occupied(b, 0, time) for b in buffers)) for time in range(8))])
    while brute_force(buffers, capacity) is None:
        capacity += 1
    return capacity


def random_buffers(rng: random.Random, most: int = 7, *, features: bool = True) -> list[Buffer]:
    """At most `most` small buffers; with `features` some are aligned, pinned or have gaps."""
    buffers = []
    for index in range(rng.randint(1, most)):
        lower = rng.randrange(6)
        upper = rng.randint(lower + 1, 7)
        size = rng.randint(1, 6)
        alignment, pin, gaps = 1, None, ()
        if features:
            alignment = rng.choice((1, 1, 1, 2, 4, 3))
            pin = rng.randrange(3) * alignment if rng.random() < 0.1 else None
            if upper - lower >= 2 and rng.random() < 0.15:
                begin = rng.randint(lower, upper - 1)
                end = rng.randint(begin + 1, upper)
                low = rng.randint(0, size)
                gaps = (BufferGap(begin, end, rng.choice((None, (low, rng.randint(low, size))))),)
        buffers.append(Buffer(f"b{index}", lower, upper, size, alignment, pin, None, gaps))
    return buffers


def read_minimalloc(path: Path) -> list[Buffer]:
    """Buffers of a plain MiniMalloc file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Buffer(row["id"], int(row["lower"]), int(row["upper"]), int(row["size"])) for row in csv.DictReader(file)]
