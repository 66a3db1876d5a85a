"""The memory planner's answer: an order, where each tensor lies and when, and what crosses to DRAM. ``cosma-sched/plan/1``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from cosma_sched.errors import InputError
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/plan/1"


class TransferKind(StrEnum):
    """What a transfer is for. Loads and stores are compulsory; spills and retrieves are the traffic that planning can avoid."""

    LOAD = "load"
    STORE = "store"
    SPILL = "spill"
    RETRIEVE = "retrieve"


@dataclass(frozen=True, slots=True)
class Residency:
    """A stay in the scratchpad: steps ``start`` to ``end - 1`` at bytes ``offset`` to ``offset + size_bytes - 1``."""

    tensor: str
    start: int
    end: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that cross to or from DRAM at one step."""

    tensor: str
    step: int
    kind: TransferKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """The scratchpad sizes that mark a network: necessary (M_R), enough for the least peak (M_P), and half way between (M_H)."""

    m_r_bytes: int
    m_h_bytes: int
    m_p_bytes: int


@dataclass(frozen=True, slots=True)
class Spilled:
    """A tensor that leaves the scratchpad and comes back: last step before, first step after, and whether it was written to DRAM."""

    tensor: str
    size_bytes: int
    left_after_step: int
    back_at_step: int
    written: bool


@dataclass(frozen=True, slots=True)
class MemoryPlan(Answer):
    """A memory plan with what is proven about it.

    Sizes are in bytes, steps count from 0, intervals are half-open. Without an answer (status ``infeasible`` or ``unknown``) every field
    from `traffic_bytes` to `transfers` is None, except a bound if one is known, and `reasons` says why.

    Parameters
    ----------
    traffic_bytes
        Spilled plus retrieved bytes: the DRAM traffic that is not compulsory.
    compulsory_bytes
        First loads of inputs and stores of outputs.
    bound_bytes
        Proven lower bound on the traffic of every plan that the request allows.
    gap
        (traffic - bound) / traffic; 0 where both are 0.
    peak_bytes
        Most bytes resident at one step.
    height_bytes
        End of the highest address used.
    order
        Operator names; step t runs ``order[t]``.
    bound_scope
        What the bound speaks of where that is less than the request, else None.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    scratchpad_bytes: int
    provenance: Provenance
    traffic_bytes: int | None = None
    spill_bytes: int | None = None
    retrieve_bytes: int | None = None
    compulsory_bytes: int | None = None
    bound_bytes: int | None = None
    gap: float | None = None
    peak_bytes: int | None = None
    height_bytes: int | None = None
    order: tuple[str, ...] | None = None
    residency: tuple[Residency, ...] | None = None
    transfers: tuple[Transfer, ...] | None = None
    budgets: Budgets | None = None
    bound_scope: str | None = None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        parts = (self.order, self.residency, self.transfers)
        if any(part is None for part in parts) != all(part is None for part in parts):
            raise InputError("plan", "order, residency and transfers are given together or not at all")

    @property
    def spilled(self) -> tuple[Spilled, ...]:
        """Every absence between two stays of the same tensor, by the step at which it begins."""
        return tuple(_absences(self.residency or (), self.transfers or ()))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a document ``cosma-sched/plan/1``."""
        document: dict[str, Any] = {"schema": SCHEMA, **{name: getattr(self, name) for name in _PLAIN_FIELDS}}
        document["status"], document["termination"] = str(self.status), str(self.termination)
        document["seconds"] = round(self.seconds, 3)
        document["budgets"] = asdict(self.budgets) if self.budgets else None
        if self.bound_scope is not None:
            document["bound_scope"] = self.bound_scope
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        document["provenance"] = self.provenance.to_json()
        document["order"] = None if self.order is None else list(self.order)
        document["residency"] = None if self.residency is None else [asdict(entry) for entry in self.residency]
        document["transfers"] = (
            None if self.transfers is None else [{**asdict(transfer), "kind": str(transfer.kind)} for transfer in self.transfers]
        )
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "plan") -> MemoryPlan:
        """Rebuild a plan from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.memory._documents import PlanDocument, checked

        checked(PlanDocument, document, SCHEMA, path)
        return _decode(document)


def totals(num_steps: int, residency: Sequence[Residency], transfers: Sequence[Transfer]) -> dict[str, int]:
    """Return the sums that a plan states about its stays and transfers, by field name."""
    moved = dict.fromkeys(TransferKind, 0)
    for transfer in transfers:
        moved[transfer.kind] += transfer.size_bytes
    resident = [0] * num_steps
    for entry in residency:
        for step in range(entry.start, entry.end):
            resident[step] += entry.size_bytes
    return {
        "traffic_bytes": moved[TransferKind.SPILL] + moved[TransferKind.RETRIEVE],
        "spill_bytes": moved[TransferKind.SPILL],
        "retrieve_bytes": moved[TransferKind.RETRIEVE],
        "compulsory_bytes": moved[TransferKind.LOAD] + moved[TransferKind.STORE],
        "peak_bytes": max(resident, default=0),
        "height_bytes": max((entry.offset + entry.size_bytes for entry in residency), default=0),
    }


_PLAIN_FIELDS = (
    "status",
    "termination",
    "seconds",
    "verified",
    "scratchpad_bytes",
    "traffic_bytes",
    "spill_bytes",
    "retrieve_bytes",
    "compulsory_bytes",
    "bound_bytes",
    "gap",
    "peak_bytes",
    "height_bytes",
)


def _decode(document: Mapping[str, Any]) -> MemoryPlan:
    values = {name: document.get(name) for name in _PLAIN_FIELDS}
    values["status"], values["termination"] = Status(document["status"]), Termination(document["termination"])
    order, residency, transfers = document.get("order"), document.get("residency"), document.get("transfers")
    budgets = document.get("budgets")
    return MemoryPlan(
        **values,  # type: ignore[arg-type]
        provenance=Provenance.from_json(document["provenance"]),
        order=None if order is None else tuple(order),
        residency=None if residency is None else tuple(Residency(**entry) for entry in residency),
        transfers=None if transfers is None else tuple(Transfer(**{**entry, "kind": TransferKind(entry["kind"])}) for entry in transfers),
        budgets=None if budgets is None else Budgets(**budgets),
        bound_scope=document.get("bound_scope"),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
    )


def _absences(residency: tuple[Residency, ...], transfers: tuple[Transfer, ...]) -> Iterator[Spilled]:
    written = {(transfer.tensor, transfer.step) for transfer in transfers if transfer.kind == TransferKind.SPILL}
    stays: dict[str, list[Residency]] = {}
    for entry in sorted(residency, key=lambda entry: entry.start):
        stays.setdefault(entry.tensor, []).append(entry)
    absences = [
        Spilled(tensor, before.size_bytes, before.end - 1, after.start, (tensor, before.end) in written)
        for tensor, entries in stays.items()
        for before, after in pairwise(entries)
    ]
    yield from sorted(absences, key=lambda absence: (absence.left_after_step, absence.tensor))
