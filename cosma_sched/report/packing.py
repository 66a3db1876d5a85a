"""Tables and pictures of packing: what lies where, what fills the tight times, why buffers do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cosma_sched.graph import Buffer
from cosma_sched.memory.explain import Span, load_spans, tightest
from cosma_sched.memory.packing_clash import held_bytes
from cosma_sched.report.layout import Column, facts, number, percent, printable, shortened, table
from cosma_sched.result import Reason, Status, Termination
from cosma_sched.units import format_bytes

if TYPE_CHECKING:
    from cosma_sched.memory.packing_answer import PackingResult

_MOST_ROWS = 20
_MOST_TIMES = 3
_BAR = 40
_STOPS = {Termination.TIME_LIMIT: "stopped by the time limit", Termination.INTERRUPTED: "interrupted"}
_PROOFS = {"search": "the canonical search", "cpsat": "CP-SAT", "pins": "pins and sizes"}
_FINDERS = {"heuristic": "first-fit and best-fit", "search": "the canonical search", "cpsat": "CP-SAT"}
_LOAD = "the bytes live at one time"


def packing_lines(
    result: PackingResult, name: str | None = None, *, width: int | None = None, all_rows: bool = False, explain: bool = False
) -> list[str]:
    """Return an answer as a table: what is proven, where the buffers lie, or why they do not fit.

    Parameters
    ----------
    result
        The answer.
    name
        Of the file or network.
    width
        Columns of the terminal, or None for no limit.
    all_rows
        Every buffer instead of the first twenty.
    explain
        Of a packing too: the times of the highest load and what fills them.
    """
    title = printable(name or result.provenance.model or "buffers built in Python")
    room = "no capacity given" if result.capacity_bytes is None else f"capacity {format_bytes(result.capacity_bytes)}"
    lines = [f"{title}: {_count(result.buffers)}, {room}", "", *facts(_facts(result))]
    if result.status == Status.INFEASIBLE:
        return [*lines, *_clash_lines(result, width, all_rows), *_enough_lines(result)]
    if explain:
        lines += _tight_lines(result, width, all_rows)
    if result.offsets:
        lines += ["", *_buffer_table(result.buffers, result.offsets, width, all_rows)]
    return lines


def _count(buffers: Sequence[Buffer]) -> str:
    return f"{len(buffers):,} buffer{'' if len(buffers) == 1 else 's'}"


def _facts(result: PackingResult) -> Iterator[tuple[str, str]]:
    yield "status", _status(result)
    if result.height_bytes is not None:
        yield "height", f"{format_bytes(result.height_bytes)}, end of the highest address"
    yield "bound", f"{format_bytes(result.bound_bytes)}, {_bound_proof(result)}"
    if result.height_bytes is not None:
        yield "gap", percent(result.gap)
    yield "load", f"{format_bytes(result.load_bytes)} at time {number(result.load_time)}, the most at one time"
    if result.nodes:
        yield "nodes", f"{number(result.nodes)} of the canonical search"
    if result.status != Status.UNKNOWN:
        yield "verified", "yes" if result.verified else "no"
    yield "seconds", f"{result.seconds:.2f}"


def _status(result: PackingResult) -> str:
    if result.status == Status.OPTIMAL:
        return f"optimal: packed{_found_by(result)}, and no packing is lower"
    if result.status == Status.INFEASIBLE:
        return f"infeasible, proven by {_PROOFS.get(result.proved_by, _LOAD)}"
    if result.status == Status.FEASIBLE and result.termination == Termination.EXHAUSTED:
        return f"feasible: packed{_found_by(result)}; --minimize looks for the least height"
    return f"{result.status}, {_STOPS.get(result.termination, str(result.termination))}"


def _found_by(result: PackingResult) -> str:
    return f" by {_FINDERS[result.proved_by]}" if result.proved_by in _FINDERS and not _is_searched(result) else ""


def _is_searched(result: PackingResult) -> bool:
    """Return whether the bound is above what sizes, pins and the load prove."""
    return result.bound_bytes > max([result.load_bytes, *(buffer.size_bytes + (buffer.offset or 0) for buffer in result.buffers)])


def _bound_proof(result: PackingResult) -> str:
    if _is_searched(result):
        return f"proven by {_PROOFS.get(result.proved_by, 'search')}"
    return f"proven by {_LOAD if result.bound_bytes == result.load_bytes else 'pins and sizes'}"


def _buffer_table(buffers: Sequence[Buffer], offsets: Sequence[int], width: int | None, all_rows: bool) -> list[str]:
    """Return the buffers by offset, highest first, as they lie in memory."""
    placed = sorted(zip(buffers, offsets, strict=True), key=lambda item: (-item[1], item[0].lower, item[0].name))
    shown = placed if all_rows else placed[:_MOST_ROWS]
    columns = [Column("offset", numbers=True), Column("buffer"), *(Column(title, numbers=True) for title in ("bytes", "lower", "upper"))]
    rows = [[number(offset), b.name, number(b.size_bytes), number(b.lower), number(b.upper)] for b, offset in shown]
    lines = table(columns, rows, width=width)
    return [*lines, f"and {len(placed) - len(shown)} more; -o FILE.csv or -o FILE.json holds all"] if len(shown) < len(placed) else lines


# Where it is tight


def _tight_lines(result: PackingResult, width: int | None, all_rows: bool) -> list[str]:
    spans = tightest(result.buffers)
    if not spans or not result.load_bytes:
        return ["", "no buffer holds a byte at any time"]
    limit = result.height_bytes or result.capacity_bytes or result.bound_bytes
    used = " in use" if result.height_bytes else ""
    lines = ["", f"load over time, of {number(limit)} bytes{used}", *_picture(load_spans(result.buffers), limit)]
    times = [f"{number(span.lower)} to {number(span.upper)}" for span in spans]
    shown = times if all_rows else times[:8]
    more = f" and {len(times) - len(shown)} more" if len(shown) < len(times) else ""
    lines += ["", f"tight: {number(result.load_bytes)} bytes live in times {', '.join(shown)}{more}"]
    for span in spans if all_rows else spans[:_MOST_TIMES]:
        lines += ["", f"time {number(span.lower)} to {number(span.upper)}", *_stack(result, span.lower, width, all_rows)]
    return lines


def _stack(result: PackingResult, time: int, width: int | None, all_rows: bool) -> list[str]:
    """Return what holds bytes at a time, from the top down, with the holes between."""
    live = [(held_bytes(buffer, time), index) for index, buffer in enumerate(result.buffers)]
    live = [(size, index) for size, index in live if size]
    if result.offsets is None:
        by_size = sorted(live, key=lambda item: (-item[0], item[1]))
        rows = [[number(size), result.buffers[index].name] for size, index in by_size]
        lines = table([Column("bytes", numbers=True), Column("buffer")], rows if all_rows else rows[:_MOST_ROWS], width=width)
        return [*lines, f"and {len(rows) - _MOST_ROWS} more"] if len(rows) > _MOST_ROWS and not all_rows else lines
    rows, end = [], 0
    for offset, size, index in sorted((_start(result.buffers[i], result.offsets[i], time), size, i) for size, i in live):
        if offset > end:
            rows.append([number(end), "(free)", number(offset - end)])
        rows.append([number(offset), result.buffers[index].name, number(size)])
        end = offset + size
    if (result.height_bytes or 0) > end:
        rows.append([number(end), "(free)", number((result.height_bytes or 0) - end)])
    rows = rows[::-1]
    hidden = 0 if all_rows else max(0, len(rows) - _MOST_ROWS)
    columns = [Column("offset", numbers=True), Column("buffer"), Column("bytes", numbers=True)]
    lines = table(columns, rows[: len(rows) - hidden], width=width)
    return [*lines, f"and {hidden} more; -v shows all"] if hidden else lines


def _start(buffer: Buffer, offset: int, time: int) -> int:
    """Return the lowest address that a buffer holds at a time."""
    window = next((gap.window for gap in buffer.gaps if gap.lower <= time < gap.upper), None)
    return offset + (window[0] if window else 0)


def _picture(spans: Sequence[Span], limit: int) -> list[str]:
    """Return the load over time as bars, at most twenty: neighbouring times are put together, the highest load stands for them."""
    groups = _grouped(spans)
    rows = []
    for lower, upper, load in groups:
        bar = "#" * max(1 if load else 0, min(_BAR, load * _BAR // max(limit, 1)))
        mark = "  over" if load > limit else "  full" if load == limit else ""
        rows.append([number(lower), number(upper), number(load), f"|{bar:<{_BAR}}|{mark}"])
    columns = [*(Column(title, numbers=True) for title in ("lower", "upper", "bytes")), Column("")]
    return table(columns, rows)


def _grouped(spans: Sequence[Span]) -> list[tuple[int, int, int]]:
    bars = _merged([(span.lower, span.upper, span.load_bytes) for span in spans])
    if len(bars) <= _MOST_ROWS:
        return bars
    first, last = spans[0].lower, spans[-1].upper
    step = -(-(last - first) // _MOST_ROWS)
    found: dict[int, int] = {}
    for span in spans:
        for place in range((span.lower - first) // step, (span.upper - 1 - first) // step + 1):
            found[place] = max(found.get(place, 0), span.load_bytes)
    return _merged([(first + place * step, min(last, first + (place + 1) * step), load) for place, load in sorted(found.items())])


def _merged(bars: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join neighbours of equal load."""
    runs = [list(run) for _, run in groupby(bars, key=lambda bar: bar[2])]
    return [(run[0][0], run[-1][1], run[0][2]) for run in runs]


