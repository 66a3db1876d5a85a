"""JSON lines: one document per line, every mistake with its line number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cosma_sched.errors import Defect, InputError
from cosma_sched.experts.formats.raw import ReadOptions
from cosma_sched.files import decode_json, decode_text


class Lines:
    """The objects of a JSONL file; malformed lines end the reading, or are skipped and counted.

    Parameters
    ----------
    path, content
        The file.
    options
        Whether bad lines are skipped.
    """

    def __init__(self, path: str, content: bytes, options: ReadOptions) -> None:
        self.path = path
        self.skipped = 0
        self._text = decode_text(path, content)
        self._skip = options.skip_bad_lines

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(self._text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                document = decode_json(self.path, line.encode())
            except InputError as error:
                self.bad(number, str(error.defects[0].problem), error)
                continue
            if isinstance(document, dict):
                yield number, document
            else:
                self.bad(number, "is no JSON object")

    def bad(self, number: int, problem: str, cause: Exception | None = None) -> None:
        """Count a malformed line, or refuse the file for it.

        Raises
        ------
        InputError
            Unless bad lines are skipped.
        """
        if not self._skip:
            problem = f"{problem}; --skip-bad-lines skips and counts such lines"
            raise InputError(self.path, [Defect(f"line {number}", problem)]) from cause
        self.skipped += 1

    def notes(self) -> list[str]:
        """Return what was skipped, for the report."""
        return [f"{self.path}: {self.skipped} malformed lines skipped"] if self.skipped else []
