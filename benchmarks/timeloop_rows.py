"""Published rows of Timeloop and of Gemmini RTL: read, and scored by our model."""

from __future__ import annotations

import csv
import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosma_sched.accelerator import gemmini_energy
from cosma_sched.mapping.batch import Batch, batch_of, evaluate_chunks
from cosma_sched.mapping.cost import Machine, Shape
from cosma_sched.mapping.layer import DIMS
from cosma_sched.mapping.space import parse

TIMELOOP_FILE = "timeloop/timeloop_gemmini_9000.csv.gz"
RTL_FILE = "timeloop/gemmini_rtl_222.csv"


def data_folder() -> Path:
    """Return the folder of third-party data: the variable COSMA_SCHED_DATA, else ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("COSMA_SCHED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@dataclass(frozen=True)
class Scored:
    """What the model says of rows, and how far that is from what is published."""

    cycles: Any
    energy_pj: Any
    fits: Any
    cycle_error: Any
    energy_error: Any
    cycles_off: Any


@dataclass(frozen=True)
class Rows:
    """Mappings with their hardware, shapes and published figures."""

    machine: Machine
    shape: Shape
    batch: Batch
    published_cycles: Any
    energy_pj: Any

    def evaluate(self) -> Scored:
        """Score every row."""
        total = len(self.batch)
        cycles, energy, fits = np.zeros(total), np.zeros(total), np.zeros(total, dtype=bool)
        for rows, cost in evaluate_chunks(self.machine, self.shape, self.batch):
            cycles[rows], energy[rows] = np.ceil(cost.cycles), cost.energy_pj
            room = cost.scratchpad_bytes <= self.machine.scratchpad_bytes[rows]
            fits[rows] = room & (cost.accumulator_bytes <= self.machine.accumulator_bytes[rows])
        off = np.abs(cycles - self.published_cycles)
        return Scored(cycles, energy, fits, off / self.published_cycles, np.abs(energy - self.energy_pj) / self.energy_pj, off)


def read_timeloop(path: Path) -> Rows:
    """Read rows in the format of DOSA's published Timeloop results, zipped or not."""
    return _rows(_records(path))


def read_rtl(path: Path) -> tuple[Rows, Any]:
    """Read rows with the cycles that Gemmini's RTL took beside them."""
    records = _records(path)
    return _rows(records), np.array([float(record["target.gemmini_cycle"]) for record in records])


def _records(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"))))


def _rows(records: list[dict[str, str]]) -> Rows:
    def column(name: str) -> Any:
        return np.array([float(record[name] or 1) for record in records])

    side = column("arch.meshX")
    scratchpad = column("arch.mem2_depth") * column("arch.mem2_width") / 8
    accumulator = column("arch.mem1_depth") * column("arch.mem1_width") * side / 8
    energies = [gemmini_energy({"scratchpad": s, "accumulator": a}, int(n)) for s, a, n in zip(scratchpad, accumulator, side, strict=True)]
    price = {name: np.array([energy[name] for energy in energies]) for name in energies[0]}
    machine = Machine(
        rows=side,
        cols=side,
        mac_pj=0.5608,
        register_pj=price["register"],
        accumulator_pj=price["accumulator"],
        scratchpad_pj=price["scratchpad"],
        dram_pj=price["dram"],
        scratchpad_bytes=scratchpad,
        accumulator_bytes=accumulator,
        accumulator_element_bytes=4,
        accumulator_bandwidth=2,
        scratchpad_bandwidth=2 * side,
        dram_bandwidth=8,
        block_words=64,
        psum_words=1,
    )
    dims = np.array([column(f"prob.{dim}") for dim in DIMS])
    shape = Shape(dims, column("prob.Wstride"), column("prob.Hstride"), column("prob.Wdilation"), column("prob.Hdilation"))
    batch = batch_of([parse(record["mapping.mapping"]) for record in records])
    return Rows(machine, shape, batch, column("target.cycle"), column("target.energy") * 1e6)


def spearman(one: Any, other: Any) -> float:
    """Return the rank correlation of two columns; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Any) -> Any:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]
