"""Buffers as CSV, in the form of MiniMalloc: a row for each buffer, the offsets added as a column when they are known.

Columns: ``id`` (or ``buffer``, ``buffer_id``), ``lower`` (``start``, ``begin``), ``upper``, ``size``; optional ``alignment``, ``offset`` (a
pin), ``hint`` and ``gaps``. Lifetimes are half-open; a column ``end`` instead of ``upper`` is inclusive, and the ends of gaps are then too.
Gaps are separated by blanks: ``a-b`` for a time in which the buffer is empty, ``a-b@lo:hi`` for one in which it holds only bytes lo to hi.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.files import decode_text
from cosma_sched.graph import Buffer, BufferGap

_SYNONYMS = {"buffer": "id", "buffer_id": "id", "start": "lower", "begin": "lower", "end": "upper"}
_NEEDED = ("id", "lower", "upper", "size")
_OPTIONAL = ("alignment", "offset", "hint", "gaps")
_KNOWN = (*_NEEDED, *_OPTIONAL, *_SYNONYMS)
_LARGEST = 10**15
_INTEGER = re.compile(r"-?[0-9]{1,15}", flags=re.ASCII)
_GAP = re.compile(r"(-?[0-9]{1,15})-(-?[0-9]{1,15})(?:@([0-9]{1,15}):([0-9]{1,15}))?", flags=re.ASCII)


@dataclass(frozen=True, slots=True)
class BufferTable:
    """The buffers of a file, and the file's own columns and cells, so that it can be written again with offsets.

    Parameters
    ----------
    path
        The file, as it was named.
    buffers
        One for each row.
    lines
        The line of each buffer.
    columns
        The header, as it was written.
    cells
        Of each buffer's row, as they were written.
    """

    path: str
    buffers: tuple[Buffer, ...]
    lines: tuple[int, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    def with_offsets(self, offsets: Sequence[int], alignments: Sequence[int] = ()) -> str:
        """Return the file's text with the column ``offset`` filled in; other cells stay as they were written.

        Parameters
        ----------
        offsets
            One for each buffer.
        alignments
            One for each buffer, where they are to stand in the column ``alignment``.
        """
        columns, rows = list(self.columns), [list(row) for row in self.cells]
        for name, values in (("alignment", alignments), ("offset", offsets)):
            if not values and rows:
                continue
            if name not in columns:
                columns.append(name)
                rows = [[*row, ""] for row in rows]
            for row, value in zip(rows, values, strict=True):
                row[columns.index(name)] = str(value)
        return _text(columns, rows)


def decode_buffer_csv(path: str, content: bytes, *, capacity_bytes: int | None = None, align_bytes: int = 1) -> BufferTable:
    """Read the buffers of a CSV file.

    Parameters
    ----------
    path
        For messages.
    content
        The file's bytes.
    capacity_bytes
        Pins must lie below it; None where there is no limit.
    align_bytes
        Every offset has to be a multiple of this, beside what the column ``alignment`` asks for.

    Raises
    ------
    InputError
        With every mistake of the file and its line.
    """
    columns, rows = _rows(path, content)
    defects = list(_header_defects(columns))
    names = [_SYNONYMS.get(column, column) for column in columns]
    is_complete = set(_NEEDED) <= set(names)  # if not, the columns that are there are looked at all the same
    buffers: list[Buffer] = []  # of rows with mistakes too, as far as their pins can be looked at
    kept: list[tuple[int, tuple[str, ...]]] = []
    seen: dict[str, int] = {}
    for line, cells in rows:
        reader = _Row(line, dict(zip(names, cells, strict=False)), align_bytes, is_inclusive="end" in columns)
        if len(cells) != len(columns):
            defects.append(Defect(f"line {line}", f"has {len(cells)} cells, the header {len(columns)}"))
            continue
        buffer = reader.buffer(seen)
        defects += reader.defects
        if buffer is not None:
            buffers.append(buffer)
            kept.append((line, cells))
    lines = tuple(line for line, _ in kept)
    for index, problem in pin_defects(buffers if is_complete else (), capacity_bytes, [f"line {line}" for line in lines]):
        defects.append(Defect(f"line {lines[index]}: offset", problem))
    if defects:
        raise InputError(path, sorted(defects, key=_line_of))
    return BufferTable(path, tuple(buffers), lines, tuple(columns), tuple(cells for _, cells in kept))


def pin_defects(buffers: Sequence[Buffer], capacity_bytes: int | None, places: Sequence[str] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (index, problem) for each pin that reaches above the capacity or onto an earlier one.

    Parameters
    ----------
    buffers
        All buffers; those without a pin are passed over.
    capacity_bytes
        None where there is no limit.
    places
        Where each buffer stands, for the message; its name where None.
    """
    alive: list[tuple[int, int]] = []
    pinned = [(buffer.lower, index, buffer.offset) for index, buffer in enumerate(buffers) if buffer.offset is not None]
    for lower, index, offset in sorted(pinned):
        buffer, end = buffers[index], offset + buffers[index].size_bytes
        if capacity_bytes is not None and end > capacity_bytes:
            yield index, f"pins {shown(buffer.name)} to bytes {offset} to {end}, above the capacity {capacity_bytes}"
        alive = [(other, at) for other, at in alive if buffers[other].upper > lower]
        for other, at in alive:
            if (time := _meeting(buffers[other], at, buffer, offset)) is not None:
                first, second = sorted((index, other))
                place = f" ({places[first]})" if places else ""
                yield second, f"pins {shown(buffers[second].name)} onto {shown(buffers[first].name)}{place} at time {time}"
        alive.append((index, offset))


