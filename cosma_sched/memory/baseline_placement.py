"""Where the baselines put tensors: holes of an address space that fills as the network runs, bytes alone, and the offline arena."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cosma_sched.memory.layout import Stay


class Room(Protocol):
    """The scratchpad while the network runs, as a placement sees it."""

    def find(self, space: int) -> int | None:
        """Return an offset for this many bytes, or None where there is no room."""
        ...

    def put(self, tensor: int, offset: int, space: int) -> None:
        """Let a tensor occupy bytes."""
        ...

    def take(self, tensor: int) -> None:
        """Free the bytes of a tensor."""
        ...

    def openings(self, space: int, fixed: int) -> Iterator[tuple[int, ...]]:
        """Yield sets of tensors outside `fixed`, none a part of another, that a request of this size may evict."""
        ...

    def holes(self) -> list[tuple[int, int]]:
        """Return (offset, bytes) of what is free, lowest first."""
        ...


class Addresses:
    """Room that is a contiguous hole: the allocator of the online placements.

    Parameters
    ----------
    capacity
        Bytes.
    best_fit
        Take the smallest hole that is large enough, the lowest of several, instead of the lowest.
    """

    def __init__(self, capacity: int, *, best_fit: bool) -> None:
        self.capacity, self.best_fit = capacity, best_fit
        self._spans: dict[int, tuple[int, int]] = {}

    def find(self, space: int) -> int | None:
        """Return the offset of the first, or of the best, hole."""
        fitting = [(size, offset) for offset, size in self.holes() if size >= space]
        if not fitting:
            return None
        return min(fitting)[1] if self.best_fit else fitting[0][1]

    def put(self, tensor: int, offset: int, space: int) -> None:
        """Let a tensor occupy bytes."""
        self._spans[tensor] = offset, offset + space

    def take(self, tensor: int) -> None:
        """Free the bytes of a tensor."""
        del self._spans[tensor]

    def openings(self, space: int, fixed: int) -> Iterator[tuple[int, ...]]:
        """Yield runs of neighbours whose removal leaves one hole that is large enough; from each first tensor the shortest run."""
        spans = sorted((offset, end, tensor) for tensor, (offset, end) in self._spans.items())
        for first in range(len(spans)):
            below = spans[first - 1][1] if first else 0
            for last in range(first, len(spans)):
                if fixed >> spans[last][2] & 1:
                    break
                above = spans[last + 1][0] if last + 1 < len(spans) else self.capacity
                if above - below >= space:
                    yield tuple(tensor for _, _, tensor in spans[first : last + 1])
                    break

    def holes(self) -> list[tuple[int, int]]:
        """Return (offset, bytes) of what is free, lowest first."""
        free, reached = [], 0
        for offset, end in [*sorted(self._spans.values()), (self.capacity, self.capacity)]:
            if offset > reached:
                free.append((reached, offset - reached))
            reached = end
        return free


class Bytes:
    """Room that is a number of bytes: what the arena decides evictions by; addresses come afterwards."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used: dict[int, int] = {}

    def find(self, space: int) -> int | None:
        """Return 0, which stands for any offset, where enough bytes are free."""
        return 0 if sum(self._used.values()) + space <= self.capacity else None

    def put(self, tensor: int, offset: int, space: int) -> None:
        """Let a tensor occupy bytes."""
        del offset
        self._used[tensor] = space

    def take(self, tensor: int) -> None:
        """Free the bytes of a tensor."""
        del self._used[tensor]

    def openings(self, space: int, fixed: int) -> Iterator[tuple[int, ...]]:
        """Yield each tensor alone: evictions go on until the bytes suffice."""
        del space
        yield from ((tensor,) for tensor in sorted(self._used) if not fixed >> tensor & 1)

    def holes(self) -> list[tuple[int, int]]:
        """Return the free bytes as one hole."""
        free = self.capacity - sum(self._used.values())
        return [(0, free)] if free else []


def arena_offsets(stays: Sequence[Stay], spaces: Sequence[int], steps: int) -> list[int]:
    """Return an offset for each stay: those of the whole run first, then by size, each into the smallest gap among those placed before.

    The rule is that of TensorFlow Lite's arena planner; of equal sizes the earlier start goes first. Nothing limits the height. Cost
    O(k^2 log k) for k stays.
    """
    offsets = [0] * len(stays)
    placed: list[int] = []

    def rank(i: int) -> tuple[bool, int, int, int]:
        whole = stays[i].end - stays[i].start == steps
        return not whole, 0 if whole else -spaces[i], stays[i].start, stays[i].tensor

    for i in sorted(range(len(stays)), key=rank):
        beside = sorted(
            (offsets[j], offsets[j] + spaces[j]) for j in placed if stays[i].start < stays[j].end and stays[j].start < stays[i].end
        )
        best: tuple[int, int] | None = None
        reached = 0
        for offset, end in beside:
            gap = offset - reached
            if gap >= spaces[i] and (best is None or gap < best[0]):
                best = gap, reached
            reached = max(reached, end)
        offsets[i] = reached if best is None else best[1]
        placed.append(i)
    return offsets
