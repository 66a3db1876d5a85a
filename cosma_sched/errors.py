"""What can go wrong, as types: each error knows the exit code that the command line ends with.

The library raises these; the command line prints ``str(error)``, one line per mistake, and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

MAX_DEFECTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Defect:
    """One mistake in an input: where it stands and what is wrong.

    Parameters
    ----------
    where
        Place inside the input, such as ``operators[3] "head"``; empty when the input as a whole is meant.
    problem
        What is wrong, what was found and what to do, in lower case without a full stop.
    """

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem


@dataclass(frozen=True, slots=True)
class Lever:
    """A change that makes an infeasible request feasible: an option and the value that works."""

    option: str
    value: int | str
    text: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why no answer exists: a demand, the limit it breaks, and what would help.

    Parameters
    ----------
    rule
        Short identifier of the broken rule, such as ``operator-fits``.
    where
        The step, operator or resource at which it breaks.
    statement
        One sentence for a person.
    demand, limit, short
        What is needed, what there is, and the difference, in `unit`; None where the rule is not arithmetic.
    terms
        The parts of the demand as (name, value) pairs.
    levers
        Changes that are known to help. A number named here has been checked.
    """

    rule: str
    where: str
    statement: str
    demand: int | None = None
    limit: int | None = None
    short: int | None = None
    unit: str = "bytes"
    terms: tuple[tuple[str, int], ...] = ()
    levers: tuple[Lever, ...] = ()


class CosmaError(Exception):
    """Base of every error that cosma-sched raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(CosmaError, ValueError):
    """An option value is malformed or options contradict each other."""

    exit_code = 2


class InputError(CosmaError, ValueError):
    """A file, or a name that stands for one, is not usable; carries every mistake that was found.

    Parameters
    ----------
    path
        The file or name as the user gave it, ``-`` for standard input.
    defects
        All mistakes; a plain string stands for one mistake of the input as a whole.
    """

    exit_code = 5

    def __init__(self, path: str, defects: str | Iterable[Defect]) -> None:
        self.path = path
        self.defects: tuple[Defect, ...] = (Defect("", defects),) if isinstance(defects, str) else tuple(defects)
        super().__init__(path, self.defects)

    def __str__(self) -> str:
        shown = [f"{self.path}: {defect}" for defect in self.defects[:MAX_DEFECTS_SHOWN]]
        if hidden := len(self.defects) - len(shown):
            shown.append(f"{self.path}: and {hidden} more")
        return "\n".join(shown)


class InfeasibleError(CosmaError):
    """No answer exists; the reasons say why and what would make one exist."""

    exit_code = 3

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(self.reasons)

    def __str__(self) -> str:
        return "\n".join(f"infeasible: {reason.statement}" for reason in self.reasons)


class BackendError(CosmaError):
    """A solver crashed, refused a correct program or returned something that is not an answer.

    Parameters
    ----------
    backend
        Name of the back end.
    problem
        What happened.
    log_tail
        The last lines the solver printed.
    kept_files
        Files kept for a report, such as the program in MPS form.
    """

    def __init__(self, backend: str, problem: str, log_tail: str = "", kept_files: Sequence[str] = ()) -> None:
        self.backend = backend
        self.problem = problem
        self.log_tail = log_tail
        self.kept_files = tuple(kept_files)
        super().__init__(backend, problem, log_tail, self.kept_files)

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.problem}", *self.log_tail.splitlines()[-10:]]
        lines += [f"kept for a report: {path}" for path in self.kept_files]
        return "\n".join(lines)


class MissingError(CosmaError, ImportError):
    """A back end or an optional package is not installed; the message is the line that installs it."""

    exit_code = 6


class VerificationError(CosmaError):
    """An answer of our own broke a rule: a bug.

    Parameters
    ----------
    violations
        What the checker found.
    repro
        Path of a file that reproduces the answer, if one was written.
    """

    exit_code = 7

    def __init__(self, violations: Sequence[object], repro: str | None = None) -> None:
        self.violations = tuple(violations)
        self.repro = repro
        super().__init__(self.violations, repro)

    def __str__(self) -> str:
        lines = [f"the answer breaks {len(self.violations)} rules; this is a bug in cosma-sched"]
        lines += [f"  {violation}" for violation in self.violations[:MAX_DEFECTS_SHOWN]]
        if self.repro:
            lines.append(f"kept for a report: {self.repro}")
        return "\n".join(lines)


def shown(value: object) -> str:
    """Return a value as an error message quotes it: at most some eighty characters long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    text = short.repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and '"' not in text else text


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "x"?`` for a mistyped name, or an empty string when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
