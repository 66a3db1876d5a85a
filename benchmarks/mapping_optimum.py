"""How good are the mappings of eight networks on three accelerators, how fast is the proof, and how near do the baselines come?

24 rows: energy, latency and energy-delay product with the proof, and the baselines' product over the optimum (median over seeds): random
with 100, 1,000 and 10,000 samples of each layer, gradient with 32 starts. A value that is not the known optimum ends the script with exit
code 1.
"""

from __future__ import annotations

import re
import sys
import time
from fnmatch import fnmatch
from typing import Any

from runner import Row, arguments, measure, median, table, write_json

ACCELERATORS = ("gemmini_small", "gemmini", "gemmini_large")
SAMPLES = (100, 1_000, 10_000)

# (pJ, cycles) on the three accelerators. Source: mapping design, section 7; measured by a re-implementation.
KNOWN = {
    "resnet18": ((4762519226, 9146845), (5215469070, 9146845), (5105094387, 3670221)),
    "resnet50": ((11891398530, 18247341), (12689696462, 18226173), (12394175222, 7531005)),
    "mobilenet_v2": ((2429422113, 22414109), (2613080898, 22414109), (2802479271, 22111309)),
    "bert_base": ((30309837312, 43757568), (32967367560, 43683840), (32136280512, 14450688)),
    "gpt3_6_7b_prefill": ((1241484643242, 1768423424), (1174734494899, 1767899136), (1021639125958, 452853760)),
    "gpt3_6_7b_decode": ((23892783519, 27289600), (25345576394, 27289600), (28117242586, 27289600)),
    "fsrcnn": ((35651482393, 97977768), (38341295302, 97977768), (41498736372, 62726568)),
    "unet_572": ((296887461730, 601412500), (318691505138, 600518404), (290289007270, 154628172)),
}


def optimum(network: str, accelerator: str, vector_ops: str = "free") -> Row:
    """Map one network exactly on one core; runs in a process of its own."""
    started = time.perf_counter()
    import cosma_sched as cs

    graph = cs.load(network)
    read = time.perf_counter()
    result = cs.map_layers(graph, accelerator, vector_ops=vector_ops)
    return {
        "energy_pj": result.energy_pj,
        "latency_cycles": result.latency_cycles,
        "edp": result.edp,
        "bound_edp": result.bounds.edp,
        "gap": result.gap,
        "status": str(result.status),
        "verified": result.verified,
        "layers": len(result.layers),
        "evaluations": result.evaluations,
        "seconds": {"read": round(read - started, 3), "map": round(time.perf_counter() - read, 3)},
    }


def baseline(network: str, accelerator: str, method: str, evaluations: int | None, seeds: int, optimum_edp: int) -> Row:
    """Map one network by a baseline, seed after seed; runs in a process of its own."""
    import cosma_sched as cs

    graph = cs.load(network)
    ratios, seconds, valid = [], [], []
    for seed in range(seeds):
        result = cs.map_layers(graph, accelerator, method=method, evaluations=evaluations, seed=seed)
        if result.edp is None:
            raise RuntimeError("the baseline holds no answer")
        ratios.append(result.edp / optimum_edp)
        seconds.append(result.seconds)
        valid += [int(found.group(1)) for remark in result.remarks if (found := re.match(r"(\d+) % of the rounded", remark))]
    return {
        "ratio": median(ratios),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "valid_percent": median(valid) if valid else None,
        "seconds": {"first": round(seconds[0], 3), "median": round(median(seconds), 3)},
    }


def baselines(row: Row, seeds: int, gradient_seeds: int) -> list[Row]:
    """Run the baselines of one network on one accelerator."""
    plans: list[tuple[str, int | None, int]] = [("random", samples, seeds) for samples in SAMPLES]
    if gradient_seeds:
        plans.append(("gradient", None, gradient_seeds))
    found = []
    for method, evaluations, number in plans:
        place = {"network": row["case"], "accelerator": row["accelerator"]}
        done = measure("mapping_optimum", "baseline", **place, method=method, evaluations=evaluations, seeds=number, optimum_edp=row["edp"])
        found.append(
            {"case": row["case"], "accelerator": row["accelerator"], "method": method, "samples": evaluations, "seeds": number, **done}
        )
    return found


