"""Where the data that ships with the package lies: the zoo's models and the solver profiles."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cosma_sched.errors import MissingError

_MARK = "pyproject.toml"
"""A file that every checkout has at its top and no folder of installed packages has."""


def directory(kind: str) -> Path:
    """Return the directory of a kind of data, ``models`` or ``solvers``.

    An installed package holds it as ``cosma_sched/_data/<kind>``; a checkout as ``<kind>`` at its top. The current directory plays no
    part, nor does a folder that happens to lie beside an installed package.

    Raises
    ------
    MissingError
        If the installation lacks the data.
    """
    package = Path(str(files("cosma_sched")))
    packaged = package / "_data" / kind
    if packaged.is_dir():
        return packaged
    checkout = package.resolve().parent
    if (checkout / _MARK).is_file() and (checkout / kind).is_dir():
        return checkout / kind
    raise MissingError(f"the data folder {kind} of cosma-sched is not installed: reinstall the package")
