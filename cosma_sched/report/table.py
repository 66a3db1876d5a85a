"""The tables that the commands print: one for each kind of result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cosma_sched.graph import Graph, TensorKind
from cosma_sched.memory.plan import MemoryPlan, Spilled
from cosma_sched.report.layout import Column, facts, number, percent, printable, table
from cosma_sched.result import Reason, Status, Termination
from cosma_sched.units import format_bytes, short_bytes

if TYPE_CHECKING:
    from cosma_sched.backends import Availability
    from cosma_sched.frontends.zoo import Card
    from cosma_sched.memory.bounds import MemoryBounds

_MOST_ROWS = 20
_MOST_TERMS = 12

_PROOFS = {
    "zero": "a plan without traffic",
    "covering": "the covering bound",
    "gap-model": "the gap model of this order",
    "search": "the search over all orders",
    "intervals": "CP-SAT over all orders",
    "enumeration": "planning every order",
    "forced-live": "the bytes that every order keeps live",
    "literal-model": "the paper's integer program",
}
UNANSWERED = {
    "fragmentation": "FAIL: the free bytes lie in pieces",
    "model-size": "refused: the program is too large",
}
"""Rules whose reason says why there is no answer, not that none exists."""
_STOPS = {
    Termination.GAP_REACHED: "stopped at the gap that was asked for",
    Termination.TIME_LIMIT: "stopped by the time limit",
    Termination.MEMORY_LIMIT: "stopped by the memory limit",
    Termination.INTERRUPTED: "interrupted",
    Termination.EXHAUSTED: "no method left to try",
}


# solve


def plan_lines(plan: MemoryPlan, graph: Graph | None = None, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return a memory plan as a table: what it costs, what is proven, what was spilled.

    Parameters
    ----------
    plan
        The plan.
    graph
        Its network, where it is at hand: for the name and the number of operators.
    width
        Columns of the terminal, or None for no limit.
    all_rows
        Show every spilled tensor instead of the first twenty.
    """
    name = graph.name if graph is not None else plan.provenance.model or "a network built in Python"
    operators = len(graph) if graph is not None else len(plan.order) if plan.order is not None else None
    count = f"{operators:,} operators, " if operators is not None else ""
    heading = f"{printable(name)}: {count}scratchpad {format_bytes(plan.scratchpad_bytes)}"
    return [heading, "", *facts(_plan_facts(plan)), *_spilled_lines(plan, width, all_rows)]


def _plan_facts(plan: MemoryPlan) -> Iterator[tuple[str, str]]:
    yield "status", _status(plan)
    if plan.traffic_bytes is not None:
        parts = f" = {number(plan.spill_bytes)} spilled + {number(plan.retrieve_bytes)} retrieved" if plan.traffic_bytes else ""
        yield "traffic", format_bytes(plan.traffic_bytes) + parts
    if plan.bound_bytes is not None or plan.traffic_bytes is not None:
        scope = f", of {plan.bound_scope}" if plan.bound_scope else ""
        yield "bound", "unknown" if plan.bound_bytes is None else format_bytes(plan.bound_bytes) + scope
    if plan.traffic_bytes is not None:
        yield "gap", percent(plan.gap)
        yield "compulsory", f"{format_bytes(plan.compulsory_bytes or 0)}, first loads of inputs and stores of outputs"
        yield "peak", f"{format_bytes(plan.peak_bytes or 0)}, most bytes resident at one step"
        yield "height", f"{format_bytes(plan.height_bytes or 0)}, end of the highest address"
    if plan.budgets is not None:
        yield "budgets", f"M_R {plan.budgets.m_r_bytes:,}  M_H {plan.budgets.m_h_bytes:,}  M_P {plan.budgets.m_p_bytes:,}"
    if plan.status != Status.UNKNOWN:
        yield "verified", "yes" if plan.verified else "no"
    yield "seconds", f"{plan.seconds:.2f}"


def _status(plan: MemoryPlan) -> str:
    if plan.status == Status.OPTIMAL:
        return f"optimal, proven by {_proof(plan.provenance.proved_by, plan.provenance.solver)}"
    if plan.status == Status.INFEASIBLE:
        return "infeasible, proven"
    if plan.status == Status.UNKNOWN and plan.reasons and plan.reasons[0].rule in UNANSWERED:
        return f"unknown, {UNANSWERED[plan.reasons[0].rule]}"
    stop = _STOPS.get(plan.termination, str(plan.termination))
    if "placement" in plan.provenance.options:
        return "feasible, a baseline; it proves nothing"
    if plan.status == Status.FEASIBLE and plan.bound_bytes:
        return f"feasible, {stop}; bound by {_proof(plan.provenance.proved_by, plan.provenance.solver)}"
    return f"{plan.status}, {stop}"


