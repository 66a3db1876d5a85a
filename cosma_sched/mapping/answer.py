"""The mapping planner's answer: for each layer a mapping with its cost, for the network what is proven. ``cosma-sched/mapping/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Defect, InputError
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import DIMS, Layer, Unsupported
from cosma_sched.mapping.scoring import Score, Words
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/mapping/1"
_PARTS = ("mac", "register", "accumulator", "scratchpad", "dram")


@dataclass(frozen=True, slots=True)
class TradeOff:
    """A mapping of a layer that no other one beats in energy, latency and scratchpad bytes together."""

    energy_pj: int
    latency_cycles: int
    scratchpad_bytes: int
    mapping: str


@dataclass(frozen=True, slots=True)
class LayerMapping:
    """A layer and its mapping; costs are those of one instance, all its repetitions included.

    Parameters
    ----------
    layer
        The layer.
    mapping
        Timeloop-style string.
    energy_pj, latency_cycles
        Cost.
    words
        DRAM words.
    roof
        What binds the latency: ``compute``, ``accumulator``, ``scratchpad`` or ``dram``.
    utilization
        Share of the array's multiplications that is used.
    split_pj
        Energy of MACs, registers, accumulator, scratchpad and DRAM, each rounded.
    scratchpad_bytes, accumulator_bytes
        Capacity that the tiles take.
    tradeoffs
        The layer's trade-off points, if they were asked for.
    """

    layer: Layer
    mapping: str
    energy_pj: int
    latency_cycles: int
    words: Words
    roof: str
    utilization: float
    split_pj: tuple[int, ...]
    scratchpad_bytes: int
    accumulator_bytes: int
    tradeoffs: tuple[TradeOff, ...] | None = None

    @classmethod
    def of(cls, layer: Layer, mapping: str, score: Score, machine: Machine) -> LayerMapping:
        """Return a layer with the mapping whose score is given."""
        return cls(
            layer=layer,
            mapping=mapping,
            energy_pj=score.energy_pj,
            latency_cycles=score.latency_cycles,
            words=score.words,
            roof=score.roof,
            utilization=round(score.utilization(machine), 6),
            split_pj=tuple(round(part) for part in score.split_pj),
            scratchpad_bytes=score.scratchpad_bytes,
            accumulator_bytes=score.accumulator_bytes,
        )

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``layers``."""
        entry = {
            **_layer_to_json(self.layer),
            "mapping": self.mapping,
            "energy_pj": self.energy_pj,
            "latency_cycles": self.latency_cycles,
            "words": asdict(self.words),
            "roof": self.roof,
            "utilization": self.utilization,
            "energy_split_pj": dict(zip(_PARTS, self.split_pj, strict=True)),
            "scratchpad_bytes": self.scratchpad_bytes,
            "accumulator_bytes": self.accumulator_bytes,
        }
        return entry if self.tradeoffs is None else {**entry, "tradeoffs": [asdict(point) for point in self.tradeoffs]}


@dataclass(frozen=True, slots=True)
class VectorCost:
    """An operator that is no convolution or product, and what it is charged."""

    name: str
    type: str
    words: tuple[int, ...]
    folded_into: str | None
    energy_pj: int
    latency_cycles: int


@dataclass(frozen=True, slots=True)
class NetworkBounds:
    """What no mapping of the space goes below; None where it is not proven."""

    edp: int | None = None
    energy_pj: int | None = None
    latency_cycles: int | None = None


