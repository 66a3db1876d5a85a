"""Linear programs in whole numbers, built with PuLP: opaque names, duplicate coefficients summed, meanings kept in a table.

PuLP only holds and writes the program; nothing here solves. This is the one file that knows PuLP's modelling names (3.3 and later).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cosma_sched.backends import libraries
from cosma_sched.backends.task import Meaning
from cosma_sched.errors import InputError, shown

if TYPE_CHECKING:
    from pulp import LpAffineExpression, LpProblem, LpVariable

Terms = Iterable[tuple["LpVariable", int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One constraint: low <= sum of coefficients times columns <= high; None where a side is open."""

    columns: Sequence[int]
    coefficients: Sequence[int]
    low: int | None
    high: int | None
    family: str

    def holds(self, values: Sequence[int]) -> bool:
        """Return whether the values of all columns satisfy the row, in exact arithmetic."""
        activity = sum(c * values[j] for j, c in zip(self.columns, self.coefficients, strict=True))
        return (self.low is None or activity >= self.low) and (self.high is None or activity <= self.high)


def total(terms: Terms) -> LpAffineExpression:
    """Return the sum of (variable, coefficient) pairs as a PuLP expression.

    Coefficients of one variable are added up, which PuLP's own constructor does not do, and zero coefficients are dropped.

    Raises
    ------
    TypeError
        If a coefficient is no whole number.
    """
    sums: dict[Any, int] = {}
    for variable, coefficient in terms:
        sums[variable] = sums.get(variable, 0) + operator.index(coefficient)
    return libraries.pulp().LpAffineExpression({variable: value for variable, value in sums.items() if value}, constant=0)


