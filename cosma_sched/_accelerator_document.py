"""The form of an accelerator file, and the rules that tie its parts together; every mistake is reported with its line and path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from cosma_sched._yaml import Lines
from cosma_sched.accelerator import SCHEMA, Accelerator, Core, MemoryLevel, PEArray, gemmini_energy
from cosma_sched.errors import Defect, InputError, UsageError, shown, suggestion
from cosma_sched.files import validation_defects
from cosma_sched.units import parse_size

DIMS = ("N", "K", "C", "P", "Q", "R", "S")
Dim = Literal["N", "K", "C", "P", "Q", "R", "S", "B"]
"""The seven loop dimensions, and B, which is what P is called where there are only matrices."""


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


class Entry(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid")


class ArrayEntry(Entry):
    """The block ``array``: rows and columns, or any number of axes with their dims, or axes that are free."""

    rows: Count | None = None
    cols: Count | None = None
    row_dim: Dim | None = None
    col_dim: Dim | None = None
    unroll: Annotated[dict[StrictStr, Count], Field(min_length=1)] | None = None
    sizes: Annotated[list[Count], Field(min_length=1)] | None = None
    mac_pj: NotNegative


class LevelEntry(Entry):
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
    write_words_per_cycle: Positive | None = None
    write_pj_per_word: NotNegative | None = None


class AcceleratorDocument(Entry):
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
    if "cores" in document:
        from cosma_sched._accelerator_cores import decode_cores

        return decode_cores(document, path, lines)
    parsed, defects = validated(AcceleratorDocument, dict(document), (), lines)
    if parsed is None:
        raise InputError(path, defects)
    rules = list(_rules(parsed))
    if rules:
        raise InputError(path, [placed(rule, lines) for rule in rules])
    return _built(parsed)


Loc = tuple[int | str, ...]
Rule = tuple[Loc, str, str]
"""Path of a value, its place as people read it, what is wrong."""


_E = TypeVar("_E", bound=Entry)


def validated(form: type[_E], document: Any, at: Loc, lines: Lines | None) -> tuple[_E | None, list[Defect]]:
    """Return a part of a document in its form, or None with what is wrong with it."""
    try:
        return form.model_validate(document), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
        places: list[Loc] = [(*at, *entry["loc"]) for entry in errors]
        defects = validation_defects({**entry, "loc": loc} for entry, loc in zip(errors, places, strict=True))
        return None, [_at_line(_with_hint(defect, loc), loc, lines) for defect, loc in zip(defects, places, strict=True)]


_FORMS: dict[str, type[Entry]] = {"levels": LevelEntry, "array": ArrayEntry}


def known_forms() -> dict[str, type[Entry]]:
    """Return the form of each block by its key, for the spelling of unknown fields."""
    return _FORMS


def _with_hint(defect: Defect, loc: Loc) -> Defect:
    if defect.problem != "unknown field":
        return defect
    blocks = [part for part in loc[:-1] if isinstance(part, str)]
    form = _FORMS.get(blocks[-1], AcceleratorDocument) if blocks else AcceleratorDocument
    known = [field.alias or name for name, field in form.model_fields.items()]
    return Defect(defect.where, defect.problem + suggestion(str(loc[-1]), known))


def _at_line(defect: Defect, loc: Loc, lines: Lines | None) -> Defect:
    line = lines.of(loc) if lines is not None else None
    return defect if line is None else Defect(f"line {line}: {defect.where}" if defect.where else f"line {line}", defect.problem)


def placed(rule: Rule, lines: Lines | None) -> Defect:
    """Return a broken rule as a defect, with its line where the document came from a file."""
    loc, where, problem = rule
    return _at_line(Defect(where, problem), loc, lines)


def _rules(parsed: AcceleratorDocument) -> Iterator[Rule]:
    """Yield what the parts say against each other: path, place, problem."""
    yield from level_rules(parsed.levels, (), "", needs_energy=parsed.energy is None)
    yield from array_rules(parsed.array, ("array",), "array")
    if parsed.energy is not None:
        yield from _energy_rules(parsed)


def level_rules(levels: Sequence[LevelEntry], at: Loc, prefix: str, *, needs_energy: bool) -> Iterator[Rule]:
    """Yield what the levels of one core say against each other."""
    seen: dict[str, int] = {}
    for index, level in enumerate(levels):
        place, loc = f"{prefix}levels[{index}]", (*at, "levels", index)
        if seen.setdefault(level.name, index) != index:
            yield (*loc, "name"), f"{place}.name", f"{prefix}levels[{seen[level.name]}] has the name {shown(level.name)} too"
        if not level.holds:
            yield (*loc, "holds"), f"{place}.holds", "must name at least one of W, I, O"
        elif len(set(level.holds)) != len(level.holds):
            yield (*loc, "holds"), f"{place}.holds", f"names a tensor twice, got {level.holds}"
        if level.words_per_cycle is not None and level.words_per_cycle_per_column is not None:
            problem = "has words_per_cycle too; give one of the two bandwidths"
            yield (*loc, "words_per_cycle_per_column"), f"{place}.words_per_cycle_per_column", problem
        if level.pj_per_word is None and needs_energy:
            file_wide = "" if prefix else ", or energy: gemmini_40nm for the whole file"
            yield loc, f"{place}.pj_per_word", f"is missing; give pJ per word{file_wide}"


def array_rules(array: ArrayEntry, at: Loc, place: str) -> Iterator[Rule]:
    """Yield what the facts of an array say against each other."""
    sides = [name for name in ("rows", "cols", "row_dim", "col_dim") if getattr(array, name) is not None]
    ways = [bool(sides), array.unroll is not None, array.sizes is not None]
    if sum(ways) != 1:
        found = "nothing of these" if not any(ways) else "more than one of these"
        yield at, place, f"give rows and cols, or unroll, or sizes; got {found}"
        return
    for side in ("rows", "cols"):
        if sides and getattr(array, side) is None:
            yield at, f"{place}.{side}", "is missing"
    for dim in array.unroll or ():
        if dim not in (*DIMS, "B"):
            yield (*at, "unroll", dim), f"{place}.unroll.{dim}", f"must be one of {', '.join(DIMS)}, or B for P"
    axes = [dim for dim, _ in unrolled(array)]
    if sides and len(set(axes)) != len(axes):
        yield (*at, "col_dim"), f"{place}.col_dim", f"must differ from row_dim {axes[0]}"
    elif len(set(axes)) != len(axes):
        yield (*at, "unroll"), f"{place}.unroll", "names P twice, once as B"


def unrolled(array: ArrayEntry) -> tuple[tuple[str, int], ...]:
    """Return (dim, extent) of the axes of an array; nothing where they are free."""
    if array.sizes is not None:
        return ()
    if array.unroll is not None:
        return tuple((_dim(dim), extent) for dim, extent in array.unroll.items())
    return ((_dim(array.row_dim or "C"), array.rows or 0), (_dim(array.col_dim or "K"), array.cols or 0))


def _dim(name: str) -> str:
    return "P" if name == "B" else name


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
        derived = gemmini_energy(sizes, built_array(parsed.array).cols)
    levels = tuple(built_level(level, derived) for level in parsed.levels)
    return Accelerator(parsed.name, (Core(parsed.name, built_array(parsed.array), levels),))


def built_array(entry: ArrayEntry) -> PEArray:
    """Return the array that an entry describes."""
    return PEArray(unrolled(entry), tuple(entry.sizes or ()), entry.mac_pj)


def built_level(entry: LevelEntry, derived: Mapping[str, float]) -> MemoryLevel:
    """Return the level that an entry describes; `derived` has the energies that it leaves open."""
    energy = entry.pj_per_word if entry.pj_per_word is not None else derived[entry.name]
    facts = entry.model_dump(exclude={"name", "holds", "pj_per_word"})
    return MemoryLevel(entry.name, tuple(entry.holds), energy, **facts)
