"""How little memory does one attention head need on one core, is it proven, and how long does the proof take?

Golden peaks and minima to the byte, closed forms against the simulator, the published rule on a grid, and the time of the exact search: all
243 splits at 8 and at 16 blocks, and one split at 64 blocks. A figure that is not the known one ends the script with exit code 1; so does a
search that takes longer than asked, except with --smoke.
"""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatch
from typing import Any

from runner import Row, arguments, measure, table, write_json

# M, N, block, inputs, p, least peak with outputs kept and streamed, a word that is best in each. Source: multi-core design, section 4.
MINIMA: tuple[tuple[Any, ...], ...] = (
    *((1024, 128, 128, "streamed", p, 524_288, 409_600, "BBBBB", "BBBBB") for p in (1, 2)),
    *((1024, 128, 128, "resident", p, 524_288, 524_288, "BBBBB", "BBBBB") for p in (1, 2)),
    (128, 1024, 128, "streamed", 1, 163_840, 49_152, "KKKCK", "KKKCK"),
    (128, 1024, 128, "streamed", 2, 163_840, 65_536, "KKKCK", "KKKCK"),
    (128, 1024, 128, "resident", 1, 278_528, 180_224, "KKBCB", "KKKCK"),
    (128, 1024, 128, "resident", 2, 278_528, 196_608, "KKBCB", "KKKCK"),
    (512, 512, 128, "streamed", 1, 589_824, 393_216, "BBBBB", "KKKCK"),
    (512, 512, 128, "streamed", 2, 589_824, 589_824, "BBBBB", "BBBBB"),
    (512, 512, 128, "resident", 1, 786_432, 655_360, "KKBCB", "KKBCB"),
    (512, 512, 128, "resident", 2, 851_968, 851_968, "BBBBB", "BBBBB"),
    *((256, 128, 64, "streamed", p, 106_496, 90_112, "BBBBB", "BBBBB") for p in (1, 2)),
    *((256, 128, 64, "resident", p, 114_688, 114_688, "BBBBB", "BBBBB") for p in (1, 2)),
)
# One split, M and N in 16 parts, inputs streamed: word, M, N, kept, streamed. Same source.
SIXTEEN = (
    ("BBBBB", 1024, 128, 458_752, 335_872),
    ("BBBBB", 128, 1024, 263_168, 155_648),
    ("BBBBB", 512, 512, 540_672, 540_672),
    ("KKKCK", 1024, 128, 1_187_840, 1_064_960),
    ("KKKCK", 128, 1024, 155_648, 32_768),
    ("KKKCK", 512, 512, 540_672, 294_912),
)
# M, N, L, the study's fused schedule and its peak, best all-row schedule with outputs kept and streamed; r = 1. Same source.
PEAKS = (
    (1024, 128, 1_310_848, "C", 394_240, 394_240, 263_296),
    (128, 1024, 393_344, "A", 279_552, 262_272, 148_480),
    (81, 32, 11_777, "C", 7_857, 7_857, 5_297),
    (32, 81, 7_808, "A", 6_289, 5_216, 3_697),
    (512, 512, 786_944, "L", 786_944, 524_800, 524_800),
)
SHAPES = ((1024, 128), (128, 1024), (512, 512), (256, 128), (128, 256), (96, 32), (32, 96))
ROW_SCHEDULES = ("U1", "L", "L'", "A", "B", "C", "D")
GRID = tuple(2**k for k in range(4, 12))
LIMITS = {8: 2.0, 16: 60.0}
LONG_LIMIT = 10.0


def _terms(inputs: str = "streamed", outputs: str = "kept", p: int = 1) -> Any:
    from cosma_sched.multicore.problem import Semantics

    return Semantics(inputs=inputs, weights="free", outputs=outputs, partial_sum_factor=p)


def all_splits(m: int, n: int, inputs: str, outputs: str, p: int, block: int | None = None, parts: int | None = None) -> Row:
    """Search all 243 splits of a head; runs in a process of its own."""
    from cosma_sched.frontends import load
    from cosma_sched.multicore.attention import best_split

    graph = load(f"attention-head:{m}x{n}")
    started, used = time.perf_counter(), time.process_time()
    found = best_split(graph, _terms(inputs, outputs, p), size=block, parts=parts)
    seconds = {"search": round(time.perf_counter() - started, 3), "cpu": round(time.process_time() - used, 3)}
    return {"value": found.peak_bytes, "bound": found.bound_bytes, "best": list(found.letters), "seconds": seconds}


