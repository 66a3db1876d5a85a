"""The fusion planner's answer: groups with tiles, modes and mappings of all steps, and what is proven. ``cosma-sched/fusion/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Defect, InputError
from cosma_sched.mapping.answer import NetworkBounds
from cosma_sched.mapping.layer import DIMS, Unsupported
from cosma_sched.mapping.scoring import Words
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/fusion/1"
_AXES = ("N", "P", "Q")


@dataclass(frozen=True, slots=True)
class GroupStep:
    """A distinct step of a group; costs are those of one run.

    Parameters
    ----------
    layer
        The member: a layer or a vector operator.
    extents
        Batch, rows and columns that it computes.
    multiplicity
        How often it runs.
    weights
        ``streamed``, ``loaded`` or ``resident``; None for a vector operator.
    mapping
        Timeloop-style string; None for a vector operator.
    energy_pj, latency_cycles
        Cost.
    scratchpad_bytes
        Bytes in the scratchpad while it runs, in the fullest tile.
    words
        DRAM words.
    part
        In sliced products, in which slices of a row tile it runs: ``every``, ``first``, ``later``, ``middle``, ``last`` or ``only``.
    """

    layer: str
    extents: tuple[int, int, int]
    multiplicity: int
    weights: str | None
    mapping: str | None
    energy_pj: int
    latency_cycles: int
    scratchpad_bytes: int
    words: Words
    part: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``steps``."""
        entry = {**asdict(self), "extents": dict(zip(_AXES, self.extents, strict=True))}
        if self.part is None:
            del entry["part"]
        return entry


@dataclass(frozen=True, slots=True)
class Held:
    """What the scratchpad holds at one step of a tile: maps and strips, resident weights, working tiles of the step."""

    layer: str
    maps_bytes: int
    weights_bytes: int
    working_bytes: int


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """Members that run tile by tile.

    Parameters
    ----------
    layers
        Layers and vector operators in the order in which they run.
    tile
        Batch, rows and columns of a tile of the last member's result.
    mode
        What becomes of overlaps: ``recompute``, ``h-cached`` or ``cached``; or ``sliced`` products.
    resident_weights
        Layers whose weights stay in the scratchpad.
    energy_pj, latency_cycles
        Cost of all tiles.
    peak_bytes
        Most bytes in the scratchpad at any step.
    steps
        All distinct steps.
    held
        The scratchpad at every step of the fullest tile.
    dram_words, unfused_dram_words
        Words moved, and words that the members move by themselves in the best network without fusion.
    features, row_tile
        Of sliced products: features of the intermediate in a slice, and whether the input's row tile is ``resident`` or ``streamed``.
    """

    layers: tuple[str, ...]
    tile: tuple[int, int, int]
    mode: str
    resident_weights: tuple[str, ...]
    energy_pj: int
    latency_cycles: int
    peak_bytes: int
    steps: tuple[GroupStep, ...]
    held: tuple[Held, ...] = ()
    dram_words: int = 0
    unfused_dram_words: int = 0
    features: int | None = None
    row_tile: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``groups``."""
        sliced = {} if self.features is None else {"F": self.features}
        return {
            "layers": list(self.layers),
            "tile": {**dict(zip(_AXES, self.tile, strict=True)), **sliced},
            **({} if self.row_tile is None else {"row_tile": self.row_tile}),
            "mode": self.mode,
            "resident_weights": list(self.resident_weights),
            "energy_pj": self.energy_pj,
            "latency_cycles": self.latency_cycles,
            "peak_bytes": self.peak_bytes,
            "dram_words": self.dram_words,
            "unfused_dram_words": self.unfused_dram_words,
            "steps": [step.to_json() for step in self.steps],
            "held": [asdict(entry) for entry in self.held],
        }


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """A layer of the network: what all its steps cost together, and the mapping of the most frequent one."""

    name: str
    count: int
    dims: tuple[int, ...]
    stride: tuple[int, int]
    repeat: int
    mapping: str
    energy_pj: int
    latency_cycles: int
    words: Words

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``layers``."""
        return {**asdict(self), "dims": dict(zip(DIMS, self.dims, strict=True)), "stride": list(self.stride)}


