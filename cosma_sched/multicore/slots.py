"""Replaying slot lists, the schedules of tools in which a slot begins only once the one before it has ended (Stream is one).

Within a slot transfers and runs go on side by side; what uses the same link, bus or core goes one after the other. A list may repeat: each
further iteration begins a given overlap before the one before it has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from cosma_sched.multicore.verify import Violation


@dataclass(frozen=True, slots=True)
class SlotTransfer:
    """One transfer of a slot: bits over a resource of so many bits per cycle."""

    tensor: str
    resource: str
    size_bits: int
    bits_per_cycle: int

    @property
    def cycles(self) -> int:
        """How long it takes."""
        return -(-self.size_bits // self.bits_per_cycle)


@dataclass(frozen=True, slots=True)
class SlotRun:
    """One computation of a slot on a core."""

    node: str
    core: str
    cycles: int


@dataclass(frozen=True, slots=True)
class Slot:
    """What happens between two barriers."""

    transfers: tuple[SlotTransfer, ...] = ()
    runs: tuple[SlotRun, ...] = ()

    @property
    def cycles(self) -> int:
        """The load of its busiest link or core."""
        load: dict[tuple[str, str], int] = defaultdict(int)
        for transfer in self.transfers:
            load["resource", transfer.resource] += transfer.cycles
        for run in self.runs:
            load["core", run.core] += run.cycles
        return max(load.values(), default=0)


@dataclass(frozen=True, slots=True)
class SlotList:
    """A foreign schedule.

    Parameters
    ----------
    name
        For people.
    slots
        One iteration.
    iterations
        How often it runs.
    overlap_cycles
        How long before the end of an iteration the next one begins.
    stated_cycles
        The latency that its tool gives, or None.
    """

    name: str
    slots: tuple[Slot, ...]
    iterations: int = 1
    overlap_cycles: int = 0
    stated_cycles: int | None = None

    @property
    def iteration_cycles(self) -> int:
        """Length of one iteration."""
        return sum(slot.cycles for slot in self.slots)

    @property
    def cycles(self) -> int:
        """End of the last iteration."""
        return self.iterations * self.iteration_cycles - (self.iterations - 1) * self.overlap_cycles


def replay(slots: SlotList) -> list[Violation]:
    """Return what a slot list contradicts: its own sizes, and the latency that its tool gives."""
    bad_rates = [*_bad_rates(slots)]
    return bad_rates or [*_impossible(slots), *_stated(slots)]


def _bad_rates(slots: SlotList) -> Iterator[Violation]:
    for number, slot in enumerate(slots.slots):
        for transfer in slot.transfers:
            if transfer.bits_per_cycle < 1:
                told = f"slot {number}: {transfer.bits_per_cycle} bits per cycle"
                yield Violation("slot-transfer", told, tile=transfer.tensor, place=transfer.resource)


def _impossible(slots: SlotList) -> Iterator[Violation]:
    if slots.iterations < 1:
        yield Violation("slot-iterations", f"must be >= 1, got {slots.iterations}")
    if not 0 <= slots.overlap_cycles <= slots.iteration_cycles:
        told = f"{slots.overlap_cycles} cycles, an iteration takes {slots.iteration_cycles}"
        yield Violation("slot-overlap", told)
    for number, slot in enumerate(slots.slots):
        for transfer in slot.transfers:
            if transfer.size_bits < 0:
                yield Violation("slot-transfer", f"slot {number}: {transfer.size_bits} bits", tile=transfer.tensor, place=transfer.resource)
        for run in slot.runs:
            if run.cycles < 0:
                yield Violation("slot-run", f"slot {number}: takes {run.cycles} cycles", node=run.node, place=f"core {run.core}")


def _stated(slots: SlotList) -> Iterator[Violation]:
    if slots.stated_cycles is not None and slots.stated_cycles != slots.cycles:
        yield Violation("slot-total", f"is stated as {slots.stated_cycles} cycles, its slots make {slots.cycles}")
