"""What a computation node costs on each core: cycles and picojoules from a formula, from the mapping planner, or from a table.

`provider` makes one of the three from what the user wrote. All of them answer for every core that may run a node, in whole numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from cosma_sched.accelerator import Accelerator, Core
from cosma_sched.errors import Defect, InputError

MATRIX_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Attention"})
"""What multiplies and adds; everything else works element by element."""

_VECTOR_NAMES = (
    "Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Cos Div Dropout Elu Equal Erf Exp "
    "Flatten Floor Gather Gelu GlobalAveragePool GlobalMaxPool Greater HardSigmoid HardSwish Identity "
    "InstanceNormalization LRN LayerNormalization LeakyRelu Less Log LpNormalization Max MaxPool Mean Min Mish Mul "
    "Neg Not Or PRelu Pad Pow RMSNormalization Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum "
    "ReduceSumSquare Relu Reshape Resize Round Selu Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt "
    "Squeeze Sub Sum Tanh Transpose Unsqueeze Where"
)
VECTOR_OPERATORS = frozenset(_VECTOR_NAMES.split())
"""Operators of ONNX that take an element per lane and cycle; of others nobody knows, and a warning says how they are costed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a provider must know of one computation node.

    Parameters
    ----------
    node, layer
        Its name and that of its layer, the keys of tables.
    type
        Operator type.
    elements
        Output elements, or those that a reduction reads.
    dims
        Extents of this piece in the order N K C P Q R S; nothing for operators that work element by element.
    strides, dilations
        Of rows and of columns.
    repeat
        Groups of a convolution, matrices of a batched product.
    input_bits
        Bits of every operand that it reads, its own piece only: input and weight, or any number.
    output_bits
        Bits that it writes.
    element_bytes
        Of W, I and O.
    layer_work
        Multiplications (or elements, without any) of the whole layer; 0 where this piece is all of it.
    """

    node: str
    layer: str
    type: str
    elements: int
    dims: tuple[int, ...] = ()
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    repeat: int = 1
    input_bits: tuple[int, ...] = ()
    output_bits: int = 0
    element_bytes: tuple[int, int, int] = (1, 1, 1)
    layer_work: int = 0

    @property
    def macs(self) -> int:
        """Multiplications and additions."""
        return math.prod(self.dims) * self.repeat if self.dims else 0

    @property
    def work(self) -> int:
        """What costs are proportional to: multiplications, or elements where there are none."""
        return self.macs or self.elements


class NodeCost(NamedTuple):
    """Cycles, at least 1, and picojoules."""

    cycles: int
    energy_pj: int


class CostProvider(Protocol):
    """Answers for any piece on every core that may run it."""

    @property
    def name(self) -> str:
        """``analytic``, ``mapping`` or ``table FILE``."""
        ...

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the answers rest on, one sentence each."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each operator type that has no cost model; grows while pieces are asked for."""
        ...

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return the cost on every allowed core, by core id.

        Raises
        ------
        InputError
            If nothing runs the operator, or a table lacks a cost.
        """
        ...

    def cost(self, piece: Piece, core: str) -> NodeCost:
        """Return the cost on one core."""
        ...


def provider(costs: str | os.PathLike[str], accelerator: Accelerator, *, objective: str = "latency") -> CostProvider:
    """Return the provider that a user asks for.

    Parameters
    ----------
    costs
        ``analytic``, ``mapping``, or the path of a table.
    accelerator
        The cores.
    objective
        ``latency``, ``energy`` or ``edp``: which mapping of a node is the best one.

    Raises
    ------
    InputError
        With every mistake of a table.
    """
    from cosma_sched.multicore.cost_mapping import MappingCosts
    from cosma_sched.multicore.cost_table import read_cost_table

    if costs == "analytic":
        return AnalyticCosts(accelerator)
    if costs == "mapping":
        return MappingCosts(accelerator, objective=objective)
    return read_cost_table(costs, accelerator)


def by_core(costs: Mapping[str, NodeCost]) -> tuple[dict[str, int], dict[str, int]]:
    """Return cycles and picojoules by core, as a node of the problem holds them."""
    return {core: cost.cycles for core, cost in costs.items()}, {core: cost.energy_pj for core, cost in costs.items()}


def all_costs(provider: CostProvider, pieces: Iterable[Piece]) -> list[Mapping[str, NodeCost]]:
    """Return the costs of many pieces.

    Raises
    ------
    InputError
        With the mistakes of all pieces at once.
    """
    found: list[Mapping[str, NodeCost]] = []
    defects: dict[Defect, None] = {}
    path = ""
    for piece in pieces:
        try:
            found.append(provider.costs(piece))
        except InputError as error:
            path = path or error.path
            defects.update(dict.fromkeys(error.defects))
    if defects:
        raise InputError(path, list(defects))
    return found


def allowed_cores(operator_type: str, accelerator: Accelerator) -> tuple[str, ...]:
    """Return the ids of the cores that may run an operator.

    Those that list it; if none does, every compute core without a list. What then runs nowhere, and operators that neither a core nor this
    module knows, go to the widest vector cores, whatever they list; products do not.

    Raises
    ------
    InputError
        If there is none.
    """
    compute = [core for core in accelerator.cores if core.is_compute]
    listing = tuple(core.id for core in compute if lists(core, operator_type))
    if listing:
        return listing
    most = max((core.lanes or 0 for core in compute), default=0)
    widest = tuple(core.id for core in compute if most and core.lanes == most)
    if widest and operator_type not in MATRIX_OPERATORS | VECTOR_OPERATORS:
        return widest
    open_to_all = tuple(core.id for core in compute if core.operators is None)
    if found := open_to_all or (() if operator_type in MATRIX_OPERATORS else widest):
        return found
    listed = "; ".join(f"core {core.id}: {', '.join(core.operators or ())}" for core in compute)
    raise InputError(accelerator.name, f"no core runs operators of type {operator_type}; they list {listed}")


def lists(core: Core, operator_type: str) -> bool:
    """Return whether a core lists an operator."""
    return core.operators is not None and operator_type in core.operators


class AnalyticCosts:
    """Ceilings of the unrolled dims, and the bits of each operand once through the outermost memory.

    Optimistic: inner memories never wait, and nothing is fetched from the outermost memory twice.
    """

    name = "analytic"

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._cores = {core.id: core for core in accelerator.cores}
        self._allowed: dict[str, tuple[str, ...]] = {}
        self._known: dict[Piece, Mapping[str, NodeCost]] = {}
        self._warnings: dict[str, str] = {}

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the answers rest on."""
        return ("optimistic: ideal use of the unrolled dims, every operand moved once between the outermost memory and the array",)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each operator type without a cost model."""
        return tuple(self._warnings.values())

    def allowed(self, operator_type: str) -> tuple[str, ...]:
        """Return the cores that may run an operator; one warning for each type that nobody knows, or that goes where it is not listed."""
        if operator_type not in self._allowed:
            self._allowed[operator_type] = allowed = allowed_cores(operator_type, self._accelerator)
            first = self._cores[allowed[0]]
            rate = f"one element per lane and cycle on {first.lanes} lanes" if first.lanes else "one element per cycle"
            if not lists(first, operator_type) and operator_type not in MATRIX_OPERATORS | VECTOR_OPERATORS:
                self._warnings[operator_type] = f"{operator_type}: no cost model; costed by the vector rule, {rate}"
            elif not lists(first, operator_type) and first.operators is not None:
                self._warnings[operator_type] = f"{operator_type}: no core lists it; runs on the widest vector cores, {rate}"
        return self._allowed[operator_type]

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return the cost on every allowed core."""
        key = replace(piece, node="", layer="", layer_work=0)
        if key not in self._known:
            self._known[key] = {core: self.cost(piece, core) for core in self.allowed(piece.type)}
        return self._known[key]

    def cost(self, piece: Piece, core: str) -> NodeCost:
        """Return the cost on one core."""
        facts = self._cores[core]
        inputs, weights = _bits_in(piece, facts)
        read_cycles, read_pj = _moved(facts, "I", inputs)
        weight_cycles, weight_pj = _moved(facts, "W", weights)
        write_cycles, write_pj = _moved(facts, "O", piece.output_bits)
        if piece.dims and facts.array is not None:
            busy = compute_cycles(piece, facts)
            cycles = max(busy, read_cycles, weight_cycles, write_cycles, 1)
            return NodeCost(cycles, round(piece.macs * facts.array.mac_pj + read_pj + weight_pj + write_pj))
        work = piece.work
        per_element = facts.lane_pj if facts.lanes or facts.array is None else facts.array.mac_pj
        return NodeCost(max(-(-work // self._rate(piece.type, facts)), 1), round(work * per_element + read_pj + weight_pj + write_pj))

    @staticmethod
    def _rate(operator_type: str, core: Core) -> int:
        """Elements per cycle: the lanes; of an array without lanes every element takes part, for operators that somebody knows."""
        if core.lanes is not None:
            return core.lanes
        return core.array.elements if core.array is not None and operator_type in VECTOR_OPERATORS else 1


def compute_cycles(piece: Piece, core: Core) -> int:
    """Return how often the array of a core works for a piece: ceilings of the unrolled dims times the other extents."""
    array = core.array
    if array is None:
        return -(-piece.macs // (core.lanes or 1))
    extents = dict(zip("NKCPQRS", piece.dims, strict=True))
    if array.unroll:
        return piece.repeat * _rounds(extents, array.unroll)
    choices: dict[tuple[tuple[str, int], ...], None] = {(): None}
    for size in array.sizes:
        longer = [dim for dim, extent in extents.items() if extent > 1] or ["N"]
        choices = {tuple(sorted((*taken, (dim, size)))): None for taken in choices for dim in longer}
    return piece.repeat * min(_rounds(extents, choice) for choice in choices)


def _rounds(extents: Mapping[str, int], unroll: Iterable[tuple[str, int]]) -> int:
    spread = dict.fromkeys(extents, 1)
    for dim, size in unroll:
        spread[dim] *= size
    return math.prod(-(-extent // spread[dim]) for dim, extent in extents.items())


def _bits_in(piece: Piece, core: Core) -> tuple[int, int]:
    """Return the bits read through the memory of inputs and through that of weights, where it is another one."""
    from cosma_sched.multicore.platforms import top_level

    if piece.dims and len(piece.input_bits) > 1 and top_level(core, "W") != top_level(core, "I"):
        return piece.input_bits[0], sum(piece.input_bits[1:])
    return sum(piece.input_bits), 0


def _moved(core: Core, tensor: str, bits: int) -> tuple[int, float]:
    """Return cycles and picojoules of moving bits once through the outermost memory of a tensor."""
    from cosma_sched.multicore.platforms import top_level

    level = top_level(core, tensor)
    if level is None or not bits:
        return 0, 0.0
    writes = tensor == "O"
    words = level.write_words_per_cycle if writes and level.write_words_per_cycle is not None else level.words_per_cycle
    per_word = level.write_pj_per_word if writes and level.write_pj_per_word is not None else level.pj_per_word
    return 0 if words is None else math.ceil(bits / (8 * words)), bits / 8 * per_word
