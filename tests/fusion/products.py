"""Pairs of products whose intermediate can be sliced: tiny networks, naive loops over every way to run them, and an execution by elements.

Mappings of the first product are scored all at once by `oracle`; everything else is written out here in whole numbers.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cosma_sched.fusion.choice import CostedStep, GroupCost
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.reading import chain_problem, fusion_problem
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer, Workload
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.space import LoopNest, divisors, gemmini_nest, l3_orders, parse, spatial_splits, splits
from tests.fusion.oracle import Point, Rules, StepPlace, pareto, scored, step_points, sums, vector_point

_SCALE = 10**8
KINDS = ("table", "drains", "gelu", "softmax", "attention")


@dataclass(frozen=True)
class Between:
    """A vector operator between the products: operands that it reads there, slices that are alive while it runs, whether a softmax."""

    reads: int
    alive: int
    softmax: bool = False


@dataclass(frozen=True)
class Products:
    """A tiny pair.

    Parameters
    ----------
    kind
        One of `KINDS`.
    rows, depth, features, width, repeat
        P; C and K of the first product; K of the second one; repetitions.
    """

    kind: str
    rows: int
    depth: int
    features: int
    width: int
    repeat: int = 1

    @property
    def maker(self) -> Layer:
        """The first product."""
        return Layer("a", (1, self.features, self.depth, self.rows, 1, 1, 1), repeat=self.repeat)

    @property
    def reader(self) -> Layer:
        """The second product."""
        return Layer("b", (1, self.width, self.features, self.rows, 1, 1, 1), repeat=self.repeat)

    @property
    def between(self) -> tuple[Between, ...]:
        """Vector operators between them."""
        if self.kind == "gelu":
            return Between(1, 2), Between(2, 3)
        return (Between(1, 2, softmax=True),) if self.kind in {"softmax", "attention"} else ()

    @property
    def drains(self) -> int:
        """Operands from outside that each product adds."""
        return int(self.kind == "drains")

    @property
    def network(self) -> Graph | Workload:
        """The network as it is read."""
        if self.kind == "table":
            return Workload("table", (replace(self.maker, pad_p=0, pad_q=0), replace(self.reader, pad_p=0, pad_q=0)))
        return self._attention() if self.kind == "attention" else self._graph()

    def problem(self, *, charged: bool = False) -> FusionProblem:
        """Return the network as fusion sees it."""
        network = self.network
        if isinstance(network, Graph):
            return fusion_problem(network, charged=charged)
        return replace(chain_problem(network), charged=charged)

    def _attention(self) -> Graph:
        left, shapes = (1, self.repeat, self.rows), {"k": (1, self.repeat, self.features, self.depth)}
        shapes |= {"q": (*left, self.depth), "v": (1, self.repeat, self.features, self.width), "y": (*left, self.width)}
        tensors = [_tensor(name, shape, "output" if name == "y" else "input") for name, shape in shapes.items()]
        return Graph(tensors, [Operator("t", "Attention", ("q", "k", "v"), ("y",))], "attention")

    def _graph(self) -> Graph:
        wide, narrow = (self.rows, self.features), (self.rows, self.width)
        weights = {"wa": (self.depth, self.features), "wb": (self.features, self.width)}
        tensors = [_tensor("x", (self.rows, self.depth), "input"), _tensor("y", narrow, "output"), _tensor("a", wide)]
        tensors += [_tensor(name, shape, "parameter") for name, shape in weights.items()]
        operators = [Operator("a", "MatMul", ("x", "wa"), ("a",))]
        if self.kind == "gelu":
            tensors += [_tensor("e", wide), _tensor("g", wide)]
            operators += [Operator("erf", "Erf", ("a",), ("e",)), Operator("mul", "Mul", ("a", "e"), ("g",))]
            operators.append(Operator("b", "MatMul", ("g", "wb"), ("y",)))
        elif self.kind == "softmax":
            tensors.append(_tensor("g", wide))
            operators += [Operator("s", "Softmax", ("a",), ("g",), {"axis": -1}), Operator("b", "MatMul", ("g", "wb"), ("y",))]
        else:
            tensors += [_tensor("u", wide, "input"), _tensor("v", narrow, "input"), _tensor("g", wide), _tensor("b", narrow)]
            operators += [Operator("add", "Add", ("a", "u"), ("g",)), Operator("b", "MatMul", ("g", "wb"), ("b",))]
            operators.append(Operator("end", "Add", ("b", "v"), ("y",)))
        return Graph(tensors, operators, self.kind)


def _tensor(name: str, shape: tuple[int, ...], kind: str = "activation") -> Tensor:
    return Tensor(name, math.prod(shape), kind, shape, "int8")  # type: ignore[arg-type]


def draw_products(random_: random.Random) -> Products:
    """Draw a pair of a few elements."""
    kind = random_.choice(KINDS)
    rows, depth, features, width = (random_.choice([1, 2, 3, 4, 6]) for _ in range(4))
    repeat = random_.choice([1, 1, 2, 3]) if kind in {"table", "attention"} else 1
    return Products(kind, rows, depth, features, width, repeat)


# Every way to run a pair


def pair_points(pair: Products, rules: Rules) -> tuple[Point, ...]:
    """Return the best (energy, latency) over row tiles, slices, resident and streamed row tiles, and all mappings."""
    found: list[Point] = []
    if pair.repeat == pair.features > 1:
        return ()
    for rows, features, stays in itertools.product(divisors(pair.rows), divisors(pair.features), (False, True)):
        for columns, bank, _ in spatial_splits(pair.width, int(rules.machine.cols)):
            if columns * bank == pair.width:
                found += _sliced_points(pair, (rows, features, stays), columns, rules)
    return pareto(found)


def _sliced_points(pair: Products, how: tuple[int, int, bool], columns: int, rules: Rules) -> tuple[Point, ...]:
    (rows, features, stays), machine = how, rules.machine
    tiles, slices = pair.repeat * pair.rows // rows, pair.features // features
    has_softmax = any(each.softmax for each in pair.between)
    beside = stays * rows * pair.depth + 2 * rows * has_softmax
    room = int(machine.scratchpad_bytes) - beside - rows * features
    left = machine.accumulator_bytes - rows * (pair.width // columns) * machine.accumulator_element_bytes * machine.cols
    if room < 0 or any(beside + each.alive * rows * features > machine.scratchpad_bytes for each in pair.between):
        return ()
    total: tuple[Point, ...] = ((0, 0),)
    maker = Layer("", (1, features, pair.depth, rows, 1, 1, 1))
    added = (rows * features,) * (pair.drains * rules.charged)
    turns = [("stream", tiles * slices)] if not stays else [("load", tiles), ("none", tiles * (slices - 1))]
    for source, times in turns:
        if times:
            options = _maker_points(maker, source, added, room, rules, machine._replace(accumulator_bytes=left))
            total = sums(total, options, times)
    for each in pair.between:
        near = (each.reads + 1) * rows * features + 4 * rows * each.softmax
        total = sums(total, (vector_point(near * rules.charged, (), rules),), tiles * slices)
    reader = Layer("", (1, pair.width, features, rows, 1, 1, 1))
    rescaled = 2 * rows * pair.width * (has_softmax and rules.charged)
    for index in range(slices):
        starts, ends = index == 0, index == slices - 1
        drains = (rows * pair.width,) * (pair.drains * rules.charged) if ends else ()
        total = sums(total, _reader_points(reader, columns, (starts, ends), rescaled, drains, room, rules), tiles)
    return total


def _maker_points(layer: Layer, source: str, drains: Sequence[int], room: int, rules: Rules, machine: Machine) -> tuple[Point, ...]:
    found = scored(layer, machine, rules.halo).fitting(True, source == "stream", True, room)
    size_i, size_o = layer.size("I"), layer.size("O")
    points = []
    for row in range(found["w"].size):
        each = {name: int(column[row]) for name, column in found.items()}
        i = each["i"] if source == "stream" else size_i * (source == "load")
        near = each["w"] + i + each["fills"] + layer.macs // each["sk"] + size_o
        points.append(_point(layer, each, 2 * each["updates"], near, (each["w"], i, *drains), rules))
    return pareto(points)


def _reader_points(
    layer: Layer, columns: int, place: tuple[bool, bool], rescaled: int, drains: Sequence[int], room: int, rules: Rules
) -> tuple[Point, ...]:
    machine, (starts, ends) = rules.machine, place
    _, k, _, p, _, _, _ = layer.dims
    size_o = layer.size("O")
    points = []
    for sc, c1, c3 in spatial_splits(layer["C"], int(machine.rows)):
        nest = gemmini_nest(sc, columns, (1, k // columns, c1, p, 1, 1, 1), (1, 1, c3, 1, 1, 1, 1), l3_orders("parity")["CRS|"])
        counts = score(layer, nest, machine, rules.halo)
        bank = k // columns * p * machine.accumulator_element_bytes * machine.cols
        if sc * c1 * k > room or bank > machine.accumulator_bytes:
            continue
        each = {"fills": counts.register_fills, "sc": sc, "sk": columns}
        near = counts.words.w + counts.register_fills + layer.macs // columns
        accumulator = 2 * counts.updates - size_o * starts + size_o * ends + rescaled
        points.append(_point(layer, each, accumulator, near, (counts.words.w, size_o * ends, *drains), rules))
    return pareto(points)


def _point(layer: Layer, each: dict[str, int], accumulator: int, near: int, far: Sequence[int], rules: Rules) -> Point:
    machine = rules.machine
    block = int(machine.block_words)
    accesses = (layer.macs, layer.macs + each["fills"], accumulator, near, sum(-(-words // block) * block for words in far))
    energy = sum(round(price * _SCALE) * count for price, count in zip(machine[2:7], accesses, strict=True))
    cycles = (
        Fraction(layer.macs, each["sc"] * each["sk"]),
        Fraction(accumulator, int(machine.accumulator_bandwidth) * each["sk"]),
        Fraction(near, int(machine.scratchpad_bandwidth)),
        Fraction(sum(far), int(machine.dram_bandwidth)),
    )
    return math.ceil(Fraction(energy * (2**40 + 1), _SCALE * 2**40)), math.ceil(max(cycles))


def alone_points(pair: Products, rules: Rules) -> tuple[Point, ...]:
    """Return the best (energy, latency) of the members one by one."""
    total: tuple[Point, ...] = ((0, 0),)
    for layer in (pair.maker, pair.reader):
        words = layer.size("O") * layer.repeat
        place = StepPlace(far=(words,) * (pair.drains * rules.charged))
        total = sums(total, step_points(replace(layer, name=""), place, int(rules.machine.scratchpad_bytes), rules.machine, rules.halo))
    for each in pair.between:
        words = [pair.repeat * pair.rows * pair.features] * (each.reads + 1)
        total = sums(total, (vector_point(0, words, rules) if rules.charged else (0, 0),))
    return total


# Element by element


@dataclass
class Execution:
    """Runs a decided pair on random whole numbers: DRAM words of each step, and the most bytes in the scratchpad.

    A softmax takes powers of two, so that everything is exact; it is computed slice by slice with running maxima and sums.
    """

    pair: Products
    cost: GroupCost
    random_: random.Random

    def __post_init__(self) -> None:
        pair, draw = self.pair, self.random_
        shape = range(pair.repeat)
        self.x = [_draw(draw, pair.rows, pair.depth) for _ in shape]
        self.first = [_draw(draw, pair.depth, pair.features) for _ in shape]
        self.second = [_draw(draw, pair.features, pair.width) for _ in shape]
        self.words: Counter[tuple[int, str | None, str]] = Counter()
        self.runs: Counter[tuple[int, str | None]] = Counter()
        self.scratchpad: dict[str, int] = {}
        self.peak = self.fullest = 0
        self.steps = {(step.step.node, step.step.part): step for step in self.cost.steps}

    def run(self) -> None:
        """Execute all row tiles of all repetitions, and compare the results with those of the unsliced pair."""
        slicing = self.cost.slicing
        assert slicing is not None
        for repeat, start in itertools.product(range(self.pair.repeat), range(0, self.pair.rows, slicing.rows)):
            rows = range(start, start + slicing.rows)
            made = self._row_tile(repeat, rows)
            assert made == {(p, k): self._dense(repeat, p, k) for p in rows for k in range(self.pair.width)}

    def _dense(self, repeat: int, p: int, k: int) -> Fraction:
        scores = [self._score(repeat, p, f) for f in range(self.pair.features)]
        values = [self.second[repeat][f, k] for f in range(self.pair.features)]
        if not any(each.softmax for each in self.pair.between):
            return Fraction(sum(_changed(score, self.pair) * value for score, value in zip(scores, values, strict=True)))
        powers = [Fraction(2) ** score for score in scores]
        return sum((power * value for power, value in zip(powers, values, strict=True)), Fraction(0)) / sum(powers)

    def _score(self, repeat: int, p: int, f: int) -> int:
        return sum(self.x[repeat][p, c] * self.first[repeat][c, f] for c in range(self.pair.depth))

    def _row_tile(self, repeat: int, rows: range) -> dict[tuple[int, int], Fraction]:
        slicing, pair = self.cost.slicing, self.pair
        assert slicing is not None
        softmax = any(each.softmax for each in pair.between)
        self.scratchpad = {"row tile": len(rows) * pair.depth} if slicing.stays else {}
        if softmax:
            self.scratchpad["state"] = 2 * len(rows)
        results = {(p, k): Fraction(0) for p in rows for k in range(pair.width)}
        most: dict[int, int] = {}
        total = dict.fromkeys(rows, Fraction(0))
        slices = [range(start, start + slicing.features) for start in range(0, pair.features, slicing.features)]
        for index, piece in enumerate(slices):
            part = "every" if not slicing.stays else "first" if index == 0 else "later"
            scores = self._make(repeat, rows, piece, part)
            values = self._between(scores, rows, piece)
            if softmax:
                for p in rows:
                    larger = max([most[p]] if p in most else [], default=None)
                    peak = max([*([larger] if larger is not None else []), *(scores[p, f] for f in piece)])
                    shrink = Fraction(2) ** (larger - peak) if larger is not None else Fraction(0)
                    total[p] = total[p] * shrink + sum(Fraction(2) ** (scores[p, f] - peak) for f in piece)
                    for k in range(pair.width):
                        results[p, k] *= shrink
                    most[p] = peak
                    values |= {(p, f): Fraction(2) ** (scores[p, f] - peak) for f in piece}
            part = "only" if len(slices) == 1 else "first" if index == 0 else "last" if index == len(slices) - 1 else "middle"
            self._read(repeat, rows, piece, part, values, results)
        return {(p, k): value / total[p] if softmax else value for (p, k), value in results.items()}

    def _step(self, node: int, part: str) -> CostedStep:
        self.runs[node, part] += 1
        return self.steps[node, part]

    def _note(self, step: CostedStep, working: int) -> None:
        self.peak = max(self.peak, sum(self.scratchpad.values()) + working)
        assert sum(self.scratchpad.values()) == step.step.live_bytes

    def _make(self, repeat: int, rows: range, piece: range, part: str) -> dict[tuple[int, int], int]:
        step, made = self._step(self.cost.members[0], part), Counter[tuple[int, int]]()
        key = self.cost.members[0], part
        self.scratchpad["a"] = len(rows) * len(piece)
        if part == "first":
            self.words[*key, "i"] += len(rows) * self.pair.depth
        done: dict[tuple[int, int], set[int]] = {}
        before: dict[str, object] = {}
        for ps, ks, cs in _tiles(parse(str(step.mapping)), len(rows), len(piece), self.pair.depth):
            self._fetch(before, key, "w", (ks, cs))
            streamed = part == "every"
            if streamed:
                self._fetch(before, key, "i", (ps, cs))
            self._note(step, len(ks) * len(cs) + (len(ps) * len(cs) if streamed else 0))
            if before.setdefault("o", (ps, ks)) != (ps, ks):
                last_p, last_k = before["o"]  # type: ignore[misc]
                assert all(len(done[p, k]) == self.pair.depth for p in last_p for k in last_k), "a partial sum leaves the accumulator"
                before["o"] = (ps, ks)
            for p, k, c in itertools.product(ps, ks, cs):
                place = rows[p], piece[k]
                made[place] += self.x[repeat][rows[p], c] * self.first[repeat][c, piece[k]]
                done.setdefault((p, k), set()).add(c)
        return dict(made)

    def _between(self, scores: dict[tuple[int, int], int], rows: range, piece: range) -> dict[tuple[int, int], Fraction]:
        for index, each in enumerate(self.pair.between):
            step = self._step(self.cost.members[1 + index], "every")
            self.scratchpad[f"v{index}"] = len(rows) * len(piece)
            assert sum(name == "a" or name.startswith("v") for name in self.scratchpad) == each.alive
            self._note(step, 0)
        for name in ["a", *(f"v{index}" for index in range(len(self.pair.between)))][: len(self.pair.between)]:
            del self.scratchpad[name]
        return {place: Fraction(_changed(score, self.pair)) for place, score in scores.items()}

    def _read(
        self,
        repeat: int,
        rows: range,
        piece: range,
        part: str,
        values: dict[tuple[int, int], Fraction],
        results: dict[tuple[int, int], Fraction],
    ) -> None:
        node = self.cost.members[-1]
        step, before = self._step(node, part), dict[str, object]()
        for ps, ks, cs in _tiles(parse(str(step.mapping)), len(rows), self.pair.width, len(piece)):
            assert (len(ps), len(ks)) == (len(rows), self.pair.width), "results leave the accumulator between slices"
            self._fetch(before, (node, part), "w", (ks, cs))
            self._note(step, len(ks) * len(cs))
            for p, k, c in itertools.product(ps, ks, cs):
                results[rows[p], k] += values[rows[p], piece[c]] * self.second[repeat][piece[c], k]
        if part in {"last", "only"}:
            self.words[node, part, "o"] += len(rows) * self.pair.width
        self.scratchpad = {name: size for name, size in self.scratchpad.items() if name in {"row tile", "state"}}

    def _fetch(self, before: dict[str, object], key: tuple[int, str], tensor: str, tile: tuple[range, range]) -> None:
        if before.get(tensor) != tile:
            self.words[*key, tensor] += len(tile[0]) * len(tile[1])
            before[tensor] = tile


def _changed(score: int, pair: Products) -> int:
    return score * score if pair.kind == "gelu" else score


def _draw(random_: random.Random, rows: int, columns: int) -> dict[tuple[int, int], int]:
    return {(row, column): random_.randint(-2, 2) for row in range(rows) for column in range(columns)}


def _tiles(nest: LoopNest, rows: int, results: int, channels: int) -> Iterator[tuple[range, range, range]]:
    """Yield the rows, results and channels of every tile in the order in which the loops of DRAM run."""
    loops = [loop for loop in nest.at(3) if loop.factor > 1]
    sizes = {3: rows, 1: results, 2: channels}
    for at in itertools.product(*(range(loop.factor) for loop in loops)):
        spans = {dim: range(size) for dim, size in sizes.items()}
        for loop, index in zip(loops, at, strict=True):
            part = len(spans[loop.dim]) // loop.factor
            spans[loop.dim] = spans[loop.dim][index * part : (index + 1) * part]
        yield spans[3], spans[1], spans[2]


__all__ = ["KINDS", "Execution", "Products", "alone_points", "draw_products", "pair_points", "splits"]
