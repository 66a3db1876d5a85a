from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cosma_sched import __version__
from tests.cli.conftest import Run

COMMANDS = ("solve", "bounds", "verify", "zoo", "inspect", "backends")


# help and version


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_an_example(run: Run, command: str, option: str) -> None:
    ending = run(command, option)
    assert (ending.code, ending.err) == (0, "")
    assert f"Example: cosma-sched {command}" in ending.out


def test_the_command_alone_shows_the_help(run: Run) -> None:
    ending = run()
    assert ending.code == 0
    assert all(command in ending.out for command in COMMANDS)


def test_the_version_names_the_solvers(run: Run) -> None:
    ending = run("--version")
    assert ending.code == 0
    assert ending.out.splitlines()[0] == f"cosma-sched {__version__}"
    assert re.search(r"^ortools \d", ending.out, flags=re.MULTILINE)
    assert re.search(r"^pulp \d", ending.out, flags=re.MULTILINE)


# bounds


def test_bounds_are_printed(run: Run, examples: Path) -> None:
    ending = run("bounds", examples / "crossroads.json")
    assert (ending.code, ending.err) == (0, "")
    assert [line.split()[:2] for line in ending.out.splitlines()[3:6]] == [["M_R", "14"], ["M_H", "15"], ["M_P", "17"]]
    assert "needed by op5" in ending.out
    assert "proven" in ending.out


def test_bounds_as_json(run: Run, examples: Path, tmp_path: Path) -> None:
    ending = run("bounds", examples / "crossroads.json", "--json", "-o", tmp_path / "bounds.json")
    names = ("m_r_bytes", "m_p_bytes", "m_p_bound_bytes", "m_h_bytes", "m_p_status", "given_order_peak_bytes")
    assert [ending.document[name] for name in names] == [14, 17, 17, 15, "optimal", 17]
    assert json.loads((tmp_path / "bounds.json").read_text()) == ending.document


# zoo


def test_the_zoo_has_a_row_for_each_network(run: Run) -> None:
    ending = run("zoo")
    assert ending.code == 0
    header, *rows = ending.out.splitlines()
    assert header.split() == ["name", "operators", "M_R", "M_P", "source"]
    assert len(rows) >= 11
    cells = {row.split()[0]: row.split()[1:4] for row in rows}
    assert cells["densenet121"] == ["188", "1,605,632", "1,806,336"]
    assert cells["bert_base"][1:] == ["491,520", "589,824"]


def test_the_zoo_as_json(run: Run) -> None:
    networks = {network["name"]: network for network in run("zoo", "--json").document["networks"]}
    assert networks["densenet121"]["m_r_bytes"] == 1605632
    assert len(networks) >= 11


def test_a_network_has_a_card(run: Run) -> None:
    ending = run("zoo", "densenet121")
    assert ending.code == 0
    assert "torchvision" in ending.out
    assert "sha256" in ending.out
    assert run("zoo", "densenet121", "--json").document["operators"] == 188


# inspect


def test_a_network_of_the_zoo_is_inspected(run: Run) -> None:
    ending = run("inspect", "resnet50")
    assert (ending.code, ending.err) == (0, "")
    assert ending.out.startswith("resnet50: network of the zoo\n")
    assert re.search(r"^Conv +\d+$", ending.out, flags=re.MULTILINE)
    assert re.search(r"^input +1 +150,528$", ending.out, flags=re.MULTILINE)


def test_reading_options_reach_the_model(run: Run) -> None:
    folded, plain = (run("inspect", "resnet50", "--json", *options).document for options in ((), ("--fold", "none")))
    assert folded["operators"] < plain["operators"]
    assert "BatchNormalization" not in folded["operator_types"]
    assert run("inspect", "resnet50", "--dtype", "float32", "--json").document["tensors"]["input"]["size_bytes"] == 4 * 150528


def test_a_graph_is_inspected(run: Run, examples: Path) -> None:
    document = run("inspect", examples / "crossroads.json", "--json").document
    assert document["kind"] == "graph JSON"
    assert document["tensors"]["input"] == {"count": 1, "size_bytes": 3}
    assert document["largest"]["name"] == "t1"


def test_a_graph_on_standard_input_is_inspected(run: Run, examples: Path) -> None:
    assert run("inspect", "-", stdin=(examples / "pinch.json").read_text()).out.startswith("pinch: graph JSON\n")


@pytest.mark.parametrize(("command", "kind"), [(("solve", "--scratchpad", "14"), "memory plan"), (("bounds",), "memory bounds")])
def test_a_result_is_inspected(run: Run, examples: Path, tmp_path: Path, command: tuple[str, ...], kind: str) -> None:
    name, *options = command
    run(name, examples / "crossroads.json", *options, "-o", tmp_path / "result.json")
    ending = run("inspect", tmp_path / "result.json")
    assert ending.code == 0
    assert kind in ending.out.splitlines()[0]
    assert "crossroads.json" in ending.out


# backends


def test_the_back_ends_are_listed(run: Run) -> None:
    ending = run("backends")
    assert ending.code == 0
    rows = {line.split()[0]: line for line in ending.out.splitlines() if line}
    for name in ("cpsat", "cbc", "highs"):
        assert re.search(r"\d+\.\d+", rows[name])
        assert rows[name].endswith(("yes", "no"))


def test_the_back_ends_as_json(run: Run) -> None:
    assert [backend["name"] for backend in run("backends", "--json").document["backends"]] == ["cpsat", "cbc", "highs"]
