"""How much traffic does planning save against an allocator with replacement, on the COSMA paper's networks?

The shape of the paper's two figures: every network at M_R, M_H and M_P, without and with parameters, each cell of the baseline grid, the
planner's traffic and bound, and the average reduction against the best baseline that did not fail. A cell is order (g given, m min-peak),
policy (B Belady, G greedy) and placement (f first-fit, b best-fit, a arena); F stands for a run that fragmentation ended. Cells with + are
allowed to relocate, which the planner is not: they do not count as the best baseline and have averages of their own.

With --store, finished rows are kept and a stopped run goes on. A contradiction ends the script with exit code 1.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any

from registry import CASES
from runner import Row, arguments, measure, table, write_json
from store import Store, digest_of_sources

HUMAN = (
    "resnet50",
    "densenet121",
    "resnext50_32x4d",
    "r2plus1d_18",
    "s3d",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "lraspp_mobilenet_v3_large",
    "vit_b_16",
    "transformer",
)
SEARCHED = ("nasnet_a", "pnasnet5", "darts", "amoebanet_d")
BUDGETS = ("M_R", "M_H", "M_P")
TENSORS = ("activations", "all")
ORDERS = {"g": "given", "m": "min-peak"}
POLICIES = {"B": "belady", "G": "greedy"}
PLACEMENTS = {"f": "first-fit", "b": "best-fit", "a": "arena"}
CELLS = tuple("".join(letters) for letters in itertools.product(ORDERS, POLICIES, PLACEMENTS))
RELOCATED = tuple(f"{cell}+" for cell in CELLS if not cell.endswith("a"))
GROUPS = {"human-designed": HUMAN, "searched": SEARCHED}
# Source: COSMA (arXiv 2311.18246), average reduction of non-compulsory traffic at M_R.
PUBLISHED = {"human-designed": 0.84, "searched": 0.85}


def grid(case: str, budget: str, tensors: str) -> Row:
    """Run every baseline on one network at one budget; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(case)
    started = time.perf_counter()
    bounds = cs.memory_bounds(graph, tensors=tensors)
    size = {"M_R": bounds.m_r_bytes, "M_H": bounds.m_h_bytes, "M_P": bounds.m_p_bytes}[budget]
    traffic: dict[str, int | None] = {}
    ended: dict[str, str] = {}
    for cell in (*CELLS, *RELOCATED):
        options = {"order": ORDERS[cell[0]], "method": POLICIES[cell[1]], "placement": PLACEMENTS[cell[2]]}
        plan = cs.plan_memory(graph, scratchpad=size, tensors=tensors, allow_relocation=cell.endswith("+"), **options)
        traffic[cell] = plan.traffic_bytes
        if plan.order is None:
            ended[cell] = plan.reasons[0].where
    seconds = {"grid": round(time.perf_counter() - started, 3)}
    return {"operators": len(graph), "scratchpad_bytes": size, "traffic": traffic, "ended": ended, "seconds": seconds}


def ours(case: str, budget: str, tensors: str, limit: float) -> Row:
    """Plan one network at one budget with the defaults; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(case)
    plan = cs.plan_memory(graph, scratchpad=budget, tensors=tensors, time_limit=limit)
    return {
        "scratchpad_bytes": plan.scratchpad_bytes,
        "status": str(plan.status),
        "termination": str(plan.termination),
        "value": plan.traffic_bytes,
        "bound": plan.bound_bytes,
        "proved_by": list(plan.provenance.proved_by),
        "verified": cs.verify(graph, plan) == [],
        "seconds": {"solve": round(plan.seconds, 3)},
    }


def least(row: Row, cells: Iterable[str]) -> int | None:
    """Return the least traffic of the cells that did not fail; None where all did."""
    return min((row["traffic"][cell] for cell in cells if row["traffic"][cell] is not None), default=None)


def reduction(row: Row, cells: Iterable[str]) -> float | None:
    """Return the share of the best cell's traffic that the planner saves; None where there is nothing to compare."""
    best = least(row, cells)
    return None if not best or row["value"] is None else 1 - row["value"] / best


def average(rows: Iterable[Row], cells: Iterable[str]) -> float | None:
    """Return the mean reduction over the rows that have one."""
    saved = [value for value in (reduction(row, cells) for row in rows) if value is not None]
    return round(statistics.fmean(saved), 4) if saved else None


def run(names: list[str], budgets: tuple[str, ...], kinds: tuple[str, ...], limit: float, store: Store) -> list[Row]:
    """Run every part that is not in the store yet; return one row per network, budget and kind of tensors."""
    from cosma_sched.frontends import zoo

    rows = []
    for tensors, case, budget in itertools.product(kinds, names, budgets):
        asked = {"case": case, "budget": budget, "tensors": tensors}
        parts: dict[str, Row] = {}
        for part, more in (("grid", {}), ("ours", {"limit": limit})):
            key = " ".join(map(str, (part, *asked.values(), *more.values(), zoo.card(case).sha256[:12])))
            row = store.get(key)
            if row is None:
                row = measure("memory_baselines", part, **asked, **more)
                store.put(key, row)
            parts[part] = row
        seconds = {f"{part}_{name}": value for part, row in parts.items() for name, value in row["seconds"].items()}
        rows.append({**asked, **parts["grid"], **parts["ours"], "seconds": seconds})
        errors = [row["error"] for row in parts.values() if "error" in row]
        rows[-1] |= {"error": errors[0]} if errors else {"best_baseline": least(rows[-1], CELLS), "reduction": reduction(rows[-1], CELLS)}
    return rows


