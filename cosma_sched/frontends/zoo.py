"""The model zoo: networks by name, as weight-free ONNX files with a card each.

``models/zoo.toml`` is the one source of the cards; ``models/export.py`` makes the files and fills in what it measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosma_sched import data
from cosma_sched.errors import InputError, suggestion
from cosma_sched.files import decode_text, read_bytes

DTYPE = "int8"
"""Element type in which zoo names load unless the caller asks for another."""

_INDEX = "zoo.toml"


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a network of the zoo.

    Parameters
    ----------
    name
        Name to load it by.
    definition
        Where the network is defined, as a Python name.
    version
        Versions of the packages it was exported with.
    input
        Shapes and types of its inputs, such as ``1x3x224x224 float32``.
    opset
        Version of the ONNX operator set.
    operators, m_r_bytes, m_p_bytes
        Operators, least scratchpad that holds every single operator, and least peak over all orders, as loaded by name.
    sha256
        Digest of the file.
    exporter
        Command that makes the file, from the top of a checkout.
    remark
        What the paper leaves open about the network and what was chosen.
    """

    name: str
    definition: str
    version: str
    input: str
    opset: int
    operators: int
    m_r_bytes: int
    m_p_bytes: int
    sha256: str
    exporter: str
    remark: str = ""


def names() -> tuple[str, ...]:
    """Return the names of the zoo in the order of its index."""
    return tuple(_index())


def card(name: str) -> Card:
    """Return the card of a network.

    Raises
    ------
    InputError
        If the zoo has no network of that name.
    """
    index = _index()
    _check(name, index)
    entry = index[name]
    return Card(
        name=name,
        definition=entry["definition"],
        version=entry["version"],
        input=", ".join(_input(block) for block in entry["inputs"]),
        opset=entry["opset"],
        operators=entry["operators"],
        m_r_bytes=entry["m_r_bytes"],
        m_p_bytes=entry["m_p_bytes"],
        sha256=entry["sha256"],
        exporter=f"python models/export.py {name}",
        remark=entry.get("remark", ""),
    )


def path(name: str) -> Path:
    """Return the ONNX file of a network.

    Raises
    ------
    InputError
        If the zoo has no network of that name.
    """
    _check(name, _index())
    return data.directory("models") / f"{name}.onnx"


def _index() -> Mapping[str, Mapping[str, Any]]:
    file = data.directory("models") / _INDEX
    return tomllib.loads(decode_text(str(file), read_bytes(file)))


def _check(name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise InputError(name, f"no such model; known names are {', '.join(sorted(known))}{suggestion(name, known)}")


def _input(block: Mapping[str, Any]) -> str:
    return f"{'x'.join(str(size) for size in block['shape'])} {block['dtype']}"
