"""A Pareto front of schedules as one result. ``cosma-sched/schedule-front/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cosma_sched.errors import Defect, InputError
from cosma_sched.graph import Graph
from cosma_sched.multicore.recheck import check
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.verify import Violation
from cosma_sched.result import Answer, Provenance

SCHEMA = "cosma-sched/schedule-front/1"


@dataclass(frozen=True)
class ScheduleFront(Answer):
    """Schedules of which none has both a lower latency and a lower total peak than another, the fastest first; at least one."""

    schedules: tuple[Schedule, ...]

    @property
    def provenance(self) -> Provenance:  # type: ignore[override]
        """Where all of them come from."""
        return self.schedules[0].provenance

    def to_json(self) -> dict[str, Any]:
        """Return the front as a document ``cosma-sched/schedule-front/1``, whose entries are schedules."""
        return {"schema": SCHEMA, "schedules": [one.to_json() for one in self.schedules]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "front") -> ScheduleFront:
        """Rebuild a front from `to_json`'s output.

        Raises
        ------
        InputError
            With the mistakes of the first schedule that has any.
        """
        entries = document.get("schedules")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
            raise InputError(path, [Defect("schedules", "must be a list of at least one schedule")])
        found = []
        for position, entry in enumerate(entries):
            try:
                found.append(Schedule.from_json(entry, path))
            except InputError as error:
                places = [Defect(f"schedules[{position}].{defect.where}".rstrip("."), defect.problem) for defect in error.defects]
                raise InputError(path, places) from error
        return cls(tuple(found))


def check_front(graph: Graph, front: ScheduleFront) -> list[Violation]:
    """Return every rule that one of the schedules breaks, and where one of them is dominated."""
    broken = [violation for one in front.schedules for violation in check(graph, one)]
    for one, other in pairwise(front.schedules):
        figures = (one.latency_cycles, one.peak_total_bytes), (other.latency_cycles, other.peak_total_bytes)
        (fast, large), (slow, small) = figures
        if fast is None or slow is None or large is None or small is None or not (fast < slow and large > small):
            broken.append(Violation("front", f"{figures[0]} is not faster and larger than {figures[1]} (cycles, bytes)"))
    return broken