def contradictions(row: Row) -> list[str]:
    """Return what a row says against what is known."""
    place = f"{row['case']} {row['budget']} {row['tensors']}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    found = [] if row["verified"] else [f"{place}: refused by the checker"]
    best = row["best_baseline"]
    if best is not None and row["bound"] is not None and best < row["bound"]:
        found.append(f"{place}: a baseline moves {best} bytes, less than the bound {row['bound']}")
    known = next((case.free.get(row["budget"]) for case in CASES if case.name == row["case"]), None)
    if known is not None and row["tensors"] == "activations" and row["status"] == "optimal" and row["value"] != known:
        found.append(f"{place}: optimal {row['value']}, known {known}")
    return found


def show(rows: list[Row]) -> dict[str, Any]:
    """Print a table for each kind of tensors and each budget, then the averages; return these."""
    good = [row for row in rows if "error" not in row]
    figures = tuple(dict.fromkeys((row["tensors"], row["budget"]) for row in good))
    for tensors, budget in figures:
        chosen = [row for row in good if (row["tensors"], row["budget"]) == (tensors, budget)]
        print(f"\n{budget}, {'activations' if tensors == 'activations' else 'activations and parameters'}: traffic in MB (10^6 bytes)")
        headings = ("network", "scratchpad", *CELLS, "best", "ours", "bound", "status", "saved", "s", *RELOCATED)
        print(table(headings, [_line(row) for row in chosen]))
    print("\nAverage reduction: of the best cell without relocation that did not fail, of the best with relocation (+), of each cell alone")
    print("Only networks on which the cells move something and do not fail are in an average; F(n) counts those that failed, n of all")
    summary: dict[str, Any] = {}
    lines = []
    for (tensors, budget), group in itertools.product(figures, GROUPS):
        chosen = [row for row in good if (row["tensors"], row["budget"]) == (tensors, budget) and row["case"] in GROUPS[group]]
        if chosen:
            figure, line = _averages(group, tensors, budget, chosen)
            summary[f"{group} {tensors} {budget}"] = figure
            lines.append(line)
    headings = ("networks", "tensors", "budget", "all", "optimal", "published", "best", "best+", *CELLS, *RELOCATED)
    print(table(headings, lines))
    missing = [name for name in (*HUMAN, *SEARCHED) if name not in {row["case"] for row in rows}]
    if missing:
        print(f"\nnot run: {', '.join(missing)}")
    return summary


def _averages(group: str, tensors: str, budget: str, rows: list[Row]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    published = PUBLISHED[group] if budget == "M_R" and tensors == "activations" else None
    optimal = sum(row["status"] == "optimal" for row in rows)
    sets = {"best": CELLS, "best+": RELOCATED, **{cell: (cell,) for cell in (*CELLS, *RELOCATED)}}
    figure: dict[str, Any] = {"networks": len(rows), "optimal": optimal, "published": published}
    texts = []
    for name, cells in sets.items():
        failed = sum(least(row, cells) is None for row in rows)
        compared = sum(reduction(row, cells) is not None for row in rows)
        figure[name] = {"average_reduction": average(rows, cells), "compared": compared, "failed": failed}
        texts.append(f"{_percent(average(rows, cells))} of {compared}" + (f" F({failed})" if failed else ""))
    return figure, (group, tensors, budget, len(rows), optimal, _percent(published), *texts)


def _line(row: Row) -> tuple[Any, ...]:
    def megabytes(value: int | None) -> str:
        return "-" if value is None else f"{value / 1e6:.2f}"

    def cell(name: str) -> str:
        value = row["traffic"][name]
        return "F" if value is None else megabytes(value)

    answer = (megabytes(row["best_baseline"]), megabytes(row["value"]), megabytes(row["bound"]), row["status"], _percent(row["reduction"]))
    return (row["case"], row["scratchpad_bytes"], *map(cell, CELLS), *answer, row["seconds"]["ours_solve"], *map(cell, RELOCATED))


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.0f} %"


def main() -> int:
    """Run the benchmark."""
    from cosma_sched.frontends import zoo

    parser = arguments(__doc__ or "")
    parser.add_argument("--store", metavar="FILE", help="keep finished rows in this file and go on from it")
    parser.add_argument("--time-limit", metavar="SECONDS", type=float, default=60.0, help="limit of each of our solves (default: 60)")
    options = parser.parse_args()
    names = [name for name in (*HUMAN, *SEARCHED) if name in zoo.names() and fnmatch(name, options.cases)]
    budgets, kinds = (BUDGETS[:1], TENSORS[:1]) if options.smoke else (BUDGETS, TENSORS)
    if options.smoke:
        names = [name for name in names if name in {"resnet50", "transformer"}] or names[:1]
    store = Store(options.store, digest_of_sources("memory", "frontends"))
    rows = run(names, budgets, kinds, options.time_limit, store)
    summary = show(rows)
    write_json(options.json, "memory_baselines", rows, summary)
    wrong = [line for row in rows for line in contradictions(row)]
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
