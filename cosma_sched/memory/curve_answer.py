"""Least traffic as a step function of the scratchpad, as a result. ``cosma-sched/curve/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cosma_sched.result import Answer, Provenance, Status, Termination

SCHEMA = "cosma-sched/curve/1"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A break point: from this size on, up to the next point, the least traffic is `traffic_bytes`.

    Parameters
    ----------
    scratchpad_bytes
        The least size with this traffic.
    traffic_bytes
        Least traffic by capacity: addresses left out.
    bound_bytes
        What is proven; equal to the traffic where `status` is ``optimal``.
    packed
        True if a plan with addresses and exactly this traffic was found and placed at this size.
    """

    scratchpad_bytes: int
    traffic_bytes: int
    bound_bytes: int
    status: Status
    packed: bool


@dataclass(frozen=True, slots=True)
class MemoryCurve(Answer):
    """The curve of a network, from the largest size of interest down to the smallest.

    Parameters
    ----------
    status
        ``optimal`` if every break point in the range was found and proven, ``feasible`` otherwise.
    order
        ``free`` or ``given``.
    from_bytes, to_bytes
        The range that was asked for, cut at M_R and at the size that needs no traffic.
    points
        Break points by ascending size.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    provenance: Provenance
    order: str
    from_bytes: int
    to_bytes: int
    points: tuple[CurvePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the curve as a document ``cosma-sched/curve/1``."""
        return {
            "schema": SCHEMA,
            "status": str(self.status),
            "termination": str(self.termination),
            "seconds": round(self.seconds, 3),
            "verified": self.verified,
            "order": self.order,
            "from_bytes": self.from_bytes,
            "to_bytes": self.to_bytes,
            "points": [{**asdict(point), "status": str(point.status)} for point in self.points],
            "provenance": self.provenance.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "curve") -> MemoryCurve:
        """Rebuild from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.memory._documents import CurveDocument, checked

        checked(CurveDocument, document, SCHEMA, path)
        values = {name: document[name] for name in cls.__slots__}
        values["status"], values["termination"] = Status(values["status"]), Termination(values["termination"])
        values["provenance"] = Provenance.from_json(values["provenance"])
        values["points"] = tuple(CurvePoint(**{**point, "status": Status(point["status"])}) for point in values["points"])
        return cls(**values)
