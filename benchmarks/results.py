"""Write RESULTS.md from the JSON files that benchmarks leave behind.

python benchmarks/memory_zoo.py --json zoo.json
python benchmarks/results.py zoo.json ...          # replaces the sections of these benchmarks, keeps the others
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
HEADER = """# Results

One section per benchmark: the question, the command that gets the numbers again, the machine, the figures. Written by
`python benchmarks/results.py FILE.json ...` from what the benchmarks leave with `--json FILE.json`, not by hand. Seconds are wall-clock
on a shared machine of two cores; ratios and values are what to rely on.
"""
COLUMNS = (
    "part",
    "case",
    "budget",
    "order",
    "solver",
    "method",
    "accelerator",
    "dram",
    "space",
    "seeds",
    "evaluations",
    "scratchpad_bytes",
    "default_bytes",
    "load_bytes",
    "value",
    "known",
    "bound",
    "gap",
    "edp",
    "unfused_edp",
    "ceiling_edp",
    "stream",
    "ratio",
    "gain",
    "target",
    "nodes",
    "reference_seconds",
    "outputs_equal",
    "status",
    "proved_by",
    "seconds",
    "peak_mib",
)


def section(document: Mapping[str, Any]) -> str:
    """Return the section of one benchmark."""
    name, environment = document["name"], document["environment"]
    question = (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or name).splitlines()[0]
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items() if version != "checkout")
    lines = [f"## {name}", "", question, "", "```sh", f"{' '.join(document['command'])} --json {name}.json", "```", ""]
    machine = f"{environment['cpu']}, {environment['cores']} cores, {environment['memory_gib']} GiB, Python {environment['python']}"
    lines += [f"{document['date']}; {machine}; {versions}; commit {environment['commit']}.", ""]
    lines += ["| figure | value |", "|---|---|"]
    lines += [f"| {figure.replace('_', ' ')} | {cell(value)} |" for figure, value in document["summary"].items()]
    return "\n".join([*lines, "", *rows_table(document["rows"])]).rstrip() + "\n"


def rows_table(rows: list[Mapping[str, Any]]) -> list[str]:
    """Return the rows as a table of the columns that they share with every other benchmark; empty where they share too few."""
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    if len(columns) < 3:
        return []
    lines = ["| " + " | ".join(column.replace("_", " ") for column in columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]


def cell(value: Any) -> str:
    """Return a value as a cell."""
    if value is None:
        return ""
    if isinstance(value, Mapping):  # seconds by phase
        return cell(value.get("solve", value.get("search", value.get("trace", value.get("total")))))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    options = parser.parse_args()
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    sections = {
        match[1]: match[0].rstrip() + "\n" for match in re.finditer(r"^## (\w+)$.*?(?=^## |\Z)", old, flags=re.DOTALL | re.MULTILINE)
    }
    for file in options.files:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
        sections[document["name"]] = section(document)
    RESULTS.write_text("\n".join([HEADER, *(sections[name] for name in sorted(sections))]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
