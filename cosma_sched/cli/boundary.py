"""The edge of the program: every error becomes its lines on standard error and its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Any

from cosma_sched.errors import CosmaError, InfeasibleError, suggestion

_REPORT = "this is a bug in cosma-sched; please report it with the lines above and what cosma-sched --version prints"


class Boundary:
    """Run a block and keep what it ends with as `exit_code`; no error passes.

    Parameters
    ----------
    debug
        Show the traceback of expected errors too.
    """

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self.exit_code = 1

    def __enter__(self) -> Boundary:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the program
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None or isinstance(error, SystemExit):
            return error is None
        expected = isinstance(error, CosmaError | KeyboardInterrupt)
        if self.debug or not expected:
            complain("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))
        if isinstance(error, CosmaError):
            self.exit_code = error.exit_code
            complain(describe(error))
        elif isinstance(error, KeyboardInterrupt):
            self.exit_code = 130
            complain("interrupted")
        else:
            self.exit_code = 1
            complain(_REPORT)
        return True


def describe(error: CosmaError) -> str:
    """Return the lines that an error prints."""
    if isinstance(error, InfeasibleError):
        from cosma_sched.report.table import reason_lines

        return "\n".join(line for reason in error.reasons for line in reason_lines(reason))
    return str(error)


def complain(text: str) -> None:
    """Write lines to standard error, if there is one; that nobody reads it (``2>&1 | head -1``) does not change the exit code."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # else the interpreter fails when it flushes at exit


def usage_line(error: Any) -> str:
    """Return one line for a mistake in the arguments, with the near name and where to read on."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "cosma-sched"
    return f"{_statement(error, context)} (see {command} --help)"


def _statement(error: Any, context: Any) -> str:
    wrong = getattr(error, "option_name", None)
    if wrong is not None and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts] if context is not None else []
        return f"no such option: {wrong}{suggestion(wrong, known)}"
    message = str(error.format_message()).strip()
    if message.startswith("No such command"):
        name = message.split("'")[1]
        known = sorted(getattr(context.command, "commands", {})) if context is not None else []
        return f'no such command: "{name}"; commands are {", ".join(known)}{suggestion(name, known)}'
    line = " ".join(message.split()).removesuffix(".").replace("'", '"')
    return line[:1].lower() + line[1:]
