"""Values of a foreign document, read with the place they stand at: what is wrong, what is not known, what is kept."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cosma_sched.errors import Defect, shown, suggestion


class Place:
    """A place in a document; mistakes and warnings noted here carry its path.

    Parameters
    ----------
    path
        Of the place; empty for the document.
    defects, warnings
        Where mistakes and warnings go.
    facts
        Where (name, value) pairs go that only a report shows.
    """

    def __init__(self, path: str, defects: list[Defect], warnings: list[str], facts: list[tuple[str, str]] | None = None) -> None:
        self.path = path
        self._defects = defects
        self._warnings = warnings
        self.facts = [] if facts is None else facts

    def at(self, key: str) -> Place:
        """Return the place of a key."""
        return self._named(f"{self.path}.{key}" if self.path and not self.path.endswith(": ") else f"{self.path}{key}")

    def item(self, index: int) -> Place:
        """Return the place of a list's entry."""
        return self._named(f"{self.path}[{index}]")

    def inside(self, file: str) -> Place:
        """Return the root of another file."""
        return self._named(f"{file}: ")

    def _named(self, path: str) -> Place:
        return Place(path, self._defects, self._warnings, self.facts)

    def wrong(self, problem: str) -> None:
        """Note a mistake."""
        self._defects.append(Defect(self.path, problem))

    def warn(self, problem: str) -> None:
        """Note a warning."""
        self._warnings.append(f"{self.path.removesuffix(': ')}: {problem}" if self.path else problem)

    def keep(self, name: str, value: object) -> None:
        """Keep a fact for reports."""
        file, _, where = self.path.rpartition(": ")
        entry = (" ".join(part for part in (os.path.basename(file), where, name) if part), str(value))
        if entry not in self.facts:
            self.facts.append(entry)

    def known(self, entry: Mapping[str, Any], keys: Sequence[str]) -> None:
        """Warn of every key that is not among some."""
        for key in entry:
            if key not in keys:
                self.at(key).warn(f"unknown key, ignored{suggestion(key, keys)}")

    def text(self, entry: Mapping[str, Any], key: str, *, default: str) -> str:
        """Return a string."""
        value = entry.get(key, default)
        if not isinstance(value, str) or not value:
            self.at(key).wrong(f"must be a name, got {shown(value)}")
            return default
        return value

    def number(self, entry: Mapping[str, Any], key: str, *, default: float | None = None) -> float:
        """Return a finite number that is not negative; without a default it must be there."""
        value = entry.get(key, default)
        if value is None:
            self.at(key).wrong("is missing")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.at(key).wrong(f"must be a number, got {shown(value)}")
        elif value < 0:
            self.at(key).wrong(f"must be >= 0, got {shown(value)}")
        else:
            return float(value)
        return 0.0

    def count(self, entry: Mapping[str, Any], key: str) -> int:
        """Return a whole number greater than 0."""
        value = entry.get(key)
        if value is None:
            self.at(key).wrong("is missing")
        elif isinstance(value, bool) or not isinstance(value, int):
            self.at(key).wrong(f"must be a whole number, got {shown(value)}")
        elif value <= 0:
            self.at(key).wrong(f"must be > 0, got {value}")
        else:
            return value
        return 1
