"""Why buffers do not fit, and what fills the capacity where they do.

An infeasible answer gets an irreducible set of buffers with its proof, which is a packing of the others for each member, and the least
capacity that was found to be enough, with the packing that shows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cosma_sched.errors import Lever, Reason
from cosma_sched.graph import Buffer
from cosma_sched.memory.packing import Packing, pack
from cosma_sched.memory.packing_answer import Clashing, Enough, Without
from cosma_sched.memory.packing_clash import held_bytes
from cosma_sched.memory.packing_height import least_height
from cosma_sched.progress import Clock

SHARE_FOR_ENOUGH = 0.25
"""Of the time that is left, for the least capacity; that nothing fits has been proven by then."""
SECONDS_FOR_ENOUGH = 5.0
SECONDS_AT_ONCE, FEW, MANY = 0.2, 64, 1000
"""The same where the load already is the answer, which is given at once: for more than a few buffers; for many nothing is looked for."""
SECONDS_FOR_WITNESSES = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, half-open, in which the same buffers hold the same bytes."""

    lower: int
    upper: int
    load_bytes: int


def load_spans(buffers: Iterable[Buffer]) -> list[Span]:
    """Return the load over time, cut wherever a buffer begins, ends or changes; times without buffers have load 0."""
    change: dict[int, int] = {}
    for buffer in buffers:
        times = sorted({buffer.lower, buffer.upper, *(time for gap in buffer.gaps for time in (gap.lower, gap.upper))})
        before = 0
        for time in times:
            now = held_bytes(buffer, time)
            if buffer.size_bytes:
                change[time] = change.get(time, 0) + now - before
            before = now
    spans: list[Span] = []
    load, begin = 0, None
    for time in sorted(change):
        if begin is not None:
            spans.append(Span(begin, time, load))
        load, begin = load + change[time], time
    return spans


def tightest(buffers: Sequence[Buffer]) -> list[Span]:
    """Return the times of the highest load, first to last."""
    spans = load_spans(buffers)
    most = max((span.load_bytes for span in spans), default=0)
    return [span for span in spans if span.load_bytes == most]


def explain(
    buffers: Sequence[Buffer], packing: Packing, capacity_bytes: int, clock: Clock, seed: int = 0, workers: int = 1
) -> tuple[Clashing | None, Enough | None, Reason]:
    """Explain why buffers do not fit.

    Parameters
    ----------
    buffers
        What was to be packed.
    packing
        The infeasible answer.
    capacity_bytes
        The capacity that is too small.
    clock
        Its limit ends the explanation; what was found by then is returned.
    seed, workers
        As in `pack`.

    Returns
    -------
    tuple
        The clash, a larger capacity that is enough, the reason.
    """
    clash, enough = None, None
    with contextlib.suppress(KeyboardInterrupt):  # that nothing fits is proven: Ctrl-C ends only the explaining
        clash = _clashing(buffers, packing.clash, capacity_bytes, clock, seed) if packing.clash else None
        enough = _enough_within(buffers, packing, clock, seed, workers)
    return clash, enough, _reason(buffers, packing, capacity_bytes, clash, enough)


def _enough_within(buffers: Sequence[Buffer], packing: Packing, clock: Clock, seed: int, workers: int) -> Enough | None:
    """Look for a capacity that is enough, for as long as the answer may wait for it."""
    is_overload = packing.overload_time is not None
    limit = SECONDS_AT_ONCE if is_overload and len(buffers) > FEW else SECONDS_FOR_ENOUGH
    left = limit if clock.remaining is None else min(limit, max(SECONDS_AT_ONCE, SHARE_FOR_ENOUGH * clock.remaining))
    if is_overload and len(buffers) > MANY:
        return None
    return _enough(buffers, packing.bound_bytes, Clock(left), seed, workers)


def _clashing(buffers: Sequence[Buffer], indices: Sequence[int], capacity_bytes: int, clock: Clock, seed: int) -> Clashing:
    """Prove for each member that the others can be packed; a member for which they cannot is left out."""
    kept = list(indices)
    without: dict[int, dict[int, int]] = {}
    limit = Clock(SECONDS_FOR_WITNESSES if clock.remaining is None else min(SECONDS_FOR_WITNESSES, clock.remaining))
    for index in indices:
        rest = [other for other in kept if other != index]
        answer = pack([buffers[other] for other in rest], capacity_bytes, clock=limit, seed=seed, explain=False)
        if answer.offsets is not None:
            without[index] = dict(zip(rest, answer.offsets, strict=True))
        elif answer.status == "infeasible":
            kept = rest
    proofs = [
        Without(buffers[index].name, tuple((buffers[i].name, offset) for i, offset in without[index].items() if i in kept))
        for index in kept
        if index in without
    ]
    return Clashing(tuple(buffers[index].name for index in kept), len(proofs) == len(kept), tuple(proofs))


def _enough(buffers: Sequence[Buffer], bound_bytes: int, clock: Clock, seed: int, workers: int) -> Enough | None:
    """Return the lowest packing found within the clock's limit."""
    answer = least_height(buffers, clock=clock, seed=seed, workers=workers)
    if answer.offsets is None or answer.height_bytes is None or answer.height_bytes < bound_bytes:
        return None
    return Enough(answer.height_bytes, max(bound_bytes, answer.bound_bytes), answer.offsets)


def _reason(buffers: Sequence[Buffer], packing: Packing, capacity_bytes: int, clash: Clashing | None, enough: Enough | None) -> Reason:
    levers: tuple[Lever, ...] = ()
    if enough is not None:
        is_least = enough.capacity_bytes == enough.bound_bytes
        levers = (Lever("--capacity", enough.capacity_bytes, "the least" if is_least else "the least that was found"),)
    if packing.overload_time is not None:
        demand, time = max((span.load_bytes, -span.lower) for span in load_spans(buffers))
        held = sorted(((held_bytes(buffer, -time), buffer.name) for buffer in buffers), key=lambda item: (-item[0], item[1]))
        terms = tuple((name, size) for size, name in held if size)
        held_by = f"{_buffers(len(terms))} hold{'s' if len(terms) == 1 else ''}"
        return Reason(
            rule="load",
            where=f"time {-time}",
            statement=f"{held_by} {demand} bytes at once, {demand - capacity_bytes} too many",
            demand=demand,
            limit=capacity_bytes,
            short=demand - capacity_bytes,
            terms=terms,
            levers=levers,
        )
    names = set() if clash is None else set(clash.buffers)
    members = [buffer for buffer in buffers if buffer.name in names]
    load = max((span.load_bytes for span in load_spans(members or buffers)), default=0)
    whom = f"these {_buffers(len(members))}" if members else "the buffers"
    needed = f"any {len(members) - 1} of them fit, " if clash is not None and clash.irreducible and len(members) > 1 else ""
    together = f"{whom} hold at most {load} bytes at once, but no addresses keep them apart"
    return Reason(
        rule="addresses",
        where="",
        statement=f"{together}; {needed}all need {packing.bound_bytes} bytes or more",
        demand=packing.bound_bytes,
        limit=capacity_bytes,
        short=packing.bound_bytes - capacity_bytes,
        terms=tuple((buffer.name, buffer.size_bytes) for buffer in members),
        levers=levers,
    )


def _buffers(count: int) -> str:
    return f"{count} buffer{'' if count == 1 else 's'}"