def contradictions(row: Row) -> list[str]:
    """Return what a row says against what is known."""
    place = f"{row['case']} on {row['accelerator']}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    energy, latency = KNOWN[row["case"]][ACCELERATORS.index(row["accelerator"])]
    found = []
    if row["latency_cycles"] != latency or abs(row["energy_pj"] - energy) > row["layers"]:
        found.append(f"{place}: {row['energy_pj']} pJ and {row['latency_cycles']} cycles, known {energy} and {latency}")
    if (row["status"], row["gap"], row["verified"]) != ("optimal", 0, True):
        found.append(f"{place}: {row['status']}, gap {row['gap']}, verified {row['verified']}")
    return found


def ratio(rows: list[Row], row: Row, method: str, samples: int | None) -> float | None:
    """Return a baseline's ratio for a row of optima."""
    for other in rows:
        same = (other["case"], other["accelerator"]) == (row["case"], row["accelerator"])
        if same and (other["method"], other.get("samples")) == (method, samples):
            return other.get("ratio")
    return None


def show(rows: list[Row]) -> None:
    """Print the tables."""
    optima = [row for row in rows if row["method"] == "exact" and "error" not in row]
    heads = ("network", "accelerator", "pJ", "cycles", "EDP", "gap", "evaluations", "s", "MiB", "random 100", "1,000", "10,000", "gradient")
    lines: list[tuple[Any, ...]] = []
    for row in optima:
        ratios = [ratio(rows, row, "random", samples) for samples in SAMPLES] + [ratio(rows, row, "gradient", None)]
        shown = [None if value is None else float(f"{value:.3f}") for value in ratios]
        plain = (row["energy_pj"], row["latency_cycles"], f"{row['edp']:.6e}", row["gap"], row["evaluations"])
        lines.append((row["case"], row["accelerator"], *plain, row["seconds"]["map"], row["peak_mib"], *shown))
    print(table(heads, [tuple(f"{cell:.3f}" if isinstance(cell, float) else cell for cell in line) for line in lines]))
    gradients = [row for row in rows if row["method"] == "gradient" and "error" not in row]
    if gradients:
        print("\nGradient: share of rounded tilings that fit before repair, seconds of one run (the first compiles)")
        found = [
            (r["case"], r["accelerator"], r["valid_percent"], r["seconds"]["first"], r["seconds"]["median"], r["seeds"]) for r in gradients
        ]
        print(table(("network", "accelerator", "valid %", "first s", "median s", "seeds"), found))


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of the random baseline, and of gradient on resnet18 (default 10)")
    parser.add_argument("--no-baselines", action="store_true", help="optima only")
    options = parser.parse_args()
    networks = [name for name in KNOWN if fnmatch(name, options.cases)]
    accelerators = ACCELERATORS
    if options.smoke:
        networks, accelerators = ["gpt3_6_7b_decode"], ACCELERATORS[:1]
    rows: list[Row] = []
    wrong: list[str] = []
    for network in networks:
        for accelerator in accelerators:
            row = {"case": network, "accelerator": accelerator, "method": "exact"}
            row |= measure("mapping_optimum", "optimum", network=network, accelerator=accelerator)
            rows.append(row)
            wrong += contradictions(row)
            if "error" not in row and not options.no_baselines:
                seeds = 1 if options.smoke else options.seeds
                rows += baselines(row, seeds, seeds if network == "resnet18" else 1)
    show(rows)
    exact = [row for row in rows if row["method"] == "exact" and "error" not in row]
    summary = {
        "optima": sum(row["status"] == "optimal" for row in exact),
        "map_seconds_sum": round(sum(row["seconds"]["map"] for row in exact), 2),
        "peak_mib_max": max((row["peak_mib"] for row in exact), default=0),
    }
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    write_json(options.json, "mapping_optimum", rows, summary)
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
