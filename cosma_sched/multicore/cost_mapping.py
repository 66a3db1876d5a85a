"""Node costs by the mapping planner: the best mapping of each piece on cores that its model can describe."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import InputError
from cosma_sched.files import decode_json, encode_json, write_whole
from cosma_sched.mapping.cost import Machine, machine_of_core
from cosma_sched.mapping.front import Point
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.sampling import sample_layer
from cosma_sched.mapping.search import misfits, search_layer
from cosma_sched.multicore.costs import AnalyticCosts, NodeCost, Piece
from cosma_sched.multicore.platforms import onchip_levels
from cosma_sched.progress import Clock

_SECONDS = 10.0
"""Search of one distinct piece; what is found by then is used, and an assumption says so."""

_SAMPLES = 512
_CACHE_FORMAT = "cosma-sched/node-cost/1"
_NO_LIMIT = float("inf")


class MappingCosts:
    """Best mappings; vector operators and cores of another kind by the analytic formula, with one warning for each core.

    A core whose own outermost level is DRAM is mapped as if that level cost nothing: what comes from off-chip is a transfer of the
    schedule and must not be charged twice.

    Parameters
    ----------
    accelerator
        The cores.
    objective
        ``latency``, ``energy`` or ``edp``.
    cache
        Folder in which answers are kept from run to run; None for none.
    """

    name = "mapping"

    def __init__(self, accelerator: Accelerator, *, objective: str = "latency", cache: str | os.PathLike[str] | None = None) -> None:
        self._analytic = AnalyticCosts(accelerator)
        self._objective = objective
        self._cache = None if cache is None else Path(cache)
        self._machines: dict[str, Machine] = {}
        self._warnings: list[str] = []
        self._found: dict[tuple[Layer, Machine], NodeCost | None] = {}
        self._unfinished = 0
        for core in accelerator.cores:
            if core.array is None:
                continue
            try:
                machine = machine_of_core(core, f"core {core.id}")
            except InputError as error:
                self._warnings.append(f"core {core.id}: {error.defects[0].problem}; its nodes are costed analytically")
                continue
            own_dram = len(onchip_levels(core)) < len(core.levels)
            self._machines[core.id] = machine._replace(dram_pj=0.0, dram_bandwidth=_NO_LIMIT) if own_dram else machine

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the answers rest on."""
        told = [f"best mapping of each node for {self._objective}, even factors"]
        if self._unfinished:
            told.append(f"{self._unfinished} searches ended at {_SECONDS:g} s with the best mapping found")
        return (*told, *self._analytic.assumptions) if self._warnings else tuple(told)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Cores that are costed analytically, and operator types without a cost model."""
        return (*self._warnings, *self._analytic.warnings)

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return the cost on every allowed core."""
        return {core: self.cost(piece, core) for core in self._analytic.allowed(piece.type)}

    def cost(self, piece: Piece, core: str) -> NodeCost:
        """Return the cost on one core."""
        machine = self._machines.get(core)
        if machine is None or not piece.dims:
            return self._analytic.cost(piece, core)
        layer = _layer(piece)
        if (layer, machine) not in self._found:
            self._found[layer, machine] = self._cached(layer, machine, core)
        found = self._found[layer, machine]
        return self._analytic.cost(piece, core) if found is None else found

    def _cached(self, layer: Layer, machine: Machine, core: str) -> NodeCost | None:
        if self._cache is None:
            return self._searched(layer, machine, core)
        key = hashlib.sha256(repr((layer, machine, self._objective)).encode()).hexdigest()
        file = self._cache / f"{key}.json"
        kept = _read(file)
        if kept is None:
            kept = self._searched(layer, machine, core)
            if kept is not None:
                self._cache.mkdir(parents=True, exist_ok=True)
                write_whole(file, encode_json({"schema": _CACHE_FORMAT, "cycles": kept.cycles, "energy_pj": kept.energy_pj}))
        return kept

    def _searched(self, layer: Layer, machine: Machine, core: str) -> NodeCost | None:
        if misfits(layer, machine, f"core {core}"):
            self._warnings.append(f"core {core}: {layer} fits in no mapping; costed analytically")
            return None
        search = search_layer(layer, machine, "parity", clock=Clock(_SECONDS))
        points = search.points
        if not search.complete:
            self._unfinished += 1
            points = (*points, *sample_layer(layer, machine, "parity", samples=_SAMPLES, seed=(0, 0)).points)
        best = min(points, key=self._rank)
        return NodeCost(max(best.latency_cycles, 1), best.energy_pj)

    def _rank(self, point: Point) -> tuple[int, int]:
        if self._objective == "energy":
            return point.energy_pj, point.latency_cycles
        if self._objective == "edp":
            return point.energy_pj * point.latency_cycles, point.latency_cycles
        return point.latency_cycles, point.energy_pj


def _layer(piece: Piece) -> Layer:
    layer = Layer("", piece.dims, *piece.strides, *piece.dilations, repeat=piece.repeat)
    return replace(layer, element_bytes=piece.element_bytes)


def _read(file: Path) -> NodeCost | None:
    """Return what a file of the cache holds, or None where it holds no cost: it is then made anew."""
    if not file.is_file():
        return None
    try:
        document = decode_json(str(file), file.read_bytes())
    except (InputError, OSError):
        return None
    if not isinstance(document, Mapping) or document.get("schema") != _CACHE_FORMAT:
        return None
    values = [document.get("cycles"), document.get("energy_pj")]
    if any(isinstance(value, bool) or not isinstance(value, int) or value < least for value, least in zip(values, (1, 0), strict=True)):
        return None
    return NodeCost(document["cycles"], document["energy_pj"])
