"""One solve per process: seconds by phase, peak memory with children, rows as a table and as JSON ``cosma-sched/benchmark/1``.

A benchmark module offers functions that take plain values and return a row of plain values; `measure` runs one of them in a fresh process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHEMA = "cosma-sched/benchmark/1"
PACKAGES = ("cosma-sched", "networkx", "numpy", "ortools", "pulp", "onnx")

Row = dict[str, Any]


def measure(module: str, function: str, **arguments: Any) -> Row:
    """Run ``module.function(**arguments)`` in a fresh process; return its row with ``seconds.total`` and ``peak_mib`` added.

    The total includes the start of the interpreter and all imports. A process that fails gives a row with ``error``.
    """
    task = json.dumps({"module": module, "function": function, "arguments": arguments})
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, task], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1], "seconds": {"total": round(seconds, 3)}}
    row: Row = json.loads(done.stdout.splitlines()[-1])
    row.setdefault("seconds", {})["total"] = round(seconds, 3)
    return row


def _child(task: str) -> None:
    order = json.loads(task)
    sys.path.insert(0, str(HERE))
    row = getattr(importlib.import_module(order["module"]), order["function"])(**order["arguments"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    row["peak_mib"] = round(peak / 1024)
    print(json.dumps(row))


def environment() -> Row:
    """Return what a figure depends on: processor, cores, memory, system, Python, versions, commit."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False)
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "checkout"
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "os": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": git.stdout.strip() or None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--cases", metavar="PATTERN", default="*", help="run the cases whose name matches (default: all)")
    parser.add_argument("--smoke", action="store_true", help="every part once at its smallest size; no claims about time")
    return parser


def write_json(path: str | None, name: str, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Write the rows of a benchmark, if a path is given."""
    if path is None:
        return
    document = {"schema": SCHEMA, "name": name, "command": ["python", f"benchmarks/{name}.py"], "environment": environment()}
    document |= {"date": time.strftime("%Y-%m-%d"), "summary": dict(summary), "rows": list(rows)}
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(target)


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as text: numbers to the right with separators, words to the left, None as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(heading), *(len(row[i]) for row in cells)) if cells else len(heading) for i, heading in enumerate(headings)]
    right = [all(not isinstance(row[i], str) for row in rows) for i in range(len(headings))]
    lines = [[*headings], ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width) for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def median(values: Sequence[float]) -> float:
    """Return the median, 0 without values."""
    return statistics.median(values) if values else 0.0


if __name__ == "__main__":
    _child(sys.argv[1])
