"""Bytes of scratchpad against bytes of DRAM traffic: how long does the whole curve take, and is every break point proven?"""

from __future__ import annotations

import sys
import time
from typing import Any

from registry import CASES, HARD_CASES
from runner import Row, arguments, table, write_json
from store import Store, digest_of_sources, measured

FREE = ("densenet121", "transformer", "amoebanet_d")
LIMIT = {"given": 60.0, "free": 300.0}


def trace(case: str, order: str, time_limit: float) -> Row:
    """Trace one curve; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(case)
    started = time.perf_counter()
    curve = cs.memory_curve(graph, order=order, time_limit=time_limit)
    return {
        "status": str(curve.status),
        "termination": str(curve.termination),
        "points": [[point.scratchpad_bytes, point.traffic_bytes, point.bound_bytes, point.packed] for point in curve.points],
        "verified": cs.verify(graph, curve) == [],
        "seconds": {"trace": round(time.perf_counter() - started, 3)},
    }


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--store", metavar="FILE", help="keep finished rows in this file and go on from it")
    options = parser.parse_args()
    store = Store(options.store, digest_of_sources("memory", "frontends"))
    names = [case.name for case in CASES if "human" in case.tags] + [case.name for case in HARD_CASES]
    jobs = [(name, "given") for name in names] + [(name, "free") for name in FREE]
    if options.smoke:
        jobs = [("densenet121", "given"), ("densenet121", "free")]
    rows: list[Row] = []
    for name, order in jobs:
        if options.cases in {"*", name}:
            rows.append(
                {"case": name, "order": order, **measured(store, "memory_curve", "trace", case=name, order=order, time_limit=LIMIT[order])}
            )
    good = [row for row in rows if "error" not in row]
    print(table(("network", "order", "break points", "placed", "status", "ended", "seconds", "MiB"), [_line(row) for row in good]))
    write_json(options.json, "memory_curve", rows, {"curves": len(rows), "complete": sum(row["status"] == "optimal" for row in good)})
    for row in rows:
        if "error" in row:
            print(f"{row['case']} {row['order']}: {row['error']}", file=sys.stderr)
    return 0 if len(good) == len(rows) and all(row["verified"] for row in good) else 1


def _line(row: Row) -> tuple[Any, ...]:
    placed = sum(point[3] for point in row["points"])
    return (
        row["case"],
        row["order"],
        len(row["points"]),
        placed,
        row["status"],
        row["termination"],
        row["seconds"]["trace"],
        row["peak_mib"],
    )


if __name__ == "__main__":
    sys.exit(main())