def aligned(buffer: Buffer, align_bytes: int) -> Buffer:
    """Return a buffer whose offset has to be a multiple of `align_bytes` too.

    Raises
    ------
    InputError
        If its pin is none.
    """
    common = math.lcm(buffer.alignment, align_bytes)
    return buffer if common == buffer.alignment else replace(buffer, alignment=common)


def encode_buffer_csv(buffers: Sequence[Buffer], offsets: Sequence[int] = ()) -> str:
    """Return buffers as CSV, half-open; the column ``offset`` holds the offsets given, else the pins; columns nobody needs are left out."""
    columns = list(_NEEDED)
    values: list[list[str]] = [[b.name, str(b.lower), str(b.upper), str(b.size_bytes)] for b in buffers]
    optional: Mapping[str, list[str]] = {
        "alignment": ["" if b.alignment == 1 else str(b.alignment) for b in buffers],
        "hint": ["" if b.hint is None else str(b.hint) for b in buffers],
        "gaps": [" ".join(map(_gap_text, b.gaps)) for b in buffers],
        "offset": [str(offset) for offset in offsets] or ["" if b.offset is None else str(b.offset) for b in buffers],
    }
    for name, cells in optional.items():
        if any(cells):
            columns.append(name)
            cells = [cell or "1" for cell in cells] if name == "alignment" else cells
            values = [[*row, cell] for row, cell in zip(values, cells, strict=True)]
    return _text(columns, values)


def _text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def _gap_text(gap: BufferGap) -> str:
    return f"{gap.lower}-{gap.upper}" + ("" if gap.window is None else f"@{gap.window[0]}:{gap.window[1]}")


def _rows(path: str, content: bytes) -> tuple[list[str], list[tuple[int, tuple[str, ...]]]]:
    """Return the header, and each further row that is not blank with its line."""
    reader = csv.reader(io.StringIO(decode_text(path, content)), strict=True)
    found: list[tuple[int, tuple[str, ...]]] = []
    try:
        for row in reader:
            cells = tuple(cell.strip() for cell in row)
            if any(cells):
                found.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError(path, [Defect(f"line {reader.line_num}", f"is not CSV: {error}")]) from error
    return (list(found[0][1]), found[1:]) if found else ([], [])


