"""What does the COSMA paper's integer program cost beside the gap model, up to which size is it solved, and do the two agree?

Four tables: agreement on random graphs (every order, addresses included), the toys on each back end, ladders of growing length in one
order, and the zoo at M_R. A disagreement, or a known value missed, ends the script with exit code 1.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from random_graphs import ladder, small_graph
from registry import cases
from runner import Row, arguments, measure, median, table, write_json

if TYPE_CHECKING:
    from cosma_sched.graph import Graph
    from cosma_sched.memory.bounds import MemoryBounds

SOLVERS = ("cpsat", "cbc", "highs")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMIT_SECONDS = 10.0
GRAPHS = {"any": 200, "tight": 120}
"""Random graphs: the next seeds, and the next whose M_R is below M_P, so that something may have to leave."""
GRAPHS_IN_A_PROCESS = 40
STEPS = (8, 12, 16, 20, 24, 32)

# Source: memory-planning design, section 15. None: no plan exists.
TOYS: tuple[tuple[str, int, str, bool, int | None], ...] = (
    ("pinch", 12, "free", False, 10),
    ("pinch", 13, "free", False, 0),
    ("pinch", 12, "free", True, 2),
    ("stuck", 12, "free", False, None),
    ("stuck", 13, "free", False, 0),
    ("stuck", 12, "free", True, 2),
    *(("crossroads", size, "free", False, traffic) for size, traffic in ((14, 12), (15, 10), (16, 3), (17, 0))),
    *(("crossroads", size, "given", False, traffic) for size, traffic in ((14, 22), (15, 22), (16, 12), (17, 0))),
)


def agreement(kind: str, first: int, count: int) -> Row:
    """Plan random graphs at M_R and two more budgets with both methods; runs in a process of its own."""
    import cosma_sched as cs

    disagreements: list[str] = []
    seconds = {"paper": 0.0, "exact": 0.0}
    solved = infeasible = with_traffic = 0
    for seed, graph in chosen_graphs(kind, first, count):
        for scratchpad in three_budgets(cs.memory_bounds(graph)):
            plans = {}
            for method in seconds:
                started = time.perf_counter()
                plans[method] = cs.plan_memory(graph, scratchpad=scratchpad, method=method, workers=1, time_limit=None)
                seconds[method] += time.perf_counter() - started
            one, other = plans["paper"], plans["exact"]
            solved += 1
            infeasible += one.status == "infeasible"
            with_traffic += bool(one.traffic_bytes)
            if (one.status, one.traffic_bytes) != (other.status, other.traffic_bytes):
                answers = f"{one.status} {one.traffic_bytes}, {other.status} {other.traffic_bytes}"
                disagreements.append(f"random {seed} at {scratchpad}: {answers}")
    counted = {"graphs": count, "solves": solved, "infeasible": infeasible, "with_traffic": with_traffic, "disagreements": disagreements}
    return {**counted, "seconds": {name: round(value, 3) for name, value in seconds.items()}}


def chosen_graphs(kind: str, first: int, count: int) -> Iterator[tuple[int, Graph]]:
    """Yield (seed, graph) for the next `count` seeds from `first` on that are of a kind."""
    import cosma_sched as cs

    found = 0
    for seed in itertools.count(first):
        graph = small_graph(seed)
        bounds = cs.memory_bounds(graph)
        if kind == "any" or bounds.m_r_bytes < bounds.m_p_bytes:
            yield seed, graph
            found += 1
        if found == count:
            return


def three_budgets(bounds: MemoryBounds) -> list[int]:
    """Return M_R, M_H and M_P, or the next sizes above M_R where they coincide."""
    sizes = {bounds.m_r_bytes, bounds.m_h_bytes, bounds.m_p_bytes}
    above = (bounds.m_r_bytes + extra for extra in itertools.count(1))
    while len(sizes) < 3:
        sizes.add(next(above))
    return sorted(sizes)


def toy(case: str, scratchpad: int, order: str, relocation: bool, solver: str) -> Row:
    """Solve the literal program of one toy; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(EXAMPLES / f"{case}.json")
    options: dict[str, Any] = {"order": order, "allow_relocation": relocation, "solver": solver, "workers": 1}
    plan = cs.plan_memory(graph, scratchpad=scratchpad, method="paper", time_limit=60, **options)
    return {"status": str(plan.status), "value": plan.traffic_bytes, "seconds": {"solve": round(plan.seconds, 3)}}


