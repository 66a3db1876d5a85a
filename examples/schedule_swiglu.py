"""A gated layer of a transformer on four cores: two baselines, a schedule with a bound, a trace, and the result checked from its file.

python examples/schedule_swiglu.py
"""

# %% What is scheduled: 64 tokens, 128 x 256, on four cores in a square

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cosma_sched as cs
from cosma_sched.report.trace import trace_json

LAYER = "swiglu:64x128x256,dtype=int8"


def main() -> int:
    """Schedule three ways, print, and check what is claimed."""
    layer = cs.load(LAYER)

    # %% Baselines, and a schedule with a bound

    found = {
        method: cs.schedule(layer, "bigquad-b-k", method=method, split="rows=2,columns=4", time_limit=10)
        for method in ("list-latency", "list-memory", "exact")
    }
    for method, one in found.items():
        print(f"{method:<13} {one.latency_cycles:>7,} cycles  bound {one.bounds.latency_cycles:,}  peak {one.peak_total_bytes:,} bytes")

    # %% A trace for Perfetto, and the result checked again from its file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "swiglu.json")
        found["exact"].save(path)
        violations = cs.verify(layer, cs.load_result(path))
    print(f"{len(violations)} violations, {len(trace_json(found['exact'])):,} characters of trace")
    latencies = [one.latency_cycles or 0 for one in found.values()]
    return 1 if violations or latencies[-1] > min(latencies) else 0


if __name__ == "__main__":
    sys.exit(main())
