"""Reading and writing files without surprises: strict readers, every failure an `InputError`, whole files or none.

JSON is read strictly: duplicate keys, NaN, infinities and numbers too large for a float are refused, because the standard reader lets
them pass silently.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from cosma_sched.errors import Defect, InputError, shown

MAX_TEXT_BYTES = 512 * 2**20


def sha256(content: bytes) -> str:
    """Return the hexadecimal digest of a file's content."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: str | os.PathLike[str], *, limit_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Read a regular file, or standard input for ``-``.

    Raises
    ------
    InputError
        If it does not exist, is no regular file, cannot be read, or is larger than `limit_bytes`.
    """
    name = os.fspath(path)
    if name == "-":
        if sys.stdin is None:  # the shell closed it: <&-
            raise InputError(name, "standard input is closed")
        content = sys.stdin.buffer.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise InputError(name, f"is larger than {limit_bytes:,} bytes, the most that is read")
        return content
    try:
        if not os.path.exists(name):
            raise InputError(name, "no such file")
        if not os.path.isfile(name):
            raise InputError(name, "is a directory, not a file" if os.path.isdir(name) else "is not a regular file")
        if os.path.getsize(name) > limit_bytes:
            raise InputError(name, f"has {os.path.getsize(name):,} bytes, more than the {limit_bytes:,} that are read")
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode_text(name: str, content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises
    ------
    InputError
        If the content is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(name, f"is not UTF-8 text (byte {error.start})") from error


def decode_json(name: str, content: bytes) -> Any:
    """Decode a JSON document strictly.

    Raises
    ------
    InputError
        If the content is not UTF-8, is malformed, repeats a key, or holds a number that is not finite or text that is not Unicode.
    """
    text = decode_text(name, content)
    try:
        document = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant, parse_float=_finite)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            _refuse_half_characters(document)
        return document
    except json.JSONDecodeError as error:
        raise InputError(name, [Defect(f"line {error.lineno} column {error.colno}", f"is not JSON: {error.msg}")]) from error
    except RecursionError as error:
        raise InputError(name, "is not usable JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(name, f"is not usable JSON: {error}") from error


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {shown(key)} stands twice in one object")
            seen.add(key)
    return mapping


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text} is too large")
    return value


def _refuse_half_characters(document: Any) -> None:
    """Refuse half of an escaped pair: the reader lets them pass, and whoever writes the text later fails."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half a character (a lone surrogate)") from None


def encode_json(document: Any) -> str:
    """Return a JSON document as it is written to files: indented, finite numbers only, a newline at the end."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that it holds either its old content or all of the new one; ``-`` writes to standard output.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    name = os.fspath(path)
    if name == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(name))
    if target.exists() and not target.is_file():  # /dev/stdout, a pipe: nothing to replace
        _write_in_place(name, target, data)
        return
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".cosma-", suffix=".tmp", dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _mode_for(target))
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise InputError(name, f"cannot be written: {error.strerror or error}") from error
        raise


def _write_in_place(name: str, target: Path, data: bytes) -> None:
    if target.is_dir():
        raise InputError(name, "cannot be written: is a directory")
    try:
        with open(target, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise InputError(name, f"cannot be written: {error.strerror or error}") from error


def _mode_for(target: Path) -> int:
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def validation_defects(errors: Iterable[Any]) -> list[Defect]:
    """Turn the entries of pydantic's ``ValidationError.errors()`` into defects with a readable place.

    Parameters
    ----------
    errors
        Dicts with ``loc``, ``type``, ``msg``, ``input`` and perhaps ``ctx``.
    """
    return [Defect(_place(entry["loc"]), _wording(entry)) for entry in errors]


def _place(loc: tuple[int | str, ...]) -> str:
    place = ""
    for part in loc:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


_WORDINGS = {
    "missing": "is missing",
    "extra_forbidden": "unknown field",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_too_short": "must not be empty",
}


def _wording(entry: Any) -> str:
    kind, context = entry["type"], entry.get("ctx", {})
    if kind in {"missing", "extra_forbidden"}:
        return _WORDINGS[kind]
    if kind == "greater_than":
        rule = f"must be > {context['gt']}"
    elif kind == "greater_than_equal":
        rule = f"must be >= {context['ge']}"
    elif kind in {"literal_error", "enum"}:
        rule = f"must be {context['expected']}"
    elif kind == "value_error":
        rule = str(context.get("error", entry["msg"]))
    else:
        rule = _WORDINGS.get(kind, entry["msg"][:1].lower() + entry["msg"][1:])
    return f"{rule}, got {shown(entry['input'])}"
