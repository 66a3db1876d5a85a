"""How much DRAM traffic do the zoo networks need at M_R, M_H and M_P, what proves it, and how long does it take?

Three tables: every order (default options), the given order on each back end, and the search for M_P. Values are compared with the known
optima; a contradiction ends the script with exit code 1.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from registry import Case, cases
from runner import Row, arguments, measure, median, table, write_json

BUDGETS = ("M_R", "M_H", "M_P")
SOLVERS = ("cpsat", "cbc", "highs")


def solve(case: str, budget: str, order: str, solver: str) -> Row:
    """Plan one network at one budget; runs in a process of its own."""
    started = time.perf_counter()
    import cosma_sched as cs

    graph = cs.load(case)
    read = time.perf_counter()
    plan = cs.plan_memory(graph, scratchpad=budget, order=order, solver=solver)
    solved = time.perf_counter()
    verified = cs.verify(graph, plan) == []
    return {
        "scratchpad_bytes": plan.scratchpad_bytes,
        "status": str(plan.status),
        "termination": str(plan.termination),
        "value": plan.traffic_bytes,
        "bound": plan.bound_bytes,
        "gap": plan.gap,
        "proved_by": list(plan.provenance.proved_by),
        "verified": verified,
        "seconds": {"read": round(read - started, 3), "solve": round(solved - read, 3), "verify": round(time.perf_counter() - solved, 3)},
    }


def peak(case: str) -> Row:
    """Find M_P of one network; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(case)
    started = time.perf_counter()
    bounds = cs.memory_bounds(graph)
    return {
        "operators": len(graph),
        "m_r_bytes": bounds.m_r_bytes,
        "m_p_bytes": bounds.m_p_bytes,
        "status": str(bounds.m_p_status),
        "proved_by": list(bounds.provenance.proved_by),
        "states": bounds.states,
        "seconds": {"search": round(time.perf_counter() - started, 3)},
    }


def contradictions(row: Row, case: Case, known: dict[str, int]) -> list[str]:
    """Return what a row says against what is known."""
    place = f"{row['case']} {row['budget']} {row['order']} {row['solver']}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    found = []
    if row["scratchpad_bytes"] != case.budgets[row["budget"]]:
        found.append(f"{place}: {row['budget']} is {row['scratchpad_bytes']}, known {case.budgets[row['budget']]}")
    if row["status"] == "optimal" and row["value"] != known[row["budget"]]:
        found.append(f"{place}: optimal {row['value']}, known {known[row['budget']]}")
    if row["bound"] is not None and row["bound"] > known[row["budget"]]:
        found.append(f"{place}: bound {row['bound']} exceeds the known optimum {known[row['budget']]}")
    if not row["verified"]:
        found.append(f"{place}: refused by the checker")
    return found


def run(chosen: list[Case], budgets: tuple[str, ...], solvers: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Run every part; return all rows and all contradictions."""
    rows: list[Row] = []
    wrong: list[str] = []
    jobs: list[tuple[Case, str, str, str]] = [(c, b, "free", "cpsat") for c in chosen if "human" in c.tags for b in budgets]
    jobs += [(c, b, "given", s) for c in chosen for b in budgets for s in solvers]
    for case, budget, order, solver in jobs:
        row = measure("memory_zoo", "solve", case=case.name, budget=budget, order=order, solver=solver)
        rows.append({"case": case.name, "budget": budget, "order": order, "solver": solver, "method": "auto", **row})
        wrong += contradictions(rows[-1], case, dict(case.free if order == "free" else case.given))
    for case in chosen:
        row = measure("memory_zoo", "peak", case=case.name)
        rows.append({"case": case.name, "method": "peak", **row})
        if row.get("status") == "optimal" and row["m_p_bytes"] != case.budgets["M_P"]:
            wrong.append(f"{case.name}: M_P {row['m_p_bytes']}, known {case.budgets['M_P']}")
        if "error" in row:
            wrong.append(f"{case.name}: {row['error']}")
    return rows, wrong


def show(rows: list[Row]) -> dict[str, Any]:
    """Print the three tables; return the summary."""
    free = [row for row in rows if row.get("order") == "free" and "error" not in row]
    given = [row for row in rows if row.get("order") == "given" and "error" not in row]
    peaks = [row for row in rows if row["method"] == "peak" and "error" not in row]
    print("\nEvery order, default options")
    headings = ("network", "budget", "bytes", "traffic", "bound", "status", "proved by", "solve s", "total s", "MiB")
    print(table(headings, [_line(row) for row in free]))
    print("\nGiven order, solve seconds by back end")
    keys = list(dict.fromkeys((row["case"], row["budget"]) for row in given))
    lines = []
    for case, budget in keys:
        of = {row["solver"]: row for row in given if (row["case"], row["budget"]) == (case, budget)}
        values = {row["value"] for row in of.values()}
        same = values.pop() if len(values) == 1 else "DIFFERENT"
        lines.append((case, budget, same, *(of[s]["seconds"]["solve"] if s in of else None for s in SOLVERS)))
    print(table(("network", "budget", "traffic", *SOLVERS), lines))
    print("\nM_P")
    found = [(r["case"], r["operators"], r["m_r_bytes"], r["m_p_bytes"], r["status"], r["states"], r["seconds"]["search"]) for r in peaks]
    print(table(("network", "operators", "M_R", "M_P", "status", "states", "s"), found))
    totals = [row["seconds"]["total"] for row in free]
    summary = {
        "free_solves": len(free),
        "free_optimal_and_verified": sum(row["status"] == "optimal" and row["verified"] for row in free),
        "free_total_seconds_max": max(totals, default=0),
        "free_total_seconds_median": median(totals),
        "free_total_seconds_sum": round(sum(totals), 2),
        "free_peak_mib_max": max((row["peak_mib"] for row in free), default=0),
        "given_pairs": len(keys),
        "given_pairs_with_one_traffic": sum(line[2] != "DIFFERENT" for line in lines),
        "given_solve_seconds_max": max((row["seconds"]["solve"] for row in given), default=0),
        "m_p_proven": sum(row["status"] == "optimal" for row in peaks),
        "m_p_states_max": max((row["states"] for row in peaks), default=0),
        "m_p_seconds_max": max((row["seconds"]["search"] for row in peaks), default=0),
    }
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    return summary


def _line(row: Row) -> tuple[Any, ...]:
    proof = "+".join(row["proved_by"])
    seconds = row["seconds"]
    return (
        row["case"],
        row["budget"],
        row["scratchpad_bytes"],
        row["value"],
        row["bound"],
        row["status"],
        proof,
        seconds["solve"],
        seconds["total"],
        row["peak_mib"],
    )


def main() -> int:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    chosen = list(cases(options.cases))
    if options.smoke:
        chosen = [case for case in chosen if case.name in {"densenet121", "transformer"}] or chosen[:1]
    rows, wrong = run(chosen, ("M_R",) if options.smoke else BUDGETS, SOLVERS)
    summary = show(rows)
    write_json(options.json, "memory_zoo", rows, summary)
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
