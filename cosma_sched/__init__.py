"""cosma-sched plans how a neural network runs on an accelerator whose on-chip memory is too small for it, and proves how good the plan is.

The public names are imported on first use: ``import cosma_sched`` loads no solver and no model reader.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Graph": "graph",
    "Operator": "graph",
    "Tensor": "graph",
    "TensorKind": "graph",
    "Provenance": "result",
    "Reason": "result",
    "Status": "result",
    "Termination": "result",
    "CosmaError": "errors",
    "UsageError": "errors",
    "InputError": "errors",
    "InfeasibleError": "errors",
    "BackendError": "errors",
    "MissingError": "errors",
    "VerificationError": "errors",
    "MemoryBounds": "memory.bounds",
    "MemoryCurve": "memory.curve_answer",
    "MemoryPlan": "memory.plan",
    "Violation": "memory.verify",
    "Buffer": "graph",
    "BufferGap": "graph",
    "PackingResult": "memory.packing_answer",
    "pack": "memory.pack_calls",
    "Accelerator": "accelerator",
    "load_accelerator": "accelerator",
    "Layer": "mapping.layer",
    "MappingResult": "mapping.answer",
    "map_layers": "mapping.calls",
    "evaluate_mapping": "mapping.calls",
    "read_layer_table": "mapping.layer_table",
    "FusionResult": "fusion.answer",
    "fuse": "fusion.calls",
    "Schedule": "multicore.schedule",
    "schedule": "multicore.calls",
    "Placement": "experts.placement",
    "place_experts": "experts.calls",
    "read_profile": "experts.formats.reading",
    "load": "api",
    "load_result": "api",
    "memory_bounds": "api",
    "memory_curve": "api",
    "plan_memory": "api",
    "verify": "api",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604

if TYPE_CHECKING:
    from cosma_sched.accelerator import Accelerator, load_accelerator
    from cosma_sched.api import load, load_result, memory_bounds, memory_curve, plan_memory, verify
    from cosma_sched.errors import BackendError, CosmaError, InfeasibleError, InputError, MissingError, UsageError, VerificationError
    from cosma_sched.experts.calls import place_experts
    from cosma_sched.experts.formats.reading import read_profile
    from cosma_sched.experts.placement import Placement
    from cosma_sched.fusion.answer import FusionResult
    from cosma_sched.fusion.calls import fuse
    from cosma_sched.graph import Buffer, BufferGap, Graph, Operator, Tensor, TensorKind
    from cosma_sched.mapping.answer import MappingResult
    from cosma_sched.mapping.calls import evaluate_mapping, map_layers
    from cosma_sched.mapping.layer import Layer
    from cosma_sched.mapping.layer_table import read_layer_table
    from cosma_sched.memory.bounds import MemoryBounds
    from cosma_sched.memory.curve_answer import MemoryCurve
    from cosma_sched.memory.pack_calls import pack
    from cosma_sched.memory.packing_answer import PackingResult
    from cosma_sched.memory.plan import MemoryPlan
    from cosma_sched.memory.verify import Violation
    from cosma_sched.multicore.calls import schedule
    from cosma_sched.multicore.schedule import Schedule
    from cosma_sched.result import Provenance, Reason, Status, Termination

logging.getLogger("cosma_sched").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cosma_sched' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cosma_sched.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
