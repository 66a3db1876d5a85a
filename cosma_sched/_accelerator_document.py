"""The form of an accelerator file, and the rules that tie its parts together; every mistake is reported with its line and path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from cosma_sched._yaml import Lines
from cosma_sched.accelerator import SCHEMA, Accelerator, Core, MemoryLevel, PEArray, gemmini_energy
from cosma_sched.errors import Defect, InputError, UsageError, shown, suggestion
from cosma_sched.files import validation_defects
from cosma_sched.units import parse_size

_DIMS = "N, K, C, P, Q, R, S"


def _size(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except UsageError as error:
            raise ValueError(str(error).split("; ", 1)[-1]) from None
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return float(value)


Size = Annotated[StrictInt, BeforeValidator(_size), Field(gt=0, le=2**62)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[StrictInt, Field(gt=0, le=2**31)]
Name = Annotated[StrictStr, Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArrayEntry(_Entry):
    """The block ``array``."""

    rows: Count
    cols: Count
    row_dim: Literal["N", "K", "C", "P", "Q", "R", "S"] = "C"
    col_dim: Literal["N", "K", "C", "P", "Q", "R", "S"] = "K"
    mac_pj: NotNegative


class LevelEntry(_Entry):
    """One entry of ``levels``."""

    name: Name
    holds: list[Literal["W", "I", "O"]]
    size_bytes: Size | None = None
    element_bytes: Count = 1
    pj_per_word: NotNegative | None = None
    words_per_cycle: Positive | None = None
    words_per_cycle_per_column: Positive | None = None
    block_words: Count = 1
    psum_words: Count = 1


class AcceleratorDocument(_Entry):
    """A document ``cosma-sched/accelerator/1`` of one core."""

    schema_: Literal["cosma-sched/accelerator/1"] = Field(alias="schema")
    name: Name
    array: ArrayEntry
    levels: Annotated[list[LevelEntry], Field(min_length=1)]
    energy: Literal["gemmini_40nm"] | None = None


def decode(document: Any, path: str, lines: Lines | None = None) -> Accelerator:
    """Build an accelerator from a decoded document.

    Raises
    ------
    InputError
        With every mistake at once, each with its line where the document came from a file.
    """
    if not isinstance(document, Mapping):
        raise InputError(path, f"must be a mapping with schema: {SCHEMA}, got {shown(document)}")
    if document.get("schema") != SCHEMA:
        raise InputError(path, [Defect("schema", f'must be "{SCHEMA}", got {shown(document.get("schema"))}')])
    try:
        parsed = AcceleratorDocument.model_validate(dict(document))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        defects = [_with_hint(defect, entry["loc"]) for defect, entry in zip(validation_defects(errors), errors, strict=True)]
        raise InputError(path, [_placed(defect, entry["loc"], lines) for defect, entry in zip(defects, errors, strict=True)]) from error
    rules = list(_rules(parsed))
    if rules:
        raise InputError(path, [_placed(Defect(where, problem), loc, lines) for loc, where, problem in rules])
    return _built(parsed)


def _with_hint(defect: Defect, loc: tuple[int | str, ...]) -> Defect:
    if defect.problem != "unknown field":
        return defect
    forms: dict[str, type[BaseModel]] = {"levels": LevelEntry, "array": ArrayEntry}
    form = forms.get(str(loc[0]), AcceleratorDocument) if len(loc) > 1 else AcceleratorDocument
    known = [field.alias or name for name, field in form.model_fields.items()]
    return Defect(defect.where, defect.problem + suggestion(str(loc[-1]), known))


def _placed(defect: Defect, loc: tuple[int | str, ...], lines: Lines | None) -> Defect:
    line = lines.of(loc) if lines is not None else None
    return defect if line is None else Defect(f"line {line}: {defect.where}" if defect.where else f"line {line}", defect.problem)


Rule = tuple[tuple[int | str, ...], str, str]


def _rules(parsed: AcceleratorDocument) -> Iterator[Rule]:
    """Yield what the parts say against each other: path, place, problem."""
    seen: dict[str, int] = {}
    for index, level in enumerate(parsed.levels):
        place = f"levels[{index}]"
        if seen.setdefault(level.name, index) != index:
            yield ("levels", index, "name"), f"{place}.name", f"levels[{seen[level.name]}] has the name {shown(level.name)} too"
        if not level.holds:
            yield ("levels", index, "holds"), f"{place}.holds", "must name at least one of W, I, O"
        elif len(set(level.holds)) != len(level.holds):
            yield ("levels", index, "holds"), f"{place}.holds", f"names a tensor twice, got {level.holds}"
        if level.words_per_cycle is not None and level.words_per_cycle_per_column is not None:
            problem = "has words_per_cycle too; give one of the two bandwidths"
            yield ("levels", index, "words_per_cycle_per_column"), f"{place}.words_per_cycle_per_column", problem
        if level.pj_per_word is None and parsed.energy is None:
            problem = "is missing; give pJ per word, or energy: gemmini_40nm for the whole file"
            yield ("levels", index), f"{place}.pj_per_word", problem
    if parsed.array.row_dim == parsed.array.col_dim:
        yield ("array", "col_dim"), "array.col_dim", f"must differ from row_dim {parsed.array.row_dim}"
    if parsed.energy is not None:
        yield from _energy_rules(parsed)


def _energy_rules(parsed: AcceleratorDocument) -> Iterator[Rule]:
    by_name = {level.name: level for level in parsed.levels}
    for name in ("accumulator", "scratchpad"):
        if name not in by_name or by_name[name].size_bytes is None:
            yield ("energy",), "energy", f"gemmini_40nm needs a level {name} with size_bytes"
    for index, level in enumerate(parsed.levels):
        if level.pj_per_word is None and level.name not in {"register", "accumulator", "scratchpad", "dram"}:
            problem = f"is missing; gemmini_40nm knows register, accumulator, scratchpad and dram, not {shown(level.name)}"
            yield ("levels", index), f"levels[{index}].pj_per_word", problem


def _built(parsed: AcceleratorDocument) -> Accelerator:
    derived: dict[str, float] = {}
    if parsed.energy is not None:
        sizes = {level.name: level.size_bytes for level in parsed.levels if level.size_bytes is not None}
        derived = gemmini_energy(sizes, parsed.array.cols)
    levels = [
        MemoryLevel(
            name=level.name,
            holds=tuple(level.holds),
            pj_per_word=level.pj_per_word if level.pj_per_word is not None else derived[level.name],
            size_bytes=level.size_bytes,
            element_bytes=level.element_bytes,
            words_per_cycle=level.words_per_cycle,
            words_per_cycle_per_column=level.words_per_cycle_per_column,
            block_words=level.block_words,
            psum_words=level.psum_words,
        )
        for level in parsed.levels
    ]
    return Accelerator(parsed.name, (Core(parsed.name, PEArray(**parsed.array.model_dump()), tuple(levels)),))
