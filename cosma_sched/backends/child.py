"""A solver as a child process: its lines as they come, limits it cannot ignore, Ctrl-C, and no process left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

TAIL_LINES = 40
_POLL_SECONDS = 0.5
_JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a child is stopped.

    Parameters
    ----------
    seconds
        Time after which it is stopped; None for never.
    grace
        Seconds between asking (SIGINT) and killing it; None for a child that would not answer and is killed at once.
    """

    seconds: float | None
    grace: float | None


@dataclass(slots=True)
class Ending:
    """How a child ended."""

    returncode: int
    interrupted: bool
    """Ctrl-C ended it."""
    overran: bool
    """It had to be stopped at its limit."""
    killed: bool
    log_tail: str


def start(
    arguments: Sequence[str], *, folder: Path | None = None, stdin: int, stdout: int, stderr: int, lifeline: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that Ctrl-C on the terminal does not reach: its parent decides what to do with the signal.

    Parameters
    ----------
    arguments, folder, stdin, stdout, stderr
        As for `subprocess.Popen`.
    lifeline
        A descriptor that the child inherits.
    """
    kept = () if lifeline is None else (lifeline,)
    return subprocess.Popen(arguments, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=kept, process_group=0)


@contextlib.contextmanager
def lifeline() -> Iterator[int | None]:
    """Yield a descriptor for `tie`; the child that is tied to it ends when this process does, however it ends."""
    if sys.platform != "linux":
        yield None
        return
    child_end, our_end = os.pipe()
    try:
        yield child_end
    finally:
        os.close(child_end)
        os.close(our_end)


def tie(process: subprocess.Popen[bytes], child_end: int | None) -> None:
    """End a child with this process: the kernel sends it SIGIO, which ends a program, when our end of the pipe is closed."""
    if child_end is not None and sys.platform == "linux":
        import fcntl

        fcntl.fcntl(child_end, fcntl.F_SETOWN, process.pid)
        fcntl.fcntl(child_end, fcntl.F_SETFL, os.O_ASYNC)


def read_lines(descriptor: int) -> Iterator[str]:
    """Yield the lines that arrive on a pipe or pseudo-terminal until its other end is closed."""
    rest = b""
    while block := _read(descriptor) or _read(descriptor):
        *complete, rest = (rest + block).split(b"\n")
        for line in complete:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace").rstrip("\r")


def _read(descriptor: int) -> bytes:
    """Read what is there; nothing at the end.

    A pseudo-terminal says by an error that its other end is closed. Linux looks for input first and for that mark second: what a child
    writes between the two looks is still there when it reports the error, so that only a second error is the end.
    """
    try:
        return os.read(descriptor, 2**16)
    except OSError:
        return b""


def attend(process: subprocess.Popen[bytes], lines: Iterator[str], *, limits: Limits, on_line: Callable[[str], None]) -> Ending:
    """Read a child's lines until it ends, and end it where it overruns.

    The first Ctrl-C stops the child as a limit does; a second one goes through. The child has ended when this returns or raises.

    Parameters
    ----------
    process
        The child.
    lines
        What it prints; read in a thread of its own.
    limits
        When it is stopped.
    on_line
        Called in this thread for each line.
    """
    queue: SimpleQueue[str | None] = SimpleQueue()
    reader = threading.Thread(target=_forward, args=(lines, queue), name="solver-log", daemon=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    stopper = _Stopper(process, limits)
    interrupted = overran = False
    reader.start()
    try:
        while True:
            try:
                with contextlib.suppress(Empty):
                    line = queue.get(timeout=stopper.pause())
                    if line is None:
                        break
                    tail.append(line)
                    on_line(line)
                overran |= stopper.check() and not interrupted
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                stopper.escalate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_JOIN_SECONDS)
    finally:
        end(process)
        reader.join(_JOIN_SECONDS)
    return Ending(process.returncode, interrupted, overran, stopper.killed, "\n".join(tail))


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a child has ended."""
    if process.poll() is None:
        process.kill()
    process.wait()


def _forward(lines: Iterator[str], queue: SimpleQueue[str | None]) -> None:
    try:
        for line in lines:
            queue.put(line)
    finally:
        queue.put(None)


class _Stopper:
    """Asks a child to end, then makes it."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        self._process = process
        self._grace = limits.grace
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._asked = False
        self.killed = False

    def pause(self) -> float:
        """Return how long to wait for a line."""
        return _POLL_SECONDS if self._deadline is None else min(_POLL_SECONDS, max(0.0, self._deadline - time.monotonic()))

    def check(self) -> bool:
        """Stop the child where its time is over; return whether that was so."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return False
        self.escalate()
        return True

    def escalate(self) -> None:
        """Ask the child to end, or kill it where it was asked before."""
        if self._asked or self._grace is None or sys.platform == "win32":
            self.killed = True
            self._deadline = None
            self._process.kill()
        else:
            self._asked = True
            self._deadline = time.monotonic() + self._grace
            self._process.send_signal(signal.SIGINT)