@dataclass(frozen=True, slots=True)
class MappingResult(Answer):
    """Mappings of all layers of a network with what is proven about them.

    Without an answer (status ``infeasible`` or ``unknown``) the totals are None, there are no layers, and `reasons` says why.

    Parameters
    ----------
    objective, method
        What was minimised, and how.
    options
        The rules under which the numbers hold: ``halo``, ``psum_words``, ``vector_ops``, ``space``.
    energy_pj, latency_cycles
        Sums over layers, each counted `count` times, and over charged vector operators.
    edp
        Their product in pJ cycles.
    bounds
        Proven lower bounds.
    gap
        (value - bound) / value of the objective.
    evaluations
        (mapping, order) pairs that were scored.
    layers
        In the order in which they run.
    vector_operators
        What is charged, or listed as free.
    skipped
        Operators that could not be expressed and were left out on request.
    remarks
        Approximations, one sentence each.
    tradeoffs
        (energy, latency) points of the network, if they were asked for.
    ceiling_edp
        What no fusion of layers can beat, where the network's own graph was at hand.
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
    evaluations: int = 0
    layers: tuple[LayerMapping, ...] = ()
    vector_operators: tuple[VectorCost, ...] = ()
    skipped: tuple[Unsupported, ...] = ()
    remarks: tuple[str, ...] = ()
    tradeoffs: tuple[tuple[int, int], ...] | None = None
    ceiling_edp: int | None = None
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
        """Return the result as a document ``cosma-sched/mapping/1``."""
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
            "evaluations": self.evaluations,
            "accelerator": self.accelerator.to_json(),
            "provenance": self.provenance.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
            "vector_operators": [{**asdict(vector), "words": list(vector.words)} for vector in self.vector_operators],
            "skipped": [asdict(operator) for operator in self.skipped],
            "remarks": list(self.remarks),
        }
        if self.ceiling_edp is not None:
            document["ceiling_edp"] = self.ceiling_edp
        if self.tradeoffs is not None:
            document["tradeoffs"] = [{"energy_pj": energy, "latency_cycles": latency} for energy, latency in self.tradeoffs]
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "mapping") -> MappingResult:
        """Rebuild a result from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.mapping._documents import MappingDocument, checked

        checked(MappingDocument, document, SCHEMA, path)
        return _decode(document, path)


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": layer.name,
        "count": layer.count,
        "dims": dict(zip(DIMS, layer.dims, strict=True)),
        "stride": [layer.stride_p, layer.stride_q],
        "repeat": layer.repeat,
    }
    if (layer.dilation_p, layer.dilation_q) != (1, 1):
        entry["dilation"] = [layer.dilation_p, layer.dilation_q]
    if layer.element_bytes != (1, 1, 1):
        entry["element_bytes"] = list(layer.element_bytes)
    if layer.drain_words:
        entry["drain_words"] = list(layer.drain_words)
    if layer.pad_p is not None and layer.pad_q is not None:
        entry["pad"] = [layer.pad_p, layer.pad_q]
    return entry


def _layer_from_json(entry: Mapping[str, Any]) -> Layer:
    dilation, pad = entry.get("dilation", (1, 1)), entry.get("pad", (None, None))
    w_bytes, i_bytes, o_bytes = entry.get("element_bytes", (1, 1, 1))
    return Layer(
        entry["name"],
        tuple(entry["dims"][dim] for dim in DIMS),
        stride_p=entry["stride"][0],
        stride_q=entry["stride"][1],
        dilation_p=dilation[0],
        dilation_q=dilation[1],
        repeat=entry["repeat"],
        count=entry["count"],
        element_bytes=(w_bytes, i_bytes, o_bytes),
        drain_words=tuple(entry.get("drain_words", ())),
        pad_p=pad[0],
        pad_q=pad[1],
    )


def _mapping_from_json(entry: Mapping[str, Any]) -> LayerMapping:
    points = entry.get("tradeoffs")
    return LayerMapping(
        layer=_layer_from_json(entry),
        mapping=entry["mapping"],
        energy_pj=entry["energy_pj"],
        latency_cycles=entry["latency_cycles"],
        words=Words(**entry["words"]),
        roof=entry["roof"],
        utilization=entry["utilization"],
        split_pj=tuple(entry["energy_split_pj"][part] for part in _PARTS),
        scratchpad_bytes=entry["scratchpad_bytes"],
        accumulator_bytes=entry["accumulator_bytes"],
        tradeoffs=None if points is None else tuple(TradeOff(**point) for point in points),
    )


def _decode(document: Mapping[str, Any], path: str) -> MappingResult:
    if document["bound_edp"] != document["bounds"]["edp"]:
        raise InputError(path, [Defect("bound_edp", f"must equal bounds.edp {document['bounds']['edp']}, got {document['bound_edp']}")])
    points = document.get("tradeoffs")
    return MappingResult(
        status=Status(document["status"]),
        termination=Termination(document["termination"]),
        seconds=document["seconds"],
        verified=document["verified"],
        provenance=Provenance.from_json(document["provenance"]),
        accelerator=Accelerator.from_json(document["accelerator"], path),
        objective=document["objective"],
        method=document["method"],
        options=document["options"],
        energy_pj=document["energy_pj"],
        latency_cycles=document["latency_cycles"],
        edp=document["edp"],
        bounds=NetworkBounds(**document["bounds"]),
        gap=document["gap"],
        evaluations=document["evaluations"],
        layers=tuple(_mapping_from_json(entry) for entry in document["layers"]),
        vector_operators=tuple(VectorCost(**{**entry, "words": tuple(entry["words"])}) for entry in document["vector_operators"]),
        skipped=tuple(Unsupported(**entry) for entry in document["skipped"]),
        remarks=tuple(document["remarks"]),
        tradeoffs=None if points is None else tuple((point["energy_pj"], point["latency_cycles"]) for point in points),
        ceiling_edp=document.get("ceiling_edp"),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
    )
