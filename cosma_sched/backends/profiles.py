"""Solver profiles: named parameter files, ``solvers/<backend>/<profile>.toml``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cosma_sched import data, files
from cosma_sched.errors import Defect, InputError, shown, suggestion

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Profile:
    """A solver's own parameters.

    Parameters
    ----------
    path
        The file, for messages.
    description
        What the profile is for.
    parameters
        Names and values as the solver knows them.
    """

    path: str
    description: str
    parameters: Mapping[str, Parameter]


def load_profile(backend: str, name: str, *, reserved: Mapping[str, str] = MappingProxyType({})) -> Profile:
    """Read a profile.

    Parameters
    ----------
    backend, name
        Which one.
    reserved
        Parameters that a profile must not set, with the option that sets them.

    Raises
    ------
    InputError
        If there is no such profile, or the file has mistakes.
    """
    folder = data.directory("solvers") / backend
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise InputError(name, f"no such profile of {backend}; known names are {', '.join(known)}{suggestion(name, known)}")
    path = str(folder / f"{name}.toml")
    try:
        document = tomllib.loads(files.decode_text(path, files.read_bytes(path, limit_bytes=2**20)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(path, f"is not TOML: {error}") from error
    parameters = document.get("parameters", {})
    defects = [
        Defect(key, "unknown field; a profile has description and parameters") for key in set(document) - {"description", "parameters"}
    ]
    if not isinstance(parameters, dict):
        raise InputError(path, [Defect("parameters", "must be a table")])
    for key, value in parameters.items():
        defects += [Defect(f"parameters.{key}", problem) for problem in _problems(key, value, reserved)]
    if defects:
        raise InputError(path, defects)
    return Profile(path, str(document.get("description", "")), MappingProxyType(parameters))


def _problems(key: str, value: object, reserved: Mapping[str, str]) -> list[str]:
    if key in reserved:
        return [f"is set by the option {reserved[key]}"]
    if not isinstance(value, Parameter) or (isinstance(value, float) and not math.isfinite(value)):
        return [f"must be a finite number, a string or a truth value, got {shown(value)}"]
    return []
