"""One attention head on one core: published schedules with their peaks in closed form, the published rule, and the exact optimum.

The head is I (M x N) with Q, K, V = I W, S = Q K^T (M x M), P = softmax of the rows of S in place, A = P V (M x N). Row nodes have r rows.
Peaks count elements, inputs streamed and weights free, as the study of arXiv 2406.09804 does; an input of another width changes nothing.

Schedules (``>``: one after the other, ``( )``: interleaved)

    U1   Q > K > V > S > A, every layer in one piece
    L    Q > K > V > S > A, layer by layer in row nodes: the study's baseline, reconstructed
    L'   Q > K > S > V > A, the same with V after S
    A    K > V > (Q S) > A              the study's fused schedule for M < N, reconstructed
    B    K > (Q S) > V > A
    C    Q > K > V > (S A)              the study's fused schedule for M > N, reconstructed
    D    K > V > (Q S A)
    E    (K Q S) > (V A) by b columns, S summed over them: split KKKCK
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cosma_sched.errors import UsageError, shown, suggestion
from cosma_sched.graph import Graph
from cosma_sched.multicore.costs import NodeCost, Piece
from cosma_sched.multicore.minimax import MOST_STATES, Minimax, minimax
from cosma_sched.multicore.nodes import expand
from cosma_sched.multicore.platform import Memory, Platform, PlatformCore
from cosma_sched.multicore.problem import Objective, ScheduleProblem, Semantics
from cosma_sched.multicore.sources import SOFTMAX
from cosma_sched.multicore.splits import Cut, Split

SCHEDULES = ("U1", "L", "L'", "A", "B", "C", "D", "E")
LAYERS = ("Q", "K", "V", "S", "A")
LETTERS = {"B": "rows", "C": "contraction", "K": "columns"}
"""How the literature names the loops of a product, and what splits call them."""

_PHASES = {
    "U1": ("Q", "K", "V", "S", "A"),
    "L": ("Q", "K", "V", "S", "A"),
    "L'": ("Q", "K", "S", "V", "A"),
    "A": ("K", "V", "QS", "A"),
    "B": ("K", "QS", "V", "A"),
    "C": ("Q", "K", "V", "SA"),
    "D": ("K", "V", "QSA"),
    "E": ("KQS", "VA"),
}
"""Phases of each schedule; the layers of one phase take turns."""


def closed_form(name: str, rows: int, width: int, *, r: int = 1, b: int = 1, p: int = 1, outputs: str = "kept") -> int:
    """Return the peak of a schedule in elements.

    Parameters
    ----------
    name
        One of `SCHEDULES`.
    rows, width
        M and N.
    r, b
        Rows of a row node, which divide M, and columns of a column node, which divide N.
    p
        What a partial sum weighs against an element; only E has any, where b < N.
    outputs
        ``kept`` or ``streamed``.

    Raises
    ------
    UsageError
        If the name is unknown, or r or b do not divide what they cut.
    """
    _check(name)
    if rows % r or width % b:
        what, size, extent = ("r", r, rows) if rows % r else ("b", b, width)
        raise UsageError(f"{what} must divide {extent}, got {size}")
    kept, streamed = _FORMS[name](rows, width, r, b, p if b < width else 1)
    return kept if outputs == "kept" else streamed


def _check(name: str) -> None:
    if name not in SCHEDULES:
        raise UsageError(
            f"{shown(name)} is no schedule of an attention head; known are {', '.join(SCHEDULES)}{suggestion(name, SCHEDULES)}"
        )


_FORMS: Mapping[str, Callable[[int, int, int, int, int], tuple[int, int]]] = {
    "U1": lambda m, n, _r, _b, _p: (3 * m * n + m * m,) * 2,
    "L": lambda m, n, r, _b, _p: (max(3 * m * n + r * m, 2 * m * n + m * m + r * n),) * 2,
    "L'": lambda m, n, r, _b, _p: (max(2 * m * n + r * m, m * n + m * m + r * n),) * 2,
    "A": lambda m, n, r, _b, _p: (2 * m * n + m * m + r * n,) * 2,
    "B": lambda m, n, r, _b, _p: (max(2 * m * n + r * m, m * n + m * m + r * n), m * n + m * m + r * n),
    "C": lambda m, n, r, _b, _p: (3 * m * n + r * m,) * 2,
    "D": lambda m, n, r, _b, _p: (3 * m * n + r * m, 2 * m * n + r * m + r * n),
    "E": lambda m, n, _r, b, p: (max(p * m * m + 2 * b * m, m * n + m * m + b * m), p * m * m + 2 * b * m),
}


def best_of_rows(rows: int, width: int, *, r: int = 1, outputs: str = "kept") -> tuple[int, tuple[str, ...]]:
    """Return the least peak among the schedules of row nodes, and who reaches it; an upper bound until a search has proved it."""
    peaks = {name: closed_form(name, rows, width, r=r, outputs=outputs) for name in SCHEDULES if name not in {"U1", "E"}}
    least = min(peaks.values())
    return least, tuple(name for name, peak in peaks.items() if peak == least)


@dataclass(frozen=True, slots=True)
class Alpha:
    """How much fusing helps: peak of the study's fused schedule over the peak of its layer-by-layer baseline.

    Parameters
    ----------
    rule
        The published rule: (2 N + M) / 3 N for M < N, 3 N / (2 N + M) for M > N, 1 for M = N.
    exact
        The quotient of the two peaks, outputs kept.
    fused, baseline
        Names of the two schedules; at M = N both are the baseline.
    fused_peak, baseline_peak
        Their peaks in elements.
    best_peak, best
        The least peak of schedules of row nodes, and who reaches it.
    """

    rule: Fraction
    exact: Fraction
    fused: str
    baseline: str
    fused_peak: int
    baseline_peak: int
    best_peak: int
    best: tuple[str, ...]


def alpha(rows: int, width: int, *, r: int = 1) -> Alpha:
    """Return the published rule for a head of M rows and width N, beside the exact quotient for row nodes of r rows."""
    fused = "A" if rows < width else "C" if rows > width else "L"
    rule = {"A": Fraction(2 * width + rows, 3 * width), "C": Fraction(3 * width, 2 * width + rows), "L": Fraction(1)}[fused]
    peak, baseline = (closed_form(name, rows, width, r=r) for name in (fused, "L"))
    return Alpha(rule, Fraction(peak, baseline), fused, "L", peak, baseline, *best_of_rows(rows, width, r=r))


# Splits and schedules of a head


@dataclass(frozen=True, slots=True)
class Head:
    """An attention head inside a network: the names of its layers, and M and N."""

    layers: tuple[str, str, str, str, str]
    rows: int
    width: int


def head_of(graph: Graph) -> Head | None:
    """Return the head that a network is, if it is one head and nothing else."""
    products = [operator for operator in graph if operator.type == "MatMul"]
    softmaxes = [operator for operator in graph if operator.type in SOFTMAX]
    others = [operator for operator in graph if operator.type not in {"MatMul", "Transpose", *SOFTMAX}]
    if len(products) != 5 or len(softmaxes) != 1 or others:
        return None
    scores, attended = graph.producer(softmaxes[0].inputs[0]), graph.consumers(softmaxes[0].outputs[0])
    if scores is None or len(attended) != 1 or attended[0].inputs[0] != softmaxes[0].outputs[0]:
        return None

    def source(tensor: str) -> str:
        operator = graph.producer(tensor)
        while operator is not None and operator.type == "Transpose":
            operator = graph.producer(operator.inputs[0])
        return operator.name if operator is not None else ""

    names = (source(scores.inputs[0]), source(scores.inputs[1]), source(attended[0].inputs[1]), scores.name, attended[0].name)
    shape = graph.tensors[attended[0].outputs[0]].shape
    alike = {graph.tensors[operator.outputs[0]].shape for operator in products if operator.name in {*names[:3], names[4]}}
    if (
        len(set(names)) != 5
        or set(names) != {operator.name for operator in products}
        or len(alike) != 1
        or shape is None
        or len(shape) != 2
    ):
        return None
    return Head(names, *shape)


def head_split(letters: str, *, parts: int | None = None, size: int | None = None, layers: Sequence[str] = LAYERS) -> Split:
    """Return the split that a word such as ``KKKCK`` stands for: how Q, K, V, S, A are cut, in so many parts or in pieces of a size.

    Raises
    ------
    UsageError
        If the word is not made of five letters B (rows), C (contraction) and K (columns).
    """
    if len(letters) != 5 or set(letters) - set(LETTERS):
        raise UsageError(f"{shown(letters)} must be five letters out of B, C and K, for the layers {', '.join(LAYERS)}")
    return Split(layers={layer: (Cut(LETTERS[letter], parts, size),) for layer, letter in zip(layers, letters, strict=True)})


def letters_of(split: Split, extents: Mapping[str, Mapping[str, int]], layers: Sequence[str] = LAYERS) -> str | None:
    """Return the word that a split of a head is, such as ``KKKCK``; None where a layer is cut in no dimension or in two."""
    words = {dim: letter for letter, dim in LETTERS.items()}
    cuts = [split.of(layer, extents.get(layer, {})) for layer in layers]
    if any(len(found) != 1 or found[0].dim not in words for found in cuts):
        return None
    return "".join(words[found[0].dim] for found in cuts)


def all_letters() -> Iterator[str]:
    """Yield the 243 words of one dimension for each of five products."""
    return ("".join(word) for word in itertools.product("BCK", repeat=5))


def split_of_schedule(name: str, *, r: int = 1, b: int = 1, layers: Sequence[str] = LAYERS) -> Split:
    """Return the split that a schedule of `SCHEDULES` needs."""
    _check(name)
    if name == "U1":
        return Split()
    return head_split("KKKCK", size=b, layers=layers) if name == "E" else head_split("BBBBB", size=r, layers=layers)


def order_of_schedule(name: str, problem: ScheduleProblem, *, layers: Sequence[str] = LAYERS) -> tuple[int, ...]:
    """Return the positions of a head's nodes in the order of a schedule of `SCHEDULES`.

    Parameters
    ----------
    name
        The schedule.
    problem
        The head, cut as `split_of_schedule` says.
    layers
        Names of the layers Q, K, V, S, A.

    Raises
    ------
    UsageError
        If the name is unknown, or layers that take turns do not have the same number of nodes.
    """
    _check(name)
    nodes = {
        letter: [p for p, node in enumerate(problem.nodes) if node.layer == layer] for letter, layer in zip(LAYERS, layers, strict=True)
    }
    order: list[int] = []
    for phase in _PHASES[name]:
        counts = {len(nodes[letter]) for letter in phase}
        if len(counts) > 1:
            raise UsageError(f"schedule {name} needs as many nodes of each of {', '.join(phase)}; cut them as split_of_schedule says")
        order += itertools.chain.from_iterable(zip(*(nodes[letter] for letter in phase), strict=True))
    return tuple(order)


# The exact optimum


class _AnyCost:
    """Peaks do not depend on costs."""

    def costs(self, _: Piece) -> Mapping[str, NodeCost]:
        return {"0": NodeCost(1, 0)}


_ONE_CORE = Platform("one core", {"0": PlatformCore("0", "0", "memory")}, {"memory": Memory("memory", None)})


def on_one_core(graph: Graph, split: Split, semantics: Semantics) -> ScheduleProblem:
    """Return a cut network on one core without a capacity, where every node takes one cycle: all that a peak depends on."""
    return expand(graph, split, semantics, _AnyCost()).problem(_ONE_CORE, semantics, Objective.MEMORY)


_OFTEN_BEST = ("BBBBB", "KKKCK", "KKBCB")
"""Words to try first: what they reach ends the search of the others early."""


@dataclass(frozen=True, slots=True)
class BestSplit:
    """The splits of least peak.

    Parameters
    ----------
    letters
        The best words; all of them have the same peak, in bytes.
    split
        The split of one of them: the word with the most letters in common with ``BBBBB``, else the first.
    found
        Its peak, with proof and order.
    bound_bytes
        No order of the nodes of any split searched has a lower peak.
    """

    letters: tuple[str, ...]
    split: Split
    found: Minimax
    bound_bytes: int

    @property
    def peak_bytes(self) -> int | None:
        """The least peak."""
        return self.found.peak_bytes


def best_split(
    graph: Graph,
    semantics: Semantics,
    *,
    parts: int | None = None,
    size: int | None = None,
    words: Sequence[str] | None = None,
    most_states: int = MOST_STATES,
) -> BestSplit:
    """Search all 243 splits of a head and all orders of their nodes for the least peak.

    Parameters
    ----------
    graph
        A network that `head_of` takes for a head.
    semantics
        What counts; the least peak of multi-core schedules is bounded with weights free and inputs streamed.
    parts, size
        Parts of each dimension that is cut, or the size of their pieces.
    words
        Search these splits alone.
    most_states
        States after which the search of one split stops.

    Raises
    ------
    UsageError
        If the network is no head.
    """
    head = head_of(graph)
    if head is None:
        raise UsageError(f"{shown(graph.name)} is not one attention head; split AUTO over the 243 splits is for attention-head:MxN")
    found: dict[str, Minimax] = {}
    splits = {word: head_split(word, parts=parts, size=size, layers=head.layers) for word in words or all_letters()}
    least: int | None = None
    for word in sorted(splits, key=lambda word: _OFTEN_BEST.index(word) if word in _OFTEN_BEST else len(_OFTEN_BEST)):
        found[word] = minimax(on_one_core(graph, splits[word], semantics), most_states=most_states, at_most=least)
        peak = found[word].peak_bytes
        least = peak if least is None or (peak is not None and peak < least) else least
    peaks = {word: found[word].peak_bytes for word in splits if found[word].peak_bytes is not None}
    ties = tuple(word for word, peak in peaks.items() if peak == least) or tuple(splits)
    chosen = max(ties, key=lambda word: word.count("B"))
    return BestSplit(ties, splits[chosen], found[chosen], min(result.bound_bytes for result in found.values()))
