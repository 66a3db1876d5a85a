"""What can be said before any solver runs: the budgets M_R, M_P and M_H, and lower bounds on peak and traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosma_sched.memory.ordering import min_peak_order
from cosma_sched.memory.problem import Network, Order, largest_operator
from cosma_sched.progress import Clock
from cosma_sched.result import Answer, Provenance, Status, Termination

SCHEMA = "cosma-sched/bounds/1"


@dataclass(frozen=True, slots=True)
class PeakBounds:
    """The budgets of a network and what proves them; operators are positions in the given order."""

    m_r_bytes: int
    m_r_operator: int
    m_p_bytes: int
    m_p_bound_bytes: int
    given_order_peak_bytes: int
    min_peak_order: Order
    states: int
    proved_by: str
    interrupted: bool = False

    @property
    def m_h_bytes(self) -> int:
        """Half way between M_R and M_P, rounded down."""
        return (self.m_r_bytes + self.m_p_bytes) // 2

    @property
    def m_p_is_proven(self) -> bool:
        """True if no order has a lower peak."""
        return self.m_p_bytes == self.m_p_bound_bytes


@dataclass(frozen=True, slots=True)
class MemoryBounds(Answer):
    """The budgets of a network as a result, ``cosma-sched/bounds/1``.

    Parameters
    ----------
    m_r_bytes, m_r_operator
        The most bytes that one operator's own tensors take, and that operator: necessary, not sufficient.
    m_p_bytes, m_p_bound_bytes, m_p_status
        The least peak of live bytes over all orders, the proven bound on it, and ``optimal`` where they are equal.
    m_h_bytes
        floor((M_R + M_P) / 2).
    given_order_peak_bytes
        Peak of live bytes of the given order.
    order
        Operator names in an order whose peak is `m_p_bytes`.
    states
        Sets of executed operators that the search expanded.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    provenance: Provenance
    m_r_bytes: int
    m_r_operator: str
    m_p_bytes: int
    m_p_bound_bytes: int
    m_p_status: Status
    m_h_bytes: int
    given_order_peak_bytes: int
    order: tuple[str, ...]
    states: int

    def to_json(self) -> dict[str, Any]:
        """Return the bounds as a document ``cosma-sched/bounds/1``."""
        document: dict[str, Any] = {"schema": SCHEMA, **{name: getattr(self, name) for name in self.__slots__}}
        for name in ("status", "termination", "m_p_status"):
            document[name] = str(document[name])
        document["seconds"] = round(self.seconds, 3)
        document["provenance"] = self.provenance.to_json()
        document["order"] = list(self.order)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "bounds") -> MemoryBounds:
        """Rebuild from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.memory._documents import BoundsDocument, checked

        checked(BoundsDocument, document, SCHEMA, path)
        values = {name: document[name] for name in cls.__slots__}
        values["provenance"] = Provenance.from_json(values["provenance"])
        values["order"] = tuple(values["order"])
        for name, kind in (("status", Status), ("termination", Termination), ("m_p_status", Status)):
            values[name] = kind(values[name])
        return cls(**values)


def forced_live_bytes(network: Network, v: int) -> int:
    """Return the bytes that are live in every order when v runs: its operands and what is created before and read after it.

    Created before: the producer, or for an input some consumer, is an ancestor of v; read after: some consumer is a descendant.
    """
    return network.space_of(forced_live(network, v))


def forced_live(network: Network, v: int) -> int:
    """Return the set of tensors of `forced_live_bytes`."""
    return network.operands(v) | (network.created_before[v] & network.read_after[v])


def peak_bounds(network: Network, *, reserve_bytes: int = 0, clock: Clock | None = None) -> PeakBounds:
    """Return M_R, M_P and M_H with what proves M_P.

    Parameters
    ----------
    network
        The indexed graph.
    reserve_bytes
        Bytes at the bottom of the scratchpad that no tensor may use; every budget includes them.
    clock
        Limits the search for M_P; without a proof in time `m_p_bytes` is the best peak found.
    """
    largest = largest_operator(network)
    m_r = network.operand_bytes(largest)
    floor = max(m_r, *(forced_live_bytes(network, v) for v in range(network.num_operators)))
    found = min_peak_order(network, floor, clock=clock)
    return PeakBounds(
        m_r_bytes=m_r + reserve_bytes,
        m_r_operator=largest,
        m_p_bytes=found.peak_bytes + reserve_bytes,
        m_p_bound_bytes=found.bound_bytes + reserve_bytes,
        given_order_peak_bytes=max(network.live_bytes(network.given_order)) + reserve_bytes,
        min_peak_order=found.order,
        states=found.states,
        proved_by="forced-live" if found.peak_bytes == floor else "search",
        interrupted=found.interrupted,
    )
