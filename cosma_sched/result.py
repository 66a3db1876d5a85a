"""The vocabulary of answers: what is held, why the search stopped, what is proven, and where the answer comes from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from cosma_sched.errors import Lever, Reason
from cosma_sched.files import encode_json, write_whole

__all__ = [
    "Answer",
    "Bound",
    "Lever",
    "Provenance",
    "Reason",
    "Status",
    "Termination",
    "reason_from_json",
    "reason_to_json",
    "relative_gap",
]


class Status(StrEnum):
    """What we hold."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


class Termination(StrEnum):
    """Why it stopped."""

    PROVED = "proved"
    GAP_REACHED = "gap_reached"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    INTERRUPTED = "interrupted"
    EXHAUSTED = "exhausted"
    """The method has no further step to take although value and bound differ."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A proven lower bound on a value that is minimised, and the arguments that prove it.

    Parameters
    ----------
    value
        The bound; None where none is known.
    proved_by
        Names of the arguments, strongest first, such as ``covering`` or ``search``.
    """

    value: int | None
    proved_by: tuple[str, ...] = ()

    def best(self, other: Bound) -> Bound:
        """Return the stronger of two bounds; the first where they are equal."""
        if other.value is None or (self.value is not None and self.value >= other.value):
            return self
        return other


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer comes from: enough to repeat it.

    Parameters
    ----------
    version
        Version of cosma-sched.
    model
        Path or zoo name, ``-`` for standard input, None for a graph built in Python.
    sha256
        Digest of the file that was read, or of the graph's own JSON for a graph built in Python.
    solver, profile, seed, workers
        The back end and its settings.
    options
        Every option that shapes the answer, by its command-line name.
    proved_by
        The arguments that prove the bound.
    versions
        Versions of the packages that took part.
    """

    version: str
    model: str | None
    sha256: str
    solver: str
    profile: str = "default"
    seed: int = 0
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    proved_by: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the block as JSON types."""
        return {
            "version": self.version,
            "model": self.model,
            "sha256": self.sha256,
            "solver": self.solver,
            "profile": self.profile,
            "seed": self.seed,
            "workers": self.workers,
            "options": dict(self.options),
            "proved_by": list(self.proved_by),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, block: Mapping[str, Any]) -> Provenance:
        """Rebuild from `to_json`'s output; unknown keys are ignored."""
        known = {name: block[name] for name in cls.__slots__ if name in block}
        known["proved_by"] = tuple(known.get("proved_by", ()))
        return cls(**known)


class Answer(ABC):
    """What every planner's answer can do; answers are frozen dataclasses."""

    __slots__ = ()
    provenance: Provenance

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the answer as a document of its schema."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the answer as JSON, whole or not at all.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        write_whole(path, encode_json(self.to_json()))

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[type-var]


def relative_gap(value: int | None, bound: int | None) -> float | None:
    """Return (value - bound) / value, 0 where both are 0, None where either is unknown."""
    if value is None or bound is None:
        return None
    return (value - bound) / value if value > 0 else 0.0


def reason_to_json(reason: Reason) -> dict[str, Any]:
    """Return a reason as JSON types, in the form of interface ``reasons``."""
    block = asdict(reason)
    block["terms"] = [{"name": name, "value": value} for name, value in reason.terms]
    block["levers"] = [asdict(lever) for lever in reason.levers]
    return block


def reason_from_json(block: Mapping[str, Any]) -> Reason:
    """Rebuild from `reason_to_json`'s output."""
    values = dict(block)
    values["terms"] = tuple((term["name"], term["value"]) for term in values.get("terms", ()))
    values["levers"] = tuple(Lever(**lever) for lever in values.get("levers", ()))
    return Reason(**values)