def _proof(names: Sequence[str], solver: str = "") -> str:
    """Return the arguments in words; where a linear program is the argument, the back end that solved it is part of it."""
    words = [_PROOFS.get(name, name) + (f" on {solver}" if name == "gap-model" and solver else "") for name in names]
    return " and ".join(words) or "value and bound that agree"


def _spilled_lines(plan: MemoryPlan, width: int | None, all_rows: bool) -> list[str]:
    if plan.order is None:
        return []
    spilled = plan.spilled
    if not spilled:
        return ["", "nothing is spilled"]
    shown = spilled if all_rows else spilled[:_MOST_ROWS]
    columns = [
        Column("spilled"),
        Column("bytes", numbers=True),
        Column("from step", numbers=True),
        Column("to step", numbers=True),
        Column("how"),
    ]
    lines = table(columns, [_spilled_row(absence) for absence in shown], width=width)
    hidden = spilled[len(shown) :]
    if hidden:
        lines.append(f"and {len(hidden)} more, {sum(absence.size_bytes for absence in hidden):,} bytes; -v or --json shows all")
    return ["", *lines]


def _spilled_row(absence: Spilled) -> list[str]:
    how = "written, read back" if absence.written else "dropped, read back"
    return [absence.tensor, number(absence.size_bytes), str(absence.left_after_step + 1), str(absence.back_at_step), how]


def reason_lines(reason: Reason) -> list[str]:
    """Return why nothing is possible, as lines: what, where, the parts of the demand, what would help."""
    statement = reason.statement
    for value in (reason.demand, reason.limit, reason.short):
        statement = statement.replace(f" {value} ", f" {number(value)} ")
    head, _, tail = reason.where.rpartition(", ")
    place = [head and f"{head}," if statement.startswith(tail) else f"{reason.where}:"] if reason.where else []
    fits = f"no plan fits in {number(reason.limit)} {reason.unit}" if reason.limit is not None else "no plan exists"
    lines = [
        UNANSWERED.get(reason.rule, f"infeasible: {fits}"),
        "  " + " ".join([*filter(None, place), statement]),
        *_term_lines(reason.terms),
    ]
    lines += [f"  works with: {lever.option} {lever.value} ({lever.text})" for lever in reason.levers]
    return [printable(line) for line in lines]


def _term_lines(terms: Sequence[tuple[str, int]]) -> list[str]:
    if len(terms) <= 3:
        return [f"    {', '.join(f'{name} {number(value)}' for name, value in terms)}"] if terms else []
    lines = [f"    {name}: {number(value)}" for name, value in terms[:_MOST_TERMS]]
    return [*lines, f"    and {len(terms) - _MOST_TERMS} more"] if len(terms) > _MOST_TERMS else lines


# bounds


