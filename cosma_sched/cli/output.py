"""What a command does with its result: the table or the JSON document on standard output, the file that was asked for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosma_sched.errors import InputError
from cosma_sched.files import encode_json, write_whole

Action = Callable[[], int]
"""What is left of a command once its arguments are parsed: it runs and returns the exit code."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a result goes.

    Parameters
    ----------
    json
        One JSON document on standard output instead of the table.
    path
        File for the JSON document, ``-`` for standard output, None for no file.
    """

    json: bool = False
    path: str | None = None

    def check(self) -> None:
        """Refuse a file that cannot be written before any work is done for it.

        Raises
        ------
        InputError
            If its folder does not exist or must not be written.
        """
        if self.path is None or self.path == "-":
            return
        target = Path(self.path)
        if target.is_dir():
            raise InputError(self.path, "cannot be written: is a directory")
        folder = target.parent
        if not folder.is_dir():
            raise InputError(self.path, f"cannot be written: no such directory: {folder}")
        if not os.access(target if target.exists() else folder, os.W_OK):
            raise InputError(self.path, "cannot be written: permission denied")

    def deliver(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print the result, then write the file; in this order, so that a full disk does not cost the answer."""
        text = encode_json(document) if self.json or self.path is not None else ""
        show(text if self.json or self.path == "-" else "\n".join([*lines, ""]))
        if self.path not in {None, "-"}:
            write_whole(str(self.path), text)


def show(text: str) -> None:
    """Write to standard output; a reader that has gone away (``| head``) is no error.

    Raises
    ------
    InputError
        If standard output cannot be written for another reason, such as a full disk.
    """
    if sys.stdout is None:  # the shell closed it: >&-
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it flushes at exit
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise InputError("standard output", f"cannot be written: {error.strerror or error}") from error


def table_width() -> int | None:
    """Return the columns of the terminal that shows the table, or None where it goes to a file or a pipe and nothing has to be short."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns
