"""A schedule's allocation, tiling and groups as a mapping file of Stream (KULeuven-MICAS/stream, 2.1): a start for its own evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cosma_sched.graph import Graph
from cosma_sched.multicore.schedule import Schedule

_DIMS = {"rows": "OY", "columns": "OX", "channels": "K", "contraction": "C"}
_MATMUL_DIMS = {"rows": "D", "columns": "K", "contraction": "C"}


def mapping_yaml(schedule: Schedule, graph: Graph) -> str:
    """Return ``layers: [{name, core_allocation, inter_core_tiling}]`` and ``fused_groups: [{layers, intra_core_tiling}]``.

    Parameters
    ----------
    schedule
        The answer; its split says how each layer is cut.
    graph
        Its network, which says what a layer's dimensions are called.
    """
    cores: dict[str, list[int | str]] = {}
    for run in schedule.nodes:
        core: int | str = int(run.core) if run.core.isdigit() else run.core
        if core not in cores.setdefault(run.layer, []):
            cores[run.layer].append(core)
    cuts: Mapping[str, Any] = schedule.split.get("layers", {})
    layers = [
        {"name": layer, "core_allocation": [sorted(found, key=str)], "inter_core_tiling": _tiling(layer, len(found), cuts, graph)}
        for layer, found in cores.items()
    ]
    groups = [{"layers": list(group), "intra_core_tiling": _intra(group, cuts, graph)} for group in schedule.groups or (tuple(cores),)]
    return yaml.safe_dump({"layers": layers, "fused_groups": groups}, sort_keys=False)


def _tiling(layer: str, num_cores: int, cuts: Mapping[str, Any], graph: Graph) -> list[dict[str, Any]]:
    across = [cut for cut in cuts.get(layer, ()) if cut["dim"] != "rows"]
    return [{"dim": _dim(layer, cut["dim"], graph), "split": num_cores} for cut in across[:1]] if num_cores > 1 else []


def _intra(group: tuple[str, ...], cuts: Mapping[str, Any], graph: Graph) -> list[dict[str, Any]]:
    last = group[-1]
    return [{"dim": f"{last}.{_dim(last, cut['dim'], graph)}", "tile": cut.get("parts", cut.get("size"))} for cut in cuts.get(last, ())]


def _dim(layer: str, dim: str, graph: Graph) -> str:
    known = {operator.name: operator.type for operator in graph}
    names = _MATMUL_DIMS if known.get(layer) in {"MatMul", "Gemm"} else _DIMS
    return names.get(dim, dim)
