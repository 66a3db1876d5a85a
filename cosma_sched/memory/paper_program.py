"""The rows of the COSMA paper's integer program, one function per equation."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

from cosma_sched.backends.linear import Program
from cosma_sched.memory.paper_model import LiteralModel
from cosma_sched.memory.problem import bits

if TYPE_CHECKING:
    from pulp import LpVariable

Terms = list[tuple["LpVariable", int]]


def literal_program(model: LiteralModel) -> Program:
    """Return the least traffic of one order or of all, addresses included, as one integer program.

    Steps are 0 to n - 1. res(a,t) = C + P + R [a,t] says whether tensor a is resident during step t; z_a are its bytes, s_a the bytes that
    it occupies, M the usable bytes. Addresses count from the lowest usable byte, in units of the sizes' common divisor.

    Variables
        C[a,t]     binary   a is created at step t; a token stands for an operator without outputs
        P[a,t]     binary   a stays from step t - 1
        S[a,t]     binary   activation a is written to DRAM and absent
        R[a,t]     binary   a is read from DRAM
        V[a,t]     binary   a is resident at t - 1 and stays at t
        u,d[a,b,t] binary   a lies above b; a lies below b
        L[a,t]     integer  the offset of a; equation 9 is its bounds, 0 <= L <= M - s_a
    Minimise (12, 17)
        sum of z_a (S + R) over activations, of z_a R over outputs, of z_a R over inputs less the one load z_a of each
    Subject to
        state         (1)     C + P + S + R <= 1; with relocation C + P + R <= 1 and C + P + S <= 1, so that S and R may share a step
        stay          (2)     P[a,t] <= res(a,t-1)
        spill         (3)     S[a,t] <= C + P [a,t-1]
        copy          (4)     R[a,t] <= sum of S[a,k], k <= t; an output: of C[a,k], k < t; an input: no row
        operands      (5)     C[a,t] <= P + R [b,t] for every tensor b that the operator of a reads
        siblings      (6)     C[a,t] = C[b,t] for the outputs of one operator
        once          (7, 8)  sum over t of C[a,t] = 1; of S[a,t] <= 1
        apart         (10)    L_a >= L_b + s_b - M (1 - u); L_b >= L_a + s_a - M (1 - d); u + d >= res(a) + res(b) - 1; u + d <= 1
        fixed         (11)    abs(L[a,t] - L[a,t-1]) <= M (1 - V); V >= res(a,t-1) + P[a,t] - 1; V <= res(a,t-1); V <= P[a,t]
        order         (16)    C[a,t] = 1 at the given step of the operator of a; only in the printed form
        one-operator  added   the creations of all operators at step t sum to 1
        alive         added   P + R [a,t] <= sum of the creations of a's readers at t or later; in the printed form, or for every order
        pinned        added   L[a,t] = the fixed offset of a

    Source: COSMA (arXiv 2311.18246), equations as restated in ``docs/memory-planning.md``. Which variables exist says `LiteralModel`.
    """
    writer = _Writer(model)
    writer.variables()
    for a in range(len(model.network.tensors)):
        writer.state(a)
        writer.stay(a)
        writer.spill(a)
        writer.copy(a)
        writer.fixed(a)
        writer.alive(a)
        writer.pinned(a)
    for v in range(model.network.num_operators):
        writer.operands(v)
        writer.siblings(v)
        writer.order(v)
    writer.once()
    for t in range(model.network.num_operators):
        writer.one_operator(t)
        for a, b in combinations([a for a, life in enumerate(model.life) if t in life], 2):
            writer.apart(a, b, t)
    writer.objective()
    return writer.program


class _Writer:
    """Variables by family, tensor and step; sums over variables that do not exist are empty."""

    def __init__(self, model: LiteralModel) -> None:
        self.model, self.network = model, model.network
        self.program = Program("the literal model")

    def variables(self) -> None:
        """Make every variable that may be other than 0."""
        model, program = self.model, self.program
        families = {"C": model.made, "P": model.kept, "S": model.spilled, "R": model.read, "V": model.kept}
        for family, windows in families.items():
            for a, steps in enumerate(windows):
                for t in steps:
                    program.binary((family, a, t))
        for v, steps in enumerate(model.runs):
            for t in steps if not self.network.writes[v] else ():
                program.binary(("token", v, t))
        for a, life in enumerate(model.life):
            for t in life:
                program.integer(("L", a, t), 0, model.capacity - model.space[a])

    def sum(self, families: Iterable[str], a: int, steps: Iterable[int], factor: int = 1) -> Terms:
        """Return the sum of a tensor's variables over families and steps."""
        known = self.program.variables
        keys = ((family, a, t) for t in steps for family in families)
        return [(known[key], factor) for key in keys if key in known]

    def resident(self, a: int, t: int, factor: int = 1) -> Terms:
        """Return res(a,t)."""
        return self.sum("CPR", a, (t,), factor)

    def created(self, v: int, steps: Iterable[int], factor: int = 1) -> Terms:
        """Return the sum over steps of the creation that tells when an operator runs."""
        outputs = list(bits(self.network.writes[v]))
        return self.sum("C", outputs[0], steps, factor) if outputs else self.sum(("token",), v, steps, factor)

    def state(self, a: int) -> None:
        """Equation 1: a tensor is in one state; with relocation a spill and a retrieve may share a step."""
        for t in self.model.life[a]:
            if not self.model.scratchpad.allow_relocation:
                self.program.at_most(self.sum("CPSR", a, (t,)), 1, "state")
                continue
            self.program.at_most(self.resident(a, t), 1, "state")
            if t in self.model.spilled[a]:
                self.program.at_most(self.sum("CPS", a, (t,)), 1, "state")

    def stay(self, a: int) -> None:
        """Equation 2: only what was resident stays."""
        for t in self.model.kept[a]:
            self.program.at_most([*self.sum("P", a, (t,)), *self.resident(a, t - 1, -1)], 0, "stay")

    def spill(self, a: int) -> None:
        """Equation 3: only what was resident, and did not come from DRAM, is spilled."""
        for t in self.model.spilled[a]:
            self.program.at_most([*self.sum("S", a, (t,)), *self.sum("CP", a, (t - 1,), -1)], 0, "spill")

    def copy(self, a: int) -> None:
        """Equation 4: a retrieve needs a valid copy, which a spill makes, or the store of an output."""
        spilled, made = self.model.spilled[a], self.model.made[a]
        for t in self.model.read[a] if made else ():
            copies = self.sum("S", a, range(spilled.start, t + 1), -1) if spilled else self.sum("C", a, range(made.start, t), -1)
            self.program.at_most([*self.sum("R", a, (t,)), *copies], 0, "copy")

    def operands(self, v: int) -> None:
        """Equation 5: an operator's inputs are resident when its outputs are created."""
        outputs = [("C", a) for a in bits(self.network.writes[v])] or [("token", v)]
        for family, a in outputs:
            for t in self.model.runs[v]:
                for b in bits(self.network.reads[v]):
                    self.program.at_most([*self.sum((family,), a, (t,)), *self.sum("PR", b, (t,), -1)], 0, "operands")

    def siblings(self, v: int) -> None:
        """Equation 6: the outputs of one operator are created together."""
        first, *others = list(bits(self.network.writes[v])) or [-1]
        for b in others:
            for t in self.model.runs[v]:
                self.program.equal([*self.sum("C", first, (t,)), *self.sum("C", b, (t,), -1)], 0, "siblings")

    def order(self, v: int) -> None:
        """Equation 16: an operator runs at its given step; left to the choice of variables unless the form is the printed one."""
        if self.model.printed and self.model.order is not None:
            self.program.equal(self.created(v, (self.model.order.index(v),)), 1, "order")

    def once(self) -> None:
        """Equations 7 and 8: created once, and spilled at most once."""
        for v, steps in enumerate(self.model.runs):
            if not self.network.writes[v]:
                self.program.equal(self.created(v, steps), 1, "once")
        for a, (made, spilled) in enumerate(zip(self.model.made, self.model.spilled, strict=True)):
            if made:
                self.program.equal(self.sum("C", a, made), 1, "once")
            if spilled:
                self.program.at_most(self.sum("S", a, spilled), 1, "once")

    def apart(self, a: int, b: int, t: int) -> None:
        """Equation 10: of two resident tensors one lies above the other."""
        program, space, capacity = self.program, self.model.space, self.model.capacity
        above, below = program.binary(("u", a, b, t)), program.binary(("d", a, b, t))
        for one, other, lies in ((a, b, above), (b, a, below)):
            offsets = [*self.sum("L", one, (t,)), *self.sum("L", other, (t,), -1)]
            program.at_least([*offsets, (lies, -capacity)], space[other] - capacity, "apart")
        program.at_least([(above, 1), (below, 1), *self.resident(a, t, -1), *self.resident(b, t, -1)], -1, "apart")
        program.at_most([(above, 1), (below, 1)], 1, "apart")

    def fixed(self, a: int) -> None:
        """Equation 11: what stays keeps its offset."""
        capacity = self.model.capacity
        for t in self.model.kept[a]:
            stays = self.sum("V", a, (t,))
            for sign in (1, -1):
                moved = [*self.sum("L", a, (t,), sign), *self.sum("L", a, (t - 1,), -sign)]
                self.program.at_most([*moved, *self.sum("V", a, (t,), capacity)], capacity, "fixed")
            self.program.at_least([*stays, *self.resident(a, t - 1, -1), *self.sum("P", a, (t,), -1)], -1, "fixed")
            self.program.at_most([*stays, *self.resident(a, t - 1, -1)], 0, "fixed")
            self.program.at_most([*stays, *self.sum("P", a, (t,), -1)], 0, "fixed")

    def alive(self, a: int) -> None:
        """Added: nothing stays or comes back after its last use, wherever an order puts that."""
        readers = list(bits(self.network.consumers[a]))
        for t in self.model.life[a] if self.model.ends_are_open else ():
            resident = self.sum("PR", a, (t,))
            if resident:
                later = range(t, self.network.num_operators)
                self.program.at_most([*resident, *(term for v in readers for term in self.created(v, later, -1))], 0, "alive")

    def pinned(self, a: int) -> None:
        """Added: a pinned tensor lies where it is pinned."""
        if a in self.model.pins:
            for t in self.model.life[a]:
                self.program.equal(self.sum("L", a, (t,)), self.model.pins[a], "pinned")

    def one_operator(self, t: int) -> None:
        """Added: one operator runs at each step."""
        runs = [term for v, steps in enumerate(self.model.runs) if t in steps for term in self.created(v, (t,))]
        self.program.equal(runs, 1, "one-operator")

    def objective(self) -> None:
        """Equations 12 and 17: spilled plus retrieved bytes; the first load of an input is compulsory."""
        size, inputs = self.network.size, self.network.inputs
        moved = [term for a, z in enumerate(size) for term in self.sum("SR", a, self.model.life[a], z)]
        self.program.minimise(moved, -self.network.bytes_of(inputs))
