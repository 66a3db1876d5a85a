"""The form of what every result document holds: reasons, provenance, and the check against a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import validation_defects


class Entry(BaseModel):
    """A part of a document that holds nothing but its fields."""

    model_config = ConfigDict(extra="forbid")


class TermEntry(Entry):
    """One entry of ``reasons[].terms``."""

    name: StrictStr
    value: StrictInt


class LeverEntry(Entry):
    """One entry of ``reasons[].levers``."""

    option: StrictStr
    value: StrictInt | StrictStr
    text: StrictStr


class ReasonEntry(Entry):
    """One entry of ``reasons``."""

    rule: StrictStr
    where: StrictStr
    statement: StrictStr
    demand: StrictInt | None = None
    limit: StrictInt | None = None
    short: StrictInt | None = None
    unit: StrictStr = "bytes"
    terms: list[TermEntry] = []
    levers: list[LeverEntry] = []


class ProvenanceBlock(BaseModel):
    """The block ``provenance``; fields that a later version adds are let through."""

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


def checked(form: type[BaseModel], document: Mapping[str, Any], schema: str, path: str) -> None:
    """Check a decoded document against its form.

    Raises
    ------
    InputError
        With every mistake at once.
    """
    if document.get("schema") != schema:
        raise InputError(path, [Defect("schema", f'must be "{schema}", got {shown(document.get("schema"))}')])
    try:
        form.model_validate(document)
    except ValidationError as error:
        raise InputError(path, validation_defects(error.errors(include_url=False))) from error