@dataclass(frozen=True, slots=True)
class FusionResult(Answer):
    """Groups of a network with what is proven about them.

    Without an answer (status ``infeasible`` or ``unknown``) the totals are None, there are no groups, and `reasons` says why.

    Parameters
    ----------
    objective, method
        What was minimised, and how.
    options
        The rules under which the numbers hold: ``halo``, ``psum_words``, ``vector_ops``, ``overlap``, and ``space``, which is searched.
    energy_pj, latency_cycles, edp
        Of the network: sums over groups, and their product.
    bounds
        Proven lower bounds for the declared space.
    gap
        (value - bound) / value of the objective.
    unfused_energy_pj, unfused_latency_cycles, unfused_edp
        The optimum of the same objective without fusion, as `map_layers` proves it, and its product.
    ceiling_edp
        What no fusion can beat in this model, in any space.
    evaluations
        (mapping, order) pairs that were scored.
    groups
        In the order in which they run.
    layers
        In the order in which they stand in the network.
    barriers
        Where fusion must stop and why.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    provenance: Provenance
    accelerator: Accelerator
    objective: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    energy_pj: int | None = None
    latency_cycles: int | None = None
    edp: int | None = None
    bounds: NetworkBounds = field(default_factory=NetworkBounds)
    gap: float | None = None
    unfused_energy_pj: int | None = None
    unfused_latency_cycles: int | None = None
    unfused_edp: int | None = None
    ceiling_edp: int | None = None
    evaluations: int = 0
    groups: tuple[FusedGroup, ...] = ()
    layers: tuple[FusedLayer, ...] = ()
    skipped: tuple[Unsupported, ...] = ()
    barriers: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def value(self) -> int | None:
        """The value of the objective."""
        return {"edp": self.edp, "energy": self.energy_pj, "latency": self.latency_cycles}[self.objective]

    @property
    def bound(self) -> int | None:
        """The proven bound on the objective."""
        return {"edp": self.bounds.edp, "energy": self.bounds.energy_pj, "latency": self.bounds.latency_cycles}[self.objective]

    def to_json(self) -> dict[str, Any]:
        """Return the result as a document ``cosma-sched/fusion/1``."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "status": str(self.status),
            "termination": str(self.termination),
            "seconds": round(self.seconds, 3),
            "verified": self.verified,
            "objective": self.objective,
            "method": self.method,
            "options": dict(self.options),
            "energy_pj": self.energy_pj,
            "latency_cycles": self.latency_cycles,
            "edp": self.edp,
            "bound_edp": self.bounds.edp,
            "bounds": asdict(self.bounds),
            "gap": self.gap,
            "unfused_energy_pj": self.unfused_energy_pj,
            "unfused_latency_cycles": self.unfused_latency_cycles,
            "unfused_edp": self.unfused_edp,
            "ceiling_edp": self.ceiling_edp,
            "evaluations": self.evaluations,
            "accelerator": self.accelerator.to_json(),
            "provenance": self.provenance.to_json(),
            "groups": [group.to_json() for group in self.groups],
            "layers": [layer.to_json() for layer in self.layers],
            "skipped": [asdict(operator) for operator in self.skipped],
            "barriers": list(self.barriers),
            "remarks": list(self.remarks),
        }
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "fusion") -> FusionResult:
        """Rebuild a result from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.fusion._documents import FusionDocument, checked

        checked(FusionDocument, document, SCHEMA, path)
        return _decode(document, path)


def _decode(document: Mapping[str, Any], path: str) -> FusionResult:
    if document["bound_edp"] != document["bounds"]["edp"]:
        raise InputError(path, [Defect("bound_edp", f"must equal bounds.edp {document['bounds']['edp']}, got {document['bound_edp']}")])
    plain = (
        "seconds",
        "verified",
        "objective",
        "method",
        "options",
        "energy_pj",
        "latency_cycles",
        "edp",
        "gap",
        "ceiling_edp",
        "evaluations",
    )
    unfused = ("unfused_energy_pj", "unfused_latency_cycles", "unfused_edp")
    return FusionResult(
        status=Status(document["status"]),
        termination=Termination(document["termination"]),
        provenance=Provenance.from_json(document["provenance"]),
        accelerator=Accelerator.from_json(document["accelerator"], path),
        bounds=NetworkBounds(**document["bounds"]),
        groups=tuple(_group(entry) for entry in document["groups"]),
        layers=tuple(_layer(entry) for entry in document["layers"]),
        skipped=tuple(Unsupported(**entry) for entry in document["skipped"]),
        barriers=tuple(document["barriers"]),
        remarks=tuple(document["remarks"]),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
        **{name: document[name] for name in (*plain, *unfused)},
    )


def _extent(entry: Mapping[str, int]) -> tuple[int, int, int]:
    return entry["N"], entry["P"], entry["Q"]


def _group(entry: Mapping[str, Any]) -> FusedGroup:
    steps = (GroupStep(**{**step, "extents": _extent(step["extents"]), "words": Words(**step["words"])}) for step in entry["steps"])
    return FusedGroup(
        layers=tuple(entry["layers"]),
        tile=_extent(entry["tile"]),
        mode=entry["mode"],
        resident_weights=tuple(entry["resident_weights"]),
        energy_pj=entry["energy_pj"],
        latency_cycles=entry["latency_cycles"],
        peak_bytes=entry["peak_bytes"],
        steps=tuple(steps),
        held=tuple(Held(**held) for held in entry["held"]),
        dram_words=entry["dram_words"],
        unfused_dram_words=entry["unfused_dram_words"],
        features=entry["tile"].get("F"),
        row_tile=entry.get("row_tile"),
    )


def _layer(entry: Mapping[str, Any]) -> FusedLayer:
    changed = {
        "dims": tuple(entry["dims"][dim] for dim in DIMS),
        "stride": (entry["stride"][0], entry["stride"][1]),
        "words": Words(**entry["words"]),
    }
    return FusedLayer(**{**entry, **changed})
