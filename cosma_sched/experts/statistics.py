"""What a routing profile counts: tokens per expert, transitions between layers, co-activation inside a layer.

For n tokens, of which token t chooses the set S[t,l] of k experts in layer l,

    P[l,a]   = #{t : a in S[t,l]}
    R[l,a,b] = #{t : a in S[t,l] and b in S[t,l+1]}      all k*k pairs of a boundary, l < L-1
    C[l,a,b] = #{t : a in S[t,l] and b in S[t,l]}        C[l,a,a] = P[l,a]

``docs/experts.md`` has the definitions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cosma_sched.errors import Defect, InputError, shown

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]
CHUNK = 16_384
"""Tokens counted at once, which bounds the memory."""
_MOST_NAMED = 5


def count_loads(tokens: Numbers, num_experts: int) -> Counts:
    """Return P [L, E] of token ids [n, L, k]."""
    return np.stack([np.bincount(tokens[:, layer].ravel(), minlength=num_experts) for layer in range(tokens.shape[1])]).astype(np.int64)


def count_coactivation(tokens: Numbers, num_experts: int) -> Counts:
    """Return C [L, E, E] of token ids [n, L, k]."""
    return np.stack([_count_pairs(tokens[:, layer], tokens[:, layer], num_experts) for layer in range(tokens.shape[1])])


def count_transitions(tokens: Numbers, num_experts: int) -> Counts:
    """Return R [L-1, E, E] of token ids [n, L, k]."""
    boundaries = [_count_pairs(tokens[:, layer], tokens[:, layer + 1], num_experts) for layer in range(tokens.shape[1] - 1)]
    return np.stack(boundaries) if boundaries else np.zeros((0, num_experts, num_experts), np.int64)


def _count_pairs(first: Numbers, second: Numbers, num_experts: int) -> Counts:
    """Return how many tokens choose each pair; k*k numbers per token, where a product of one-hot matrices would take E*E of them."""
    total = np.zeros(num_experts * num_experts, np.int64)
    for start in range(0, len(first), CHUNK):
        rows = first[start : start + CHUNK].astype(np.int64) * num_experts
        pairs = rows[:, :, None] + second[start : start + CHUNK, None, :]
        total += np.bincount(pairs.ravel(), minlength=len(total))
    return total.reshape(num_experts, num_experts)


def whole_counts(values: Numbers, path: str, name: str) -> Numbers:
    """Return counts as whole numbers where they are whole, else as floats.

    Raises
    ------
    InputError
        If one is negative, NaN or infinite; names the place and the value.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise InputError(path, [Defect(name, f"must hold numbers, got {array.dtype}")])
    bad = ~np.isfinite(array) | (array < 0)
    if bad.any():
        raise InputError(path, [Defect(f"{name}{_index(at)}", f"must be a finite count >= 0, got {array[at]}") for at in _first(bad)])
    if array.dtype.kind == "f":
        if float(array.max(initial=0)) > 2**53:
            raise InputError(path, [Defect(name, f"holds a count above 2^53: {array.max()}")])
        whole = array.astype(np.int64)
        return whole if np.array_equal(whole, array) else array.astype(np.float64)
    if array.dtype.kind == "u" and array.size and int(array.max()) > 2**62:
        raise InputError(path, [Defect(name, f"holds a count above 2^62: {array.max()}")])
    return array.astype(np.int64)


def _index(at: tuple[int, ...]) -> str:
    return "".join(f"[{i}]" for i in at)


def _first(bad: npt.NDArray[np.bool_]) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in at) for at in np.argwhere(bad)[:_MOST_NAMED]]


