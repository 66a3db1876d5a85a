"""Plain-text tables: columns that line up, numbers in full, names shortened only where a terminal is too narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_GAP = "  "
_LABEL_WIDTH = 12
_SHORTEST_NAME = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and whether it holds numbers (right-aligned, never shortened) or names (left-aligned)."""

    title: str
    numbers: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Return a table as lines.

    Parameters
    ----------
    columns, rows
        Titles and cells.
    width
        Columns of the terminal; names are shortened in the middle to fit, down to 12 characters. None for no limit.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([len(column.title), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    if width is not None:
        _shrink(widths, columns, width)
    lines = [_line(columns, widths, [column.title for column in columns])]
    return [*lines, *(_line(columns, widths, row) for row in cells)]


def _shrink(widths: list[int], columns: Sequence[Column], width: int) -> None:
    names = [i for i, column in enumerate(columns) if not column.numbers]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0 and names:
        longest = max(names, key=lambda i: widths[i])
        if widths[longest] <= max(_SHORTEST_NAME, len(columns[longest].title)):
            return
        widths[longest] -= 1
        excess -= 1


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    aligned = [
        cell.rjust(size) if column.numbers else shortened(cell, size).ljust(size)
        for column, size, cell in zip(columns, widths, cells, strict=True)
    ]
    return _GAP.join(aligned).rstrip()


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return labels and what they stand for, one a line."""
    return [f"{label:<{_LABEL_WIDTH}}{printable(text)}".rstrip() for label, text in pairs]


def shortened(text: str, size: int) -> str:
    """Return a name in at most `size` characters, with its beginning and its end, which tell most."""
    if len(text) <= size:
        return text
    head = (size - 3) // 2
    return f"{text[:head]}...{text[len(text) - (size - 3 - head) :]}"


def printable(text: str) -> str:
    """Return a name without anything that a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number(value: int | None) -> str:
    """Return a whole number with thousands separators, ``-`` for unknown."""
    return "-" if value is None else f"{value:,}"


def percent(ratio: float | None) -> str:
    """Return a ratio in per cent: ``0 %``, ``12.3 %``, ``unknown``; a gap that is not closed never reads 0."""
    if ratio is None:
        return "unknown"
    if ratio == 0:
        return "0 %"
    return f"{max(100 * ratio, 0.01):.3g} %"
