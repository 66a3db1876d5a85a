"""The command line as a function, and as a process."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cosma_sched.cli import main
from cosma_sched.files import encode_json
from cosma_sched.graph import Graph, Operator, Tensor, TensorKind


@dataclass(frozen=True)
class Ending:
    """What a run left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Run = Callable[..., Ending]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call ``main`` with arguments; `stdin` is what standard input holds."""

    def call(*arguments: str | Path, stdin: str = "") -> Ending:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ending(code, captured.out, captured.err)

    return call


@pytest.fixture
def process() -> Run:
    """Run the command as a process of its own."""

    def call(*arguments: str | Path, stdin: str = "", **options: Any) -> Ending:
        command = [sys.executable, "-m", "cosma_sched", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120, **options)
        return Ending(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def examples(checkout: Path) -> Path:
    """The folder of example graphs."""
    return checkout / "examples"


@pytest.fixture(scope="session")
def unproven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of sixty operators on which a plan is found at once and its proof takes minutes."""
    draw = random.Random(1)
    tensors = [Tensor("x", 64 * draw.randint(1, 60), "input")]
    operators: list[Operator] = []
    for index in range(60):
        recent = [tensor.name for tensor in tensors[-12:]]
        reads = draw.sample(recent, min(len(recent), draw.randint(1, 3)))
        tensors.append(Tensor(f"t{index}", 64 * draw.randint(1, 60)))
        operators.append(Operator(f"op{index}", "Op", tuple(reads), (f"t{index}",)))
    read = {name for operator in operators for name in operator.inputs}
    ends = [
        replace(tensor, kind=TensorKind.OUTPUT) if tensor.kind == "activation" and tensor.name not in read else tensor for tensor in tensors
    ]
    path = tmp_path_factory.mktemp("models") / "unproven.json"
    path.write_text(encode_json(Graph(ends, operators, "unproven").to_json()))
    return path
