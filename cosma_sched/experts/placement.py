"""The expert planner's answer: which expert is in which slot of every layer, and what that means. ``cosma-sched/experts/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from cosma_sched.experts.load import LoadReport
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.traffic import TrafficReport
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/experts/1"
Report = TypeVar("Report")


@dataclass(frozen=True, slots=True)
class Measured(Generic[Report]):
    """A report on the tokens that were planned with, and one on tokens that were not; None where nothing was held out."""

    profile: Report
    held_out: Report | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """Another method on the same profile."""

    load: Measured[LoadReport]
    traffic: Measured[TrafficReport]
    duplicate_slots: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Proven lower bounds; None where none is known.

    Parameters
    ----------
    load
        On max_over_mean.
    copies_per_token, remote_fraction
        On the traffic, for the question that was asked where the search proved it, else for any placement without replicas.
    transition_cost
        On transitions times the topology's cost, where the search proved it.
    group_load
        On max_over_mean of nodes where whole groups of experts go to nodes (``--expert-groups``).
    """

    load: float
    copies_per_token: float | None = None
    remote_fraction: float | None = None
    transition_cost: float | None = None
    group_load: float | None = None


@dataclass(frozen=True, slots=True)
class Gaps:
    """(value - bound) / value of load and of the traffic that is minimised; None where the bound is unknown."""

    load: float | None
    traffic: float | None


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """Value and bound of one layer, in-sample; the traffic of token-stays is the remote fraction of the boundary behind the layer."""

    layer: int
    load: float
    load_bound: float
    best_load: float
    traffic: float | None = None
    traffic_bound: float | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """What proves the traffic bounds: whole prices of experts [L-1][2][E], or diagonals [L][E]."""

    prices: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    diagonals: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class TopologyFacts:
    """Costs between GPUs as they were given."""

    inside: float
    across: float
    forwarding: bool
    matrix: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Placement(Answer):
    """A placement of experts with what is measured and proven about it.

    Without an answer (status ``infeasible``) everything from `load` on is None or empty, and `reasons` says why.

    Parameters
    ----------
    slots
        ``slots[l][s]`` is the expert in slot s of layer ``layers[l]``; slot s belongs to GPU s // slots_per_gpu.
    layers, dense_layers
        Absolute numbers of the MoE layers and of the layers without experts.
    traffic_model
        Which traffic was minimised.
    max_load, weights
        The load cap in multiples of each layer's best, or the weights of load and traffic.
    baselines
        Other methods on the same profile.
    moved_experts, moved_bytes
        (layer, GPU, expert) present now and not in `current`.
    current
        The placement that ran before, or None.
    checksums
        For each layer the sum of its experts and the sum weighted by slot numbers from 1: an edited slot is found again.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    provenance: Provenance
    method: str
    gpus: int
    nodes: int
    slots_per_gpu: int
    layers: tuple[int, ...]
    experts: int
    top_k: int | None
    synthetic: bool
    traffic_model: str
    scenarios: tuple[str, ...]
    topology: TopologyFacts
    dense_layers: tuple[int, ...] = ()
    slots: tuple[tuple[int, ...], ...] | None = None
    load: Measured[LoadReport] | None = None
    traffic: Measured[TrafficReport] | None = None
    bounds: Bounds | None = None
    gap: Gaps | None = None
    max_load: float | None = None
    weights: tuple[float, float] | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    duplicate_slots: int = 0
    moved_experts: int | None = None
    moved_bytes: int | None = None
    current: tuple[tuple[int, ...], ...] | None = None
    per_layer: tuple[LayerFigures, ...] = ()
    certificates: Certificates = field(default_factory=Certificates)
    checksums: tuple[tuple[int, int], ...] = ()
    worth: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def array(self) -> Numbers:
        """The slots as an array [L, S]."""
        return np.asarray(self.slots if self.slots is not None else (), dtype=np.int64)

    def eplb_arrays(self) -> tuple[Numbers, Numbers, Numbers]:
        """Return EPLB's three arrays: slot -> expert, expert -> slots padded with -1, replicas per expert."""
        from cosma_sched.experts.eplb import eplb_arrays

        return eplb_arrays(self.array, self.experts)

    def to_json(self) -> dict[str, Any]:
        """Return the placement as a document ``cosma-sched/experts/1``."""
        document: dict[str, Any] = {"schema": SCHEMA, **{name: getattr(self, name) for name in _PLAIN}}
        document["status"], document["termination"] = str(self.status), str(self.termination)
        document["seconds"] = round(self.seconds, 3)
        document["layers"], document["dense_layers"] = list(self.layers), list(self.dense_layers)
        document["scenarios"], document["notes"] = list(self.scenarios), list(self.notes)
        document["weights"] = None if self.weights is None else list(self.weights)
        document["topology"] = asdict(self.topology)
        document["load"], document["traffic"] = _loads_json(self.load), _traffic_json(self.traffic)
        document["bounds"] = None if self.bounds is None else asdict(self.bounds)
        document["gap"] = None if self.gap is None else asdict(self.gap)
        document["baselines"] = {name: _baseline_json(one) for name, one in self.baselines.items()}
        document["per_layer"] = [asdict(figures) for figures in self.per_layer]
        document["certificates"] = asdict(self.certificates)
        document["checksums"] = [list(pair) for pair in self.checksums]
        document["worth"] = None if self.worth is None else dict(self.worth)
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        document["provenance"] = self.provenance.to_json()
        document["placement"] = None if self.slots is None else [list(row) for row in self.slots]
        document["current"] = None if self.current is None else [list(row) for row in self.current]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "placement") -> Placement:
        """Rebuild a placement from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.experts._documents import checked

        checked(document, SCHEMA, path)
        return _decode(document)


_PLAIN = (
    "status",
    "termination",
    "seconds",
    "verified",
    "method",
    "gpus",
    "nodes",
    "slots_per_gpu",
    "experts",
    "top_k",
    "synthetic",
    "traffic_model",
    "max_load",
    "duplicate_slots",
    "moved_experts",
    "moved_bytes",
)


def as_rows(slots: Numbers) -> tuple[tuple[int, ...], ...]:
    """Return an array of slots as tuples."""
    return tuple(tuple(int(expert) for expert in row) for row in slots)


def _load_json(report: LoadReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    block = asdict(report)
    worst = {"layer": block.pop("worst_layer"), "max_over_mean": block.pop("worst_layer_max_over_mean")}
    return {"max_over_mean": block.pop("max_over_mean"), "worst_layer": worst, **block, "per_scenario": dict(report.per_scenario)}


def _loads_json(measured: Measured[LoadReport] | None) -> dict[str, Any] | None:
    return None if measured is None else {"profile": _load_json(measured.profile), "held_out": _load_json(measured.held_out)}


def _one_traffic(report: TrafficReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    block = asdict(report)
    block["copies_interval"] = None if report.copies_interval is None else list(report.copies_interval)
    for name in ("remote_transitions", "transitions"):
        value = block[name]
        block[name] = int(value) if value is not None and float(value).is_integer() else value  # counted, unless replicas share them
    return block


def _traffic_json(measured: Measured[TrafficReport] | None) -> dict[str, Any] | None:
    return None if measured is None else {"profile": _one_traffic(measured.profile), "held_out": _one_traffic(measured.held_out)}


def _baseline_json(one: Baseline) -> dict[str, Any]:
    block = {"load": _loads_json(one.load), "traffic": _traffic_json(one.traffic)}
    return {**block, "duplicate_slots": one.duplicate_slots, "note": one.note}


def _load_report(block: Mapping[str, Any] | None) -> LoadReport | None:
    if block is None:
        return None
    values = dict(block)
    worst = values.pop("worst_layer")
    return LoadReport(worst_layer=worst["layer"], worst_layer_max_over_mean=worst["max_over_mean"], **values)


def _traffic_report(block: Mapping[str, Any] | None) -> TrafficReport | None:
    if block is None:
        return None
    interval = block.get("copies_interval")
    return TrafficReport(**{**block, "copies_interval": None if interval is None else tuple(interval)})


def _measured(block: Mapping[str, Any] | None, read: Any) -> Any:
    return None if block is None else Measured(read(block["profile"]), read(block["held_out"]))


def _nested(value: Any) -> Any:
    return tuple(_nested(item) for item in value) if isinstance(value, list) else value


def _decode(document: Mapping[str, Any]) -> Placement:
    values = {name: document[name] for name in _PLAIN}
    values["status"], values["termination"] = Status(document["status"]), Termination(document["termination"])
    baselines = {
        name: Baseline(_measured(b["load"], _load_report), _measured(b["traffic"], _traffic_report), b["duplicate_slots"], b["note"])
        for name, b in document["baselines"].items()
    }
    topology = {**document["topology"], "matrix": _nested(document["topology"]["matrix"])}
    return Placement(
        **values,
        provenance=Provenance.from_json(document["provenance"]),
        layers=tuple(document["layers"]),
        dense_layers=tuple(document["dense_layers"]),
        scenarios=tuple(document["scenarios"]),
        notes=tuple(document["notes"]),
        topology=TopologyFacts(**topology),
        weights=None if document["weights"] is None else tuple(document["weights"]),
        slots=_nested(document["placement"]),
        current=_nested(document["current"]),
        load=_measured(document["load"], _load_report),
        traffic=_measured(document["traffic"], _traffic_report),
        bounds=None if document["bounds"] is None else Bounds(**document["bounds"]),
        gap=None if document["gap"] is None else Gaps(**document["gap"]),
        baselines=baselines,
        per_layer=tuple(LayerFigures(**entry) for entry in document["per_layer"]),
        certificates=Certificates(**{name: _nested(value) for name, value in document["certificates"].items()}),
        worth=document["worth"],
        checksums=_nested(document["checksums"]),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
    )
