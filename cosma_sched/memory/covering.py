"""The covering bound: traffic that every order must cause, because at some operators more is alive than fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cosma_sched.backends import SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.memory.bounds import forced_live
from cosma_sched.memory.problem import Network, bits
from cosma_sched.progress import Clock

if TYPE_CHECKING:
    from pulp import LpVariable


def covering_program(network: Network, capacity_bytes: int) -> Program | None:
    """Return the program of the covering bound, or None where nothing is forced out of the scratchpad.

    For operator v let F(v) be the tensors that are alive when v runs in every order (`forced_live`), M the capacity, z_a the bytes of a.

    Variables, all binary
        absent[a,v]    a in F(v), no operand of v, is not resident while v runs
        spill[a]       activation a is written to DRAM
        retrieve[a,c]  a is read from DRAM for its use c
    Minimise
        sum_a z_a spill[a] + sum_ac z_a retrieve[a,c]
    Subject to
        room      sum_a s_a absent[a,v] >= |F(v)| - M                       each v with |F(v)| > M (s_a: bytes a occupies)
        saved     absent[a,v] <= spill[a]                                   activation a
        returned  absent[a,v] <= sum of retrieve[a,c] over possible next uses c of a after v

    A consumer c of a may be its next use after v if it is no ancestor of v and no other consumer of a lies between v and c in every order.
    Valid for every plan, because a tensor that is absent while v runs is retrieved for its next use.
    """
    program = Program("covering bound")
    absent: dict[tuple[int, int], LpVariable] = {}
    uses: dict[tuple[int, int], tuple[int, ...]] = {}
    for v in range(network.num_operators):
        alive = forced_live(network, v)
        excess = network.space_of(alive) - capacity_bytes
        if excess <= 0:
            continue
        terms = []
        for a in bits(alive & ~network.operands(v)):
            variable = program.binary(("absent", a, v))
            absent[a, v] = variable
            uses[a, v] = tuple(_next_uses(network, a, v))
            terms.append((variable, network.space[a]))
        program.at_least(terms, excess, "room")
    if not absent:
        return None
    activations = sorted({a for a, _ in absent if not network.backed >> a & 1})
    spill = {a: program.binary(("spill", a)) for a in activations}
    retrieve = {key: program.binary(("retrieve", *key)) for key in sorted({(a, c) for (a, _), cs in uses.items() for c in cs})}
    program.minimise(
        [(variable, network.size[a]) for a, variable in spill.items()]
        + [(variable, network.size[a]) for (a, _), variable in retrieve.items()]
    )
    for (a, v), variable in absent.items():
        if a in spill:
            program.at_most([(variable, 1), (spill[a], -1)], 0, "saved")
        program.at_most([(variable, 1), *((retrieve[a, c], -1) for c in uses[a, v])], 0, "returned")
    return program


def _next_uses(network: Network, a: int, v: int) -> list[int]:
    later = network.consumers[a] & ~network.ancestors[v] & ~(1 << v)
    return [c for c in bits(later) if not later & network.descendants[v] & network.ancestors[c]]


def covering_bound(network: Network, capacity_bytes: int, *, options: SolverOptions, clock: Clock) -> int:
    """Return a proven lower bound on the traffic of every plan, whatever the order; 0 where nothing is forced out.

    Parameters
    ----------
    network, capacity_bytes
        What is planned.
    options
        The back end; its time limit is replaced by the clock's.
    clock
        Ends the solve; the bound proven until then is returned.
    """
    program = covering_program(network, capacity_bytes)
    if program is None:
        return 0
    outcome = solve_linear(program, options=replace(options, time_limit=clock.remaining))
    return max(0, outcome.bound or 0)
