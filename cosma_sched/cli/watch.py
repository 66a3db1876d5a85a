"""Progress on standard error: one live line on a terminal, plain lines with ``-v``, nothing otherwise."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cosma_sched.cli.boundary import complain
from cosma_sched.progress import Event, Observer

_UPDATES_PER_SECOND = 10


@contextlib.contextmanager
def watching(subject: str, *, quiet: bool = False, verbose: int = 0) -> Iterator[list[Observer]]:
    """Show the progress of what runs inside the block.

    Parameters
    ----------
    subject
        What is being worked on, such as the model's name.
    quiet
        Show nothing.
    verbose
        1: lines instead of the live line; 2: the log of the library too.

    Yields
    ------
    list of Observer
        To be handed to the planner.
    """
    if verbose:
        with _log(logging.DEBUG if verbose > 1 else logging.INFO):
            yield [Lines().observe]
        return
    if quiet or not _is_terminal():
        yield []
        return
    line = LiveLine(subject)
    with Live(line, console=Console(stderr=True), refresh_per_second=_UPDATES_PER_SECOND, transient=True):
        yield [line.observe]


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Standing:
    """What is known so far: phases report what they know of, and their clocks are their own."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.phase, self.note = "", ""
        self.incumbent: int | None = None
        self.bound: int | None = None

    def observe(self, event: Event) -> None:
        """Take an event."""
        self.phase, self.note = event.phase, event.note
        if event.incumbent is not None:
            self.incumbent = event.incumbent
        if event.bound is not None:
            self.bound = max(event.bound, self.bound or 0)

    @property
    def seconds(self) -> float:
        """Elapsed seconds."""
        return time.monotonic() - self._start

    def __str__(self) -> str:
        parts = [self.phase]
        if self.incumbent is not None:
            parts.append(f"traffic {self.incumbent:,}")
        if self.bound is not None:
            parts.append(f"bound {self.bound:,}")
        if self.incumbent and self.bound is not None:
            parts.append(f"gap {100 * (self.incumbent - self.bound) / self.incumbent:.1f} %")
        return "  ".join(filter(None, [*parts, self.note]))


class LiveLine(Standing):
    """The standing as one line; the screen asks for it at its own pace, so that events cost next to nothing."""

    def __init__(self, subject: str) -> None:
        super().__init__()
        self._subject = subject

    def __rich__(self) -> Text:
        return Text(f"{self._subject}  {self.seconds:.1f} s  {self}", no_wrap=True, overflow="ellipsis")


class Lines(Standing):
    """The standing as a line whenever the phase or the incumbent changes, else once a second."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: tuple[str, int | None, int] | None = None

    def observe(self, event: Event) -> None:
        """Take an event."""
        super().observe(event)
        state = (self.phase, self.incumbent, int(self.seconds))
        if state != self._printed:
            self._printed = state
            complain(f"{self.seconds:8.2f} s  {self}")


@contextlib.contextmanager
def _log(level: int) -> Iterator[None]:
    """Send the library's log to standard error for the time of the block."""
    logger = logging.getLogger("cosma_sched")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