def beside(case: str, order: str, solver: str) -> Row:
    """Size and solve both models of one network at M_R; runs in a process of its own."""
    import cosma_sched as cs
    from cosma_sched.memory.paper_model import LiteralModel
    from cosma_sched.memory.problem import Network, Scratchpad
    from cosma_sched.memory.replacement import GapModel

    graph = ladder(int(case.removeprefix("ladder "))) if case.startswith("ladder ") else cs.load(case)
    network, size = Network(graph), cs.memory_bounds(graph).m_r_bytes
    chosen = None if order == "free" else network.given_order
    forms = {name: LiteralModel(network, Scratchpad(size), chosen, printed=name == "printed").size() for name in ("literal", "printed")}
    compact = GapModel(network, network.given_order, Scratchpad(size)).program(())
    row: Row = {"operators": len(graph), "scratchpad_bytes": size}
    for name, form in forms.items():
        row |= {f"{name}_columns": form.columns, f"{name}_rows": form.rows, f"{name}_nonzeros": form.nonzeros}
    row |= {"compact_columns": compact.num_variables, "compact_rows": compact.num_rows, "seconds": {}}
    for method in ("paper", "exact"):
        plan = cs.plan_memory(graph, scratchpad=size, order=order, method=method, solver=solver, workers=1, time_limit=LIMIT_SECONDS)
        refused = any(reason.rule == "model-size" for reason in plan.reasons)
        row |= {f"{method}_status": "refused" if refused else str(plan.status), f"{method}_value": plan.traffic_bytes}
        row |= {f"{method}_bound": plan.bound_bytes, "verified": cs.verify(graph, plan) == []}
        row["seconds"][method] = round(plan.seconds, 3)
    return row


def contradictions(row: Row) -> list[str]:
    """Return what a row says against what is known, or against the other method."""
    place = " ".join(str(row[name]) for name in ("part", "case", "order", "solver") if name in row)
    if "error" in row:
        return [f"{place}: {row['error']}"]
    if row["part"] == "agreement":
        return list(row["disagreements"])
    if row["part"] == "toys":
        expected = "infeasible" if row["known"] is None else "optimal"
        wrong = (row["status"], row["value"]) != (expected, row["known"])
        return [f"{place} at {row['scratchpad']}: {row['status']} {row['value']}, known {row['known']}"] if wrong else []
    found = [] if row["verified"] else [f"{place}: refused by the checker"]
    optima = {row[f"{method}_value"] for method in ("paper", "exact") if row[f"{method}_status"] == "optimal"}
    bounds = [row[f"{method}_bound"] for method in ("paper", "exact") if row[f"{method}_bound"] is not None]
    values = [row[f"{method}_value"] for method in ("paper", "exact") if row[f"{method}_value"] is not None]
    if len(optima) > 1 or max(bounds, default=0) > min(values, default=max(bounds, default=0)):
        found.append(f"{place}: literal {row['paper_value']} ({row['paper_status']}), planner {row['exact_value']} ({row['exact_status']})")
    return found


