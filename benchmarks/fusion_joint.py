"""How good are joint mapping and fusion searches, measured against the proven optimum of the same space by the same evaluator?

Parts: `proofs` (the exact method in the row-strip and the default space, and the floor), and `methods` (random, genetic with published and
with tuned settings, Bayesian, and gradient descent in three variants, each with several seeds). ``--quick`` runs both on ResNet18 and
FSRCNN and two accelerators with fewer evaluations and seeds. The plain run takes eight workloads, three accelerators and DRAM at 8, 4 and
2 words per cycle; with ``--store FILE`` it goes on where it was stopped. A proof that fails, or an answer outside of
ceiling <= EDP, ends the script with exit code 1.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

from runner import Row, arguments, median, table, write_json
from store import Store, digest_of_sources, measured

ACCELERATORS = ("gemmini_small", "gemmini", "gemmini_large")
WORKLOADS = ("resnet18", "fsrcnn", "bert_base", "gpt3_6_7b_prefill", "gpt3_6_7b_decode", "mobilenet_v2", "resnet50", "unet_572")
BANDWIDTHS = (8, 4, 2)
PERCENTS = (10, 5, 1, 0)
GRADIENTS = ("gradient", "gradient-optimistic", "gradient-fixed")
MOST_TRIALS = 1_000
"""Evaluations of the Bayesian search: each takes it longer than the last."""

# Gains that the exact method must reach. Source: mapping design, section 9; measured by a re-implementation in a subset of the space.
GAINS = {
    ("resnet18", "gemmini_small"): 1.0202,
    ("resnet18", "gemmini_large"): 1.0495,
    ("fsrcnn", "gemmini_small"): 1.73,
    ("fsrcnn", "gemmini_large"): 1.84,
}
LIMITS = {"gradient": {"resnet18": 1.10, "fsrcnn": 1.25}, "genetic": {"resnet18": 1.15, "fsrcnn": 1.30}}


def device_of(accelerator: str, bandwidth: int) -> Any:
    """Return a built-in accelerator with another DRAM bandwidth."""
    from cosma_sched.accelerator import load_accelerator

    device = load_accelerator(accelerator)
    core = device.core
    levels = (*core.levels[:-1], dataclasses.replace(core.levels[-1], words_per_cycle=bandwidth))
    return dataclasses.replace(device, cores=(dataclasses.replace(core, levels=levels),))


def proof(network: str, accelerator: str, bandwidth: int, tiles: str, max_group: int, time_limit: float | None) -> Row:
    """Fuse one network exactly; runs in a process of its own."""
    started = time.perf_counter()
    import cosma_sched as cs
    from cosma_sched.fusion.calls import fuse, fusion_ceiling

    graph, device = cs.load(network), device_of(accelerator, bandwidth)
    read = time.perf_counter()
    ceiling = fusion_ceiling(graph, device)
    floor = time.perf_counter()
    result = fuse(graph, device, tiles=tiles, max_group=max_group, time_limit=time_limit)
    return {
        "energy_pj": result.energy_pj,
        "latency_cycles": result.latency_cycles,
        "edp": result.edp,
        "bound_edp": result.bounds.edp,
        "unfused_edp": result.unfused_edp,
        "ceiling_edp": ceiling.edp,
        "gap": result.gap,
        "status": str(result.status),
        "verified": result.verified,
        "fused_groups": sum(len(group.layers) > 1 for group in result.groups),
        "evaluations": result.evaluations,
        "seconds": {"read": round(read - started, 3), "floor": round(floor - read, 3), "fuse": round(time.perf_counter() - floor, 3)},
    }


def trial(network: str, accelerator: str, bandwidth: int, method: str, evaluations: int | None, seeds: Sequence[int]) -> Row:
    """Search by one method, seed after seed; runs in a process of its own."""
    import cosma_sched as cs
    from cosma_sched.fusion.choice import overflows
    from cosma_sched.fusion.fronts import StepFronts
    from cosma_sched.fusion.genome import Judge
    from cosma_sched.fusion.metaheuristics import search
    from cosma_sched.fusion.polish import polished
    from cosma_sched.fusion.reading import fusion_problem
    from cosma_sched.fusion.relaxation import VARIANTS, descend
    from cosma_sched.mapping.cost import machine_of
    from cosma_sched.mapping.evolution import PUBLISHED
    from cosma_sched.progress import Clock, Progress

    problem, machine = fusion_problem(cs.load(network)), machine_of(device_of(accelerator, bandwidth))
    fronts = StepFronts(machine, "parity")
    runs = []
    for seed in seeds:
        clock = Clock()
        judge = Judge(problem, machine, clock=clock)
        run: Row = {"seed": seed}
        if method in VARIANTS:
            report = descend(judge, VARIANTS[method], seed, Progress(clock), evaluations)
            run |= {"seconds": round(clock.seconds, 2), "valid": report.valid_share, "claimed": report.claimed}
            run["decoded"] = None if report.decoded is None else report.decoded[0] * report.decoded[1]
            groups = judge.answer()
            better = polished(problem, groups, fronts)
            run["polished"] = sum(group.energy_pj for group in better) * sum(group.latency_cycles for group in better)
            broken = [*(found for group in (*groups, *better) for found in overflows(group, machine))]
        else:
            plain = {} if method != "genetic-published" else {"settings": PUBLISHED}
            search(judge, method.removesuffix("-published"), evaluations, seed, Progress(clock), **plain)
            run |= {"seconds": round(clock.seconds, 2), "valid": judge.tally.valid / judge.tally.evaluations}
            groups = judge.answer()
            broken = [found for group in groups for found in overflows(group, machine)]
        energy, latency = sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)
        if broken:
            raise RuntimeError(f"seed {seed} of {method} overflows: {broken[0]}")
        run |= {"energy_pj": energy, "latency_cycles": latency, "edp": energy * latency, "evaluations": judge.tally.evaluations}
        run["betters"] = [(one.evaluations, round(one.seconds, 3), one.energy_pj * one.latency_cycles) for one in judge.tally.betters]
        runs.append(run)
    return {"runs": runs}


def checked(network: str, accelerator: str, bandwidth: int, method: str, evaluations: int | None) -> Row:
    """Fuse by one method through the public call, whose checker recomputes everything; runs in a process of its own."""
    import cosma_sched as cs

    result = cs.fuse(cs.load(network), device_of(accelerator, bandwidth), method=method, evaluations=evaluations)
    return {"verified": result.verified, "edp": result.edp, "unfused_edp": result.unfused_edp, "ceiling_edp": result.ceiling_edp}


# Figures


def summary_of(runs: Sequence[Row], optimum: Row) -> Row:
    """Return medians over seeds, against the exact row."""
    best = optimum["edp"]
    ratios = [run["edp"] / best for run in runs]
    middle = statistics.median_low([run["edp"] for run in runs])
    chosen = next(run for run in runs if run["edp"] == middle)
    figures: Row = {
        "ratio": median(ratios),
        "quartiles": _quartiles(ratios),
        "energy_ratio": chosen["energy_pj"] / optimum["energy_pj"],
        "latency_ratio": chosen["latency_cycles"] / optimum["latency_cycles"],
        "gap_to_bound": 1 - optimum["bound_edp"] / middle,
        "gain": optimum["unfused_edp"] / middle,
        "valid_share": median([run["valid"] for run in runs]),
        "run_seconds": median([run["seconds"] for run in runs]),
        "run_evaluations": median([run["evaluations"] for run in runs]),
        "first_seconds": runs[0]["seconds"],
    }
    for name in ("decoded", "polished", "claimed"):
        values = [run[name] / best for run in runs if run.get(name) is not None]
        figures[name] = median(values) if values else None
    for percent in PERCENTS:
        reached = [_reached(run, best * (1 + percent / 100) * (1 + 1e-12)) for run in runs]
        figures[f"to_{percent}"] = _median_or_never(reached)
    return figures


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]


def _reached(run: Row, limit: float) -> tuple[int, float] | None:
    """Return evaluations and seconds until a run was within a limit; None for never."""
    return next(((count, seconds) for count, seconds, edp in run["betters"] if edp <= limit), None)


def _median_or_never(reached: Sequence[tuple[int, float] | None]) -> list[float] | None:
    """Return the medians where most runs came so far, else None."""
    done = sorted(one for one in reached if one is not None)
    if 2 * len(done) <= len(reached):
        return None
    place = (len(reached) - 1) // 2
    return [done[place][0], sorted(one[1] for one in done)[place]]


# Parts


def plans(options: Any) -> Iterator[tuple[str, str, int]]:
    """Yield (network, accelerator, bandwidth)."""
    networks, accelerators, bandwidths = WORKLOADS, ACCELERATORS, BANDWIDTHS
    if options.quick:
        networks, accelerators, bandwidths = WORKLOADS[:2], ("gemmini_small", "gemmini_large"), BANDWIDTHS[:1]
    if options.smoke:
        networks, accelerators, bandwidths = ("gpt3_6_7b_decode",), ACCELERATORS[:1], BANDWIDTHS[:1]
    for network in networks:
        if fnmatch(network, options.cases):
            yield from ((network, accelerator, bandwidth) for accelerator in accelerators for bandwidth in bandwidths)


def proofs(store: Store, options: Any) -> Iterator[Row]:
    """Yield the exact rows: the default space, and row strips for two networks on one accelerator."""
    for network, accelerator, bandwidth in plans(options):
        place: Row = {"case": network, "accelerator": accelerator, "dram": bandwidth, "method": "exact"}
        spaces: list[tuple[str, int]] = [("all", 5)]
        if network in WORKLOADS[:2] and (accelerator, bandwidth) == ("gemmini_small", 8):
            spaces.insert(0, ("strips", 4))
        for tiles, most in spaces:
            limit = 1200.0 if not options.smoke else 60.0
            where = {"network": network, "accelerator": accelerator, "bandwidth": bandwidth}
            found = measured(store, "fusion_joint", "proof", **where, tiles=tiles, max_group=most, time_limit=limit)
            yield {**place, "space": f"{tiles}, groups <= {most}", **found}


def methods(options: Any) -> list[tuple[str, int | None, int]]:
    """Return (method, evaluations, seeds)."""
    budget = options.evaluations or (10_000 if options.quick else 100_000)
    trials, seeds = (min(budget, 200) if options.quick else min(budget, MOST_TRIALS)), options.seeds or (3 if options.quick else 10)
    if options.smoke:
        return [("random", 100, 1), ("genetic-published", 200, 1), ("genetic", 200, 1), ("bayesian", 8, 1)]
    found: list[tuple[str, int | None, int]] = [
        ("random", budget, seeds),
        ("genetic-published", budget, seeds),
        ("genetic", budget, seeds),
        ("random", trials, seeds),
        ("bayesian", trials, seeds),
    ]
    return found + [(method, None, 1 if options.quick and not options.seeds and method != GRADIENTS[0] else seeds) for method in GRADIENTS]


def trials(store: Store, options: Any, exact: Row) -> Iterator[Row]:
    """Yield one row for each method on one case."""
    where = {"network": exact["case"], "accelerator": exact["accelerator"], "bandwidth": exact["dram"]}
    for method, evaluations, seeds in methods(options):
        if not fnmatch(method, options.methods):
            continue
        row = {"case": exact["case"], "accelerator": exact["accelerator"], "dram": exact["dram"], "method": method, "budget": evaluations}
        found = measured(store, "fusion_joint", "trial", **where, method=method, evaluations=evaluations, seeds=list(range(seeds)))
        if "error" in found:
            yield {**row, **found}
            continue
        yield {**row, "seeds": seeds, "peak_mib": found["peak_mib"], **summary_of(found["runs"], exact), "runs": found["runs"]}


def contradictions(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what rows say against what is known, or against each other."""
    exact = {(row["case"], row["accelerator"], row["dram"]): row for row in rows if row["method"] == "exact" and "error" not in row}
    for row in rows:
        place = f"{row['case']} on {row['accelerator']}, {row['method']}"
        if "error" in row:
            yield f"{place}: {row['error']}"
        elif row["method"] == "exact":
            if not row["verified"] or not row["ceiling_edp"] <= row["bound_edp"] <= row["edp"] <= row["unfused_edp"]:
                yield f"{place}: ceiling {row['ceiling_edp']}, bound {row['bound_edp']}, EDP {row['edp']}, unfused {row['unfused_edp']}"
            gain = GAINS.get((row["case"], row["accelerator"])) if row["dram"] == BANDWIDTHS[0] else None
            if gain is not None and row["space"].startswith("all") and round(row["unfused_edp"] / row["edp"], 4) < gain:
                yield f"{place}: gain {row['unfused_edp'] / row['edp']:.4f}, known {gain}"
        else:
            bound = exact[row["case"], row["accelerator"], row["dram"]]["bound_edp"]
            if any(run["edp"] < bound or (run.get("polished") or bound) < bound for run in row["runs"]):
                yield f"{place}: an answer below the proven bound {bound}"


