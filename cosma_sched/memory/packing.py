"""Addresses for given lifetimes: offsets that fit a capacity, or the buffers that make it impossible.

Theory and measurements are in the memory-planning design, section 7. The load, which is the most bytes that live at one time, is a lower
bound on the height; where it exceeds the capacity nothing is searched. Otherwise heuristics answer most instances within milliseconds,
and an exact method decides what they leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cosma_sched.errors import UsageError, VerificationError
from cosma_sched.graph import Buffer
from cosma_sched.memory.packing_clash import Clash, irreducible, overload
from cosma_sched.memory.packing_heuristics import pack_greedily
from cosma_sched.memory.packing_portfolio import Verdict, decide
from cosma_sched.memory.packing_strip import Strip, partitions
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination


@dataclass(frozen=True, slots=True)
class Packing:
    """What packing found out.

    Parameters
    ----------
    status
        ``optimal``: packed, and no packing is lower; ``feasible``: packed; ``infeasible``; ``unknown``.
    termination
        ``proved`` for an optimal or infeasible answer; ``exhausted`` for a packing that answers the question although its height is above
        the bound; else what stopped the search.
    offsets
        Bytes, in the order of the buffers given; None unless packed.
    height_bytes
        The highest end of a buffer; None unless packed.
    bound_bytes
        Proven lower bound on the height of every packing; above the capacity where infeasible.
    clash
        Indices of buffers that cannot be packed together; empty unless infeasible, or where no explanation was asked for.
    clash_is_irreducible
        True where every proper subset of `clash` is known to be packable; False where time ran out before that was known.
    overload_time
        Where the load exceeds the capacity: a time at which it does.
    nodes
        Nodes of the exact search.
    proved_by
        What gave the answer: ``load``, ``pins``, ``heuristic``, ``search`` or ``cpsat``; empty where nothing did.
    seconds
        Elapsed time.
    """

    status: Status
    termination: Termination
    offsets: tuple[int, ...] | None
    height_bytes: int | None
    bound_bytes: int
    clash: tuple[int, ...] = ()
    clash_is_irreducible: bool = False
    overload_time: int | None = None
    nodes: int = 0
    proved_by: str = ""
    seconds: float = 0.0


def pack(
    buffers: Sequence[Buffer],
    capacity_bytes: int,
    *,
    clock: Clock | None = None,
    seed: int = 0,
    workers: int = 1,
    explain: bool = True,
) -> Packing:
    """Find offsets for buffers within a capacity, or prove that there are none.

    Parameters
    ----------
    buffers
        What to pack; names do not matter.
    capacity_bytes
        No buffer ends above it.
    clock
        Its limit stops the search; None searches to the end.
    seed
        Of everything random; one worker and the same seed give the same answer.
    workers
        Threads of the CP-SAT search.
    explain
        Whether an infeasible answer is shrunk to an irreducible set of buffers.

    Examples
    --------
    >>> low = Buffer("low", 0, 2, 4)
    >>> pack([low, Buffer("high", 1, 3, 4)], 8).height_bytes
    8
    """
    if capacity_bytes < 0:
        raise UsageError(f"the capacity must be >= 0, got {capacity_bytes}")
    clock = clock or Clock()
    load_bytes, time = max_load(buffers)
    bound = max([load_bytes, *(buffer.size_bytes + (buffer.offset or 0) for buffer in buffers)])

    interrupted = False

    def decide_some(indices: Sequence[int]) -> Verdict:
        nonlocal interrupted
        verdict = Verdict(termination=Termination.INTERRUPTED)
        if not interrupted:
            with suppress(KeyboardInterrupt):
                verdict = _decide([buffers[index] for index in indices], capacity_bytes, clock, seed, workers)
        interrupted = verdict.termination is Termination.INTERRUPTED
        return verdict

    if refuted := _refuted_at_once(buffers, capacity_bytes, load_bytes, time):
        clash, reason, when = refuted
        clash = clash if clash.is_irreducible or not explain else irreducible(buffers, clash.indices, lambda rest: decide_some(rest).fits)
        return _infeasible(clash, max(bound, capacity_bytes + 1), reason, 0, clock, when)

    groups = partitions(buffers)
    verdicts = _decide_groups([[buffers[i] for i in group] for group in groups], capacity_bytes, clock, seed, workers)
    for group, verdict in zip(groups, verdicts, strict=True):
        if verdict.is_infeasible:
            return _explained(buffers, group, verdicts, capacity_bytes, decide_some if explain else None, clock)
    return _assembled(buffers, groups, verdicts, bound, clock)


def max_load(buffers: Iterable[Buffer]) -> tuple[int, int]:
    """Return the most bytes that live at one time, and the first such time; (0, 0) without buffers."""
    change: dict[int, int] = {}
    for buffer in buffers:
        _add(change, buffer.lower, buffer.upper, buffer.size_bytes)
        for gap in buffer.gaps:
            held = gap.window[1] - gap.window[0] if gap.window else 0
            _add(change, gap.lower, gap.upper, held - buffer.size_bytes)
    most = live = 0
    when = min(change, default=0)
    for time in sorted(change):
        live += change[time]
        if live > most:
            most, when = live, time
    return most, when


def _add(change: dict[int, int], lower: int, upper: int, size: int) -> None:
    change[lower] = change.get(lower, 0) + size
    change[upper] = change.get(upper, 0) - size


def _refuted_at_once(buffers: Sequence[Buffer], capacity_bytes: int, load_bytes: int, time: int) -> tuple[Clash, str, int | None] | None:
    """Return a clash that arithmetic alone proves, what proves it (a buffer too large, the load, pins), and the time of too much load."""
    for index, buffer in enumerate(buffers):
        if buffer.size_bytes + (buffer.offset or 0) > capacity_bytes:
            too_large = buffer.size_bytes > capacity_bytes
            return Clash((index,), True), "load" if too_large else "pins", buffer.lower if too_large else None
    if load_bytes > capacity_bytes:
        kept = overload(buffers, time, capacity_bytes)
        stackable = all(buffers[i].alignment == 1 and buffers[i].offset is None and not buffers[i].gaps for i in kept)
        return Clash(tuple(kept), stackable), "load", time
    pinned = [index for index, buffer in enumerate(buffers) if buffer.offset is not None]
    strip = Strip.of([buffers[index] for index in pinned], capacity_bytes)
    offsets = [pin or 0 for pin in strip.pins]
    for index, own in enumerate(strip.conflicts):
        for conflict in own:
            if conflict.above < offsets[index] - offsets[conflict.other] < conflict.below:
                return Clash((pinned[index], pinned[conflict.other]), True), "pins", None
    return None


def _decide(buffers: Sequence[Buffer], capacity_bytes: int, clock: Clock, seed: int, workers: int) -> Verdict:
    """Decide a set of buffers of which nothing is known; used where subsets are tried."""
    load_bytes, time = max_load(buffers)
    if refuted := _refuted_at_once(buffers, capacity_bytes, load_bytes, time):
        return Verdict(is_infeasible=True, proved_by=refuted[1])
    offsets = [0] * len(buffers)
    for group in partitions(buffers):
        own = [buffers[i] for i in group]
        verdict = _decide_quickly(own, capacity_bytes, clock, seed)
        if verdict.fits is None:
            verdict = _decide_exactly(own, capacity_bytes, clock, seed, workers)
        if verdict.offsets is None:
            return verdict
        for index, offset in zip(group, verdict.offsets, strict=True):
            offsets[index] = offset
    return Verdict(tuple(offsets))


def _decide_groups(groups: Sequence[Sequence[Buffer]], capacity_bytes: int, clock: Clock, seed: int, workers: int) -> list[Verdict]:
    """Decide partitions, all by heuristics before any exactly, up to the first that cannot be packed or is interrupted."""
    verdicts = [Verdict(termination=Termination.INTERRUPTED)] * len(groups)
    with suppress(KeyboardInterrupt):
        for index, group in enumerate(groups):
            verdicts[index] = _decide_quickly(group, capacity_bytes, clock, seed)
        for index, group in enumerate(groups):
            if verdicts[index].fits is None:
                verdicts[index] = Verdict(termination=Termination.INTERRUPTED)
                verdicts[index] = _decide_exactly(group, capacity_bytes, clock, seed, workers)
                if verdicts[index].is_infeasible or verdicts[index].termination is Termination.INTERRUPTED:
                    break
    return verdicts


def _decide_quickly(buffers: Sequence[Buffer], capacity_bytes: int, clock: Clock, seed: int) -> Verdict:
    strip = Strip.of(buffers, capacity_bytes)
    offsets = pack_greedily(strip, clock, seed)
    return Verdict() if offsets is None else Verdict(in_bytes(strip, offsets), proved_by="heuristic")


def _decide_exactly(buffers: Sequence[Buffer], capacity_bytes: int, clock: Clock, seed: int, workers: int) -> Verdict:
    strip = Strip.of(buffers, capacity_bytes)
    verdict = decide(strip, clock, seed, workers)
    return verdict if verdict.offsets is None else replace(verdict, offsets=in_bytes(strip, verdict.offsets))


def in_bytes(strip: Strip, offsets: Sequence[int]) -> tuple[int, ...]:
    """Return offsets in bytes after checking them against the strip's rules: nothing leaves unverified."""
    if wrong := list(strip.violations(offsets)):
        raise VerificationError([f"packing: buffer {index} at {offsets[index]} units breaks a rule" for index in wrong])
    return tuple(offset * strip.unit for offset in offsets)


