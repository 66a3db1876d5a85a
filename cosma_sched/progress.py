"""Progress of a solve as events, and the clock that its parts share.

A planner reports to any number of observers; an observer is a callable that takes an `Event`. Observers are called from the solving
thread, or from a solver's own thread, and must be quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """What is known at one moment: the phase at work, the best value held and the best bound proven (None where unknown)."""

    phase: str
    seconds: float
    incumbent: int | None = None
    bound: int | None = None
    note: str = ""


Observer = Callable[[Event], None]


class Clock:
    """Measure elapsed seconds against an optional limit.

    Parameters
    ----------
    limit
        Seconds from now, or None for no limit.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._start = time.monotonic()
        self.limit = limit

    @property
    def seconds(self) -> float:
        """Elapsed seconds."""
        return time.monotonic() - self._start

    @property
    def remaining(self) -> float | None:
        """Seconds left, at least 0, or None without a limit."""
        return None if self.limit is None else max(0.0, self.limit - self.seconds)

    @property
    def expired(self) -> bool:
        """True once the limit has passed."""
        return self.limit is not None and self.seconds >= self.limit

    def within(self, share: float) -> Clock:
        """Return a clock that ends after `share` of the remaining time."""
        return Clock(None if self.remaining is None else self.remaining * share)


@dataclass(frozen=True)
class Progress:
    """Send events with a common clock to observers."""

    clock: Clock
    observers: Sequence[Observer] = ()

    def report(self, phase: str, *, incumbent: int | None = None, bound: int | None = None, note: str = "") -> None:
        """Send one event to every observer."""
        if self.observers:
            event = Event(phase, self.clock.seconds, incumbent, bound, note)
            for observer in self.observers:
                observer(event)
