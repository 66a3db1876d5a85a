"""Symbolic dimensions: their names, the sizes that ``--dim`` gives them, and what to say where one is missing.

A dimension goes by the name the file gives it; one without a name is called ``TENSOR.AXIS``, such as ``tokens.0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cosma_sched.errors import Defect, shown, suggestion
from cosma_sched.frontends.onnx_document import Document

if TYPE_CHECKING:
    from onnx import TypeProto

_MAX_NAMES = 12
_INVENTED = "unk__"
"""How ONNX's shape inference calls what it does not know; no name that a person would give a value."""


class Dimensions:
    """The symbolic dimensions of a document and the sizes given for them.

    Parameters
    ----------
    document
        The checked file.
    sizes
        Sizes by name, all >= 1.
    """

    def __init__(self, document: Document, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)
        self._used: set[str] = set()
        inputs = [name for tensor, proto in document.inputs.items() for name in _open_names(tensor, proto)]
        named = [name for proto in document.declared.values() for name in _declared_names(proto)]
        self._of_inputs = list(dict.fromkeys(inputs))
        self._known = [*self._of_inputs, *(name for name in dict.fromkeys(named) if name not in set(self._of_inputs))]

    def resolve_input(self, tensor: str, proto: TypeProto) -> Iterator[Defect]:
        """Write the given sizes into the type of a graph input and yield what is still open."""
        if not proto.HasField("tensor_type"):
            yield Defect(f"input {shown(tensor)}", f"is a {_family(proto)}; only tensors are read")
            return
        if not proto.tensor_type.HasField("shape"):
            yield Defect(f"input {shown(tensor)}", "has no shape, not even its number of dimensions; state it in the file")
            return
        self.resolve(tensor, proto, None)
        for axis, dim in enumerate(proto.tensor_type.shape.dim):
            if not _is_known(dim):
                called = f'dimension "{dim.dim_param}" (axis {axis})' if dim.dim_param else f"the dimension of axis {axis}"
                problem = f"{called} is symbolic; give it a value with --dim {_name(tensor, axis, dim)}=1"
                yield Defect(f"input {shown(tensor)}", problem)

    def resolve(self, tensor: str, proto: TypeProto, declared: TypeProto | None) -> None:
        """Write the given sizes into a type; names may stand in it or in the declared type of the same tensor."""
        if not self._sizes or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
            return
        dims = proto.tensor_type.shape.dim
        others = declared.tensor_type.shape.dim if declared is not None and declared.HasField("tensor_type") else dims
        for axis, dim in enumerate(dims):
            if _is_known(dim):
                continue
            other = others[axis] if len(others) == len(dims) else dim
            for name in (dim.dim_param, other.dim_param, f"{tensor}.{axis}"):
                if name in self._sizes:
                    self._used.add(name)
                    dim.dim_value = self._sizes[name]
                    break

    def open_dimensions(self, tensor: str, place: str, proto: TypeProto | None) -> Iterator[Defect]:
        """Yield what is open in the type of a tensor whose producer has complete inputs: it depends on data."""
        if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
            problem = "depends on data, down to its number of dimensions; state it in the file's value_info"
            yield Defect(place, f"the shape of its output {shown(tensor)} {problem}")
            return
        for axis, dim in enumerate(proto.tensor_type.shape.dim):
            if not _is_known(dim):
                problem = f"axis {axis} of its output {shown(tensor)} depends on data; give it a value with --dim {tensor}.{axis}=N"
                yield Defect(place, problem)

    def unknown_names(self) -> Iterator[Defect]:
        """Yield the given names that no dimension has."""
        for name, size in self._sizes.items():
            if name in self._used or name in self._known:
                continue
            names = self._of_inputs or self._known
            known = f"known names are {', '.join(names[:_MAX_NAMES])}{', ...' if len(names) > _MAX_NAMES else ''}"
            text = known if names else "the file has no symbolic dimension"
            yield Defect(f"--dim {name}={size}", f"no dimension is called {shown(name)}; {text}{suggestion(name, self._known)}")


def _is_known(dim: object) -> bool:
    """True for a dimension with a size; some exporters write -1 for an unknown one."""
    return bool(dim.HasField("dim_value")) and dim.dim_value >= 0  # type: ignore[attr-defined]


def _name(tensor: str, axis: int, dim: object) -> str:
    return dim.dim_param or f"{tensor}.{axis}"  # type: ignore[attr-defined]


def _open_names(tensor: str, proto: TypeProto) -> Iterator[str]:
    if proto.HasField("tensor_type"):
        for axis, dim in enumerate(proto.tensor_type.shape.dim):
            if not _is_known(dim):
                yield _name(tensor, axis, dim)


def _declared_names(proto: TypeProto) -> Iterator[str]:
    if proto.HasField("tensor_type"):
        names = (dim.dim_param for dim in proto.tensor_type.shape.dim)
        yield from (name for name in names if name and not name.startswith(_INVENTED))


def _family(proto: TypeProto) -> str:
    return str(proto.WhichOneof("value") or "value of no type").removesuffix("_type").replace("_", " ")
