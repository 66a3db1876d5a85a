"""From decisions to a plan: stays in the scratchpad, their addresses, and the transfers that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from cosma_sched.graph import Buffer
from cosma_sched.memory.packing import Packing, pack
from cosma_sched.memory.plan import Residency, Transfer, TransferKind
from cosma_sched.memory.problem import Network, Order, Scratchpad
from cosma_sched.progress import Clock


@dataclass(frozen=True, slots=True, order=True)
class Stay:
    """Tensor `tensor` is resident during steps ``start`` to ``end - 1``."""

    tensor: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An order, the stays of every tensor and the offset of each stay."""

    order: Order
    stays: tuple[Stay, ...]
    offsets: tuple[int, ...]

    def traffic_bytes(self, network: Network) -> int:
        """Return spilled plus retrieved bytes."""
        return sum(move.size_bytes for move in self.transfers(network) if move.kind in {TransferKind.SPILL, TransferKind.RETRIEVE})

    def residency(self, network: Network) -> tuple[Residency, ...]:
        """Return the stays as entries of a plan, by step and tensor."""
        entries = [
            Residency(network.tensors[stay.tensor].name, stay.start, stay.end, offset, network.size[stay.tensor])
            for stay, offset in zip(self.stays, self.offsets, strict=True)
        ]
        return tuple(sorted(entries, key=lambda entry: (entry.start, entry.tensor)))

    def transfers(self, network: Network) -> tuple[Transfer, ...]:
        """Return the transfers that the stays imply, by step, tensor and kind."""
        moves = [move for stays in _by_tensor(self.stays).values() for move in _transfers(network, stays)]
        return tuple(sorted(moves, key=lambda move: (move.step, move.tensor, move.kind)))


def place(network: Network, stays: Sequence[Stay], scratchpad: Scratchpad, *, clock: Clock, seed: int, explain: bool = True) -> Packing:
    """Pack the stays into the scratchpad; the offsets that come back count from its own bottom.

    The reserved bytes are left out of what is packed and added to the offsets afterwards.
    """
    bottom, pins = scratchpad.bottom_bytes, dict(scratchpad.pins)
    rectangles = []
    for stay in stays:
        name = network.tensors[stay.tensor].name
        pin = pins[name] - bottom if name in pins else None
        space = network.space[stay.tensor]
        rectangles.append(Buffer(f"{name}@{stay.start}", stay.start, stay.end, space, scratchpad.align_bytes, pin))
    packing = pack(rectangles, scratchpad.usable_bytes, clock=clock, seed=seed, explain=explain)
    if packing.offsets is None or not bottom:
        return packing
    return replace(packing, offsets=tuple(offset + bottom for offset in packing.offsets))


def _by_tensor(stays: Sequence[Stay]) -> dict[int, list[Stay]]:
    grouped: dict[int, list[Stay]] = {}
    for stay in sorted(stays):
        grouped.setdefault(stay.tensor, []).append(stay)
    return grouped


def _transfers(network: Network, stays: list[Stay]) -> Iterator[Transfer]:
    tensor = network.tensors[stays[0].tensor]

    def move(step: int, kind: TransferKind) -> Transfer:
        return Transfer(tensor.name, step, kind, tensor.size_bytes)

    if not tensor.kind.is_produced:
        yield move(stays[0].start, TransferKind.LOAD)
    elif tensor.kind == "output":
        yield move(stays[0].start, TransferKind.STORE)
    elif len(stays) > 1:
        yield move(stays[0].end, TransferKind.SPILL)  # the first absence; later ones find the copy valid
    for _, after in pairwise(stays):
        yield move(after.start, TransferKind.RETRIEVE)