def bars(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    """Yield (bar, measured, met or missed) for the bars that the rows speak to."""
    for row in rows:
        limit = LIMITS.get(row["method"], {}).get(row["case"])
        if limit is None or "error" in row or row["dram"] != BANDWIDTHS[0]:
            continue
        verdict = "met" if row["ratio"] <= limit else "missed"
        yield f"{row['method']}, {row['case']} on {row['accelerator']}: <= {limit}", f"{row['ratio']:.3f}", verdict
    plain = {(row["case"], row["accelerator"], row["dram"], row["budget"]): row for row in rows if row["method"] == "random"}
    for row in rows:
        other = plain.get((row["case"], row["accelerator"], row["dram"], row.get("budget")))
        if row["method"] in {"genetic", "genetic-published", "bayesian"} and other is not None and "error" not in {**row, **other}:
            verdict = "met" if row["ratio"] <= other["ratio"] else "missed"
            yield f"{row['method']} not worse than random, {row['case']} on {row['accelerator']}", f"{row['ratio']:.3f}", verdict


# Tables


def show(rows: Sequence[Row]) -> None:
    """Print the tables."""
    exact = [row for row in rows if row["method"] == "exact" and "error" not in row]
    heads = ("network", "accelerator", "DRAM", "space", "EDP", "gain", "ceiling gain", "gap", "status", "floor s", "fuse s", "MiB")
    lines: list[tuple[Any, ...]] = []
    for row in exact:
        gains = (f"{row['unfused_edp'] / row['edp']:.4f}", f"{row['unfused_edp'] / row['ceiling_edp']:.4f}", f"{row['gap']:.4f}")
        place = (row["case"], row["accelerator"], row["dram"], row["space"], f"{row['edp']:.6e}")
        lines.append((*place, *gains, row["status"], row["seconds"]["floor"], row["seconds"]["fuse"], row["peak_mib"]))
    print(table(heads, lines))
    for accelerator in ACCELERATORS:
        own = [row for row in rows if row["accelerator"] == accelerator and row["method"] != "exact" and "error" not in row]
        if own:
            print(f"\n{accelerator}: EDP over the proven optimum, median over seeds ({os.cpu_count()} cores, one process)")
            print(table(_HEADS, [_line(row) for row in own]))


_HEADS = (
    *("network", "DRAM", "method", "seeds", "evaluations", "EDP/opt", "quartiles", "E/opt", "L/opt", "gap to bound", "gain", "valid %"),
    *("decoded", "polished", "own claim", "s (first)", *(f"to {percent} %" for percent in PERCENTS)),
)


def _line(row: Row) -> tuple[Any, ...]:
    quartiles = "-".join(f"{value:.3f}" for value in row["quartiles"])
    parts = [f"{row[name]:.3f}" for name in ("energy_ratio", "latency_ratio", "gap_to_bound", "gain")]
    own = ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("decoded", "polished", "claimed")]
    reached = ["never" if row[f"to_{p}"] is None else "{:,.0f} / {:.1f} s".format(*row[f"to_{p}"]) for p in PERCENTS]
    seconds = f"{row['run_seconds']:.1f} ({row['first_seconds']:.1f})"
    plain = (row["case"], row["dram"], row["method"], row["seeds"], int(row["run_evaluations"]), f"{row['ratio']:.3f}", quartiles)
    return (*plain, *parts, f"{100 * row['valid_share']:.1f}", *own, seconds, *reached)


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--quick", action="store_true", help="ResNet18 and FSRCNN on two accelerators, fewer evaluations and seeds")
    parser.add_argument("--part", choices=("all", "proofs", "methods"), default="all", help="methods still needs the default-space proofs")
    parser.add_argument("--methods", metavar="PATTERN", default="*", help="methods whose name matches (default: all)")
    parser.add_argument("--seeds", type=int, help="seeds of each method (default 10; with --quick 3, 1 of two variants of gradient)")
    parser.add_argument("--evaluations", type=int, help="of random and genetic (default 100,000; with --quick 10,000)")
    parser.add_argument("--store", metavar="FILE", help="keep rows here, and go on where a run was stopped")
    options = parser.parse_args()
    store = Store(options.store, digest_of_sources("fusion", "mapping"))
    rows: list[Row] = []
    for row in proofs(store, options):
        if options.part != "methods" or row["space"].startswith("all"):
            rows.append(row)
        if options.part != "proofs" and row["space"].startswith("all") and "error" not in row:
            rows += trials(store, options, row)
    if options.smoke:
        where = {"network": "gpt3_6_7b_decode", "accelerator": "gemmini_small", "bandwidth": 8}
        answer = measured(store, "fusion_joint", "checked", **where, method="random", evaluations=50)
        if answer.get("verified") is not True:
            print(f"contradiction: {answer.get('error', 'not verified')}", file=sys.stderr)
            return 1
    show(rows)
    judged = list(bars(rows))
    if judged:
        print()
        print(table(("bar", "measured", "verdict"), judged))
    write_json(options.json, "fusion_joint", rows, {bar: f"{measured}, {verdict}" for bar, measured, verdict in judged})
    wrong = list(contradictions(rows))
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
