"""How numbers are shown, the same on terminals, in HTML and in Markdown."""

from __future__ import annotations


def milliseconds(value: float | None) -> str:
    """Three decimals: microseconds are the last; nothing for None."""
    return "" if value is None else f"{value:,.3f}"


def tenths(value: float) -> str:
    """One decimal, as the paper gives milliseconds."""
    return f"{value:,.1f}"


def seconds(value: float) -> str:
    """Two decimals."""
    return f"{value:,.2f}"


def whole(value: float | None) -> str:
    """An integer with thousands separated; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Bytes as MB (10^6 bytes), two decimals; nothing for None."""
    return "" if value is None else f"{value / 1e6:,.2f}"


def ratio(value: float | None) -> str:
    """How many times the bound; nothing where there is none."""
    return "" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """One decimal; nothing for None."""
    return "" if value is None else f"{value:.1f}"


def signed_percent(value: float | None) -> str:
    """One decimal with its sign, for errors; nothing for None."""
    return "" if value is None else f"{value:+.1f}"


def signed_milliseconds(value: float) -> str:
    """Three decimals with its sign, for differences; 0 without."""
    return f"{value:+,.3f}" if value else "0"


def signed_megabytes(value: float) -> str:
    """Bytes as MB (10^6 bytes) with its sign, two decimals; 0 without."""
    return f"{value / 1e6:+,.2f}" if value else "0"


def decibels(value: float | None) -> str:
    """One decimal; nothing for None."""
    return "" if value is None else f"{value:.1f}"


def quantity(value: int | float) -> str:
    """A parameter of any size: integers in full, others in six digits."""
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


NUMBERS = (
    milliseconds,
    tenths,
    seconds,
    whole,
    megabytes,
    ratio,
    percent,
    signed_percent,
    signed_milliseconds,
    signed_megabytes,
    decibels,
    quantity,
)
"""Columns of these are aligned to the right."""
