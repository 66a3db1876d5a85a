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
        1: every event as a line; 2: the log of the library too.

    Yields
    ------
    list of Observer
        To be handed to the planner.
    """
    if verbose:
        with _log(logging.DEBUG if verbose > 1 else logging.INFO):
            yield [_print_event]
        return
    if quiet or not _is_terminal():
        yield []
        return
    line = LiveLine(subject)
    with Live(line, console=Console(stderr=True), refresh_per_second=_UPDATES_PER_SECOND, transient=True):
        yield [line.observe]


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class LiveLine:
    """The newest event as one line; the screen asks for it at its own pace, so that events cost next to nothing."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._start = time.monotonic()
        self._event: Event | None = None

    def observe(self, event: Event) -> None:
        """Take an event."""
        self._event = event

    def __rich__(self) -> Text:
        return Text(f"{self._subject}  {event_text(self._event)}{time.monotonic() - self._start:.1f} s", no_wrap=True, overflow="ellipsis")


def event_text(event: Event | None) -> str:
    """Return phase, incumbent, bound and gap of an event, as far as they are known."""
    if event is None:
        return ""
    parts = [event.phase]
    if event.incumbent is not None:
        parts.append(f"traffic {event.incumbent:,}")
    if event.bound is not None:
        parts.append(f"bound {event.bound:,}")
    if event.incumbent and event.bound is not None:
        parts.append(f"gap {100 * (event.incumbent - event.bound) / event.incumbent:.1f} %")
    if event.note:
        parts.append(event.note)
    return "  ".join(parts) + "  "


def _print_event(event: Event) -> None:
    complain(f"{event.seconds:8.2f} s  {event_text(event).rstrip()}")


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
