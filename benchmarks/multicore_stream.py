"""How much faster than Stream's schedules are ours, at Stream's own node costs, hardware files and tile sizes?

SwiGLU 256x2048x8192 and two convolutions on eight systems, attention heads on one; latency, bound, gap, off-chip bits and the peak of each
core beside Stream's latency and the target of the design (multi-accelerator.md, section 13). Node costs were measured with Stream 1.13.14
(heads: 2.1.1). Each row is a solve in a fresh process, verified. The hardware files are read from the folder that COSMA_SCHED_DATA names,
else from ../shared/data; where they are absent the rows are skipped. A row above its target, or unverified, ends the script with code 1.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from runner import HERE, Row, arguments, measure, table, write_json

DATA = Path(os.environ.get("COSMA_SCHED_DATA") or HERE.parent.parent / "shared" / "data") / "stream"
TIME_LIMIT = 240.0

# system: (cores that share a layer, gate and up, down, silu, mul, Stream, target); costs of a core where two kinds differ: (core 0, core 1)
SWIGLU: dict[str, tuple[Any, ...]] = {
    "eyeriss_like_single_core": (1, 1572, 1483, 32, 30, 343_933_021, 325_000_000),
    "eyeriss_like_dual_core": (2, 1572, 2859, 64, 62, 170_918_067, 162_000_000),
    "eyeriss_like_quad_core": (4, 1572, 5675, 128, 126, 127_074_661, 85_000_000),
    "tpu_like_quad_core": (4, 135, 543, 128, 126, 103_546_916, 10_400_000),
    "meta_prototype_dual_core_simd_offchip": (2, 256, 335, 64, 62, 110_100_501, 37_000_000),
    "simba_small": (4, 1315, 4379, 4, 20, 123_142_418, 82_000_000),
    "simba": (4, 1315, 4379, 4, 20, 38_666_519, 19_000_000),
    "fusemax": (2, (18, 528), (19, 2048), (4, 8), (3, 32), 76_808_227, 7_700_000),
}
OWN_VECTOR = {"simba_small", "simba", "fusemax"}
"""Systems without a vector core: a piece of silu or mul is that of one core's columns."""

# system: (cores, conv1 and conv2 of one core, Stream, target)
TWO_CONV: dict[str, tuple[Any, ...]] = {
    "eyeriss_like_single_core": (1, 21_048, 83_423, 114_999, 108_000),
    "eyeriss_like_dual_core": (2, 13_991, 55_372, 76_675, 73_000),
    "eyeriss_like_quad_core": (4, 6950, 27_699, 41_961, 38_500),
    "tpu_like_quad_core": (4, 2376, 4656, 14_344, 10_800),
    "meta_prototype_dual_core_simd_offchip": (2, 6417, 3656, 17_385, 13_000),
    "simba_small": (4, 717, 2721, 10_750, 9100),
    "fusemax": (2, (2304, 36_864), (4609, 147_456), 186_148, 18_600),
    "simba": (36, 138, 372, 4316, None),
}

# Stream's schedules: iterations, cycles of one and overlap of SwiGLU; bits per cycle of the bus for two convolutions
ITERATIONS: dict[str, tuple[int, int, int]] = {
    "eyeriss_like_single_core": (1_048_576, 421, 93),
    "eyeriss_like_dual_core": (262_144, 831, 179),
    "eyeriss_like_quad_core": (65_536, 2296, 357),
    "tpu_like_quad_core": (65_536, 1616, 36),
    "meta_prototype_dual_core_simd_offchip": (262_144, 441, 21),
    "simba_small": (65_536, 2153, 274),
    "simba": (65_536, 869, 279),
    "fusemax": (262_144, 328, 35),
}
BUS = {"eyeriss_like_single_core": 64, "simba": 256, "fusemax": 512}
INPUT, FIRST, SECOND, BETWEEN, OUTPUT = 131_072, 18_432, 73_728, 262_144, 524_288
"""Bits of the tensors of two convolutions."""

SOFTMAX = {"max": "ReduceMax", "exp": "Exp", "sum": "ReduceSum", "div": "Div", "squares": "ReduceSumSquare", "root": "Sqrt"}

