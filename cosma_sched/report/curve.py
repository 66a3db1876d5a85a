"""The curve of a network on a terminal: a table of break points and a plot in characters."""

from __future__ import annotations

from cosma_sched.memory.curve_answer import MemoryCurve
from cosma_sched.report.layout import printable
from cosma_sched.units import short_bytes

PLOT_HEIGHT = 12
PLOT_WIDTH = 60


def curve_lines(curve: MemoryCurve, name: str, *, width: int | None = None) -> list[str]:
    """Return the curve as a table, one break point a line, and a plot.

    Parameters
    ----------
    curve
        The curve.
    name
        What to call its network.
    width
        Columns of the terminal, or None for no limit.
    """
    count = f"{len(curve.points)} break point{'' if len(curve.points) == 1 else 's'}"
    lines = [f"{printable(name)}: {curve.order} order, {count}, {curve.status} ({curve.seconds:.1f} s)", ""]
    rows = [("scratchpad from", "least traffic", "proven bound", "status", "placed")]
    rows += [
        (f"{p.scratchpad_bytes:,}", f"{p.traffic_bytes:,}", f"{p.bound_bytes:,}", str(p.status), "yes" if p.packed else "no")
        for p in curve.points
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        cells = [text.rjust(widths[i]) if i < 3 else text.ljust(widths[i]) for i, text in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return [*lines, *plot(curve, min(PLOT_WIDTH, (width or 80) - 16))]


def plot(curve: MemoryCurve, columns: int) -> list[str]:
    """Return the steps of the curve in characters: traffic upwards, scratchpad to the right; nothing for fewer than two points."""
    if len(curve.points) < 2 or columns < 10:
        return []
    low, high = curve.points[0].scratchpad_bytes, curve.points[-1].scratchpad_bytes
    most = curve.points[0].traffic_bytes
    heights = []
    for column in range(columns):
        size = low + (high - low) * column // (columns - 1)
        traffic = next(point.traffic_bytes for point in reversed(curve.points) if point.scratchpad_bytes <= size)
        heights.append(round(PLOT_HEIGHT * traffic / most))
    lines = [""]
    for level in range(PLOT_HEIGHT, 0, -1):
        label = short_bytes(most) if level == PLOT_HEIGHT else ""
        lines.append(f"{label:>12} |" + "".join("#" if height >= level else " " for height in heights).rstrip())
    lines.append(f"{'0 B':>12} +" + "-" * columns)
    left, right = short_bytes(low), short_bytes(high)
    lines.append(" " * 14 + left + " " * max(1, columns - len(left) - len(right)) + right)
    return lines


def saved_curve_lines(curve: MemoryCurve, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a saved curve as `curve_lines` does; a curve has no rows to leave out."""
    del all_rows
    return curve_lines(curve, curve.provenance.model or path, width=width)
