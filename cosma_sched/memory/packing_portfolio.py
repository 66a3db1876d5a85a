"""Exact packing by two methods that are strong on different instances: the canonical search and CP-SAT.

With one worker they take turns, in slices that are counted in nodes and in CP-SAT's deterministic time, so that the same seed gives the
same answer on any machine. With more workers CP-SAT runs beside the search as soon as that proves to be long, and the first answer wins.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from cosma_sched.memory.packing_search import CanonicalSearch, is_searchable
from cosma_sched.memory.packing_strip import Strip
from cosma_sched.progress import Clock
from cosma_sched.result import Termination

LEAST_PER_BUFFER, MOST_PER_BUFFER, FIRST_DETERMINISTIC = 100, 200, 0.02
"""The first slices of the search (nodes per buffer: twice the buffers, within these ends) and of CP-SAT: a few seconds each for 300 buffers
in plain Python, much less for few. (CP-SAT's deterministic second is about a minute here.)"""
NODES_GROWTH, DETERMINISTIC_GROWTH = 3, 2
"""How many times as long each later slice is."""
NODES_ALONE_PER_BUFFER = 20
"""How long the search goes on before another worker is started; most answers are there before CP-SAT would have read the problem."""
NODES_BETWEEN_LOOKS = 2_000
"""Nodes of the search between two looks at the other worker."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a set of buffers at a capacity: offsets, or that there are none, or neither.

    Parameters
    ----------
    offsets
        In units from `decide`, in bytes where buffers were asked about; None unless packed.
    is_infeasible
        True where it is proven that there are none.
    termination
        ``proved`` where either is known, else what stopped the search.
    nodes
        Nodes of the canonical search.
    proved_by
        The method that answered.
    """

    offsets: tuple[int, ...] | None = None
    is_infeasible: bool = False
    termination: Termination = Termination.PROVED
    nodes: int = 0
    proved_by: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the buffers can be packed; None where that stayed open."""
        return True if self.offsets is not None else (False if self.is_infeasible else None)


def decide(strip: Strip, clock: Clock, seed: int = 0, workers: int = 1) -> Verdict:
    """Decide a strip exactly within the clock's limit.

    A Ctrl-C ends it with the termination ``interrupted``.
    """
    try:
        if not is_searchable(strip):
            return _by_intervals(strip, clock, seed, workers)
        return _in_turns(strip, clock, seed) if workers == 1 else _beside_each_other(strip, clock, seed, workers)
    except KeyboardInterrupt:
        return Verdict(termination=Termination.INTERRUPTED)


def _in_turns(strip: Strip, clock: Clock, seed: int) -> Verdict:
    search = CanonicalSearch(strip, seed)
    per_buffer = min(max(LEAST_PER_BUFFER, 2 * len(strip)), MOST_PER_BUFFER)
    nodes, deterministic = per_buffer * len(strip), FIRST_DETERMINISTIC
    while True:
        verdict = _advanced(search, clock, nodes)
        if verdict.termination is not Termination.EXHAUSTED:
            return verdict
        verdict = _by_intervals(strip, clock, seed, 1, deterministic_limit=deterministic, nodes=search.nodes)
        if verdict.termination in {Termination.PROVED, Termination.INTERRUPTED} or clock.expired:
            return verdict
        nodes, deterministic = NODES_GROWTH * nodes, DETERMINISTIC_GROWTH * deterministic


def _beside_each_other(strip: Strip, clock: Clock, seed: int, workers: int) -> Verdict:
    search, stop_event = CanonicalSearch(strip, seed), Event()
    verdict = _advanced(search, clock, NODES_ALONE_PER_BUFFER * len(strip))
    if verdict.termination is not Termination.EXHAUSTED:
        return verdict
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="packing") as pool:
        other = pool.submit(_by_intervals, strip, clock, seed, workers - 1, stop_event=stop_event)
        try:
            verdict = _first_answer(search, other, clock)
        finally:
            stop_event.set()
    return verdict


def _first_answer(search: CanonicalSearch, other: Future[Verdict], clock: Clock) -> Verdict:
    while True:
        verdict = _advanced(search, clock, NODES_BETWEEN_LOOKS)
        if verdict.termination is not Termination.EXHAUSTED:
            return verdict
        if other.done() and other.result().fits is not None:
            return other.result()


def _advanced(search: CanonicalSearch, clock: Clock, nodes: int) -> Verdict:
    outcome = search.advance(clock, nodes)
    proved_by = "search" if outcome.termination is Termination.PROVED else ""
    return Verdict(outcome.offsets, outcome.is_infeasible, outcome.termination, search.nodes, proved_by)


def _by_intervals(
    strip: Strip,
    clock: Clock,
    seed: int,
    workers: int,
    *,
    deterministic_limit: float | None = None,
    stop_event: Event | None = None,
    nodes: int = 0,
) -> Verdict:
    from cosma_sched.memory.packing_intervals import pack_by_intervals

    outcome = pack_by_intervals(strip, clock, seed, workers=workers, deterministic_limit=deterministic_limit, stop_event=stop_event)
    proved_by = "cpsat" if outcome.termination is Termination.PROVED else ""
    return Verdict(outcome.offsets, outcome.is_infeasible, outcome.termination, nodes, proved_by)