def bounds_lines(bounds: MemoryBounds, graph: Graph | None = None, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return the budgets of a network as a table; with `all_rows` also the order whose peak is M_P."""
    name = graph.name if graph is not None else bounds.provenance.model or "a network built in Python"
    proven = bounds.m_p_status == Status.OPTIMAL
    proof = f"proven by {_proof(bounds.provenance.proved_by)}" if proven else f"not proven, at least {bounds.m_p_bound_bytes:,}"
    rows = [
        ["M_R", number(bounds.m_r_bytes), short_bytes(bounds.m_r_bytes), f"needed by {bounds.m_r_operator}"],
        ["M_H", number(bounds.m_h_bytes), short_bytes(bounds.m_h_bytes), "half way between M_R and M_P"],
        ["M_P", number(bounds.m_p_bytes), short_bytes(bounds.m_p_bytes), f"least peak of all orders, {proof}"],
        ["given order", number(bounds.given_order_peak_bytes), short_bytes(bounds.given_order_peak_bytes), "peak of the order in the file"],
    ]
    columns = [Column("size"), Column("bytes", numbers=True), Column("about", numbers=True), Column("what")]
    lines = [f"{printable(name)}: {len(bounds.order):,} operators", "", *table(columns, rows, width=width)]
    lines += ["", f"{bounds.seconds:.2f} s, {bounds.states:,} states"]
    if all_rows:
        lines += ["", "order with the least peak", *(f"{step:>6}  {printable(operator)}" for step, operator in enumerate(bounds.order))]
    return lines


# inspect


def result_lines(result: MemoryPlan | MemoryBounds, path: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return what a saved result says of itself; nothing is checked."""
    lines = plan_lines if isinstance(result, MemoryPlan) else bounds_lines
    schema = "memory plan" if isinstance(result, MemoryPlan) else "memory bounds"
    written = f"{printable(path)}: {schema} written by cosma-sched {result.provenance.version}; cosma-sched verify checks it"
    return [written, "", *lines(result, width=width, all_rows=all_rows)]  # type: ignore[arg-type]


def graph_lines(graph: Graph, what: str, *, width: int | None = None, all_rows: bool = False) -> list[str]:
    """Return what a network holds: operators by type, tensors by kind, the largest tensors."""
    types = Counter(operator.type for operator in graph)
    kinds = [(kind, [tensor for tensor in graph.tensors.values() if tensor.kind == kind]) for kind in TensorKind]
    operators = [[kind, number(count)] for kind, count in sorted(types.items(), key=lambda item: (-item[1], item[0]))]
    tensors = [[str(kind), number(len(some)), number(sum(tensor.size_bytes for tensor in some))] for kind, some in kinds if some]
    largest = sorted(graph.tensors.values(), key=lambda tensor: -tensor.size_bytes)
    rows = [
        [tensor.name, number(tensor.size_bytes), str(tensor.kind), "x".join(map(str, tensor.shape or ())) or "-", tensor.dtype or "-"]
        for tensor in largest[: None if all_rows else 5]
    ]
    digest = [("sha256", graph.sha256)]
    return [
        f"{printable(graph.name)}: {what}",
        "",
        *facts([("operators", number(len(graph))), ("tensors", number(len(graph.tensors))), *digest]),
        "",
        *table([Column("type"), Column("operators", numbers=True)], operators, width=width),
        "",
        *table([Column("kind"), Column("tensors", numbers=True), Column("bytes", numbers=True)], tensors, width=width),
        "",
        *table([Column("largest"), Column("bytes", numbers=True), Column("kind"), Column("shape"), Column("type")], rows, width=width),
    ]


# zoo


def zoo_lines(cards: Iterable[Card], *, width: int | None = None) -> list[str]:
    """Return the networks of the zoo as a table."""
    columns = [
        Column("name"),
        Column("operators", numbers=True),
        Column("M_R", numbers=True),
        Column("M_P", numbers=True),
        Column("source"),
    ]
    rows = [[card.name, number(card.operators), number(card.m_r_bytes), number(card.m_p_bytes), card.definition] for card in cards]
    return table(columns, rows, width=width)


def card_lines(card: Card, path: str) -> list[str]:
    """Return the card of one network of the zoo."""
    pairs = [
        ("name", card.name),
        ("source", card.definition),
        ("version", card.version),
        ("input", card.input),
        ("operators", number(card.operators)),
        ("M_R", format_bytes(card.m_r_bytes)),
        ("M_P", format_bytes(card.m_p_bytes)),
        ("file", path),
        ("opset", str(card.opset)),
        ("sha256", card.sha256),
        ("made by", card.exporter),
    ]
    return facts([*pairs, ("remark", card.remark)] if card.remark else pairs)


# backends


def backend_lines(rows: Iterable[Availability]) -> list[str]:
    """Return the back ends as a table, with the line that helps where one cannot be used, and what each can do."""
    rows = tuple(rows)
    columns = [Column("name"), Column("solver"), Column("package"), Column("version"), Column("available")]
    cells = [[row.name, row.solver, row.package, row.version or "-", "yes" if row.available else "no"] for row in rows]
    lines = table(columns, cells)
    missing = [f"{row.name}: {row.reason}" for row in rows if row.reason]
    lines += ["", *missing] if missing else []
    capabilities = sorted({capability for row in rows for capability in row.capabilities})
    marks = [[capability, *("yes" if capability in row.capabilities else "-" for row in rows)] for capability in capabilities]
    lines += ["", *table([Column("can do"), *(Column(row.name) for row in rows)], marks)]
    return lines
