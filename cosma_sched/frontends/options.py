"""How a model file is to be read: the options ``--fold``, ``--views``, ``--dtype`` and ``--dim``, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from cosma_sched.errors import UsageError, shown, suggestion
from cosma_sched.frontends.element_types import ElementType, named_element_type

AUTO = "auto"
"""The value of ``parameters`` that lets the reader find weights among the graph inputs."""

OWN_TYPES = "file"
"""The value of ``--dtype`` that keeps the types of the file."""


_Choice = TypeVar("_Choice", bound=StrEnum)


class Fold(StrEnum):
    """Which operators join a neighbour."""

    NONE = "none"
    BATCHNORM = "batchnorm"
    ELEMENTWISE = "elementwise"
    PROLOGUE = "prologue"


class Functions(StrEnum):
    """What becomes of the functions that a file brings along: all written out, or known activations kept as operators."""

    INLINE = "inline"
    KEEP = "keep"


class Views(StrEnum):
    """Which operators create no tensor: all that only look at one (``free``), or only those that leave every byte in place (``strict``)."""

    FREE = "free"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """Checked options of one reading.

    Parameters
    ----------
    fold, views
        Levels of folding and of views.
    dtype
        Element type that replaces every floating-point type, or None to keep the file's own.
    dims
        Sizes of symbolic dimensions by name.
    parameters
        Graph inputs that count as parameters; None: those that are only ever the second operand of a matrix product, found by `AUTO`.
    functions
        What becomes of the file's own functions.
    """

    fold: Fold = Fold.ELEMENTWISE
    views: Views = Views.FREE
    dtype: ElementType | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    parameters: tuple[str, ...] | None = ()
    functions: Functions = Functions.INLINE

    @classmethod
    def checked(
        cls,
        fold: str,
        views: str,
        dtype: str | None,
        dims: Mapping[str, int] | None,
        parameters: str | Sequence[str] | None = None,
        functions: str = "inline",
    ) -> ReadingOptions:
        """Return the options that plain values stand for.

        Raises
        ------
        UsageError
            If a value is none of those the option knows.
        """
        sizes = dict(dims or {})
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise UsageError(f"--dim {name}={shown(size) if isinstance(size, str) else size}: the size must be a whole number >= 1")
        width = None if dtype in {None, OWN_TYPES} else named_element_type(str(dtype))
        if isinstance(parameters, str) and parameters != AUTO:
            raise UsageError(f"parameters must be a list of names or {AUTO}, got {shown(parameters)}")
        weights = None if parameters == AUTO else tuple(parameters or ())
        kept = _choice("functions", functions, Functions)
        return cls(_choice("--fold", fold, Fold), _choice("--views", views, Views), width, sizes, weights, kept)

    def width_in_effect(self, element: ElementType) -> ElementType:
        """Return what an element type of the file becomes."""
        return self.dtype if self.dtype is not None and element.is_floating else element


def _choice(option: str, value: str, choices: type[_Choice]) -> _Choice:
    names = [str(choice) for choice in choices]
    if value not in names:
        raise UsageError(f"{option} {shown(value)}: must be one of {', '.join(names)}{suggestion(str(value), names)}")
    return choices(value)
