"""How much arena does an ExecuTorch program need, beside ExecuTorch's own plan and the load bound, and does it compute the same?

Eight torchvision models with random weights are exported twice, planned by ExecuTorch's default and by ours, and both programs are run on
the ExecuTorch runtime. An arena above the default's or below the bound, tensors that collide, or outputs that differ end the script with
exit code 1. A run that takes longer than `--limit` is reported as not compared. Skipped where ExecuTorch is not installed.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import tempfile
import time
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

from runner import Row, arguments, measure, table, write_json

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))

CASES = ("resnet50", "densenet121", "inception_v3", "mobilenet_v3_large", "swin_t", "vit_b_16", "googlenet", "efficientnet_b0")
NEEDED = ("executorch", "torch", "torchvision")
SMOKE = ("mobilenet_v3_large", 64)
PLAN_SECONDS = 30.0
LOAD_FACTOR = 1.02
TOLERANCE = 1e-3


def planned(case: str, size: int | None, folder: str) -> Row:
    """Export a model, plan it both ways, leave both programs, the input and the model's own output in a folder."""
    import torch
    from executorch_planner import arena_bytes, build, check, lower, save

    from cosma_sched.integrations.executorch import ArenaReport, cosma_planner

    reports: list[ArenaReport] = []
    started = time.perf_counter()
    model, image = build(case, size)
    with torch.no_grad():
        expected = model(image)
    default = lower(model, image)
    lowered = time.perf_counter()
    ours = lower(model, image, cosma_planner(time_limit=PLAN_SECONDS, observers=[reports.append]))
    (report,) = reports
    check(ours)
    place = Path(folder)
    save(default, place / "default.pte")
    save(ours, place / "ours.pte")
    torch.save((image, expected), place / "tensors.pt")
    value, bound = arena_bytes(ours), report.bound_bytes
    return {
        "tensors": report.tensors,
        "default_bytes": arena_bytes(default),
        "value": value,
        "load_bytes": report.load_bytes,
        "bound": bound,
        "gap": (value - bound) / value,
        "status": "optimal" if report.is_optimal else "feasible",
        "seconds": {"build_and_export": round(lowered - started, 2), "solve": round(report.seconds, 3)},
    }


def compared(folder: str, limit: int) -> Row:
    """Run both programs on the runtime; the process is ended by the system where they take longer than the limit."""
    import torch
    from executorch_planner import difference, run

    place = Path(folder)
    image, expected = torch.load(place / "tensors.pt")
    signal.alarm(limit)  # the default action ends the process, in the middle of a kernel too
    started = time.perf_counter()
    default = run(place / "default.pte", image)
    between = time.perf_counter()
    ours = run(place / "ours.pte", image)
    signal.alarm(0)
    seconds = {"run_default": round(between - started, 2), "run_ours": round(time.perf_counter() - between, 2)}
    return {"outputs_equal": torch.equal(default, ours), "from_eager": difference(ours, expected), "seconds": seconds}


def one(case: str, size: int | None, limit: int, *, plan_only: bool) -> Row:
    """Return the row of a model: planned in one process, run in another."""
    with tempfile.TemporaryDirectory() as folder:
        row: Row = {"case": case, **measure("executorch_arena", "planned", case=case, size=size, folder=folder)}
        if plan_only or "error" in row:
            return {**row, "outputs_equal": None, "from_eager": None, "not_compared": "not asked for"}
        started = time.perf_counter()
        result = measure("executorch_arena", "compared", folder=folder, limit=limit)
        if "error" in result:
            late = time.perf_counter() - started >= limit
            reason = f"the runs took more than {limit} s" if late else result["error"]
            return {**row, "outputs_equal": None if late else False, "from_eager": None, "not_compared": reason}
        row["seconds"] |= {name: value for name, value in result["seconds"].items() if name != "total"}
        return {**row, "outputs_equal": result["outputs_equal"], "from_eager": result["from_eager"], "not_compared": None}


def contradictions(row: Row) -> list[str]:
    """Return what must not be."""
    if "error" in row:
        return [f"{row['case']}: {row['error']}"]
    found = []
    if not row["load_bytes"] <= row["bound"] <= row["value"] <= row["default_bytes"]:
        found.append(f"load {row['load_bytes']}, bound {row['bound']}, arena {row['value']}, default {row['default_bytes']}")
    if row["outputs_equal"] is False:
        found.append(row["not_compared"] or "outputs differ from the default program's")
    if row["from_eager"] is not None and not row["from_eager"] <= TOLERANCE:
        found.append(f"outputs are {row['from_eager']:.1e} from eager")
    return [f"{row['case']}: {line}" for line in found]


def show(rows: list[Row]) -> dict[str, Any]:
    """Print the table; return the summary."""
    good = [row for row in rows if "error" not in row]
    lines = []
    for row in good:
        sizes = [row[name] / 2**20 for name in ("default_bytes", "value", "load_bytes")]
        ratios = (row["default_bytes"] / row["value"], row["value"] / row["load_bytes"])
        equal = row["not_compared"] or ("yes" if row["outputs_equal"] else "NO")
        off = None if row["from_eager"] is None else f"{row['from_eager']:.1e}"
        lines.append((row["case"], row["tensors"], *sizes, *ratios, row["status"] == "optimal", row["seconds"]["solve"], equal, off))
    sizes_of = ("greedy MiB", "ours MiB", "load MiB", "greedy / ours", "ours / load")
    print(table(("model", "tensors", *sizes_of, "proven", "plan s", "outputs equal", "from eager"), lines))
    summary: dict[str, Any] = {
        "models": len(rows),
        "never_above_greedy": sum(row["value"] <= row["default_bytes"] for row in good),
        "within_1.02_of_the_load_bound": sum(row["value"] <= LOAD_FACTOR * row["load_bytes"] for row in good),
        "proven_optimal": sum(row["status"] == "optimal" for row in good),
        "planned_in_30_s": sum(row["seconds"]["solve"] <= PLAN_SECONDS for row in good),
        "outputs_compared": sum(row["not_compared"] is None for row in good),
        "outputs_bit_equal": sum(row["outputs_equal"] is True for row in good),
        "largest_difference_from_eager": f"{max((row['from_eager'] or 0.0 for row in good), default=0.0):.1e}",
        "bytes_saved": sum(row["default_bytes"] - row["value"] for row in good),
    }
    summary |= {name: metadata.version(name) for name in NEEDED}
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    return summary


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--limit", type=int, metavar="SECONDS", default=600, help="for the two runs of a model (default: 600)")
    parser.add_argument("--plan-only", action="store_true", help="do not run the programs")
    options = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f'skipped: {", ".join(missing)} not installed: pip install "cosma-sched[executorch]"', file=sys.stderr)
        return 0
    cases: list[tuple[str, int | None]] = [SMOKE] if options.smoke else [(name, None) for name in CASES if fnmatch(name, options.cases)]
    rows = []
    for case, size in cases:
        rows.append(one(case, size, options.limit, plan_only=options.plan_only))
        print(f"{case}: {rows[-1].get('error') or rows[-1]['status']}", file=sys.stderr)
    summary = show(rows)
    write_json(options.json, "executorch_arena", rows, summary)
    wrong = [line for row in rows for line in contradictions(row)]
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