def _header_defects(columns: Sequence[str]) -> Iterator[Defect]:
    seen: dict[str, str] = {}
    for column in columns:
        name = _SYNONYMS.get(column, column)
        if column not in _KNOWN:
            known = f"columns are {', '.join((*_NEEDED, *_OPTIONAL))}, and {', '.join(_SYNONYMS)} for some of them"
            yield Defect("line 1", f"unknown column {shown(column)}{suggestion(column, _KNOWN)}; {known}")
        elif name in seen:
            yield Defect("line 1", f"columns {shown(seen[name])} and {shown(column)} say the same")
        seen.setdefault(name, column)
    missing = [name for name in _NEEDED if name not in seen]
    if missing:
        yield Defect("line 1", f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")


def _line_of(defect: Defect) -> int:
    return int(defect.where.removeprefix("line ").partition(":")[0])


class _Row:
    """One row on its way to a buffer, with what is wrong in it."""

    def __init__(self, line: int, cells: Mapping[str, str], align_bytes: int, *, is_inclusive: bool) -> None:
        self.line, self.cells, self.defects = line, cells, list[Defect]()
        self._align_bytes, self._is_inclusive = align_bytes, is_inclusive

    def buffer(self, seen: dict[str, int]) -> Buffer | None:
        """Return the buffer, None where too much is wrong for one; `seen` holds the line of each id."""
        name = self.cells.get("id", f"line {self.line}")
        if not name:
            self._wrong("id", "must not be empty")
        elif seen.setdefault(name, self.line) != self.line:
            self._wrong("id", f"{shown(name)} stands in line {seen[name]} too; ids must be unique")
        lower, upper = self._lifetime()
        size = self._integer("size") if "size" in self.cells else _LARGEST
        alignment = self._integer("alignment") if self.cells.get("alignment") else 1
        pin = self._integer("offset") if self.cells.get("offset") else None
        hint = self._integer("hint") if self.cells.get("hint") else None
        gaps = tuple(self._gaps())
        if lower is None or upper is None or size is None or alignment is None:
            return None
        hint = None if hint is None or hint < 0 else hint  # MiniMalloc: a negative hint is none
        common = math.lcm(alignment, self._align_bytes) if alignment > 0 else alignment
        try:
            return Buffer(name, lower, upper + self._is_inclusive, size, common, pin, hint, gaps)
        except InputError as error:
            for defect in error.defects:
                self._take_over(defect, lower, upper)
            if {defect.where.partition("[")[0] for defect in error.defects} <= {"gaps", "offset"} and pin is not None and pin >= 0:
                return Buffer(name, lower, upper + self._is_inclusive, size, 1, pin)  # the pin itself can still be looked at
            return None

    def _lifetime(self) -> tuple[int | None, int | None]:
        """Return both ends as they are written; a column that is missing, which has been said, is taken to fit the other."""
        lower = self._integer("lower") if "lower" in self.cells else None
        upper = self._integer("upper") if "upper" in self.cells else None
        if "lower" not in self.cells:
            lower = 0 if upper is None else upper - 1
        elif "upper" not in self.cells and lower is not None:
            upper = lower + 1
        return lower, upper

    def _take_over(self, defect: Defect, lower: int, upper: int) -> None:
        if defect.where == "upper" and self._is_inclusive:
            self._wrong("end", f"must be >= start {lower}, got {upper}")
        else:
            self._wrong(defect.where.replace("size_bytes", "size"), defect.problem)

    def _wrong(self, column: str, problem: str) -> None:
        self.defects.append(Defect(f"line {self.line}: {column}", problem))

    def _integer(self, column: str) -> int | None:
        text = self.cells[column]
        if _INTEGER.fullmatch(text):
            return int(text)
        self._wrong(column, f"must be a whole number, got {shown(text)}")
        return None

    def _gaps(self) -> Iterator[BufferGap]:
        for text in self.cells.get("gaps", "").split():
            match = _GAP.fullmatch(text)
            if match is None:
                self._wrong("gaps", f"must be a-b or a-b@lo:hi, separated by blanks, got {shown(text)}")
                continue
            begin, end, low, high = match.groups()
            window = None if low is None else (int(low), int(high))
            yield BufferGap(int(begin), int(end) + self._is_inclusive, window)


def _meeting(first: Buffer, first_offset: int, second: Buffer, second_offset: int) -> int | None:
    """Return the first time at which two placed buffers share an address, or None."""
    times = {first.lower, second.lower, *(time for b in (first, second) for gap in b.gaps for time in (gap.lower, gap.upper))}
    for time in sorted(times):
        low, high = held(first, time)
        other_low, other_high = held(second, time)
        if max(first_offset + low, second_offset + other_low) < min(first_offset + high, second_offset + other_high):
            return time
    return None


def held(buffer: Buffer, time: int) -> tuple[int, int]:
    """Return which of its bytes a buffer holds at a time, half-open and relative to its offset; (0, 0) for none."""
    if not buffer.lower <= time < buffer.upper:
        return 0, 0
    for gap in buffer.gaps:
        if gap.lower <= time < gap.upper:
            return gap.window or (0, 0)
    return 0, buffer.size_bytes
