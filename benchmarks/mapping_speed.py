"""How fast and how small is the mapping planner on one core?

The general evaluator on a million mixed mappings, the enumerator on one large layer, memory when a layer has ten times more tilings, and
the whole command on ResNet18 and U-Net. Seconds depend on the machine; nothing is compared with them.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from typing import Any

from runner import Row, arguments, measure, table, write_json


class Watch:
    """Seconds since its making: on the clock, and of this process on its core, which other work on the machine does not stretch."""

    def __init__(self) -> None:
        self._wall, self._core = time.perf_counter(), time.process_time()

    @property
    def core(self) -> float:
        """Seconds of this process."""
        return time.process_time() - self._core

    def seconds(self, name: str) -> dict[str, float]:
        """Return both as a row holds them."""
        return {name: round(time.perf_counter() - self._wall, 3), "core": round(self.core, 3)}


def evaluator(rows: int) -> Row:
    """Score mixed mappings: several layers, three accelerators, any order at every level; runs in a process of its own."""
    import numpy as np

    from cosma_sched.accelerator import builtin_names, load_accelerator
    from cosma_sched.mapping.batch import Batch, evaluate_chunks
    from cosma_sched.mapping.cost import Machine, Shape, machine_of
    from cosma_sched.mapping.layer import Layer
    from cosma_sched.mapping.sampling import draw_tilings

    generator = np.random.default_rng(0)
    layers = [
        Layer("a", (1, 64, 64, 56, 56, 3, 3)),
        Layer("b", (1, 256, 128, 14, 14, 1, 1), 2, 2),
        Layer("c", (4, 96, 3, 112, 112, 7, 7), 2, 2),
        Layer("d", (1, 768, 3072, 128, 1, 1, 1)),
    ]
    machines = [machine_of(load_accelerator(name)) for name in builtin_names() if name.startswith("gemmini")]
    temporal, spatial = np.ones((4, 7, rows), dtype=np.int32), np.ones((2, rows), dtype=np.int32)
    dims, strides = np.empty((7, rows)), np.empty(rows)
    facts, orders = np.empty((len(Machine._fields), rows)), np.empty((4, 7, rows), dtype=np.int8)
    part = rows // 12
    for index in range(12):
        here = slice(index * part, (index + 1) * part if index < 11 else rows)
        layer, machine = layers[index % 4], machines[index % 3]
        spread, inner, outer = draw_tilings(layer, machine, here.stop - here.start, generator)
        temporal[1, :, here], temporal[3, :, here], spatial[:, here] = inner, outer, spread
        dims[:, here], strides[here] = np.array(layer.dims)[:, None], layer.stride_p
        facts[:, here] = np.array(machine, dtype=float)[:, None]
        orders[:, :, here] = np.argsort(generator.random((4, 7, here.stop - here.start), dtype=np.float32), axis=1)
    batch = Batch(temporal, spatial, orders)
    shape, machine = Shape(dims, strides, strides), Machine(*facts)
    watch = Watch()
    total = sum(float(cost.energy_pj.sum()) for _, cost in evaluate_chunks(machine, shape, batch))
    return {"rows": rows, "per_second": round(rows / watch.core), "sum_pj": total, "seconds": watch.seconds("evaluate")}


def enumerator(dims: list[int]) -> Row:
    """Enumerate one layer; runs in a process of its own."""
    from cosma_sched.accelerator import load_accelerator
    from cosma_sched.mapping.cost import machine_of
    from cosma_sched.mapping.layer import Layer
    from cosma_sched.mapping.search import search_layer
    from cosma_sched.mapping.space import tilings
    from cosma_sched.progress import Clock

    machine = machine_of(load_accelerator("gemmini_large"))
    layer = Layer("layer", tuple(dims))
    watch = Watch()
    found = search_layer(layer, machine, "parity", clock=Clock())
    return {
        "tilings": tilings(layer.dims, machine.rows, machine.cols),
        "evaluations": found.evaluations,
        "per_second": round(found.evaluations / watch.core),
        "seconds": watch.seconds("enumerate"),
    }


def command(network: str) -> Row:
    """Run the whole command in a process of its own, on one core."""
    from runner import HERE

    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    call = [sys.executable, "-m", "cosma_sched", "map", network, "--accelerator", "gemmini_small", "--workers", "1", "--json"]
    started = time.perf_counter()
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = {"command": round(time.perf_counter() - started, 3), "core": round(spent.ru_utime + spent.ru_stime, 3)}
    return {"bytes": len(done.stdout), "seconds": seconds}


PARTS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("general evaluator, a million mixed rows", "evaluator", {"rows": 1_000_000}, ">= 1,000,000 mappings/s"),
    ("enumerator, 1024x1024 channels, 28x28, 3x3", "enumerator", {"dims": [1, 1024, 1024, 28, 28, 3, 3]}, ">= 3,000,000 evaluations/s"),
    ("enumerator, eleven times the tilings (240x240)", "enumerator", {"dims": [1, 1024, 1024, 240, 240, 3, 3]}, "memory as above"),
    ("command: map resnet18", "command", {"network": "resnet18"}, "<= 3 s"),
    ("command: map unet_572", "command", {"network": "unet_572"}, "<= 20 s"),
)


def main() -> int:
    """Run the benchmark."""
    options = arguments(__doc__ or "").parse_args()
    rows: list[Row] = []
    for name, function, given, aim in PARTS:
        if options.smoke:
            given = given | ({"rows": 20_000} if function == "evaluator" else {})
            if given.get("network") == "unet_572":
                continue
        rows.append({"case": name, "aim": aim, **measure("mapping_speed", function, **given)})
    lines = []
    for row in rows:
        if "error" in row:
            lines.append((row["case"], None, None, None, None, row["error"], None))
            continue
        wall, core = (row["seconds"][name] for name in (next(iter(row["seconds"])), "core"))
        lines.append((row["case"], row.get("tilings") or row.get("rows"), row.get("per_second"), wall, core, row["aim"], row["peak_mib"]))
    print(table(("part", "tilings or rows", "per core second", "s", "core s", "aim", "MiB"), lines))
    write_json(options.json, "mapping_speed", rows, {})
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