# Why it does not fit


def _clash_lines(result: PackingResult, width: int | None, all_rows: bool) -> list[str]:
    clash = result.clash
    if clash is None or result.capacity_bytes is None:
        return []
    names = set(clash.buffers)
    members = [buffer for buffer in result.buffers if buffer.name in names]
    needed = "without any one of them the others can be packed" if clash.irreducible else "some of them may not be needed for that"
    alone = "is too large by itself" if len(members) == 1 else f"cannot be packed together; {needed}"
    shown = members if all_rows else members[:_MOST_ROWS]
    columns = [Column("clash"), *(Column(title, numbers=True) for title in ("bytes", "lower", "upper"))]
    extra = [_demands(buffer) for buffer in shown]
    if any(extra):
        columns.append(Column("must"))
    rows = [
        [b.name, number(b.size_bytes), number(b.lower), number(b.upper), *([must] if any(extra) else [])]
        for b, must in zip(shown, extra, strict=True)
    ]
    lines = ["", f"{_count(members)} {alone}", "", *table(columns, rows, width=width)]
    if len(shown) < len(members):
        lines.append(f"and {len(members) - len(shown)} more; -v shows all")
    picture = _picture(load_spans(members), result.capacity_bytes)
    return [*lines, "", f"their load over time, of {number(result.capacity_bytes)} bytes", *picture]


