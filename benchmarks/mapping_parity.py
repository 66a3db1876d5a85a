"""Do the numbers of the mapping cost model mean what Timeloop and Gemmini's RTL mean by them?

Twelve cases counted by hand; 9,000 published Timeloop rows, or those of --rows FILE in the same format; 222 published RTL latencies.
Without the data files the script says what is missing. A figure past its hard floor ends it with exit code 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from hand_cases import HAND_CASES, nest_text
from runner import Row, arguments, table, write_json
from timeloop_rows import RTL_FILE, TIMELOOP_FILE, data_folder, read_rtl, read_timeloop, spearman

from cosma_sched.accelerator import load_accelerator
from cosma_sched.mapping.cost import machine_of
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.space import parse

Gate = tuple[str, float, str, float, float]
"""Figure, value, how it is compared, aim, hard floor."""


def hand_cases() -> list[Gate]:
    """Compare counts, cycles and energy of the hand cases."""
    machine = machine_of(load_accelerator("gemmini_small"))
    exact, worst = 0, 0.0
    for _, l3, l1, layer, (w, i), (o, psum), accesses, cycles, energy, i_reuse in HAND_CASES:
        nest = parse(nest_text(l3, l1))
        found, reuse = score(layer, nest, machine), score(layer, nest, machine, "reuse")
        counts = (found.words.w, found.words.i, found.words.o, found.words.psum, reuse.words.i, found.latency_cycles)
        exact += counts == (w, i, o, psum, i_reuse, cycles) and found.accesses == accesses
        worst = max(worst, abs(found.energy_exact_pj - energy))
    return [
        ("hand cases: counts and cycles exact", exact, ">=", 12, 12),
        ("hand cases: largest energy error, pJ", round(worst, 4), "<=", 0.01, 0.01),
    ]


def timeloop(path: Path) -> list[Gate]:
    """Compare cycles and energy with published Timeloop rows."""
    rows = read_timeloop(path)
    found = rows.evaluate()
    name = f"{len(rows.batch):,} Timeloop rows"
    error = 100 * found.energy_error
    return [
        (f"{name}: cycles within 0.1 %, % of rows", 100 * float((found.cycle_error <= 1e-3).mean()), ">=", 99.9, 99),
        (f"{name}: cycles within one, % of rows", 100 * float((found.cycles_off <= 1).mean()), ">=", 99.9, 99),
        (f"{name}: largest cycle error, %", 100 * float(found.cycle_error.max()), "<=", 1, 100),
        (f"{name}: mean energy error, %", float(error.mean()), "<=", 0.03, 0.1),
        (f"{name}: energy error at 99 % of rows, %", float(np.quantile(error, 0.99)), "<=", 0.15, 100),
        (f"{name}: largest energy error, %", float(error.max()), "<=", 2.5, 100),
        (f"{name}: tiles that fit, % of rows", 100 * float(found.fits.mean()), ">=", 100, 100),
    ]


def rtl(path: Path) -> list[Gate]:
    """Compare cycles with those of Gemmini's RTL."""
    rows, measured = read_rtl(path)
    cycles = rows.evaluate().cycles
    ratio = np.quantile(measured / cycles, [0.1, 0.5, 0.9])
    name = f"{len(measured)} RTL rows"
    return [
        (f"{name}: rank correlation of cycles (Spearman)", spearman(cycles, measured), ">=", 0.97, 0.95),
        (f"{name}: correlation of logarithms (Pearson)", float(np.corrcoef(np.log(cycles), np.log(measured))[0, 1]), ">=", 0.99, 0),
        *((f"{name}: RTL / model, {part}", float(value), "", 0, 0) for part, value in zip(("p10", "median", "p90"), ratio, strict=True)),
    ]


def holds(value: float, comparison: str, limit: float) -> bool:
    """Return whether a value is on the right side of a limit."""
    return {">=": value >= limit, "<=": value <= limit, "": True}[comparison]


def main() -> int:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", metavar="FILE", type=Path, help="other Timeloop rows in the same format, .csv or .csv.gz")
    options = parser.parse_args()
    folder = data_folder()
    gates = hand_cases()
    for path, measure in ((options.rows or folder / TIMELOOP_FILE, timeloop), (folder / RTL_FILE, rtl)):
        if path.is_file():
            gates += measure(path)
        else:
            print(f"missing: {path}; its rows are left out")
    lines: list[tuple[Any, ...]] = []
    rows: list[Row] = []
    for figure, value, comparison, aim, floor in gates:
        verdict = "" if not comparison else "yes" if holds(value, comparison, aim) else "no"
        lines.append((figure, f"{value:.4f}".rstrip("0").rstrip("."), f"{comparison} {aim:g}" if comparison else "-", verdict))
        rows.append({"figure": figure, "value": value, "aim": aim, "floor": floor, "reached": verdict == "yes" if comparison else None})
    print(table(("figure", "measured", "aim", "reached"), lines))
    write_json(options.json, "mapping_parity", rows, {"reached": sum(row["reached"] is True for row in rows)})
    broken = [figure for figure, value, comparison, _, floor in gates if not holds(value, comparison, floor)]
    for figure in broken:
        print(f"below its floor: {figure}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
