"""What a saved answer of any planner says of itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from cosma_sched.result import Answer

# Functions of (answer, name of its file, width, all_rows), by class of answers; only what is shown is imported.
_LINES: Mapping[str, str] = {
    "MemoryPlan": "table:result_lines",
    "MemoryBounds": "table:result_lines",
    "MemoryCurve": "curve:saved_curve_lines",
    "PackingResult": "packing:packing_lines",
    "MappingResult": "mapping:mapping_lines",
    "FusionResult": "fusion:fusion_lines",
    "Schedule": "schedule:saved_schedule_lines",
    "ScheduleFront": "schedule:saved_front_lines",
    "Placement": "experts:saved_placement_lines",
}


def answer_lines(answer: Answer, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return the table of a saved answer; nothing is checked."""
    module, _, name = _LINES[type(answer).__name__].partition(":")
    lines = getattr(importlib.import_module(f"cosma_sched.report.{module}"), name)
    return cast("list[str]", lines(answer, path, width=width, all_rows=all_rows))
