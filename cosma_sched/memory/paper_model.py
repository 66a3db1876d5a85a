"""The variables of the COSMA paper's integer program: which exist for a network, and how large the program would be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosma_sched.memory.problem import Network, Order, Scratchpad, bits


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Variables, constraints and non-zero coefficients of a linear program."""

    columns: int
    rows: int
    nonzeros: int


class LiteralModel:
    """The steps at which each variable of the literal program exists; `paper_program.literal_program` writes the rows.

    What a given order (16) or the additions fix to 0 is left out: no tensor is there before its creation can come or after its last use can
    come, and an operator runs when all its ancestors have run, and early enough for all its descendants.

    Parameters
    ----------
    network, scratchpad
        What to plan.
    order
        The only order allowed, or None for every order.
    printed
        Leave nothing out: the program as printed has every variable at every step, and rows that fix them. The optimum is the same.
    """

    def __init__(self, network: Network, scratchpad: Scratchpad, order: Order | None = None, *, printed: bool = False) -> None:
        self.network, self.scratchpad, self.order, self.printed = network, scratchpad, order, printed
        pins = {network.index[name]: offset - scratchpad.bottom_bytes for name, offset in scratchpad.pins}
        self.unit = math.gcd(*network.space, *pins.values())
        """Bytes in which addresses count: every packing can be pushed down onto multiples of it."""
        self.capacity = scratchpad.usable_bytes // self.unit
        self.space = tuple(space // self.unit for space in network.space)
        self.pins = {a: offset // self.unit for a, offset in pins.items()}
        every = range(len(network.tensors))
        self.runs = self._runs()
        """Steps at which each operator may run."""
        self.made = tuple(self._made(a) for a in every)
        """Steps at which each tensor may be created (C): none for an input."""
        self.life = tuple(self._life(a) for a in every)
        """Steps at which each tensor may be resident (L)."""
        self.kept = tuple(self._kept(a) for a in every)
        """Steps to which each tensor may stay from the step before (P, V)."""
        self.spilled = tuple(range(0) if network.backed >> a & 1 else self.kept[a] for a in every)
        """Steps at which each tensor may be spilled (S)."""
        self.read = tuple(self._read(a) for a in every)
        """Steps at which each tensor may come from DRAM (R)."""

    def _runs(self) -> tuple[range, ...]:
        network = self.network
        if self.printed:
            return (range(network.num_operators),) * network.num_operators
        if self.order is not None:
            step = {v: t for t, v in enumerate(self.order)}
            return tuple(range(step[v], step[v] + 1) for v in range(network.num_operators))
        neighbours = zip(network.ancestors, network.descendants, strict=True)
        return tuple(range(before.bit_count(), network.num_operators - after.bit_count()) for before, after in neighbours)

    def _made(self, a: int) -> range:
        producer = self.network.producer[a]
        return range(0) if producer is None else self.runs[producer]

    def _life(self, a: int) -> range:
        if self.printed:
            return range(self.network.num_operators)
        stops = [self.runs[v].stop for v in bits(self.network.consumers[a])]
        return range(self.made[a].start, max(stops, default=self.made[a].stop))

    def _kept(self, a: int) -> range:
        return self.life[a][1:] if self.printed or self.network.consumers[a] else range(0)

    def _read(self, a: int) -> range:
        if self.printed or self.network.inputs >> a & 1:
            return self.life[a]
        copy_may_be_new = bool(self.network.backed >> a & 1) or self.scratchpad.allow_relocation
        return self.kept[a] if copy_may_be_new else self.kept[a][1:]

    @property
    def ends_are_open(self) -> bool:
        """True where rows have to say that a tensor is gone after its last use."""
        return self.printed or self.order is None

    def size(self) -> ModelSize:
        """Return the size of the program without building it, in O(n (A + E)) for n steps, A tensors and E operands."""
        parts = [self._size_of_tensor(a) for a in range(len(self.life))]
        parts += [self._size_of_operator(v) for v in range(len(self.runs))]
        parts += [self._size_of_step(t) for t in range(len(self.runs))]
        return ModelSize(sum(p.columns for p in parts), sum(p.rows for p in parts), sum(p.nonzeros for p in parts))

    def _states(self, a: int, t: int) -> int:
        """Return how many of C, P and R there are for a tensor and a step."""
        return (t in self.made[a]) + (t in self.kept[a]) + (t in self.read[a])

    def _size_of_tensor(self, a: int) -> ModelSize:
        made, life, kept, spilled, read = self.made[a], self.life[a], self.kept[a], self.spilled[a], self.read[a]
        states = {t: self._states(a, t) for t in life}
        dirty = {t: (t in made) + (t in kept) for t in life}
        columns = len(made) + len(life) + 2 * len(kept) + len(spilled) + len(read)
        families = {  # rows, non-zeros
            "state": (len(life), sum(states.values()) + len(spilled)),
            "stay": (len(kept), sum(1 + states[t - 1] for t in kept)),
            "spill": (len(spilled), sum(1 + dirty[t - 1] for t in spilled)),
            "once": (bool(made) + bool(spilled), len(made) + len(spilled)),
            "fixed": (5 * len(kept), sum(11 + 2 * states[t - 1] for t in kept)),
            "pinned": (len(life), len(life)) if a in self.pins else (0, 0),
        }
        if self.scratchpad.allow_relocation:
            families["state again"] = len(spilled), sum(dirty[t] for t in spilled)
        if spilled:
            families["copy"] = len(read), sum(2 + t - spilled.start for t in read)
        elif made:
            families["copy"] = len(read), sum(1 + min(t, made.stop) - made.start for t in read)
        if self.ends_are_open:
            later = [t for t in life if t in kept or t in read]
            runs = [self.runs[v] for v in bits(self.network.consumers[a])]
            uses = sum(min(len(steps), max(0, steps.stop - t)) for steps in runs for t in later)
            families["alive"] = len(later), len(kept) + len(read) + uses
        return ModelSize(columns, sum(rows for rows, _ in families.values()), sum(count for _, count in families.values()))

    def _size_of_operator(self, v: int) -> ModelSize:
        network, steps = self.network, self.runs[v]
        outputs = network.writes[v].bit_count()
        sources = sum(1 + (t in self.kept[b]) + (t in self.read[b]) for b in bits(network.reads[v]) for t in steps)
        families = {
            "token": (0, 0) if outputs else (1, len(steps)),
            "operands": (max(1, outputs) * len(steps) * network.reads[v].bit_count(), max(1, outputs) * sources),
            "siblings": (max(0, outputs - 1) * len(steps), 2 * max(0, outputs - 1) * len(steps)),
            "one-operator": (0, len(steps)),  # its rows are the steps'
            "order": (1, 1) if self.printed and self.order is not None else (0, 0),
        }
        columns = 0 if outputs else len(steps)
        return ModelSize(columns, sum(rows for rows, _ in families.values()), sum(count for _, count in families.values()))

    def _size_of_step(self, t: int) -> ModelSize:
        states = [self._states(a, t) for a, life in enumerate(self.life) if t in life]
        pairs = len(states) * (len(states) - 1) // 2
        apart = 10 * pairs + (len(states) - 1) * sum(states) if pairs else 0
        return ModelSize(2 * pairs, 4 * pairs + 1, apart)
