"""The form of ``cosma-sched/experts/1``; what its parts mean together is checked in `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import validation_defects
from cosma_sched.result import Status, Termination

_Count = Annotated[StrictInt, Field(ge=0)]
_Positive = Annotated[StrictInt, Field(gt=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Worst(_Entry):
    layer: _Count
    max_over_mean: float


class _Load(_Entry):
    max_over_mean: float
    worst_layer: _Worst
    balancedness: float
    utilisation: float
    imbalance_ratio: float
    touch_share: float | None
    per_scenario: dict[str, float]
    active_experts: float | None


class _Traffic(_Entry):
    copies_per_token: float | None
    copies_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    nodes_per_token: float | None
    inter_node_copies: float | None
    remote_fraction: float | None
    inter_node_fraction: float | None
    remote_transitions: float | None
    transitions: float | None
    transition_cost: float | None
    pair_max: float | None
    busiest_port: float | None
    home_cost_bound: float | None


class _Loads(_Entry):
    profile: _Load
    held_out: _Load | None


class _Traffics(_Entry):
    profile: _Traffic
    held_out: _Traffic | None


class _Baseline(_Entry):
    load: _Loads
    traffic: _Traffics
    duplicate_slots: _Count
    note: StrictStr


class _Bounds(_Entry):
    load: float
    copies_per_token: float | None
    remote_fraction: float | None
    transition_cost: float | None
    group_load: float | None


class _Gaps(_Entry):
    load: float | None
    traffic: float | None


class _Layer(_Entry):
    layer: _Count
    load: float
    load_bound: float
    best_load: float
    traffic: float | None
    traffic_bound: float | None


class _Certificates(_Entry):
    prices: list[Annotated[list[list[StrictInt]], Field(min_length=2, max_length=2)]] | None
    diagonals: list[list[float]] | None


class _Topology(_Entry):
    inside: Annotated[float, Field(ge=0)]
    across: Annotated[float, Field(ge=0)]
    forwarding: StrictBool
    matrix: list[list[Annotated[float, Field(ge=0)]]] | None


class _Provenance(BaseModel):
    version: StrictStr
    model: StrictStr | None
    sha256: StrictStr
    solver: StrictStr
    profile: StrictStr
    seed: StrictInt
    workers: StrictInt
    options: dict[str, Any]
    proved_by: list[StrictStr] = []
    versions: dict[str, StrictStr] = {}


class _Term(_Entry):
    name: StrictStr
    value: StrictInt


class _Lever(_Entry):
    option: StrictStr
    value: StrictInt | StrictStr
    text: StrictStr


class _Reason(_Entry):
    rule: StrictStr
    where: StrictStr
    statement: StrictStr
    demand: StrictInt | None = None
    limit: StrictInt | None = None
    short: StrictInt | None = None
    unit: StrictStr = "slots"
    terms: list[_Term] = []
    levers: list[_Lever] = []


class ExpertsDocument(_Entry):
    """A document ``cosma-sched/experts/1``."""

    schema_: Literal["cosma-sched/experts/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    method: Literal["joint", "two-stage", "eplb", "contiguous"]
    gpus: _Positive
    nodes: _Positive
    slots_per_gpu: _Count
    experts: _Positive
    top_k: _Positive | None
    synthetic: StrictBool
    traffic_model: Literal["dispatch-combine", "token-stays"]
    max_load: float | None
    weights: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    duplicate_slots: _Count
    moved_experts: _Count | None
    moved_bytes: _Count | None
    layers: list[_Count]
    dense_layers: list[_Count]
    scenarios: list[StrictStr]
    notes: list[StrictStr]
    topology: _Topology
    load: _Loads | None
    traffic: _Traffics | None
    bounds: _Bounds | None
    gap: _Gaps | None
    baselines: dict[str, _Baseline]
    per_layer: list[_Layer]
    certificates: _Certificates
    checksums: list[Annotated[list[StrictInt], Field(min_length=2, max_length=2)]]
    worth: dict[str, float] | None
    reasons: list[_Reason] = []
    provenance: _Provenance
    placement: list[list[_Count]] | None
    current: list[list[_Count]] | None


def checked(document: Mapping[str, Any], schema: str, path: str) -> None:
    """Check a decoded document against its form.

    Raises
    ------
    InputError
        With every mistake at once.
    """
    if document.get("schema") != schema:
        raise InputError(path, [Defect("schema", f'must be "{schema}", got {shown(document.get("schema"))}')])
    try:
        ExpertsDocument.model_validate(document)
    except ValidationError as error:
        raise InputError(path, validation_defects(error.errors(include_url=False))) from error