class Program:
    """A minimisation over bounded integer variables: one ``pulp.LpProblem``, and what its opaque names mean.

    Every row is divided by the common divisor of its coefficients and its right-hand side rounded, which changes no solution and keeps
    floating-point solvers from mistaking a tiny violation for none. A row that cannot hold at all goes to `contradictions`; one that
    always holds is dropped. The objective is stored divided by the common divisor of its coefficients, `unit`, and without its constant:
    ``value = unit * problem.objective + constant``.

    Parameters
    ----------
    name
        A name for files and messages.

    Attributes
    ----------
    problem
        The PuLP problem. Read it freely; add to it only through this class.
    constant, unit
        What turns its objective into ours.
    contradictions
        Families of the rows that no values satisfy.

    Examples
    --------
    >>> program = Program("two of three")
    >>> items = [program.binary(("take", k)) for k in range(3)]
    >>> program.at_least([(item, 1) for item in items], 2, "enough")
    >>> program.minimise([(item, cost) for item, cost in zip(items, (5, 3, 4))])
    >>> program.num_variables, program.num_rows
    (3, 1)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem: LpProblem = libraries.pulp().LpProblem(re.sub(r"\W", "_", name, flags=re.ASCII) or "program")
        self.constant = 0
        self.unit = 1
        self.contradictions: list[str] = []
        self._variables: dict[Meaning, LpVariable] = {}
        self._columns: dict[LpVariable, int] = {}
        self._bounds: list[tuple[int, int]] = []
        self._rows: list[Row] = []
        self._objective: tuple[tuple[int, int], ...] = ()

    @property
    def variables(self) -> Mapping[Meaning, LpVariable]:
        """Variable of each meaning, in the order of creation, which is the order of columns."""
        return MappingProxyType(self._variables)

    @property
    def bounds(self) -> Sequence[tuple[int, int]]:
        """Lowest and highest value of each column."""
        return self._bounds

    @property
    def rows(self) -> Sequence[Row]:
        """All rows in the order of creation."""
        return self._rows

    @property
    def objective(self) -> Sequence[tuple[int, int]]:
        """(column, coefficient) pairs of the stored objective, columns ascending."""
        return self._objective

    @property
    def num_variables(self) -> int:
        """Number of columns."""
        return len(self._variables)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def binary(self, meaning: Meaning) -> LpVariable:
        """Add a variable that is 0 or 1."""
        return self.integer(meaning, 0, 1)

    def integer(self, meaning: Meaning, low: int, high: int) -> LpVariable:
        """Add a whole number between `low` and `high`, both included.

        Raises
        ------
        InputError
            If the meaning is taken, a bound is missing, or `low` exceeds `high`.
        """
        if meaning in self._variables:
            raise InputError(self.name, f"variable {shown(meaning)} stands twice")
        if low is None or high is None:
            raise InputError(self.name, f"variable {shown(meaning)} must have finite bounds")
        low, high = operator.index(low), operator.index(high)
        if low > high:
            raise InputError(self.name, f"variable {shown(meaning)}: low {low} exceeds high {high}")
        column = len(self._bounds)
        variable = self.problem.add_variable(f"x{column:07d}", low, high, "Integer")
        self._variables[meaning] = variable
        self._columns[variable] = column
        self._bounds.append((low, high))
        return variable

    def minimise(self, terms: Terms, constant: int = 0) -> None:
        """Set the objective, in place of an earlier one. To maximise, negate the coefficients."""
        expression = total(terms)
        self.constant = operator.index(constant)
        self.unit = math.gcd(*expression.values()) or 1
        self.problem.objective = total((variable, value // self.unit) for variable, value in expression.items())
        self._objective = tuple(sorted(self._pairs(self.problem.objective)))

    def at_least(self, terms: Terms, rhs: int, family: str) -> None:
        """Add the row: sum of terms >= rhs."""
        self._add(terms, operator.index(rhs), None, family)

    def at_most(self, terms: Terms, rhs: int, family: str) -> None:
        """Add the row: sum of terms <= rhs."""
        self._add(terms, None, operator.index(rhs), family)

    def equal(self, terms: Terms, rhs: int, family: str) -> None:
        """Add the row: sum of terms = rhs."""
        self._add(terms, operator.index(rhs), operator.index(rhs), family)

    def _add(self, terms: Terms, low: int | None, high: int | None, family: str) -> None:
        expression = total(terms)
        divisor = math.gcd(*expression.values())
        if not divisor:
            if (low is not None and low > 0) or (high is not None and high < 0):
                self.contradictions.append(family)
            return
        low = None if low is None else -(-low // divisor)
        high = None if high is None else high // divisor
        if low is not None and high is not None and low > high:  # an equality between multiples of the divisor and something else
            self.contradictions.append(family)
            return
        scaled = total((variable, value // divisor) for variable, value in expression.items())
        pairs = sorted(self._pairs(scaled))
        sense, rhs = (1, low) if high is None else (-1, high) if low is None else (0, high)
        self.problem.addConstraint(libraries.pulp().LpConstraint(scaled, sense, rhs=rhs), f"c{len(self._rows):07d}")
        self._rows.append(Row(tuple(j for j, _ in pairs), tuple(c for _, c in pairs), low, high, family))

    def _pairs(self, expression: LpAffineExpression) -> Iterator[tuple[int, int]]:
        try:
            for variable, value in expression.items():
                yield self._columns[variable], value
        except KeyError as error:
            raise InputError(self.name, f"variable {error} belongs to another program") from error

    def value(self, columns: Sequence[int]) -> int:
        """Return the objective of a value for each column, constant included."""
        return self.unit * sum(c * columns[j] for j, c in self._objective) + self.constant

    def broken(self, columns: Sequence[int]) -> str | None:
        """Return what a value for each column breaks, in exact arithmetic: a family or a variable; None where it breaks nothing."""
        for (meaning, _), value, (low, high) in zip(self._variables.items(), columns, self._bounds, strict=True):
            if not low <= value <= high:
                return f"bounds of {shown(meaning)}: {value} outside {low}..{high}"
        if self.contradictions:
            return self.contradictions[0]
        return next((row.family for row in self._rows if not row.holds(columns)), None)

    def least(self) -> int:
        """Return the stored objective's least value over the bounds alone: a lower bound that needs no solver."""
        return sum(min(c * self._bounds[j][0], c * self._bounds[j][1]) for j, c in self._objective)

    def largest(self) -> int:
        """Return the largest absolute number that a solver is given: coefficient, side or bound."""
        numbers = [abs(c) for _, c in self._objective]
        numbers += [abs(side) for bounds in self._bounds for side in bounds]
        for row in self._rows:
            numbers += [abs(c) for c in row.coefficients]
            numbers += [abs(side) for side in (row.low, row.high) if side is not None]
        return max(numbers, default=0)

    def largest_activity(self) -> int:
        """Return the largest absolute sum that a row can reach, coefficient by coefficient."""
        reach = [max(abs(low), abs(high)) for low, high in self._bounds]
        return max((sum(abs(c) * reach[j] for j, c in zip(row.columns, row.coefficients, strict=True)) for row in self._rows), default=0)

    def write_mps(self, path: str | Path) -> list[int]:
        """Write the program in MPS form and return the column of each MPS column, in the file's order.

        Variables in no row and not in the objective do not appear.
        """
        objective = self.problem.objective
        if not objective and self._rows:  # PuLP would add a variable of its own to an empty objective
            first = next(iter(self._variables.values()))
            self.problem.objective = libraries.pulp().LpAffineExpression({first: 0}, constant=0)
        try:
            written = self.problem.writeMPS(str(path), rename=1)[0]
        finally:
            self.problem.objective = objective
        return [self._columns[variable] for variable in written]

    def mps(self) -> str:
        """Return the program in MPS form, with a comment that says how its objective turns into ours."""
        if not self._rows and not self._objective:
            return f"* {self.name}: no rows and no objective\nNAME          MODEL\nROWS\n N  OBJ\nCOLUMNS\nRHS\nBOUNDS\nENDATA\n"
        with TemporaryDirectory(prefix="cosma-sched-") as folder:
            path = Path(folder) / "program.mps"
            self.write_mps(path)
            text = path.read_text(encoding="utf-8")
        return f"* objective = {self.unit} * OBJ + {self.constant}\n{text}"
