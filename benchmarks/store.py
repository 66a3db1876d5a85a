"""Rows of a long benchmark, kept as they come, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from runner import Row, measure

SOURCES = Path(__file__).resolve().parent.parent / "cosma_sched"


class Store:
    """A file of JSON lines, each a row under a key; a line that a crash cut off is ignored.

    Parameters
    ----------
    path
        The file, or None to keep nothing.
    state
        What rows depend on beside their key, such as the digest of the sources; rows of another state are not used.
    """

    def __init__(self, path: str | None, state: str) -> None:
        self.path, self.state = path, state
        self._rows: dict[str, Row] = {}
        if path is not None and Path(path).exists():
            for line in Path(path).read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if entry["state"] == state:
                    self._rows[entry["key"]] = entry["row"]

    def get(self, key: str) -> Row | None:
        """Return the row of a key, or None."""
        return self._rows.get(key)

    def put(self, key: str, row: Row) -> None:
        """Keep a row; one with an error is only remembered for this run."""
        self._rows[key] = row
        if self.path is None or "error" in row:
            return
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write("\n" * self._is_cut_off() + json.dumps({"state": self.state, "key": key, "row": row}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _is_cut_off(self) -> bool:
        content = Path(str(self.path)).read_bytes()
        return bool(content) and not content.endswith(b"\n")


def measured(store: Store, module: str, function: str, **arguments: Any) -> Row:
    """Return a row from the store, or measure it in a process of its own and keep it."""
    key = json.dumps([module, function, arguments], sort_keys=True)
    row = store.get(key)
    if row is None:
        row = measure(module, function, **arguments)
        store.put(key, row)
    return row


def digest_of_sources(*folders: str) -> str:
    """Return the digest of the Python sources in some folders of the package."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((SOURCES / folder).rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
