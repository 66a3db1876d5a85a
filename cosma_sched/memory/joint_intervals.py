"""Order and replacement together as a CP-SAT program over intervals: a second opinion on the search, and what runs where it has to stop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cosma_sched.backends import SolverOptions, solve_cpsat
from cosma_sched.memory.problem import Network, Order, bits
from cosma_sched.progress import Clock

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

    from cosma_sched.result import Termination


@dataclass(frozen=True, slots=True)
class IntervalAnswer:
    """An order with its traffic by capacity, where one was found, and a proven lower bound over all orders."""

    order: Order | None
    traffic_bytes: int | None
    bound_bytes: int
    termination: Termination


@dataclass
class IntervalProgram:
    """The program; `position` and `kept` are the variables that a caller may want to read.

    Variables
        position[v]   step at which operator v runs
        keep[a,d,c]   tensor a stays from its use d to its use c: an optional interval [position d + 1, position c) of height z_a
        load[a,c]     input a is read from DRAM for the first time, for its use c
        retrieve[a,c] tensor a is read again from DRAM for its use c
        spill[a]      activation a is written to DRAM
    Minimise
        sum_a z_a spill[a] + sum_ac z_a retrieve[a,c]
    Subject to
        one operator per step; position u + 1 <= position v where v reads what u writes
        each use c of a is served: exactly one of keep[a,.,c], load[a,c], retrieve[a,c]; at most one load per input
        retrieve[a,c] <= spill[a] for activations; keep[a,d,c] implies position d < position c
        capacity: operands of the operator that runs plus everything kept fit at every step

    Exact when addresses are left out: a tensor kept from an earlier use than the last one only takes more room, so some optimum keeps from
    the last one. Source: the capacity part of COSMA's model (arXiv 2311.18246) with intervals in place of a variable per step.
    """

    network: Network
    capacity_bytes: int
    model: cp_model.CpModel = field(init=False)
    position: list[cp_model.IntVar] = field(init=False)
    keep: dict[tuple[int, int, int], cp_model.IntVar] = field(init=False, default_factory=dict)
    served: dict[tuple[str, int, int], cp_model.IntVar] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        from ortools.sat.python import cp_model

        self.model = cp_model.CpModel()
        network, n = self.network, self.network.num_operators
        self.position = [
            self.model.new_int_var(network.ancestors[v].bit_count(), n - 1 - network.descendants[v].bit_count(), f"position_{v}")
            for v in range(n)
        ]
        self._intervals = [self.model.new_fixed_size_interval_var(self.position[v], 1, f"run_{v}") for v in range(n)]
        self._demands = [network.operand_bytes(v) for v in range(n)]
        self._one_operator_per_step()
        cost = [term for a in range(len(network.tensors)) for term in self._serve(a)]
        self.model.add_cumulative(self._intervals, self._demands, self.capacity_bytes)
        self.model.minimize(sum(weight * variable for weight, variable in cost))

    def _one_operator_per_step(self) -> None:
        self.model.add_all_different(self.position)
        for v in range(self.network.num_operators):
            for u in bits(self.network.predecessors[v]):
                self.model.add(self.position[u] + 1 <= self.position[v])

    def _serve(self, a: int) -> list[tuple[int, cp_model.IntVar]]:
        """Add the choices for every use of a tensor; return the terms of the objective."""
        network, size = self.network, self.network.size[a]
        readers = list(bits(network.consumers[a]))
        producer = network.producer[a]
        cost: list[tuple[int, cp_model.IntVar]] = []
        spill = None
        if not network.backed >> a & 1 and readers:
            spill = self.model.new_bool_var(f"spill_{a}")
            self.served["spill", a, a] = spill
            cost.append((size, spill))
        for c in readers:
            earlier = [d for d in readers if d != c and not network.ancestors[d] >> c & 1]
            choices = [self._kept(a, d, c) for d in ([] if producer is None else [producer]) + earlier]
            retrieve = self.model.new_bool_var(f"retrieve_{a}_{c}")
            self.served["retrieve", a, c] = retrieve
            cost.append((size, retrieve))
            if spill is not None:
                self.model.add_implication(retrieve, spill)
            if producer is None:
                self.served["load", a, c] = self.model.new_bool_var(f"load_{a}_{c}")
                choices.append(self.served["load", a, c])
            self.model.add_exactly_one([*choices, retrieve])
        if producer is None:
            self.model.add_at_most_one([self.served["load", a, c] for c in readers])
        return cost

    def _kept(self, a: int, d: int, c: int) -> cp_model.IntVar:
        kept = self.model.new_bool_var(f"keep_{a}_{d}_{c}")
        length = self.model.new_int_var(0, self.network.num_operators, f"length_{a}_{d}_{c}")
        start, end = self.position[d] + 1, self.position[c]
        self._intervals.append(self.model.new_optional_interval_var(start, length, end, kept, f"stay_{a}_{d}_{c}"))
        self._demands.append(self.network.space[a])
        self.keep[a, d, c] = kept
        return kept


def search_by_intervals(
    network: Network, capacity_bytes: int, *, options: SolverOptions, clock: Clock, cutoff_bytes: int | None = None
) -> IntervalAnswer:
    """Return the best order that CP-SAT finds within the clock, and the bound it proves over all orders.

    Parameters
    ----------
    network, capacity_bytes
        What to plan; every operator's own tensors fit into the capacity.
    options
        Workers and seed; the solver is CP-SAT whatever they name.
    clock
        Ends the solve.
    cutoff_bytes
        Traffic of a known plan: only orders below it are of interest. If there are none, the bound becomes this value.
    """
    program = IntervalProgram(network, capacity_bytes)
    if cutoff_bytes is not None:
        terms = [network.size[a] * variable for (kind, a, _), variable in program.served.items() if kind != "load"]
        program.model.add(sum(terms) <= cutoff_bytes - 1)
    outcome = solve_cpsat(program.model, options=replace(options, solver="cpsat", time_limit=clock.remaining))
    if outcome.status == "infeasible" and cutoff_bytes is not None:
        return IntervalAnswer(None, None, cutoff_bytes, outcome.termination)
    bound = max(0, outcome.bound or 0)
    if outcome.objective is None:
        return IntervalAnswer(None, None, bound, outcome.termination)
    order = sorted(range(network.num_operators), key=lambda v: outcome.value(program.position[v]))
    return IntervalAnswer(tuple(order), outcome.objective, bound, outcome.termination)
