"""What makes no sense in a product or a window: operands whose extents disagree, attributes that are no numbers of that kind.

A network with such an operator has no schedule; a schedule of it would be proven for something that nobody can compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cosma_sched.errors import Defect, shown
from cosma_sched.graph import Operator
from cosma_sched.multicore.boxes import Shape

_WINDOWS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})


def operand_defects(place: str, operator: Operator, shapes: Sequence[Shape]) -> Iterator[Defect]:
    """Yield what is wrong with the operands and the window of an operator.

    Parameters
    ----------
    place
        Where the operator stands, for messages.
    operator
        The operator; operands that joined it by folding stand after its own.
    shapes
        Shape in which it sees each operand.
    """
    own = len(shapes) - sum(len(entry.get("inputs", ())) for entry in operator.attributes.get("folded", ()))
    if operator.type in _WINDOWS and shapes and len(shapes[0]) >= 3:
        wrong = [*_window_problems(operator, len(shapes[0]) - 2)]
        if wrong:
            yield from (Defect(place, problem) for problem in wrong)
            return
    for what, one, other in _pairs(operator, shapes[:own]):
        if one != other:
            yield Defect(place, f"its operands do not fit together: {what} {one} and {other}")


def _window_problems(operator: Operator, axes: int) -> Iterator[str]:
    for name, count, least in (("kernel_shape", axes, 1), ("strides", axes, 1), ("dilations", axes, 1), ("pads", 2 * axes, 0)):
        values = operator.attributes.get(name)
        if values is None or values == []:
            continue
        is_list = isinstance(values, list | tuple) and len(values) == count
        if not is_list or any(type(value) is not int or value < least for value in values):
            yield f"{name} must be {count} whole numbers >= {least}, got {shown(values)}"
    group = operator.attributes.get("group", 1)
    if type(group) is not int or group < 1:
        yield f"group must be a whole number >= 1, got {shown(group)}"


def _pairs(operator: Operator, shapes: Sequence[Shape]) -> Iterator[tuple[str, int, int]]:
    """Yield what has to be equal, and both sides of it, where the operands have the ranks that the operator reads."""
    if len(shapes) < 2 or not shapes[0] or not shapes[1]:
        return
    a, b = shapes[0], shapes[1]
    if operator.type == "MatMul":
        yield "reduced extents", a[-1], b[-2] if len(b) > 1 else b[0]
    elif operator.type == "Gemm" and len(a) == len(b) == 2:
        turned_a, turned_b = bool(operator.attributes.get("transA")), bool(operator.attributes.get("transB"))
        yield "reduced extents", a[0 if turned_a else 1], b[1 if turned_b else 0]
    elif operator.type in {"Conv", "ConvTranspose"} and len(a) == len(b) >= 3:
        is_turned = operator.type == "ConvTranspose"
        yield "input channels", a[1], b[0] if is_turned else b[1] * int(operator.attributes.get("group", 1))
        kernel = operator.attributes.get("kernel_shape")
        if kernel:
            yield from (("kernel extents", one, other) for one, other in zip(kernel, b[2:], strict=True))
