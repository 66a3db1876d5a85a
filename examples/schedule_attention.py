"""One attention head: how little memory it needs on one core, and how fast it runs on two that are unequal.

python examples/schedule_attention.py
"""

# %% What is scheduled: I (128 x 512), three projections, scores, softmax, values

from __future__ import annotations

import sys

import cosma_sched as cs
from cosma_sched.multicore.named import named_schedule

ROWS, WIDTH, BLOCK = 128, 512, 128
STUDY = {"inputs": "streamed", "weights": "free", "outputs": "streamed"}


def main() -> int:
    """Schedule, print, and check what is claimed."""
    head = cs.load(f"attention-head:{ROWS}x{WIDTH}")

    # %% The least peak on one core, over all 243 ways to cut five products

    small = cs.schedule(head, "big-single-b-k", objective="memory", block=BLOCK, **STUDY)
    by_layer = named_schedule(head, "big-single-b-k", "layer-by-layer", size=ROWS // 8, objective="memory", **STUDY)
    fused = named_schedule(head, "big-single-b-k", "fused", size=ROWS // 8, objective="memory", **STUDY)
    print(f"layer by layer {by_layer.peak_total_bytes:,} bytes, the study's fused schedule {fused.peak_total_bytes:,}")
    print(f"least {small.peak_total_bytes:,}, {small.status} for {small.scope}: {small.remarks[0]}")
    if (small.peak_total_bytes, str(small.status), small.scope) != (ROWS * ROWS + 2 * BLOCK * ROWS, "optimal", "all splits"):
        return 1

    # %% The least latency on two unequal cores, rows in two pieces

    fast = cs.schedule(cs.load("attention-head:256x128"), "duo", split="rows=2", time_limit=60)
    print(f"{fast.latency_cycles:,} cycles, bound {fast.bounds.latency_cycles:,}, {fast.status} for {fast.scope}")
    for run in fast.nodes:
        print(f"  {run.start:>6,} {run.end:>6,}  core {run.core}  {run.name}")
    return 0 if fast.latency_cycles == 11_264 and fast.verified else 1


if __name__ == "__main__":
    sys.exit(main())
