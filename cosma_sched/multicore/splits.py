"""Splits: into how many pieces each layer is cut, along which of its dimensions.

A layer's dimensions are ``rows``, ``columns`` and ``channels`` of what it writes and ``contraction``, over which it sums. Part i of n of an
extent X is [floor(i X / n), floor((i + 1) X / n)), so that parts may be uneven; pieces of a given size leave the rest to the last one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cosma_sched._yaml import decode_yaml
from cosma_sched.errors import Defect, InputError, UsageError, shown, suggestion
from cosma_sched.files import decode_json, read_bytes

DIMS = ("rows", "contraction", "columns", "channels")
_MOST_PARTS = 2**24
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Cut:
    """A dimension cut in so many parts, or in pieces of so many indices; exactly one of the two is given.

    Parameters
    ----------
    dim
        One of `DIMS`.
    parts
        Number of parts, as even as whole numbers allow.
    size
        Indices of each piece but the last.
    spread
        Of a contraction: let each part make its own partial sums, on any core, and let a reduction node add them up; otherwise all parts
        of one output box accumulate in place on one core.
    """

    dim: str
    parts: int | None = None
    size: int | None = None
    spread: bool = False

    def bounds(self, extent: int) -> tuple[int, ...]:
        """Return where the pieces of an extent begin, and the extent; no piece is empty."""
        if self.parts is not None:
            parts = min(self.parts, extent)
            return tuple(index * extent // parts for index in range(parts + 1))
        return (*range(0, extent, self.size or extent), extent)

    def to_json(self) -> dict[str, Any]:
        """Return the cut as an entry of a split file."""
        how = {"parts": self.parts} if self.parts is not None else {"size": self.size}
        return {"dim": self.dim, **how, **({"spread": True} if self.spread else {})}


@dataclass(frozen=True, slots=True)
class Split:
    """How every layer is cut.

    Parameters
    ----------
    default
        Cuts of the layers that `layers` does not name, as far as a layer has the dimension; no more parts than there are indices.
    layers
        Cuts of single layers, in place of the default.
    """

    default: tuple[Cut, ...] = ()
    layers: Mapping[str, tuple[Cut, ...]] = field(default_factory=dict)

    def of(self, layer: str, extents: Mapping[str, int]) -> tuple[Cut, ...]:
        """Return the cuts of a layer with those dimensions and extents."""
        named = self.layers.get(layer)
        return named if named is not None else tuple(cut for cut in self.default if cut.dim in extents)

    def defects(self, layers: Mapping[str, Mapping[str, int]]) -> Iterator[Defect]:
        """Yield what does not fit the layers of a network, given as the extents of the dimensions of each."""
        for name, cuts in self.layers.items():
            if name not in layers:
                known = list(layers)
                listed = ", ".join(known[:_MOST_LISTED]) + (f" and {len(known) - _MOST_LISTED} more" if len(known) > _MOST_LISTED else "")
                yield Defect(f"layers.{name}", f"no such layer; the layers are {listed}{suggestion(name, known)}")
                continue
            extents = layers[name]
            for index, cut in enumerate(cuts):
                place = f"layers.{name}[{index}]"
                if cut.dim not in extents:
                    has = f"the layer has {', '.join(extents)}" if extents else "the layer cannot be cut"
                    yield Defect(f"{place}.dim", f"{has}; got {shown(cut.dim)}")
                elif (given := cut.parts or cut.size or 1) > extents[cut.dim]:
                    word = "parts" if cut.parts else "size"
                    yield Defect(f"{place}.{word}", f"must be at most {extents[cut.dim]}, the extent of {cut.dim}, got {given}")

    def to_json(self) -> dict[str, Any]:
        """Return the split as a split file holds it."""
        return {
            "default": [cut.to_json() for cut in self.default],
            "layers": {name: [cut.to_json() for cut in cuts] for name, cuts in self.layers.items()},
        }

    @classmethod
    def from_json(cls, document: Any, path: str = "split") -> Split:
        """Build a split from a decoded split file.

        Raises
        ------
        InputError
            With every mistake at once.
        """
        reader = _Reader()
        split = reader.split(document)
        if reader.defects:
            raise InputError(path, reader.defects)
        return split


def parse_split(text: str) -> Split:
    """Return the split that ``rows=4`` or ``rows=4,columns=2`` stands for: every layer that has the dimension is cut so.

    Raises
    ------
    UsageError
        If the text is no such list.
    """
    cuts: list[Cut] = []
    for word in text.split(","):
        dim, _, parts = word.partition("=")
        if dim not in DIMS:
            raise UsageError(f"--split {shown(text)}: {shown(dim)} is none of {', '.join(DIMS)}{suggestion(dim, DIMS)}")
        if any(cut.dim == dim for cut in cuts):
            raise UsageError(f"--split {shown(text)}: {dim} stands twice")
        if not (parts.isascii() and parts.isdigit() and len(parts) <= 8 and 1 <= int(parts) <= _MOST_PARTS):
            raise UsageError(f"--split {shown(text)}: {dim} must be a whole number of parts >= 1, got {shown(parts)}")
        cuts.append(Cut(dim, int(parts)))
    return Split(tuple(cuts))


def read_split(path: str | os.PathLike[str]) -> Split:
    """Read a split file: ``default`` and ``layers`` in YAML, or in JSON where the name ends so.

    Raises
    ------
    InputError
        If there is no such file, or with every mistake of the file.
    """
    name = os.fspath(path)
    content = read_bytes(name)
    document = decode_json(name, content) if name.lower().endswith(".json") else decode_yaml(name, content)[0]
    return Split.from_json(document, name)


def split_of(text: str) -> Split:
    """Return the split that an option names: ``DIM=PARTS,...`` or the path of a split file."""
    return parse_split(text) if "=" in text and not os.path.exists(text) else read_split(text)


class _Reader:
    """Turn the values of a split file into cuts and gather what is wrong."""

    def __init__(self) -> None:
        self.defects: list[Defect] = []

    def split(self, document: Any) -> Split:
        if not isinstance(document, Mapping):
            self.defects.append(Defect("", f"must be a mapping with default and layers, got {shown(document)}"))
            return Split()
        for key in document:
            if key not in {"default", "layers"}:
                near = suggestion(str(key), ("default", "layers"))
                self.defects.append(Defect(str(key), f"unknown field; known are default and layers{near}"))
        default = self._cuts("default", document.get("default") or ())
        layers = document.get("layers") or {}
        if not isinstance(layers, Mapping):
            self.defects.append(Defect("layers", f"must be a mapping from layer names to cuts, got {shown(layers)}"))
            return Split(default)
        return Split(default, {str(name): self._cuts(f"layers.{name}", cuts) for name, cuts in layers.items()})

    def _cuts(self, place: str, value: Any) -> tuple[Cut, ...]:
        """Read ``{rows: 8}`` or ``[{dim: rows, parts: 8}]``."""
        if isinstance(value, Mapping):
            cuts = [self._cut(f"{place}.{dim}", {"dim": dim, "parts": parts}, short=True) for dim, parts in value.items()]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            cuts = [self._cut(f"{place}[{index}]", entry) for index, entry in enumerate(value)]
        else:
            self.defects.append(Defect(place, f"must be a list of cuts or a mapping from dimensions to parts, got {shown(value)}"))
            return ()
        read = tuple(cut for cut in cuts if cut is not None)
        for dim in sorted({cut.dim for cut in read}):
            if sum(cut.dim == dim for cut in read) > 1:
                self.defects.append(Defect(place, f"cuts {dim} twice"))
        return read

    def _cut(self, place: str, entry: Any, *, short: bool = False) -> Cut | None:
        before = len(self.defects)
        if not isinstance(entry, Mapping):
            self.defects.append(Defect(place, f"must be a mapping with dim and parts or size, got {shown(entry)}"))
            return None
        unknown = [key for key in entry if key not in {"dim", "parts", "size", "spread"}]
        self.defects += [Defect(f"{place}.{key}", "unknown field; known are dim, parts, size, spread") for key in unknown]
        dim, spread = entry.get("dim"), entry.get("spread", False)
        if dim not in DIMS:
            self.defects.append(Defect(place if short else f"{place}.dim", f"must be one of {', '.join(DIMS)}, got {shown(dim)}"))
        if not isinstance(spread, bool) or (spread and dim != "contraction"):
            self.defects.append(Defect(f"{place}.spread", f"must be true or false, and true for a contraction only, got {shown(spread)}"))
        given = [key for key in ("parts", "size") if entry.get(key) is not None]
        if len(given) != 1:
            self.defects.append(Defect(place, "must have either parts or size"))
        for key in given:
            number = entry[key]
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST_PARTS:
                where = place if short else f"{place}.{key}"
                self.defects.append(Defect(where, f"must be a whole number from 1 to {_MOST_PARTS}, got {shown(number)}"))
        return Cut(str(dim), entry.get("parts"), entry.get("size"), spread) if len(self.defects) == before else None
