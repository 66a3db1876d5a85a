"""The form of a ``cosma-sched/graph/1`` document; what its parts mean together is checked in `graph`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


Name = Annotated[StrictStr, Field(min_length=1)]
Kind = Literal["input", "output", "parameter", "activation"]


class TensorEntry(_Entry):
    """One entry of ``tensors``."""

    name: Name
    size_bytes: StrictInt
    kind: Kind = "activation"
    shape: list[Annotated[StrictInt, Field(gt=0)]] | None = None
    dtype: Name | None = None


class OperatorEntry(_Entry):
    """One entry of ``operators``."""

    name: Name
    type: Name = "Operator"
    inputs: list[StrictStr] = []
    outputs: list[StrictStr] = []
    attributes: dict[str, Any] = {}


class GraphDocument(_Entry):
    """The whole document."""

    schema_: Literal["cosma-sched/graph/1"] = Field(alias="schema")
    name: Name = "graph"
    tensors: list[TensorEntry]
    operators: list[OperatorEntry]
