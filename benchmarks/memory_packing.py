"""How fast are given lifetimes packed into a mebibyte, beside the best published solver, and how low can they be packed?

MiniMalloc's instances A-K with and without the compiled kernel, the least height of those whose load is smaller, the refusal of those
whose load is larger than the capacity, and the toy that does not fit although its load does. A packing that overlaps, an answer that
contradicts what is known, or an instance left open ends the script with exit code 1.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import Row, arguments, measure, table, write_json

if TYPE_CHECKING:
    from cosma_sched.graph import Buffer

CAPACITY = 1_048_576
TOO_SMALL = CAPACITY - 1024
LIMIT_SECONDS = 120.0
# Source: memory-planning design, section 7: the C++ solver on two cores, and the load of each instance where it is below the capacity.
REFERENCE_SECONDS = dict(zip("ABCDEFGHIJK", (11.3, 11.0, 1.5, 5.3, 6.4, 9.1, 1.9, 2.9, 6.3, 1.6, 1.1), strict=True))
LOADS = {"C": 1_039_360, "D": 986_112, "J": 989_184}
METHODS = ("plain", "fast")
# The toy `pinch` (memory-planning design, section 15): sizes, and the last step that needs each tensor; tensor i is written at step i.
PINCH = tuple(zip((6, 6, 5, 1, 5, 2, 6), (1, 3, 5, 4, 5, 6, 6), strict=True))


def folder() -> Path:
    """Return where MiniMalloc's instances lie: the variable COSMA_SCHED_DATA, else ``../shared/data`` beside the checkout."""
    data = os.environ.get("COSMA_SCHED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(data) / "minimalloc"


def read(case: str) -> list[Buffer]:
    """Read the buffers of an instance, or make those of the toy."""
    from cosma_sched.graph import Buffer

    if case == "pinch":
        return [Buffer(f"t{i}", i, last + 1, size) for i, (size, last) in enumerate(PINCH)]
    with (folder() / f"{case}.{CAPACITY}.csv").open(newline="", encoding="utf-8") as file:
        return [Buffer(row["id"], int(row["lower"]), int(row["upper"]), int(row["size"])) for row in csv.DictReader(file)]


def verified(buffers: Sequence[Buffer], offsets: Sequence[int], capacity: int) -> bool:
    """Return whether buffers that live at one time lie beside each other and inside the capacity; looked at when one is born."""
    for birth in {buffer.lower for buffer in buffers}:
        end = 0
        live = [(offset, b.size_bytes) for b, offset in zip(buffers, offsets, strict=True) if b.lower <= birth < b.upper]
        for offset, size in sorted(live):
            if offset < end:
                return False
            end = offset + size
        if end > capacity:
            return False
    return True


def packed(case: str, method: str, capacity: int, minimise: bool = False) -> Row:
    """Pack one instance; the kernel is loaded or compiled before the clock starts; runs in a process of its own."""
    from cosma_sched.memory import packing_search
    from cosma_sched.memory.packing import pack
    from cosma_sched.memory.packing_height import least_height
    from cosma_sched.progress import Clock

    buffers = read(case)
    started = time.perf_counter()
    if method == "fast":
        load_kernel()
    else:
        packing_search.can_compile = lambda _: False
    ready = time.perf_counter()
    clock = Clock(LIMIT_SECONDS)
    answer = least_height(buffers, capacity_bytes=capacity, clock=clock) if minimise else pack(buffers, capacity, clock=clock)
    return {
        "status": str(answer.status),
        "termination": str(answer.termination),
        "value": answer.height_bytes,
        "bound": answer.bound_bytes,
        "nodes": answer.nodes,
        "proved_by": answer.proved_by,
        "overload_time": answer.overload_time,
        "clash": len(answer.clash),
        "clash_is_irreducible": answer.clash_is_irreducible,
        "verified": None if answer.offsets is None else verified(buffers, answer.offsets, capacity),
        "seconds": {"load_kernel": round(ready - started, 3), "pack": round(time.perf_counter() - ready, 3)},
    }


def load_kernel() -> None:
    """Load the compiled kernel, and compile it where no machine code lies on disk, by packing something small."""
    from cosma_sched.memory.packing_search import CanonicalSearch
    from cosma_sched.memory.packing_strip import Strip
    from cosma_sched.progress import Clock

    CanonicalSearch(Strip.of(read("pinch"), 12), compiled=True).advance(Clock(), 10)


def reference(case: str, program: str) -> float | None:
    """Run the reference solver on an instance; return its seconds, None where it failed or took longer than the limit."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output.csv"
        source = folder() / f"{case}.{CAPACITY}.csv"
        command = [program, f"--capacity={CAPACITY}", f"--input={source}", f"--output={output}"]
        started = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return None
        seconds = time.perf_counter() - started
        return round(seconds, 3) if done.returncode == 0 and output.exists() else None


def jobs(pattern: str, methods: Sequence[str], *, smoke: bool) -> Iterator[Row]:
    """Yield what is to be packed: part, case, method, capacity."""
    names = [name for name in REFERENCE_SECONDS if fnmatch(name, "[CK]" if smoke else pattern)]
    names = [name for name in names if (folder() / f"{name}.{CAPACITY}.csv").exists()]
    for method in methods:
        yield from ({"part": "pack", "case": name, "method": method, "capacity": CAPACITY} for name in names)
    least = [name for name in names if name in LOADS]
    yield from ({"part": "least", "case": name, "method": methods[-1], "capacity": CAPACITY} for name in least)
    refused = [name for name in names if name not in LOADS]
    yield from ({"part": "refused", "case": name, "method": "plain", "capacity": TOO_SMALL} for name in refused)
    yield {"part": "clash", "case": "pinch", "method": "plain", "capacity": 12}


def contradictions(row: Row) -> list[str]:
    """Return what a row says against what is known."""
    place = f"{row['part']} {row['case']} {row['method']}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    if row["part"] in {"refused", "clash"}:
        irreducible = row["status"] == "infeasible" and row["clash_is_irreducible"]
        right = irreducible and (row["part"] == "clash" or row["overload_time"] is not None)
        return [] if right else [f"{place}: {row['status']}, clash of {row['clash']}, time {row['overload_time']}"]
    if not row["verified"]:
        return [f"{place}: {row['status']} ({row['termination']}), verified {row['verified']}"]
    least = LOADS.get(row["case"], CAPACITY)
    expected = "optimal" if least == CAPACITY else row["status"]
    wrong = row["bound"] < least or row["value"] > CAPACITY or row["value"] < row["bound"] or row["status"] != expected
    return [f"{place}: {row['status']}, height {row['value']}, bound {row['bound']}"] if wrong else []


def different_nodes(rows: Sequence[Row]) -> list[str]:
    """Return the instances that both methods answered before the limit, after different searches: compilation changed the search."""
    ended = [row for row in rows if row["part"] == "pack" and row.get("termination") in {"proved", "exhausted"}]
    nodes: dict[str, set[int]] = {}
    for row in ended:
        nodes.setdefault(row["case"], set()).add(row["nodes"])
    return [
        f"pack {case}: {sorted(counts)} nodes, not the same with and without the extra" for case, counts in nodes.items() if len(counts) > 1
    ]


def show(rows: list[Row], program: str | None) -> dict[str, Any]:
    """Print the tables; return the summary."""
    good = [row for row in rows if "error" not in row]
    parts = {part: [row for row in good if row["part"] == part] for part in ("pack", "least", "refused", "clash")}
    summary: dict[str, Any] = {}
    print(f"\nPacked into {CAPACITY:,} bytes; reference: published C++ solver" + (f", and {program} live" if program else ""))
    names = list(dict.fromkeys(row["case"] for row in parts["pack"]))
    lines = []
    for name in names:
        by_method = {row["method"]: row for row in parts["pack"] if row["case"] == name}
        first = next(iter(by_method.values()))
        times = [by_method[method]["seconds"]["pack"] if method in by_method else None for method in METHODS]
        lines.append((name, first["status"], first["value"], first["nodes"], *times, REFERENCE_SECONDS[name], first["live_seconds"]))
    print(table(("instance", "status", "height", "nodes", "plain s", "fast s", "reference s", "live s"), lines))
    for method in METHODS:
        own = [row for row in parts["pack"] if row["method"] == method]
        times = {row["case"]: row["seconds"]["pack"] for row in own if row["verified"]}
        summary |= {f"{method}_solved": len(times), f"{method}_seconds": round(sum(times.values()), 2)}
        summary[f"{method}_slower_than_reference"] = sum(seconds > REFERENCE_SECONDS[name] for name, seconds in times.items())
        summary[f"{method}_load_kernel_seconds"] = max((row["seconds"]["load_kernel"] for row in own), default=None)
    summary["reference_seconds"] = round(sum(REFERENCE_SECONDS[name] for name in names), 1)
    print(f"\nLeast height, at most {LIMIT_SECONDS:.0f} s")
    lines = [(r["case"], r["status"], r["value"], r["bound"], r["nodes"], r["seconds"]["pack"]) for r in parts["least"]]
    print(table(("instance", "status", "height", "bound", "nodes", "s"), lines))
    print("\nRefused: the load of A-K one KiB above the capacity; pinch, whose load is its capacity")
    lines = [(r["case"], r["capacity"], r["proved_by"], r["overload_time"], r["clash"], r["seconds"]["pack"]) for r in good if r["clash"]]
    print(table(("instance", "capacity", "proved by", "time", "clash", "s"), lines))
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    return summary


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--reference", metavar="PATH", help="the reference solver's program, to be run beside ours")
    options = parser.parse_args()
    program = options.reference and (shutil.which(options.reference) or options.reference)
    if not folder().is_dir():
        print(
            "A-K are skipped: the variable COSMA_SCHED_DATA names no folder with minimalloc/ and ../shared/data is absent", file=sys.stderr
        )
    import importlib.util

    methods = METHODS if importlib.util.find_spec("numba") else METHODS[:1]
    if len(methods) == 1:
        print("fast is skipped: numba is not installed", file=sys.stderr)
    else:
        measure("memory_packing", "packed", case="pinch", method="fast", capacity=13)  # so that A does not wait for the compiler alone
    rows = []
    live: dict[str, float | None] = {}
    for job in jobs(options.cases, methods, smoke=options.smoke):
        asked = {name: job[name] for name in ("case", "method", "capacity")} | {"minimise": job["part"] == "least"}
        if program and job["part"] == "pack" and job["case"] not in live:
            live[job["case"]] = reference(job["case"], program)
        known = {"reference_seconds": REFERENCE_SECONDS.get(job["case"]), "live_seconds": live.get(job["case"])}
        rows.append({**job, **known, **measure("memory_packing", "packed", **asked)})
    summary = show(rows, program)
    write_json(options.json, "memory_packing", rows, summary)
    wrong = [line for row in rows for line in contradictions(row)] + different_nodes(rows)
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
