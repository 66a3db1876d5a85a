"""Are exact multi-core schedules exact, and never worse than the baselines?

Attention heads on the toy `duo`, whose optima are known (two row blocks: 11,264 cycles; four, in 320 KiB and 192 KiB: 23,552; eight, in
768 KiB each: at most 68,608 with a gap of at most 5 %), each beside the baselines with the same time limit. Then 200 random problems of up
to five nodes on two or three unequal cores with links or a bus, tight memory and spills: each must be proven optimal, and a search in time
that shares nothing with the planner must find nothing better. A missed figure, an unproven row, a baseline that is better or a schedule
that does not pass the checker ends the script with exit code 1.
"""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from runner import Row, arguments, measure, table, write_json

KIB = 1024
CHECKOUT = Path(__file__).resolve().parents[1]
HEADS: dict[str, dict[str, Any]] = {
    "256x128 in 2": {"model": "attention-head:256x128", "blocks": 2, "limit": 20.0, "latency": 11_264, "gap": 0.0},
    "512x128 in 4": {
        "model": "attention-head:512x128",
        "blocks": 4,
        "capacity": {"0": 320 * KIB, "1": 192 * KIB},
        "limit": 60.0,
        "latency": 23_552,
        "gap": 0.0,
    },
    "1024x128 in 8": {
        "model": "attention-head:1024x128",
        "blocks": 8,
        "capacity": {"0": 768 * KIB, "1": 768 * KIB},
        "limit": 120.0,
        "latency": 68_608,
        "gap": 0.05,
    },
}
BASELINES = ("list-latency", "list-memory", "genetic")
BATCH = 20


def head(name: str, method: str, workers: int, limit: float | None = None) -> Row:
    """Schedule a head on `duo`; runs in a process of its own."""
    started = time.perf_counter()
    import cosma_sched as cs

    case = HEADS[name]
    answer = cs.schedule(
        cs.load(case["model"]),
        "duo",
        split=f"rows={case['blocks']}",
        capacity=case.get("capacity"),
        method=method,
        workers=workers if method == "exact" else 1,
        time_limit=case["limit"] if limit is None else limit,
    )
    return {
        "status": str(answer.status),
        "value": answer.latency_cycles,
        "bound": answer.bounds.latency_cycles,
        "gap": answer.gap,
        "verified": answer.verified,
        "spilled_bytes": answer.offchip_bytes.spilled,
        "peak_bytes": dict(answer.peak_bytes),
        "seconds": {"schedule": round(time.perf_counter() - started, 3)},
    }


def randoms(first: int, last: int) -> Row:
    """Schedule random problems and search each in time for something better; runs in a process of its own."""
    sys.path.insert(0, str(CHECKOUT))
    from cosma_sched.multicore.planner import schedule_problem
    from cosma_sched.multicore.verify import verify
    from tests.multicore.exhaustive import least_latency
    from tests.multicore.instances import random_problem, spilling_problem

    wrong, exact, search, again = [], 0.0, 0.0, 0
    for seed in range(first, last):
        problem = spilling_problem(seed) if seed % 2 else random_problem(seed)
        started = time.perf_counter()
        answer = schedule_problem(problem, time_limit=300)
        middle = time.perf_counter()
        better = least_latency(problem, answer.latency_cycles or 0)
        exact, search = exact + middle - started, search + time.perf_counter() - middle
        arrivals = [(transfer.tile, target) for transfer in answer.transfers for target in transfer.targets]
        again += answer.offchip_bytes.spilled > 0 or len(set(arrivals)) < len(arrivals)
        if str(answer.status) != "optimal" or better is not None or verify(problem, answer):
            wrong.append(f"random {seed}: {answer.status} at {answer.latency_cycles}, exhaustive search finds {better}")
    return {"solved": last - first - len(wrong), "of": last - first, "again": again, "wrong": wrong} | {
        "seconds": {"exact": round(exact, 2), "exhaustive": round(search, 2)}
    }


def head_rows(name: str, workers: int, baselines: bool) -> tuple[list[Row], list[str]]:
    """Run a head by every method; return the rows and what they say against what is asked."""
    case, wrong = HEADS[name], []
    exact: Row = {"case": name, "method": "exact", "asked": case["latency"]}
    exact |= measure("multicore_exact", "head", name=name, method="exact", workers=workers)
    rows = [exact]
    if "error" in exact:
        return rows, [f"{name}: {exact['error']}"]
    meets = exact["value"] <= case["latency"] and exact["gap"] is not None and exact["gap"] <= case["gap"] and exact["verified"]
    if not meets or (not case["gap"] and (exact["status"], exact["value"]) != ("optimal", case["latency"])):
        wrong.append(f"{name}: {exact['status']} at {exact['value']}, gap {exact['gap']}; asked for {case['latency']}, gap {case['gap']}")
    for method in BASELINES if baselines else ():
        row: Row = {"case": name, "method": method, **measure("multicore_exact", "head", name=name, method=method, workers=1)}
        rows.append(row)
        if "error" not in row and row["value"] is not None and row["value"] < exact["value"]:
            wrong.append(f"{name}: {method} reaches {row['value']}, exact only {exact['value']}")
    return rows, wrong


def show(rows: list[Row]) -> None:
    """Print the tables."""
    heads = ("case", "method", "status", "cycles", "asked", "bound", "gap", "spilled B", "s", "MiB")
    found = [row for row in rows if "method" in row]
    lines = [
        (
            row["case"],
            row["method"],
            row.get("status", row.get("error")),
            row.get("value"),
            row.get("asked"),
            row.get("bound"),
            None if row.get("gap") is None else f"{row['gap']:.4f}",
            row.get("spilled_bytes"),
            row["seconds"].get("schedule"),
            row.get("peak_mib"),
        )
        for row in found
    ]
    print(table(heads, lines))


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--workers", type=int, default=2, help="threads of the exact method on heads (default 2)")
    parser.add_argument("--random", type=int, default=200, help="random problems (default 200)")
    options = parser.parse_args()
    names = [name for name in HEADS if fnmatch(name, options.cases)]
    names = names[:1] if options.smoke else names
    count = 10 if options.smoke else options.random
    rows: list[Row] = []
    wrong: list[str] = []
    for name in names:
        found, against = head_rows(name, options.workers, not options.smoke)
        rows += found
        wrong += against
    show(rows)
    batches = [(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    tests = [measure("multicore_exact", "randoms", first=first, last=last) for first, last in batches]
    wrong += [line for row in tests for line in row.get("wrong", [row.get("error")])]
    rows += [{"case": f"random {first}..{last - 1}", **row} for (first, last), row in zip(batches, tests, strict=True)]
    summary = {
        "random_problems": count,
        "random_proven_and_equal": sum(row.get("solved", 0) for row in tests),
        "random_with_spills_or_copies_that_come_again": sum(row.get("again", 0) for row in tests),
        "exact_seconds": round(sum(row["seconds"].get("exact", 0) for row in tests), 1),
        "exhaustive_seconds": round(sum(row["seconds"].get("exhaustive", 0) for row in tests), 1),
    }
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    write_json(options.json, "multicore_exact", rows, summary)
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
