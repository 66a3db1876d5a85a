"""Sizes and durations as people write them, to and from integers and seconds."""

from __future__ import annotations

import re

from cosma_sched.errors import UsageError, shown

_BINARY_FACTORS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_MAX_BYTES = 2**62
_MAX_DIGITS = 40
"""Enough for any size; Python refuses to convert some thousand digits with an exception of its own."""


def parse_size(text: str | int) -> int:
    """Return the bytes that a size such as ``262144``, ``512KiB`` or ``1.5MiB`` stands for.

    Parameters
    ----------
    text
        A whole number of bytes, or a number followed by B, KiB, MiB, GiB or TiB (powers of 1024).

    Raises
    ------
    UsageError
        If the text is no size, is ambiguous (``512KB`` may mean 1000 or 1024 bytes a unit), is not a whole number of bytes, or is not
        positive.

    Examples
    --------
    >>> parse_size("512KiB")
    524288
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return _positive(text, shown(text))
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]*)", text.strip(), flags=re.ASCII) if isinstance(text, str) else None
    if match is None or len(match.group(1)) > _MAX_DIGITS:
        raise UsageError(f"{shown(text)} is not a size; write bytes or a unit of 1024, such as 262144, 256KiB, 2MiB")
    digits, unit = match.groups()
    factor = _binary_factor(shown(text), digits, unit)
    whole, _, fraction = digits.partition(".")
    numerator = int(whole + fraction) * factor
    size, rest = divmod(numerator, 10 ** len(fraction))
    if rest:
        raise UsageError(f"{shown(text)} is not a whole number of bytes")
    return _positive(size, shown(text))


def _binary_factor(quoted: str, digits: str, unit: str) -> int:
    if not unit:
        return 1
    for name, factor in _BINARY_FACTORS.items():
        if unit.lower() == name.lower():
            return factor
    if re.fullmatch(r"[kmgt]b?", unit, flags=re.IGNORECASE):
        prefix = unit[0].upper()
        power = "KMGT".index(prefix) + 1
        decimal = float(digits) * 1000**power
        raise UsageError(f"{quoted} is ambiguous: write {digits}{prefix}iB for units of 1024, or {decimal:.0f} bytes for units of 1000")
    raise UsageError(f"{quoted} has an unknown unit {shown(unit)}; known units are {', '.join(_BINARY_FACTORS)}")


def _positive(size: int, quoted: str) -> int:
    if not 0 < size <= _MAX_BYTES:
        raise UsageError(f"{quoted} is not a usable size; it must lie between 1 byte and 2^62 bytes")
    return size


def parse_duration(text: str | float) -> float:
    """Return the seconds that a duration such as ``500ms``, ``10s``, ``5m`` or ``1h`` stands for; a bare number is seconds.

    Raises
    ------
    UsageError
        If the text is no duration.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 0 <= text < 1e9:
            raise UsageError(f"{shown(text)} is not a usable duration; it must lie between 0 and 1e9 seconds")
        return float(text)
    match = re.fullmatch(_NUMBER + r"\s*([a-z]*)", text.strip(), flags=re.ASCII) if isinstance(text, str) else None
    if match is None or (match.group(2) or "s") not in _SECONDS:
        raise UsageError(f"{shown(text)} is not a duration; write 500ms, 10s, 5m or 1h")
    return parse_duration(float(match.group(1)) * _SECONDS[match.group(2) or "s"])


def format_bytes(size: int) -> str:
    """Return a size in full and, from one KiB on, rounded in the nearest binary unit: ``1,605,632 B (1.531 MiB)``."""
    return f"{size:,} B ({short_bytes(size)})" if abs(size) >= 1024 else f"{size:,} B"


def short_bytes(size: int) -> str:
    """Return a size rounded to four digits in the nearest binary unit: ``1.531 MiB``."""
    value, unit = float(size), "B"
    for name in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, name
    return f"{value:.4g} {unit}"