def _explained(
    buffers: Sequence[Buffer],
    group: Sequence[int],
    verdicts: Sequence[Verdict],
    capacity_bytes: int,
    decide: Callable[[Sequence[int]], Verdict] | None,
    clock: Clock,
) -> Packing:
    """Return the infeasible answer for a partition that cannot be packed."""
    failed = next(verdict for verdict in verdicts if verdict.is_infeasible)
    unit = Strip.of([buffers[i] for i in group], capacity_bytes).unit
    bound = (capacity_bytes // unit + 1) * unit
    clash = Clash((), False) if decide is None else irreducible(buffers, group, lambda rest: decide(rest).fits)
    return _infeasible(clash, bound, failed.proved_by, sum(verdict.nodes for verdict in verdicts), clock)


def _infeasible(clash: Clash, bound: int, proved_by: str, nodes: int, clock: Clock, time: int | None = None) -> Packing:
    answer = Packing(Status.INFEASIBLE, Termination.PROVED, None, None, bound)
    shown = replace(answer, clash=clash.indices, clash_is_irreducible=clash.is_irreducible, overload_time=time)
    return replace(shown, nodes=nodes, proved_by=proved_by, seconds=clock.seconds)


def _assembled(
    buffers: Sequence[Buffer], groups: Sequence[Sequence[int]], verdicts: Sequence[Verdict], bound: int, clock: Clock
) -> Packing:
    """Join the partitions' offsets, or return that some stayed open."""
    nodes = sum(verdict.nodes for verdict in verdicts)
    unsolved = [verdict.termination for verdict in verdicts if verdict.offsets is None]
    if unsolved:
        termination = Termination.INTERRUPTED if Termination.INTERRUPTED in unsolved else unsolved[0]
        return Packing(Status.UNKNOWN, termination, None, None, bound, nodes=nodes, seconds=clock.seconds)
    offsets = [0] * len(buffers)
    for group, verdict in zip(groups, verdicts, strict=True):
        for index, offset in zip(group, verdict.offsets or (), strict=True):
            offsets[index] = offset
    height = max((offset + buffer.size_bytes for offset, buffer in zip(offsets, buffers, strict=True)), default=0)
    proved_by = next((verdict.proved_by for verdict in verdicts if verdict.proved_by != "heuristic"), "heuristic")
    is_least = height == bound
    status, termination = (Status.OPTIMAL, Termination.PROVED) if is_least else (Status.FEASIBLE, Termination.EXHAUSTED)
    return Packing(status, termination, tuple(offsets), height, bound, nodes=nodes, proved_by=proved_by, seconds=clock.seconds)
