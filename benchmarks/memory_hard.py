"""Irregular networks: how much traffic do NASNet, PNASNet, AmoebaNet and DARTS need, what is proven, and how long does it take?

Rows are compared with known bounds and plans; a value below a proven bound, or a bound above a known plan, ends the script with exit code
1.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from registry import HARD_CASES, HardCase
from runner import Row, arguments, table, write_json
from store import Store, digest_of_sources, measured

LIMITS = {"darts": 20, "amoebanet_d": 20, "nasnet_a": 300, "pnasnet5": 600}


def solve(case: str, budget: str, time_limit: float) -> Row:
    """Plan one network at one budget; runs in a process of its own."""
    started = time.perf_counter()
    import cosma_sched as cs

    graph = cs.load(case)
    read = time.perf_counter()
    first: list[float] = []

    def note_first_plan(event: Any) -> None:
        if event.incumbent is not None and not first:
            first.append(time.perf_counter() - read)

    plan = cs.plan_memory(graph, scratchpad=budget, time_limit=time_limit, observers=(note_first_plan,))
    solved = time.perf_counter()
    return {
        "scratchpad_bytes": plan.scratchpad_bytes,
        "status": str(plan.status),
        "termination": str(plan.termination),
        "value": plan.traffic_bytes,
        "bound": plan.bound_bytes,
        "gap": plan.gap,
        "proved_by": list(plan.provenance.proved_by),
        "verified": cs.verify(graph, plan) == [],
        "seconds": {"read": round(read - started, 3), "first": round(first[0], 3) if first else None, "solve": round(solved - read, 3)},
    }


def contradictions(row: Row, case: HardCase) -> list[str]:
    """Return what a row says against what is known."""
    place = f"{row['case']} {row['budget']}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    bound, best = case.known[row["budget"]]
    found = []
    if row["scratchpad_bytes"] != case.budgets[row["budget"]]:
        found.append(f"{place}: {row['budget']} is {row['scratchpad_bytes']}, known {case.budgets[row['budget']]}")
    if row["value"] is not None and row["value"] < bound:
        found.append(f"{place}: value {row['value']} is below the proven bound {bound}")
    if row["bound"] is not None and row["bound"] > best:
        found.append(f"{place}: bound {row['bound']} exceeds a known plan of {best}")
    if not row["verified"]:
        found.append(f"{place}: refused by the checker")
    return found


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--budgets", default="M_R,M_H,M_P", help="budgets, separated by commas")
    parser.add_argument("--store", metavar="FILE", help="keep finished rows in this file and go on from it")
    options = parser.parse_args()
    store = Store(options.store, digest_of_sources("memory", "frontends"))
    budgets = ("M_R",) if options.smoke else tuple(options.budgets.split(","))
    names = {"darts", "amoebanet_d"} if options.smoke else set(LIMITS)
    rows: list[Row] = []
    wrong: list[str] = []
    for case in HARD_CASES:
        if case.name not in names or not case.matches(options.cases):
            continue
        for budget in budgets:
            row = measured(store, "memory_hard", "solve", case=case.name, budget=budget, time_limit=float(LIMITS[case.name]))
            rows.append(
                {"case": case.name, "budget": budget, "known_bound": case.known[budget][0], "known_plan": case.known[budget][1], **row}
            )
            wrong += contradictions(rows[-1], case)
    good = [row for row in rows if "error" not in row]
    headings = ("network", "budget", "traffic", "bound", "gap %", "status", "proved by", "first plan s", "solve s", "MiB")
    print(table(headings, [_line(row) for row in good]))
    write_json(options.json, "memory_hard", rows, {"rows": len(rows), "optimal": sum(row["status"] == "optimal" for row in good)})
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _line(row: Row) -> tuple[Any, ...]:
    gap = None if row["gap"] is None else 100 * row["gap"]
    seconds = row["seconds"]
    proof = "+".join(row["proved_by"])
    head = (row["case"], row["budget"], row["value"], row["bound"], gap, row["status"], proof)
    return (*head, seconds["first"], seconds["solve"], row["peak_mib"])


if __name__ == "__main__":
    sys.exit(main())