# heads on eyeriss_like_dual_core: (how to build it, layer: (cycles of a piece on one core, pieces), parts of the rows of Q, S, P, A, ...)
HEADS: dict[str, tuple[Any, ...]] = {
    "head 1024x128 int8": (
        "attention-head:1024x128,dtype=int8",
        {"K": (52_192, 2), "V": (52_192, 2), "Q": (1001, 128), "S": (7424, 128), "A": (8011, 128)}
        | {"P.max": (60, 128), "P.exp": (1024, 64), "P.sum": (60, 128), "P.div": (270, 64)},
        (64, 128),
        1_223_122,
        1_180_000,
        0.015,
    ),
    "head 1024x128 fp32": (
        "normalised",
        {"K": (208_480, 2), "V": (208_480, 2), "Q": (208_480, 2), "S": (208_480, 16), "A": (132_290, 32)}
        | {"P.squares": (57, 512), "P.root": (4, 512), "P.div": (253, 256)},
        (128,),
        6_065_161,
        4_850_000,
        None,
    ),
    "head attention_head.onnx": (
        "attention_head.onnx",
        {"K": (27_549, 2), "V": (27_549, 2), "Q": (27_549, 2), "scores": (7865, 2), "Y": (7107, 2)}
        | {"attn.max": (262, 2), "attn.exp": (2048, 1), "attn.sum": (262, 2), "attn.div": (514, 1)},
        (4, 8, 16),
        156_883,
        120_000,
        None,
    ),
}
"""Last: Stream, target, and the gap asked for."""


def hardware(system: str) -> str:
    """Return the path of a system's file."""
    return str(DATA / "hardware" / f"{system}.yaml")


def cost_table(folder: str, rows: dict[str, dict[str, int]]) -> str:
    """Write cycles of whole layers by core as a table and return its path."""
    path = Path(folder) / "costs.csv"
    lines = [f"{layer},{core},{cycles},0" for layer, row in rows.items() for core, cycles in row.items()]
    path.write_text("\n".join(["layer,core,latency_cycles,energy_pj", *lines, ""]), encoding="utf-8")
    return str(path)


def on_cores(system: str, operator_type: str, cycles: Any, pieces: int) -> dict[str, int]:
    """Return the cycles of so many pieces on every core that may run them; a pair is for cores 0 and 1."""
    from cosma_sched.accelerator import load_accelerator
    from cosma_sched.multicore.costs import allowed_cores

    allowed = allowed_cores(operator_type, load_accelerator(hardware(system)))
    return {core: pieces * (cycles[int(core)] if isinstance(cycles, tuple) else cycles) for core in allowed}


def outcome(answer: Any, stream: int, target: int | None, started: float) -> Row:
    """Return the row of a schedule."""
    offchip = 8 * (answer.offchip_bytes.read + answer.offchip_bytes.write)
    row = {"value": answer.latency_cycles, "bound": answer.bounds.latency_cycles, "gap": answer.gap, "status": str(answer.status)}
    row |= {"stream": stream, "ratio": round(stream / answer.latency_cycles, 3), "target": target, "verified": answer.verified}
    row |= {"offchip_bits": offchip, "peak_bytes": dict(answer.peak_bytes), "bounds": dict(answer.bounds.by_name)}
    return {**row, "split": dict(answer.split), "seconds": {"solve": round(time.perf_counter() - started, 3)}}


