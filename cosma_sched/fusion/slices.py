"""Check two products in slices: whether they may be sliced, which steps they need, what each holds and costs; apart from the planner.

Right operands are streamed in every slice; the results of the second product stay in the accumulator from the first slice of a row tile
to the last one, beside the tile of the first product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from cosma_sched.errors import InputError
from cosma_sched.fusion.answer import FusedGroup, GroupStep
from cosma_sched.fusion.recount import blocks, exact, vector_step
from cosma_sched.fusion.structure import Broken, label
from cosma_sched.fusion.topology import Member, Read
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.extract import ELEMENTWISE
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Score, Words, broken_rules, score
from cosma_sched.mapping.space import LoopNest, parse

_ABOVE = Fraction(1, 2**39)
"""Energies of slices are rounded up, never down; by so much of themselves they may pass a whole number that floating point has reached."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """A step that must be there: whose, in which slices, how often, on which layer, with which words and bytes beside its mapping.

    Parameters
    ----------
    member, part, times
        Who runs, in which slices of a row tile, and how often in all.
    layer
        With the dims of a slice; None for a vector operator.
    held
        Bytes in the scratchpad beside its working tiles.
    drains
        DRAM words of each operand of operators that drain with it.
    loads, streams
        Of the first product: the row tile is loaded to stay, or read as the mapping says.
    starts, ends
        Of the second product.
    near, far
        Of a vector operator: words in the scratchpad and in DRAM.
    """

    member: Member
    part: str
    times: int
    layer: Layer | None
    held: int
    drains: tuple[int, ...] = ()
    loads: bool = False
    streams: bool = False
    starts: bool = True
    ends: bool = True
    near: tuple[int, ...] = ()
    far: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Price:
    energy: Fraction
    roofs: tuple[Fraction, ...]
    words: Words
    working: int


@dataclass(frozen=True)
class SlicedGroup:
    """A stated group of mode ``sliced`` with what is needed to check it."""

    group: FusedGroup
    network: Mapping[str, Member]
    readers: Mapping[str, Sequence[str]]
    machine: Machine
    charged: bool
    overlap: str

    def rules(self) -> Iterator[Broken]:
        """Yield every rule that the group breaks, its sums of words apart."""
        title = label(self.group.layers)
        broken = list(self._shape())
        yield from (("sliced", message, title) for message in broken)
        if broken:
            return
        needed = list(self._needed())
        names = [(step.layer, step.part) for step in self.group.steps]
        if names != [(step.member.name, step.part) for step in needed]:
            yield "steps", f"must be {', '.join(f'{step.member.name} ({step.part})' for step in needed)}", title
            return
        priced: list[_Price] = []
        for stated, right in zip(self.group.steps, needed, strict=True):
            yield from self._step(stated, right, priced)
        if len(priced) == len(needed):
            yield from self._accumulator(title)
            yield from self._sums(needed, priced, title)

    # What may be sliced

    @cached_property
    def _own(self) -> tuple[Member, ...]:
        return tuple(self.network[name] for name in self.group.layers)

    @cached_property
    def _products(self) -> tuple[Layer, Layer]:
        first, last = self._own[0].layer, self._own[-1].layer
        if first is None or last is None:
            raise ValueError("the first and the last member of sliced products are layers")
        return first, last

    @property
    def _has_softmax(self) -> bool:
        return any(_kind(member) == "Softmax" for member in self._own)

    def _shape(self) -> Iterator[str]:
        own, group = self._own, self.group
        if len(own) < 2 or [member.layer is not None for member in own] != [True, *[False] * (len(own) - 2), True]:
            yield "must be two products with vector operators between"
            return
        first, last = self._products
        if not (_is_product(first) and _is_product(last)):
            yield "its layers are no matrix products that run once"
        if first["K"] != last["C"] or first["P"] != last["P"] or first.repeat != last.repeat or first.repeat == first["K"] > 1:
            yield "the second product does not read the first one's features row by row"
        for member in own[:-1]:
            if member.is_output or any(name not in group.layers for name in self.readers[member.name]):
                yield f"{member.name} is read outside"
        inside = [read for read in own[-1].reads if read.source in group.layers]
        if [read.role for read in inside] != ["input"] or not _one_to_one(inside[0]):
            yield "the second product must read the intermediate as its input, and nothing else of the group"
        else:
            yield from (f"{member.name} cannot run in slices" for member in own[1:-1] if not self._may_slice(member, inside[0]))
        rows, features = group.tile[1], group.features
        if group.tile[0] != 1 or group.tile[2] != 1 or rows < 1 or first["P"] % rows:
            yield f"the row tile {tuple(group.tile)} does not divide {first['P']} rows"
        if features is None or features < 1 or first["K"] % features:
            yield f"slices of {features} features do not divide {first['K']}"
        if group.row_tile not in {"resident", "streamed"}:
            yield "the row tile must be resident or streamed"
        if group.resident_weights:
            yield "right operands are streamed"

    def _may_slice(self, member: Member, last: Read) -> bool:
        like = self._own[0]
        inside = [read for read in member.reads if read.source in self.group.layers]
        alike = member.words == like.words and member.extent == like.extent and bool(inside)
        alike = alike and all(_one_to_one(read) and read.words == member.words for read in inside)
        alike = alike and all(read.words == member.words for read in member.reads if read.by_region)
        if _kind(member) == "Softmax":
            return alike and len(inside) == 1 and last.source == member.name and member.normalised == self._products[0]["K"]
        return alike and _kind(member) in ELEMENTWISE

    # Which steps there must be

    @property
    def _tiles(self) -> int:
        return self._products[0].repeat * (self._products[0]["P"] // self.group.tile[1])

    @property
    def _slices(self) -> int:
        return self._products[0]["K"] // (self.group.features or 1)

    @property
    def _state(self) -> int:
        """Bytes of the running maximum and sum of each row."""
        return 2 * self.group.tile[1] * self._products[0].element_bytes[2] if self._has_softmax else 0

    def _held(self, position: int) -> int:
        """Return the bytes of slices that are still read, of the row tile and of running values at a member's step."""
        piece = self.group.tile[1] * (self.group.features or 1)
        first = self._products[0]
        total = self._state
        if self.group.row_tile == "resident":
            total += self.group.tile[1] * first["C"] * first.element_bytes[1]
        for place, name in enumerate(self.group.layers[:-1]):
            used = max(index for index, member in enumerate(self._own) if any(read.source == name for read in member.reads))
            if place <= position <= used:
                total += piece * first.element_bytes[2]
        return total

    def _needed(self) -> Iterator[_Slice]:
        (first, last), rows, features = self._products, self.group.tile[1], self.group.features or 1
        tiles, slices, own = self._tiles, self._slices, self._own
        piece = _cut(first, rows, first["C"], features)
        held, drains = self._held(0), self._drains(own[0], rows * features * first.element_bytes[2])
        if self.group.row_tile == "streamed":
            yield _Slice(own[0], "every", tiles * slices, piece, held, drains, streams=True)
        else:
            yield _Slice(own[0], "first", tiles, piece, held, drains, loads=True)
            if slices > 1:
                yield _Slice(own[0], "later", tiles * (slices - 1), piece, held, drains)
        for position, member in enumerate(own[1:-1], 1):
            share = rows * features * first.element_bytes[2]
            near = [share, *(share for read in member.reads if read.source in self.group.layers)]
            near += [self._state, self._state] if _kind(member) == "Softmax" else []
            far = tuple(share if read.by_region else read.words for read in member.reads if read.source not in self.group.layers)
            yield _Slice(member, "every", tiles * slices, None, self._held(position), near=tuple(near), far=far)
        piece, held = _cut(last, rows, features, last["K"]), self._held(len(own) - 1)
        drains = self._drains(own[-1], rows * last["K"] * last.element_bytes[2])
        if slices == 1:
            yield _Slice(own[-1], "only", tiles, piece, held, drains)
            return
        yield _Slice(own[-1], "first", tiles, piece, held, ends=False)
        if slices > 2:
            yield _Slice(own[-1], "middle", tiles * (slices - 2), piece, held, starts=False, ends=False)
        yield _Slice(own[-1], "last", tiles, piece, held, drains, starts=False)

    def _drains(self, member: Member, share: int) -> tuple[int, ...]:
        return tuple(share if read.by_region else read.words for read in member.reads if read.role == "drain") if self.charged else ()

    # Steps

    def _step(self, stated: GroupStep, right: _Slice, priced: list[_Price]) -> Iterator[Broken]:
        name = stated.layer
        if right.layer is None:
            cost = vector_step(right.near if self.charged else (), right.far, self.machine)
            nothing = Fraction(0)
            roofs = (nothing, nothing, cost.scratchpad_cycles, cost.dram_cycles)
            price = _Price(cost.energy_pj, roofs, Words(0, sum(right.far), 0, 0), 0)
            rounded = abs(price.energy - stated.energy_pj) <= Fraction(501, 1000)
            if stated.mapping is not None or stated.weights is not None:
                yield "mapping", "a vector operator has none", name
        else:
            try:
                nest = parse(str(stated.mapping))
            except InputError as error:
                yield "mapping", error.defects[0].problem, name
                return
            found = score(right.layer, nest, self.machine, "parity")
            yield from self._mapping(name, right, nest, found)
            price = self._price(right, right.layer, nest, found)
            rounded = 0 <= stated.energy_pj - price.energy <= 1 + _ABOVE * price.energy
            if stated.weights != "streamed":
                yield "weights", f"are {stated.weights}; right operands are streamed", name
        priced.append(price)
        used = right.held + price.working
        if used > self.machine.scratchpad_bytes:
            yield "scratchpad", f"{used} bytes in slices, {used - int(self.machine.scratchpad_bytes)} too many", name
        if not rounded:
            yield "energy", f"is {stated.energy_pj} pJ, recomputed {float(price.energy):.2f}", name
        for field, mine, true in (
            ("latency", stated.latency_cycles, math.ceil(max(price.roofs))),
            ("multiplicity", stated.multiplicity, right.times),
            ("steps", tuple(stated.extents), (1, self.group.tile[1], 1)),
            ("scratchpad_bytes", stated.scratchpad_bytes, used),
            ("words", stated.words, price.words),
        ):
            if mine != true:
                yield field, f"is {mine}, recomputed {true}", name

    def _mapping(self, name: str, right: _Slice, nest: LoopNest, found: Score) -> Iterator[Broken]:
        if right.layer is not None:
            for rule in broken_rules(right.layer, nest, self.machine, found):
                if rule.rule != "scratchpad":
                    yield rule.rule, rule.message, name
            if found.updates_out != right.layer.size("O"):
                yield "partial sums", "leave the accumulator", name
        if right.member is self._own[-1] and any(loop.factor > 1 and loop.dim not in {2, 5, 6} for loop in nest.at(3)):
            yield "partial sums", "results of the second product must all stay in the accumulator", name

    def _price(self, right: _Slice, layer: Layer, nest: LoopNest, found: Score) -> _Price:
        w_bytes, i_bytes, o_bytes = layer.element_bytes
        second = right.member is self._own[-1]
        results = layer.size("O")
        i = found.words.i if right.streams else layer["P"] * layer["C"] * i_bytes if right.loads else 0
        o = results * o_bytes if second and right.ends else 0
        accumulator = 2 * found.updates + (0 if right.starts else results) - (0 if right.ends else results)
        if second and self._has_softmax and self.charged:
            accumulator += 2 * results
        scratchpad = found.words.w + i + found.register_fills * w_bytes + Fraction(layer.macs, nest.spatial(2)) * i_bytes
        scratchpad += 0 if second else results * o_bytes
        machine = self.machine
        energy = exact(machine.mac_pj) * layer.macs + exact(machine.register_pj) * (layer.macs + found.register_fills)
        energy += exact(machine.accumulator_pj) * accumulator + exact(machine.scratchpad_pj) * scratchpad
        energy += exact(machine.dram_pj) * blocks((found.words.w, i, o, *right.drains), int(machine.block_words))
        roofs = (
            Fraction(layer.macs, nest.spatial(1) * nest.spatial(2)),
            accumulator / (exact(machine.accumulator_bandwidth) * nest.spatial(2)),
            scratchpad / exact(machine.scratchpad_bandwidth),
            (found.words.w + i + o + sum(right.drains)) / exact(machine.dram_bandwidth),
        )
        tiles = [product // factor for product, factor in zip(nest.products(), nest.temporal(3), strict=True)]
        working = tiles[1] * tiles[2] * w_bytes + (tiles[2] * tiles[3] * i_bytes if right.streams else 0)
        return _Price(energy, roofs, Words(found.words.w, i, o, 0), working)

    def _accumulator(self, title: str) -> Iterator[Broken]:
        """Yield whether the tiles of both products fit together, and whether all slices find the results in the same places."""
        first: list[int] = []
        last: list[int] = []
        places: set[int] = set()
        for step in self.group.steps:
            if step.mapping is None:
                continue
            nest = parse(step.mapping)
            bank = math.prod(nest.temporal(level)[dim] for level in (0, 1) for dim in (0, 1, 3, 4))
            (last if step.layer == self.group.layers[-1] else first).append(bank)
            places |= {nest.spatial(2)} if step.layer == self.group.layers[-1] else set()
        used = (max(first) + max(last)) * int(self.machine.accumulator_element_bytes) * int(self.machine.cols)
        if used > self.machine.accumulator_bytes:
            yield "accumulator", f"both products take {used} bytes, {used - int(self.machine.accumulator_bytes)} too many", title
        if len(places) > 1:
            yield "accumulator", "the slices of the second product spread their results over different columns", title

    def _sums(self, needed: Sequence[_Slice], priced: Sequence[_Price], title: str) -> Iterator[Broken]:
        energy = sum(step.energy_pj * step.multiplicity for step in self.group.steps)
        if self.overlap == "group":
            latency = math.ceil(
                max(sum(price.roofs[unit] * step.times for step, price in zip(needed, priced, strict=True)) for unit in range(4))
            )
        else:
            latency = sum(math.ceil(max(price.roofs)) * step.times for step, price in zip(needed, priced, strict=True))
        peak = max(step.held + price.working for step, price in zip(needed, priced, strict=True))
        for name, mine, right in (
            ("energy_pj", self.group.energy_pj, energy),
            ("latency_cycles", self.group.latency_cycles, latency),
            ("peak_bytes", self.group.peak_bytes, peak),
        ):
            if mine != right:
                yield "group", f"{name} is {mine}, its steps give {right}", title
        fullest: dict[str, tuple[str, int, int, int]] = {}
        for step, price in zip(needed, priced, strict=True):
            name = step.member.name
            if name not in fullest or price.working > fullest[name][3]:
                fullest[name] = (name, step.held, 0, price.working)
        stated = [(entry.layer, entry.maps_bytes, entry.weights_bytes, entry.working_bytes) for entry in self.group.held]
        if stated != list(fullest.values()):
            yield "held", f"is {stated}, recomputed {list(fullest.values())}", title


def _kind(member: Member) -> str:
    return member.vector.type if member.vector is not None else ""


def _is_product(layer: Layer) -> bool:
    ones = [layer[dim] for dim in ("N", "Q", "R", "S")] + [layer.stride_p, layer.stride_q, layer.count]
    return set(ones) == {1} and not layer.pad_p and not layer.pad_q


def _one_to_one(read: Read) -> bool:
    windows = (read.rows, read.cols)
    return read.by_region and all(not window.whole and (window.stride, window.pad, window.reach) == (1, 0, 1) for window in windows)


def _cut(layer: Layer, rows: int, channels: int, results: int) -> Layer:
    return replace(layer, count=1, repeat=1, dims=(1, results, channels, rows, 1, 1, 1), drain_words=(), pad_p=None, pad_q=None)