def run(pattern: str, *, smoke: bool) -> list[Row]:
    """Run every part and return all rows."""
    rows: list[Row] = []
    for kind, graphs in GRAPHS.items():
        count = 4 if smoke else GRAPHS_IN_A_PROCESS
        for batch in range(1 if smoke else graphs // count):
            asked = {"kind": kind, "first": 10_000 * batch, "count": count}
            rows.append({"part": "agreement", "case": f"{kind} {10_000 * batch}", **measure("memory_literal", "agreement", **asked)})
    for case, scratchpad, order, relocation, known in TOYS[:4] if smoke else TOYS:
        for solver in SOLVERS[:1] if smoke else SOLVERS:
            asked = {"case": case, "scratchpad": scratchpad, "order": order, "relocation": relocation, "solver": solver}
            rows.append({"part": "toys", **asked, "known": known, **measure("memory_literal", "toy", **asked)})
    jobs = [
        (f"ladder {steps}", "given", solver) for steps in (STEPS[:1] if smoke else STEPS) for solver in (SOLVERS[:1] if smoke else SOLVERS)
    ]
    jobs += [(case.name, order, "cpsat") for case in cases("vit_b_16" if smoke else pattern) for order in ("given", "free")]
    for case, order, solver in jobs:
        asked = {"case": case, "order": order, "solver": solver}
        rows.append({"part": "ladders" if case.startswith("ladder") else "zoo", **asked, **measure("memory_literal", "beside", **asked)})
    return rows


def show(rows: list[Row]) -> dict[str, Any]:
    """Print the tables; return the summary."""
    good = [row for row in rows if "error" not in row]
    parts = {part: [row for row in good if row["part"] == part] for part in ("agreement", "toys", "ladders", "zoo")}
    print("\nRandom graphs, every order, three budgets, addresses included: literal program beside planner")
    headings = ("seeds from", "graphs", "solves", "with traffic", "infeasible", "disagreements", "literal s", "planner s")
    lines = [
        (
            r["case"],
            r["graphs"],
            r["solves"],
            r["with_traffic"],
            r["infeasible"],
            len(r["disagreements"]),
            r["seconds"]["paper"],
            r["seconds"]["exact"],
        )
        for r in parts["agreement"]
    ]
    print(table(headings, lines))
    print("\nToys, literal program")
    lines = [
        (r["case"], r["scratchpad"], r["order"], r["relocation"], r["solver"], r["status"], r["value"], r["seconds"]["solve"])
        for r in parts["toys"]
    ]
    print(table(("toy", "bytes", "order", "relocation", "back end", "status", "traffic", "s"), lines))
    for part, title in (("ladders", f"Chains with skips, given order, M_R, at most {LIMIT_SECONDS:.0f} s"), ("zoo", "Zoo, M_R")):
        print(f"\n{title}: literal program beside gap model")
        print(table(_HEADINGS, [_line(row) for row in parts[part]]))
    summary = {
        "random_graphs": sum(row["graphs"] for row in parts["agreement"]),
        "random_solves": sum(row["solves"] for row in parts["agreement"]),
        "random_disagreements": sum(len(row["disagreements"]) for row in parts["agreement"]),
        "ladders_solved": sum(row["paper_status"] == "optimal" for row in parts["ladders"]),
        "ladders": len(parts["ladders"]),
        "zoo_solved": sum(row["paper_status"] == "optimal" for row in parts["zoo"]),
        "zoo_refused": sum(row["paper_status"] == "refused" for row in parts["zoo"]),
        "zoo": len(parts["zoo"]),
        "zoo_literal_seconds_median": median([row["seconds"]["paper"] for row in parts["zoo"] if row["paper_status"] == "optimal"]),
        "zoo_planner_seconds_median": median([row["seconds"]["exact"] for row in parts["zoo"]]),
    }
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    return summary


_HEADINGS = (
    "network",
    "order",
    "back end",
    "columns as printed",
    "columns",
    "rows",
    "status",
    "traffic",
    "bound",
    "s",
    "gap model columns",
    "gap model rows",
    "planner",
    "planner s",
)


def _line(row: Row) -> tuple[Any, ...]:
    literal = (
        row["printed_columns"],
        row["literal_columns"],
        row["literal_rows"],
        row["paper_status"],
        row["paper_value"],
        row["paper_bound"],
    )
    compact = (row["compact_columns"], row["compact_rows"], row["exact_value"], row["seconds"]["exact"])
    return (row["case"], row["order"], row["solver"], *literal, row["seconds"]["paper"], *compact)


def main() -> int:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    rows = run(options.cases, smoke=options.smoke)
    summary = show(rows)
    write_json(options.json, "memory_literal", rows, summary)
    wrong = [line for row in rows for line in contradictions(row)]
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