def _demands(buffer: Buffer) -> str:
    parts = [f"lie at {number(buffer.offset)}"] if buffer.offset is not None else []
    parts += [f"be aligned to {number(buffer.alignment)}"] if buffer.alignment > 1 else []
    return ", ".join(parts)


def _enough_lines(result: PackingResult) -> list[str]:
    if result.enough is None:
        return ["", f"{number(result.bound_bytes)} bytes or more are needed; --minimize looks for the least height"]
    is_least = result.enough.capacity_bytes == result.enough.bound_bytes
    below = f"the least that was found; less than {number(result.enough.bound_bytes)} is not enough"
    least = "the least that is enough" if is_least else below
    return ["", f"works with {format_bytes(result.enough.capacity_bytes)}, {least}"]


def reason_lines(reason: Reason, buffers: Sequence[Buffer]) -> list[str]:
    """Return why the buffers do not fit, as lines for standard error: what, where, the parts, what would help."""
    statement = reason.statement
    for value in sorted({value for value in (reason.demand, reason.limit, reason.short) if value is not None}, reverse=True):
        statement = statement.replace(f" {value} ", f" {number(value)} ")
    kind, _, time = reason.where.partition(" ")
    place = f"{kind} {number(int(time))}: " if reason.rule == "load" else ""
    lines = [
        f"infeasible: {_count(buffers)} do{'es' if len(buffers) == 1 else ''} not fit in {number(reason.limit)} bytes",
        f"  {place}{statement}",
    ]
    shown = ", ".join(f"{shortened(name, 40)} {number(size)}" for name, size in reason.terms[:8])
    more = f", and {len(reason.terms) - 8} more" if len(reason.terms) > 8 else ""
    lines += [f"    {shown}{more}"] if shown else []
    lines += [f"  works with: {lever.option} {lever.value} ({lever.text})" for lever in reason.levers]
    return [printable(line) for line in lines]