def check_tokens(tokens: Numbers, path: str, num_experts: int | None = None) -> None:
    """Check token ids [n, L, k]: whole, in range, no expert twice in one layer of one token.

    Raises
    ------
    InputError
        Naming token, layer and expert.
    """
    if tokens.ndim != 3 or tokens.dtype.kind not in "iu":
        raise InputError(path, f"token ids must be whole numbers of shape [tokens, layers, k], got {tokens.dtype} {list(tokens.shape)}")
    if 0 in tokens.shape:
        raise InputError(path, f"holds no tokens: shape {list(tokens.shape)}")
    bad = tokens < 0
    if num_experts is not None:
        bad |= tokens >= num_experts
    if bad.any():
        limit = "" if num_experts is None else f", the model has experts 0 to {num_experts - 1}"
        raise InputError(
            path, [Defect(f"token {t} layer {lay}", f"expert {tokens[t, lay, j]} is out of range{limit}") for t, lay, j in _first(bad)]
        )
    ordered = np.sort(tokens, axis=2)
    twice = (ordered[:, :, 1:] == ordered[:, :, :-1]) if tokens.shape[2] > 1 else np.zeros((0, 0, 0), bool)
    if twice.any():
        raise InputError(
            path, [Defect(f"token {t} layer {lay}", f"expert {ordered[t, lay, j]} stands twice") for t, lay, j in _first(twice)]
        )


def check_agreement(loads: Numbers, transitions: Numbers | None, coactivation: Numbers | None, path: str) -> int | None:
    """Check P, R and C against each other and return k, None where neither R nor C is there.

    The sums over the second expert are k P[l,a], those of R over the first are k P[l+1,b], and C is symmetric with diagonal P.

    Raises
    ------
    InputError
        If they contradict each other; names the matrix, layer, expert and both values.
    """
    top_k = None
    if coactivation is not None:
        top_k = _ratio(coactivation[0], loads[0], path, "C")
        _compare(coactivation.sum(axis=2), top_k * loads, path, "C", "sum over the second expert", f"{top_k} P")
        _compare(np.einsum("laa->la", coactivation), loads, path, "C", "diagonal", "P")
        if not np.array_equal(coactivation, coactivation.transpose(0, 2, 1)):
            layer, a, b = np.argwhere(coactivation != coactivation.transpose(0, 2, 1))[0]
            values = f"{coactivation[layer, a, b]} against {coactivation[layer, b, a]}"
            raise InputError(path, [Defect(f"C layer {layer} experts {a} and {b}", f"is not symmetric: {values}")])
    if transitions is not None and len(transitions):
        pairs = _ratio(transitions[0], loads[0], path, "R")
        if top_k is not None and pairs != top_k:
            raise InputError(path, [Defect("R", f"counts {pairs} experts per token, C counts {top_k}")])
        top_k = pairs
        _compare(transitions.sum(axis=2), top_k * loads[:-1], path, "R", "sum over the next layer", f"{top_k} P")
        _compare(transitions.sum(axis=1), top_k * loads[1:], path, "R", "sum over the layer before", f"{top_k} P of the next layer")
    return top_k


def _ratio(matrix: Numbers, loads: Numbers, path: str, name: str) -> int:
    total, tokens = float(matrix.sum()), float(loads.sum())
    k = round(total / tokens) if tokens else 0
    if k < 1 or abs(total - k * tokens) > 1e-6 * total:
        raise InputError(path, [Defect(f"{name} layer 0", f"sums to {total:g}, which is no whole multiple of the {tokens:g} in P")])
    return k


def _compare(found: Numbers, expected: Numbers, path: str, name: str, what: str, against: str) -> None:
    exact = found.dtype.kind in "iu" and expected.dtype.kind in "iu"
    wrong = found != expected if exact else ~np.isclose(found, expected, rtol=1e-9)
    if wrong.any():
        defects = [
            Defect(f"{name} layer {layer} expert {expert}", f"{what} is {found[layer, expert]}, but {against} is {expected[layer, expert]}")
            for layer, expert in _first(wrong)
        ]
        raise InputError(path, defects)


def check_shape(array: Numbers, shape: tuple[int | None, ...], path: str, name: str) -> None:
    """Check the shape of an array; None stands for any size.

    Raises
    ------
    InputError
        If it differs.
    """
    if array.ndim != len(shape) or any(want is not None and have != want for have, want in zip(array.shape, shape, strict=True)):
        wanted = [("any" if size is None else size) for size in shape]
        raise InputError(path, [Defect(name, f"must have shape {shown(wanted)}, got {list(array.shape)}")])