def swiglu(system: str, seconds: float) -> Row:
    """Schedule SwiGLU in bf16 as a tile loop."""
    import cosma_sched as cs

    width, gate_up, down, silu, mul, stream, target = SWIGLU[system]
    vectors = 1 if system in OWN_VECTOR else width
    with tempfile.TemporaryDirectory() as folder:
        costs = {name: on_cores(system, "MatMul", gate_up, 65_536) for name in ("gate", "up")}
        costs["down"] = on_cores(system, "MatMul", down, 65_536 // width)
        costs |= {"silu": on_cores(system, "Silu", silu, 4096 // vectors), "mul": on_cores(system, "Mul", mul, 4096 // vectors)}
        path = cost_table(folder, costs)
        started = time.perf_counter()
        answer = cs.schedule(
            cs.load("swiglu:256x2048x8192,dtype=bf16"),
            hardware(system),
            costs=path,
            timing="stream",
            capacity_rule="unified",
            time_limit=seconds,
        )
        return outcome(answer, stream, target, started)


def two_conv(system: str, seconds: float) -> Row:
    """Schedule two convolutions in row bands, their output channels over the cores."""
    import cosma_sched as cs
    from cosma_sched.multicore.splits import Cut, Split

    cores, conv1, conv2, stream, target = TWO_CONV[system]
    graph = cs.load("two-conv:8x32x32,16,32,k3,dtype=bf16")
    with tempfile.TemporaryDirectory() as folder:
        # what one core takes for its share of the channels, as a whole layer
        costs = {name: on_cores(system, "Conv", cycles, cores) for name, cycles in (("conv1", conv1), ("conv2", conv2))}
        path = cost_table(folder, costs)
        started = time.perf_counter()
        answers = []
        for rows in (8, 4, 16):
            cuts = [Cut("rows", rows)] + ([Cut("channels", min(cores, 16))] if cores > 1 else [])
            how = {"timing": "stream", "capacity_rule": "unified", "time_limit": seconds / 3}
            answers.append(cs.schedule(graph, hardware(system), split=Split(tuple(cuts)), costs=path, **how))
        best = min(answers, key=lambda answer: answer.latency_cycles)
        return outcome(best, stream, target, started)


def head_graph(name: str) -> Any:
    """Return the network of a head: described, read from Stream's file, or with the rows divided by their Euclidean norm."""
    import cosma_sched as cs

    if name.endswith(".onnx"):
        return cs.load(DATA / "workload" / name, parameters=("wQ", "wK", "wV"))
    if name != "normalised":
        return cs.load(name)
    head = cs.load("attention-head:1024x128,dtype=fp32")
    column = {"shape": (1024, 1), "dtype": "float32"}
    tensors = [tensor for tensor in head.tensors.values()]
    tensors += [cs.Tensor(word, 4096, "activation", **column) for word in ("P.squares", "P.root")]
    normalise = [
        cs.Operator("P.squares", "ReduceSumSquare", ("S",), ("P.squares",), {"axes": [1], "keepdims": 1}),
        cs.Operator("P.root", "Sqrt", ("P.squares",), ("P.root",)),
        cs.Operator("P.div", "Div", ("S", "P.root"), ("P",)),
    ]
    operators = [one for operator in head.operators for one in (normalise if operator.name == "P" else [operator])]
    return cs.Graph(tensors, operators, "attention-head:1024x128, rows normalised")


def cuts_of(model: str, layers: list[str], bands: int) -> dict[str, dict[str, int]]:
    """Return how the layers of a head are cut: K and V in halves, what SIMD runs in half as many bands as the rest.

    Where scores are larger than a core's memory, a core keeps its half of K and of V: its columns of the scores and of the result.
    """
    cuts = {layer: {"rows": bands // 2 if layer.endswith((".exp", ".div")) else bands} for layer in layers}
    if "K" in cuts and "V" in cuts:
        cuts |= {"K": {"rows": 2}, "V": {"rows": 2}}
    if model == "normalised":
        cuts |= {"V": {"columns": 2}, "S": {"rows": bands, "columns": 2}, "A": {"rows": bands, "columns": 2}, "P.div": {"rows": bands}}
    return cuts


def head(name: str, seconds: float) -> Row:
    """Schedule an attention head, what stands for its softmax as single operators, in several numbers of row bands."""
    import cosma_sched as cs
    from cosma_sched.multicore.splits import Cut, Split

    system = "eyeriss_like_dual_core"
    model, pieces, parts, stream, target, gap = HEADS[name]
    graph = head_graph(model)
    with tempfile.TemporaryDirectory() as folder:
        costs = {
            layer: on_cores(system, SOFTMAX.get(layer.rpartition(".")[2], "MatMul"), cycles, count)
            for layer, (cycles, count) in pieces.items()
        }
        path = cost_table(folder, costs)
        started = time.perf_counter()
        answers = []
        for bands in parts:
            layers = cuts_of(model, list(pieces), bands)
            split = Split(layers={layer: tuple(Cut(dim, count) for dim, count in row.items()) for layer, row in layers.items()})
            how = {"timing": "stream", "capacity_rule": "unified", "softmax": "expanded", "time_limit": seconds / len(parts)}
            answers.append(cs.schedule(graph, hardware(system), split=split, costs=path, **how))
        best = min(answers, key=lambda answer: answer.latency_cycles)
        return {**outcome(best, stream, target, started), "asked_gap": gap}


def replayed() -> list[str]:
    """Return the published totals that replaying Stream's slots does not give again."""
    from cosma_sched.multicore.slots import Slot, SlotList, SlotRun, SlotTransfer, replay

    lists = []
    for system, (count, cycles, overlap) in ITERATIONS.items():
        lists.append(SlotList(f"swiglu {system}", (Slot(runs=(SlotRun("all", "0", cycles),)),), count, overlap, SWIGLU[system][-2]))
    for system, (cores, conv1, conv2, stream, _) in TWO_CONV.items():

        def moved(tensor: str, bits: int, rate: int = BUS.get(system, 128)) -> SlotTransfer:
            return SlotTransfer(tensor, "bus", bits, rate)

        first, second = (
            tuple(SlotRun(layer, str(core), cost[core] if isinstance(cost, tuple) else cost) for core in range(cores))
            for layer, cost in (("conv1", conv1), ("conv2", conv2))
        )
        between = (Slot((moved("between", BETWEEN),)),) if cores > 1 else ()
        begin = (Slot((moved("input", INPUT),)), Slot((moved("w1", FIRST),)), Slot((moved("w2", SECOND),), first))
        end = (Slot(runs=second), Slot((moved("output", OUTPUT),)))
        lists.append(SlotList(f"2conv {system}", (*begin, *between, *end), stated_cycles=stream))
    return [one.name for one in lists if replay(one)]


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return every case: its name, the function and its arguments."""
    found: dict[str, tuple[str, dict[str, Any]]] = {f"swiglu {system}": ("swiglu", {"system": system}) for system in SWIGLU}
    found |= {f"2conv {system}": ("two_conv", {"system": system}) for system in TWO_CONV}
    return found | {name: ("head", {"name": name}) for name in HEADS}


def main() -> int:
    """Run the cases and print the table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT, metavar="SECONDS", help=f"of each row (default {TIME_LIMIT:.0f})")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no hardware files, {DATA} is absent")
        return 0
    wanted = {name: case for name, case in cases().items() if fnmatch(name, options.cases)}
    if options.smoke:
        wanted = {name: case for name, case in wanted.items() if name in {"swiglu tpu_like_quad_core", "2conv tpu_like_quad_core"}}
    rows = []
    for name, (function, given) in wanted.items():
        row = {"case": name, **measure("multicore_stream", function, **given, seconds=10.0 if options.smoke else options.time_limit)}
        rows.append(row)
        print(f"{name}: {row.get('error') or row['value']}", file=sys.stderr)
    print(
        table(
            ("case", "latency", "bound", "gap", "Stream", "Stream/ours", "target", "offchip bits", "s", "MiB"), [cells(row) for row in rows]
        )
    )
    differing = replayed()
    print(f"\nStream's own schedules replayed: {16 - len(differing)} of 16 totals the same", *differing)
    counted = [row["ratio"] for row in rows if row.get("target") and not row["case"].startswith("head")]
    mean = math.exp(sum(map(math.log, counted)) / len(counted)) if counted else None
    print(f"geometric mean of Stream/ours over {len(counted)} comparable rows: {mean and round(mean, 3)} (asked: >= 2.0)")
    summary = {"geometric_mean": mean, "rows": len(counted), "replayed_totals": 16 - len(differing)}
    write_json(options.json, "multicore_stream", rows, summary)
    failed = [row["case"] for row in rows if not reached(row)]
    if differing:
        return 1
    if failed:
        print(f"not reached: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed and not options.smoke else 0


def reached(row: Row) -> bool:
    """Return whether a row is verified, at or below its target, and within the gap that is asked of it."""
    if "error" in row or not row["verified"] or (row["target"] and row["value"] > row["target"]):
        return False
    return row.get("asked_gap") is None or (row["gap"] is not None and row["gap"] <= row["asked_gap"])


def cells(row: Row) -> list[Any]:
    """Return a row of the table."""
    gap = f"{100 * row['gap']:.2f} %" if row.get("gap") is not None else None
    known = [row.get(name) for name in ("value", "bound")]
    return [
        row["case"],
        *known,
        gap,
        row.get("stream"),
        row.get("ratio"),
        row.get("target"),
        row.get("offchip_bits"),
        row["seconds"]["total"],
        row.get("peak_mib"),
    ]


if __name__ == "__main__":
    sys.exit(main())
