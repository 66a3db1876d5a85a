"""What the documents show is what the program prints: every command in them is run and its numbers are compared."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command in a document and the output that stands below it."""

    document: str
    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.document}: {self.command}"


def blocks(path: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def shown_commands() -> list[Shown]:
    found = []
    for path in DOCUMENTS:
        for text in blocks(path, "console"):
            for part in re.split(r"^\$ cosma-sched ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append(Shown(path.name, command, output))
    first, output, *_ = blocks(CHECKOUT / "README.md", "sh", "text")
    found.append(Shown("README.md", first.strip().partition("&& cosma-sched ")[2], output))
    return found


def comparable(output: str) -> list[str]:
    """Leave out what differs between runs and machines: seconds, versions, and which of several equally good plans was found."""
    lines = []
    for line in output.rstrip("\n").splitlines():
        if line.startswith(("spilled ", "and ")):
            break
        line = re.sub(r" = [\d,]+ spilled \+ [\d,]+ retrieved$", "", line)
        if not re.match(r"seconds |peak |height |\d+\.\d\d s, ", line):
            lines.append(" ".join(re.sub(r"(?<=  )\d+\.\d+\.\d+(?=  )", "VERSION", line).split()))
    return [*lines, "what was spilled"] if len(lines) < len(output.rstrip("\n").splitlines()) else lines


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the documents name, in which files may be written."""
    for folder in ("examples", "models"):
        (tmp_path / folder).symlink_to(CHECKOUT / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("shown", shown_commands(), ids=str)
def test_a_shown_command_prints_what_is_shown(shown: Shown, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, _, lines = shown.command.partition(" | head -")
    arguments = shlex.split(command)
    if arguments[0] == "verify":
        main(["solve", "densenet121", "--scratchpad", "M_R", "-o", "plan.json"])
        capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    printed = "\n".join((captured.out + captured.err).splitlines()[: int(lines) if lines else None])
    assert comparable(printed) == comparable(shown.output)
    assert code == (3 if "infeasible:" in shown.output else 0)


def test_enough_is_shown() -> None:
    assert len(shown_commands()) >= 8
    assert any(shown.command == "solve densenet121 --scratchpad M_H" for shown in shown_commands())


def test_the_two_lines_that_do_all_the_set_up_stand_in_the_readme() -> None:
    """They are what the stages `install` and `tests` of .ci/run execute."""
    lines = [line.strip() for text in blocks(CHECKOUT / "README.md", "sh") for line in text.splitlines()]
    assert lines == [
        "pip install . && cosma-sched solve densenet121 --scratchpad M_H",
        'pip install -e ".[test]" && python -m pytest',
    ]


def test_the_python_of_the_readme_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(CHECKOUT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_indented_commands_have_options_that_exist(path: Path) -> None:
    from cosma_sched.cli.app import parse

    for line in re.findall(r"^    cosma-sched (.*?)(?: +#.*)?$", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert callable(parse(shlex.split(line))), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_exit_code_is_explained() -> None:
    text = (CHECKOUT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE) == ["0", "1", "2", "3", "4", "5", "6", "7", "130"]


def test_every_option_of_solve_is_in_some_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["solve", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert {option for option in options if option not in text and option not in {"--quiet", "--verbose", "--output"}} == set()


def test_every_field_of_a_result_is_described(small: cs.Graph) -> None:
    text = (CHECKOUT / "docs" / "formats.md").read_text(encoding="utf-8")
    plan = cs.plan_memory(small, scratchpad="M_R", workers=1).to_json()
    for document in (plan, cs.memory_bounds(small).to_json(), small.to_json(), plan["provenance"]):
        for field in document:
            assert f"`{field}`" in text or f"`{field}[]" in text, field


def test_the_documents_name_no_place_of_one_machine() -> None:
    for path in DOCUMENTS:
        assert not re.search(r"/root/|/home/|/work/|/Users/", path.read_text(encoding="utf-8")), path.name
