"""`load`: from what a user names to a graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cosma_sched.errors import InputError, UsageError, shown, suggestion
from cosma_sched.files import read_bytes, sha256
from cosma_sched.frontends import synthetic, zoo
from cosma_sched.frontends.onnx_document import MAX_MODEL_BYTES
from cosma_sched.frontends.onnx_reader import float_type, read_onnx
from cosma_sched.frontends.options import OWN_TYPES, Fold, Functions, ReadingOptions, Views
from cosma_sched.graph import Graph, Origin


def load(
    source: str | os.PathLike[str],
    *,
    fold: str = "elementwise",
    views: str = "free",
    dtype: str | None = None,
    dims: Mapping[str, int] | None = None,
    parameters: str | Sequence[str] | None = None,
    functions: str = "inline",
) -> Graph:
    """Read a network.

    Parameters
    ----------
    source
        A name of the zoo, a description of a network to build such as ``attention-head:1024x128`` (see `synthetic`), a path that ends in
        ``.onnx``, a path of a graph document (JSON), or ``-`` for a graph document on standard input. A name comes before a file of that
        name: write ``./resnet50`` for the file.
    fold
        ``none``, ``batchnorm``, ``elementwise`` or ``prologue``: which operators join a neighbour.
    views
        ``free``, or ``strict`` to keep Transpose, Slice, Split and Gather as operators that write a tensor.
    dtype
        Element type such as ``int8`` that replaces every floating-point type; ``file`` keeps the types of the file. By default a zoo
        network is read as int8 and a file with its own types.
    dims
        Sizes of the symbolic dimensions of an ONNX file by name.
    parameters
        Names of graph inputs of an ONNX file that are weights; ``auto`` finds those that are only ever the second operand of a matrix
        product, with a warning. By default an input is an input.
    functions
        ``inline`` writes out the functions that an ONNX file defines; ``keep`` leaves those named like a known activation as operators.

    Returns
    -------
    Graph
        The graph; its `origin` says where it comes from and with which options it was read.

    Raises
    ------
    UsageError
        If an option has a value it does not know, or is given for a graph document, to which it cannot apply.
    InputError
        If there is no such file or name, or with every mistake of the file.
    """
    options = ReadingOptions.checked(fold, views, dtype, dims, parameters, functions)
    name = os.fspath(source)
    if isinstance(source, str) and source in zoo.names():
        if dtype is None:
            options = ReadingOptions.checked(fold, views, zoo.DTYPE, dims, parameters, functions)
        return _read_onnx_file(name, zoo.path(name), options, warns=False)
    if isinstance(source, str) and synthetic.is_description(source):
        return synthetic.build(source, options)
    if name.lower().endswith(".onnx"):
        return _read_onnx_file(name, Path(name), options)
    if name != "-" and isinstance(source, str) and _looks_like_a_name(name):
        _refuse_unknown_family(name)
        zoo.card(name)  # no such model: says which there are
    _refuse_reading_options(name, options, dtype)
    content = read_bytes(name)
    return Graph.from_json(content, name).with_origin(Origin(name, sha256(content)))


def _looks_like_a_name(source: str) -> bool:
    return not os.path.exists(source) and os.path.basename(source) == source and not os.path.splitext(source)[1]


def _refuse_unknown_family(name: str) -> None:
    kind, colon, _ = name.partition(":")
    if colon:
        near = suggestion(kind, synthetic.FAMILIES)
        raise InputError(name, f"no such file, and no network to build; descriptions are {', '.join(synthetic.forms())}{near}")


def _read_onnx_file(name: str, path: Path, options: ReadingOptions, *, warns: bool = True) -> Graph:
    try:
        content = read_bytes(path, limit_bytes=MAX_MODEL_BYTES)
    except InputError as error:
        raise InputError(name, error.defects) from error
    graph = read_onnx(content, path=name, name=path.stem, options=options, folder=path.parent if warns else None)
    warnings = graph.origin.warnings if graph.origin is not None else ()
    return graph.with_origin(Origin(name, sha256(content), _in_effect(options, graph), warnings))


def _in_effect(options: ReadingOptions, graph: Graph) -> dict[str, Any]:
    """Return the options of a reading as JSON values, with which `load` reads the same again."""
    dtype = options.dtype.name if options.dtype is not None else float_type(graph) or OWN_TYPES
    block: dict[str, Any] = {"fold": options.fold.value, "views": options.views.value, "dtype": dtype}
    if options.dims:
        block["dim"] = dict(options.dims)
    if options.functions is not Functions.INLINE:
        block["functions"] = options.functions.value
    found = graph.origin.options.get("parameters") if graph.origin is not None else None
    return {**block, "parameters": found} if found else block


def _refuse_reading_options(name: str, options: ReadingOptions, dtype: str | None) -> None:
    given = {
        "--fold": None if options.fold is Fold.ELEMENTWISE else options.fold.value,
        "--views": None if options.views is Views.FREE else options.views.value,
        "--dtype": dtype,
        "--dim": ",".join(f"{dim}={size}" for dim, size in options.dims.items()) or None,
        "--parameters": ",".join(options.parameters or ()) or None,
    }
    for option, value in given.items():
        if value is not None:
            reason = "is a graph document, whose operators and sizes are taken as they are"
            raise UsageError(f"{option} {value}: {shown(name)} {reason}; {option} is for ONNX files and names of the zoo")
