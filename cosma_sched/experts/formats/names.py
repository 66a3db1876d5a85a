"""Names of scenarios from names of files."""

from __future__ import annotations

from pathlib import Path


def stem(path: str) -> str:
    """Return what a file's scenario is called: its name without folder and extensions."""
    name = Path(path).name
    while Path(name).suffix in {".json", ".jsonl", ".npz", ".npy", ".csv", ".pt", ".gz"}:
        name = Path(name).stem
    return name or path
