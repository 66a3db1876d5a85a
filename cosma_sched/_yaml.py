"""Strict YAML: every mapping and list remembers the line it stands on; repeated keys, self-containing aliases and giants are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import decode_text

_MOST_NODES = 100_000
"""Nodes that are walked; nested aliases can make a file of nine lines mean hundreds of millions."""


class Lines:
    """The line of every value of a document, by its path such as ``("levels", 0, "size_bytes")``."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int | str, ...], int] = {}

    def note(self, path: tuple[int | str, ...], line: int) -> None:
        """Remember where a value stands."""
        self._lines[path] = line

    def of(self, path: tuple[int | str, ...]) -> int | None:
        """Return the line of a value, or of the nearest value around it."""
        while path not in self._lines and path:
            path = path[:-1]
        return self._lines.get(path)


def decode_yaml(name: str, content: bytes, *, number_keys: bool = False) -> tuple[Any, Lines]:
    """Decode one YAML document.

    Parameters
    ----------
    name, content
        The file.
    number_keys
        Let whole numbers be keys, as the words that they are written with.

    Returns
    -------
    tuple
        The document and the line of each of its values.

    Raises
    ------
    InputError
        If the content is not UTF-8, is malformed or empty, repeats a key, contains itself or is far too large once its aliases are
        followed.
    """
    import yaml

    text = decode_text(name, content)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1} column {mark.column + 1}" if mark is not None else ""
        raise InputError(name, [Defect(place, f"is not YAML: {error.problem or error.context}")]) from error
    except yaml.YAMLError as error:
        raise InputError(name, f"is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise InputError(name, "is not usable YAML: nested too deeply") from error
    if root is None:
        raise InputError(name, "is empty")
    reader = _Reader(name, number_keys)
    try:
        return reader.value(root, ()), reader.lines
    except RecursionError as error:
        raise InputError(name, "is not usable YAML: nested too deeply") from error


class _Reader:
    """Turn nodes into values and count them."""

    def __init__(self, name: str, number_keys: bool) -> None:
        import yaml

        self.name = name
        self._number_keys = number_keys
        self.lines = Lines()
        self._nodes = 0
        self._open: set[int] = set()
        self._constructor = yaml.constructor.SafeConstructor()

    def value(self, node: Any, path: tuple[int | str, ...]) -> Any:
        """Return what a node means."""
        import yaml

        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > _MOST_NODES:
            raise InputError(self.name, [Defect(f"line {line}", f"holds more than {_MOST_NODES:,} values once its aliases are followed")])
        if id(node) in self._open:
            raise InputError(self.name, [Defect(f"line {line}", "an alias contains itself")])
        self.lines.note(path, line)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, line)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, path: tuple[int | str, ...]) -> Mapping[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node, line) if isinstance(key_node.value, str) else None
            if self._number_keys and isinstance(key, int) and not isinstance(key, bool):
                key = str(key)
            if not isinstance(key, str):
                raise InputError(self.name, [Defect(f"line {line}", f"a key must be a word, got {shown(key)}")])
            if key in result:
                raise InputError(self.name, [Defect(f"line {line}", f"key {shown(key)} stands twice in one mapping")])
            result[key] = self.value(value_node, (*path, key))
            self.lines.note((*path, key), line)
        return result

    def _scalar(self, node: Any, line: int) -> Any:
        import yaml

        try:
            return self._constructor.construct_object(node)
        except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise InputError(self.name, [Defect(f"line {line}", f"{shown(node.value)} cannot be read: {error}")]) from error
