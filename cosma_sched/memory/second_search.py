"""A second opinion on few buffers: a plain search for a packing, written for the checker alone."""

from __future__ import annotations

from collections.abc import Sequence

from cosma_sched.graph import Buffer

MOST_BUFFERS = 14
MOST_PLACEMENTS = 20_000


def fits_after_all(buffers: Sequence[Buffer], capacity_bytes: int) -> bool:
    """Return whether a packing within a capacity was found; False where there is none, or where the search gave up.

    A packing in which no buffer can sink is built from the bottom: in the order of its offsets each buffer lies as low as those below it
    and the pins allow. So every order of the free buffers is tried, each at its lowest place not below the one before.

    Parameters
    ----------
    buffers
        More than `MOST_BUFFERS`, or buffers that are held in part for a while, are not searched.
    capacity_bytes
        No buffer ends above it.
    """
    has_windows = any(gap.window is not None for buffer in buffers for gap in buffer.gaps)
    if len(buffers) > MOST_BUFFERS or has_windows or capacity_bytes < 0:
        return False
    return _Search(buffers, capacity_bytes).run()


class _Search:
    def __init__(self, buffers: Sequence[Buffer], capacity: int) -> None:
        self._buffers, self._capacity, self._left = buffers, capacity, MOST_PLACEMENTS
        solid = [_solid_times(buffer) for buffer in buffers]
        self._meets = [[any(a < d and c < b for a, b in one for c, d in other) for other in solid] for one in solid]
        self._offsets: list[int | None] = [buffer.offset for buffer in buffers]

    def run(self) -> bool:
        pinned = [index for index, buffer in enumerate(self._buffers) if buffer.offset is not None]
        if any(self._place(index, self._buffers[index].offset or 0) is None for index in pinned):
            return False
        return self._extend([index for index, offset in enumerate(self._offsets) if offset is None], 0)

    def _place(self, index: int, least: int) -> int | None:
        """Return the lowest offset, at least `least`, at which a buffer meets none that lies; a pin is taken as it is."""
        buffer = self._buffers[index]
        others = sorted(
            (offset, offset + self._buffers[other].size_bytes)
            for other, offset in enumerate(self._offsets)
            if offset is not None and other != index and self._meets[index][other]
        )
        offset = -(-least // buffer.alignment) * buffer.alignment
        for low, high in others:
            if low < offset + buffer.size_bytes and offset < high:
                if buffer.offset is not None:
                    return None
                offset = -(-high // buffer.alignment) * buffer.alignment
        return offset if offset + buffer.size_bytes <= self._capacity else None

    def _extend(self, free: list[int], least: int) -> bool:
        if not free:
            return True
        self._left -= len(free)
        places = [(self._place(index, least), index) for index in free] if self._left > 0 else []
        for offset, index in places:
            if offset is None or any(other is None for other, _ in places):
                return False  # what finds no place now finds none later: places only rise
            self._offsets[index] = offset
            if self._extend([other for other in free if other != index], offset):
                return True
            self._offsets[index] = None
        return False


def _solid_times(buffer: Buffer) -> list[tuple[int, int]]:
    """Return the times at which a buffer holds its bytes; none for one without bytes."""
    times, start = [], buffer.lower
    for gap in sorted(buffer.gaps, key=lambda gap: gap.lower):
        times.append((start, gap.lower))
        start = gap.upper
    times.append((start, buffer.upper))
    return [(begin, end) for begin, end in times if begin < end and buffer.size_bytes]