def one_split(m: int, n: int, word: str, outputs: str, parts: int) -> Row:
    """Search one split of a head; runs in a process of its own."""
    from cosma_sched.frontends import load
    from cosma_sched.multicore.attention import head_split, on_one_core
    from cosma_sched.multicore.minimax import minimax

    graph = load(f"attention-head:{m}x{n}")
    started, used = time.perf_counter(), time.process_time()
    found = minimax(on_one_core(graph, head_split(word, parts=parts), _terms(outputs=outputs)))
    seconds = {"search": round(time.perf_counter() - started, 3), "cpu": round(time.process_time() - used, 3)}
    return {"value": found.peak_bytes, "bound": found.bound_bytes, "states": found.states, "seconds": seconds}


def simulated(m: int, n: int, sizes: list[int]) -> Row:
    """Compare every closed form of one shape with the simulator; runs in a process of its own."""
    from cosma_sched.frontends import load
    from cosma_sched.multicore.attention import closed_form, on_one_core, order_of_schedule, split_of_schedule
    from cosma_sched.multicore.minimax import peak_of

    graph, wrong, compared = load(f"attention-head:{m}x{n}"), [], 0
    cases = [(name, r, 1, 1) for r in sizes for name in ROW_SCHEDULES] + [("E", 1, b, p) for b in (min(16, n), n) for p in (1, 2)]
    for name, r, b, p in cases:
        for outputs in ("kept", "streamed"):
            problem = on_one_core(graph, split_of_schedule(name, r=r, b=b), _terms(outputs=outputs, p=p))
            reached = peak_of(problem, order_of_schedule(name, problem))
            expected = closed_form(name, m, n, r=r, b=b, p=p, outputs=outputs)
            compared += 1
            if reached != expected:
                wrong.append(f"{name} r={r} b={b} p={p} {outputs}: {reached}, closed form {expected}")
    return {"compared": compared, "wrong": wrong}


def rule() -> Row:
    """Compare the published rule with the exact quotients on the grid, and the golden peaks of row schedules."""
    from cosma_sched.multicore.attention import alpha, best_of_rows

    worst, wrong = 0.0, []
    for m in GRID:
        for n in GRID:
            found = alpha(m, n)
            deviation = abs(found.exact - found.rule) * found.baseline_peak / max(m, n)
            worst = max(worst, float(deviation))
            if deviation > 1:
                wrong.append(f"alpha {m}x{n}: exact {float(found.exact):.4f}, rule {float(found.rule):.4f}")
    for m, n, baseline, name, fused, kept, streamed in PEAKS:
        found = alpha(m, n)
        reached = (found.baseline_peak, found.fused, found.fused_peak, found.best_peak, best_of_rows(m, n, outputs="streamed")[0])
        if reached != (baseline, name, fused, kept, streamed):
            wrong.append(f"peaks of {m}x{n}: {reached}, known {(baseline, name, fused, kept, streamed)}")
    return {"compared": len(GRID) ** 2 + len(PEAKS), "worst_deviation": round(worst, 4), "wrong": wrong}


def _minima(pattern: str, smoke: bool) -> list[Row]:
    rows = []
    for m, n, block, inputs, p, kept, streamed, word, other in MINIMA[-1:] if smoke else MINIMA:
        for outputs, known, best in (("kept", kept, word), ("streamed", streamed, other)):
            case = f"{m}x{n} block {block}"
            if fnmatch(case, pattern):
                row = {"part": "243 splits", "case": case, "inputs": inputs, "outputs": outputs, "p": p, "known": known, "word": best}
                rows.append(row | measure("attention_memory", "all_splits", m=m, n=n, inputs=inputs, outputs=outputs, p=p, block=block))
    return rows


def _sixteen(pattern: str, smoke: bool) -> list[Row]:
    rows = []
    for word, m, n, kept, streamed in SIXTEEN[-1:] if smoke else SIXTEEN:
        for outputs, known in (("kept", kept), ("streamed", streamed)):
            case = f"{m}x{n} 16 parts"
            if fnmatch(case, pattern):
                row = {"part": "one split", "case": case, "inputs": "streamed", "outputs": outputs, "p": 1, "known": known, "word": word}
                rows.append(row | measure("attention_memory", "one_split", m=m, n=n, word=word, outputs=outputs, parts=16))
    return rows


def _speed(pattern: str) -> list[Row]:
    """Time the searches that have a limit."""
    rows = []
    for parts, limit in LIMITS.items():
        for m, n in SHAPES[:3]:
            for inputs, outputs in (("streamed", "kept"), ("streamed", "streamed"), ("resident", "kept"), ("resident", "streamed")):
                case = f"{m}x{n} {parts} parts"
                if fnmatch(case, pattern):
                    row = {"part": "speed", "case": case, "inputs": inputs, "outputs": outputs, "p": 1, "limit": limit}
                    rows.append(row | measure("attention_memory", "all_splits", m=m, n=n, inputs=inputs, outputs=outputs, p=1, parts=parts))
    if fnmatch("1024x128 64 parts", pattern):
        row = {"part": "speed", "case": "1024x128 64 parts", "inputs": "streamed", "outputs": "kept", "p": 1, "known": 409_600}
        row |= {"word": "BBBBB", "limit": LONG_LIMIT}
        rows.append(row | measure("attention_memory", "one_split", m=1024, n=128, word="BBBBB", outputs="kept", parts=64))
    return rows


def contradictions(row: Row, timed: bool) -> list[str]:
    """Return what a row says against what is known or asked."""
    place = f"{row['part']} {row['case']} {row.get('inputs', '')} {row.get('outputs', '')} p={row.get('p', '')}"
    if "error" in row:
        return [f"{place}: {row['error']}"]
    found = [f"{row['case']}: {line}" for line in row.get("wrong", ())]
    if "value" in row:
        if row["value"] != row["bound"]:
            found.append(f"{place}: {row['value']} is not proved, bound {row['bound']}")
        if row["value"] != row.get("known", row["value"]):
            found.append(f"{place}: {row['value']}, known {row['known']}")
        if "best" in row and row.get("word", row["best"][0]) not in row["best"]:
            found.append(f"{place}: {row['word']} is not among the best, {', '.join(row['best'])}")
        if timed and row["seconds"]["cpu"] > row.get("limit", 1e9):
            found.append(f"{place}: {row['seconds']['cpu']} s, asked {row['limit']} s")
    return found


def show(rows: list[Row]) -> None:
    """Print the tables."""
    searched = [row for row in rows if "value" in row]
    heads = ("part", "case", "inputs", "outputs", "p", "known", "reached", "bound", "best", "CPU s", "wall s", "asked s")
    lines = []
    for row in searched:
        best = row.get("word") or row["best"][0]
        ties = f" (1 of {len(row['best'])})" if "best" in row else ""
        figures = (row.get("known"), row["value"], row["bound"], best + ties)
        seconds = (row["seconds"]["cpu"], row["seconds"]["search"], row.get("limit"))
        lines.append((row["part"], row["case"], row["inputs"], row["outputs"], row["p"], *figures, *seconds))
    print(table(heads, lines))
    checked = [row for row in rows if "compared" in row]
    print("\nClosed forms against the simulator, and the published rule (deviation in units of max(rM, rN) / L, at most 1)")
    heads = ("part", "case", "compared", "wrong", "worst deviation")
    print(table(heads, [(r["part"], r["case"], r["compared"], len(r["wrong"]), r.get("worst_deviation")) for r in checked]))


def main() -> int:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    rows = _minima(options.cases, options.smoke) + _sixteen(options.cases, options.smoke)
    for m, n in SHAPES[-1:] if options.smoke else SHAPES:
        if fnmatch(f"{m}x{n}", options.cases):
            row = {"part": "closed forms", "case": f"{m}x{n}"}
            rows.append(row | measure("attention_memory", "simulated", m=m, n=n, sizes=[8, 32] if options.smoke else [1, 8, 32]))
    rows.append({"part": "rule", "case": "2^4 to 2^11", **measure("attention_memory", "rule")})
    rows += [] if options.smoke else _speed(options.cases)
    show(rows)
    wrong = [line for row in rows for line in contradictions(row, not options.smoke)]
    searched = [row for row in rows if "value" in row]
    summary = {
        "searches": len(searched),
        "proved": sum(row["value"] == row["bound"] for row in searched),
        "closed_forms": sum(row.get("compared", 0) for row in rows if row["part"] == "closed forms"),
        "contradictions": len(wrong),
    }
    print()
    print(table(("figure", "value"), [(name.replace("_", " "), value) for name, value in summary.items()]))
    write_json(options.json, "attention_memory", rows, summary)
    for line in wrong:
        print(f"contradiction: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
